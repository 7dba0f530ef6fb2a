"""What a pod's probes say: which containers are ready, which have started, which have to go. One prober for each container that runs.

Who calls it: the pod's worker. A container that ran before this agent did begins where the API's status stands, so that an agent's restart changes nothing.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Optional, Sequence

from .events import of_pod
from .probes import Prober, Result
from .runtime.interface import Container, Pod, Ran, State
from .status import pod_address
from .tools import Tools

Object = Dict[str, Any]


class Health:
    """`changed` when a container became ready, unready or started; `failed(spec, container, kind of probe)` when it has to be restarted."""

    def __init__(
        self, tools: Tools, pod: Callable[[], Object], changed: Callable[[], None], failed: Callable[[Object, Container, str], None]
    ) -> None:
        self._tools, self._pod, self._changed, self._failed = tools, pod, changed, failed
        self.ready: Dict[str, bool] = {}  # by container name; only those that have such a probe
        self.started: Dict[str, bool] = {}
        self._probers: Dict[str, Prober] = {}  # by container id

    def watch(self, specs: Sequence[Object], found: Pod, reported: List[Object]) -> None:
        """Probers for what runs and has none yet; none for what ended."""
        before = {each.get("containerID"): each for each in reported}
        for spec in specs:
            latest = found.latest(spec["name"])
            if latest and latest.state is State.RUNNING and latest.id not in self._probers:
                self.begin(spec, latest, pod_address(found, self._tools.host_ip), before.get(f"crun://{latest.id}"))
        self.forget_ended(found)

    def forget_ended(self, found: Pod) -> None:
        """End the probers of containers that ended, with their verdicts. A successor is not started and not ready before its own probes say so."""
        running = {each.id for each in found.running()}
        for identity in [each for each in self._probers if each not in running]:
            self._probers.pop(identity).stop()
        alive = {each.name for each in found.running()}
        for table in (self.ready, self.started):
            table.update({name: False for name in table if name not in alive})

    def begin(self, spec: Object, container: Container, address: str, carried: Optional[Object] = None) -> None:
        """Begin to probe a container. `carried` is what the API said about this very container."""
        name = spec["name"]
        for table, probe, key in ((self.ready, "readinessProbe", "ready"), (self.started, "startupProbe", "started")):
            table.pop(name, None)
            if spec.get(probe):
                table[name] = bool(carried and carried.get(key))

        async def run(command: List[str], timeout_s: float) -> Ran:
            return await self._tools.runtime.run(container.id, command, timeout_s=timeout_s)

        def tell(result: Result) -> None:
            self._probed(spec, container, result)

        self._probers[container.id] = Prober(spec, container.started_s, address, run, tell, self.started.get(name, True))

    def stop(self) -> None:
        while self._probers:
            self._probers.popitem()[1].stop()

    def _probed(self, spec: Object, container: Container, result: Result) -> None:
        name = spec["name"]
        if not result.passed:
            message = f"{result.kind.capitalize()} probe failed: {result.message}"
            self._tools.events.record(of_pod(self._pod(), name), "Warning", "Unhealthy", message)
        elif result.message:
            message = f"{result.kind.capitalize()} probe warning: {result.message}"
            self._tools.events.record(of_pod(self._pod(), name), "Warning", "ProbeWarning", message)
        if result.good is None:
            return
        if result.kind == "readiness":
            if self.ready.get(name) != result.good:
                self.ready[name] = result.good
                self._changed()
        elif not result.good:
            self._probers[container.id].stop()
            self._failed(spec, container, result.kind)
        elif result.kind == "startup":
            self.started[name] = True
            self._changed()
