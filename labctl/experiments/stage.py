"""What the runner needs of a lab, so that one experiment runs on real machines (lab/stage.py) and on virtual time (sim/stage.py).

Every call blocks and has an end. What can't be done raises LabctlError with one line for a person. Times are seconds of the stage's own clock: the
journal's `t`, which is CLOCK_MONOTONIC of the master's host, or the simulation's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from labctl.errors import LabctlError, UsageError
from labctl.measure.records import Measurement
from labctl.measure.timeline import Timeline

if TYPE_CHECKING:
    from labctl.experiments.steps import PlannedStep


class StageGone(LabctlError):
    """The lab is no longer there: no other repetition can be played on it."""


class StageRefuses(UsageError):
    """This lab can't do what the experiment asks for: its provider, kernel or machines lack it. Nothing was touched."""


class LoadRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Which requests are sent: `rate` each second from each source, until the load is stopped. Sources are host, minion-1 or pod/NAMESPACE/NAME."""

    target: str  # service NAMESPACE/NAME, or a URL
    port: int = 0  # 0: the Service's first
    path: str = "/"
    protocol: str = ""  # http, https, tcp or udp; empty: what the port says
    rate: float = 200.0
    sources: tuple[str, ...] = ()
    keepalive: bool = False
    timeout_s: float = 1.0


class FaultRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A fault as the Fault kind has it, with targets that exist: minion-1, pod/NAMESPACE/NAME[/CONTAINER], master, client/USER."""

    name: str  # of the Fault object, unique in this run
    type: str
    target: str
    peer: str = ""
    direction: str = ""  # both, in, out
    parameters: Mapping[str, str] = {}
    duration: str = ""  # "30s"; empty: until it is healed


class ActionRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Something that a person does on purpose: rollout-restart, drain, uncordon, scale, apply, delete."""

    name: str  # unique in this run
    type: str
    target: str = ""  # deployment/NAME, minion-1, ...
    replicas: int = 0  # of scale
    manifests: tuple[Mapping[str, Any], ...] = ()  # of apply


class Pod(msgspec.Struct, frozen=True, kw_only=True):
    """A pod that a selector found."""

    namespace: str
    name: str
    node: str
    ready: bool


class Condition(msgspec.Struct, frozen=True, kw_only=True):
    """One condition of the steady state. Exactly one of the groups is given: a Service's ready endpoints, Ready pods of a workload, or Ready nodes."""

    service: str = ""  # NAMESPACE/NAME
    endpoints: int = 0
    workload: str = ""  # KIND/NAMESPACE/NAME
    ready: int = 0
    nodes: int = 0


class Running(Protocol):
    """A load that is being sent."""

    def stop(self) -> Measurement:
        """End it and return every request. A second call returns the same."""


class Stage(Protocol):
    """One lab on which repetitions are played."""

    def now(self) -> float:
        """Return the time of the stage's clock."""

    def wait(self, until_s: float) -> None:
        """Return when the stage's clock has reached that time."""

    def facts(self) -> Mapping[str, Any]:
        """Return versions, every setting of the lab, and the host: kernel, CPUs, memory, load average, version of cgroups."""

    def load_average(self) -> float:
        """Return how busy the host is now: processes that run or wait, over the last minute. A simulation returns 0."""

    def refuse(self, faults: Sequence[FaultRequest]) -> Sequence[str]:
        """Return a line for each fault that this lab can't do now, whatever it is that can't: provider, kernel, machine or pod. Nothing is touched."""

    def deploy(self, manifests: Sequence[Mapping[str, Any]]) -> None:
        """Apply the manifests."""

    def unmet(self, condition: Condition) -> str:
        """Return what is missing for a condition of the steady state, in words, or an empty text if it holds now."""

    def pods(self, what: str) -> Sequence[Pod]:
        """Return the pods of `service/NAMESPACE/NAME` or `KIND/NAMESPACE/NAME` that are not being deleted, in an order that does not depend on names
        that were drawn by lot: by node, then by name."""

    def minions(self) -> Sequence[str]:
        """Return the names of all minions, in their order."""

    def load(self, request: LoadRequest) -> Running:
        """Begin to send requests, and return when the first ones are on their way."""

    def inject(self, fault: FaultRequest) -> Sequence[str]:
        """Inject a fault and return when it acts: what was really done."""

    def act(self, action: ActionRequest) -> Sequence[str]:
        """Do what a person would do, and return at once: what was really done. Its effects are seen in the journal."""

    def timelines(self, names: Sequence[str], measurement: Measurement | None) -> Sequence[Timeline]:
        """Return the timeline of each fault and action of this run, by its name. To be asked before `heal` and `restore`."""

    def heal(self) -> None:
        """Heal every fault that this stage injected, also one that was injected by a process that was killed, and wait until it is healed."""

    def save(self, name: str) -> None:
        """Keep the lab's state under this name; an older one of this name is replaced."""

    def saved(self, name: str) -> bool:
        """Tell whether a state of that name can be restored."""

    def restore(self, name: str) -> None:
        """Return to the state of that name: every machine runs again, every fault is healed, and pods that were Ready are Ready again."""

    def forget(self, name: str) -> None:
        """Remove the state of that name if there is one."""


class Stages(Protocol):
    """Where stages come from: each combination of lab settings has one of its own."""

    def refuse(self, settings: Mapping[str, Any], steps: Sequence[PlannedStep] = ()) -> str:
        """Return why no lab with these settings can be had here, or why none of them can ever take these steps, or an empty text. Nothing is touched."""

    def open(self, settings: Mapping[str, str]) -> Stage:
        """Return the lab with these settings: the person's own if it has them, else one that is made for the experiment."""

    def close(self, stage: Stage) -> None:
        """Leave a lab. One that was made for the experiment is removed; the person's own is healed and returns to what it was before."""
