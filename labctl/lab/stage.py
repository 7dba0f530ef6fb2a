"""The stage of experiments on a real lab: objects through its API, faults as Fault objects, requests by `labctl measure`'s sources, states as snapshots.

experiments/stage.py has the contract. Whoever destroys the lab meanwhile is told in one line (StageGone); a master that was killed is started again by the next
call that needs it, as every command of labctl does.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from labctl.errors import ApiError, LabctlError
from labctl.experiments.stage import ActionRequest, Condition, FaultRequest, LoadRequest, Pod, Running, StageGone, StageRefuses
from labctl.lab import machines, providers, snapshots
from labctl.lab.actions import Actions
from labctl.lab.faults import LabFaults
from labctl.lab.hostfacts import host_facts, versions
from labctl.lab.timelines import lines_since, timeline_of
from labctl.lab.waiting import wait_until
from labctl.measure.marks import FaultFacts, Timeline
from labctl.measure.records import Measurement
from labctl.measure.timeline import timeline

if TYPE_CHECKING:
    from labctl.lab.lab import Lab

T = TypeVar("T")
_POWER_S = 60.0
PREFIX = "experiment-"  # of the names of its Fault objects: what else is broken in the lab is none of its business
_PATHS = {
    "service": "/api/v1/namespaces/{}/services/{}",
    "replicationcontroller": "/api/v1/namespaces/{}/replicationcontrollers/{}",
    **{kind: "/apis/apps/v1/namespaces/{}/" + kind + "s/{}" for kind in ("deployment", "replicaset", "statefulset", "daemonset")},
}
_CHECKED_AT_ONCE = 50
_SILENT = {"node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"}  # no pod is placed there, whatever the condition says already
_FAULTS = "/apis/labctl.internal/v1/faults"


class LabStage:
    """A running lab as a stage."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self._identity = lab.record["id"]
        self._actions = Actions(lab)
        self._taken: dict[str, FaultFacts] = {}

    # -- time and facts --------------------------------------------------------------------------------------------

    def now(self) -> float:
        return time.monotonic()

    def wait(self, until_s: float) -> None:
        while (left_s := until_s - time.monotonic()) > 0:
            time.sleep(left_s)

    def facts(self) -> Mapping[str, Any]:
        return {"versions": versions(), "host": host_facts(), "settings": {**self.lab.record["settings"]}}

    def load_average(self) -> float:
        return round(os.getloadavg()[0], 2)

    # -- looking ---------------------------------------------------------------------------------------------------

    def _asked(self, work: Callable[[], T]) -> T:
        """Return what `work` returns. If the master does not answer, it is started and asked once more."""
        with self._there():
            try:
                return work()
            except ApiError:
                raise
            except LabctlError as error:
                if "does not answer" not in str(error):
                    raise
                self._check_there()
                self.lab.__dict__.pop("api", None)
                return work()

    @contextlib.contextmanager
    def _there(self) -> Iterator[None]:
        """Inside the block a lab that was destroyed is StageGone, whatever failed because of it."""
        self._check_there()
        try:
            yield
        except (LabctlError, OSError):
            self._check_there()
            raise

    def _check_there(self) -> None:
        try:
            identity = json.loads(self.lab.paths.settings.read_text())["id"]
        except (OSError, ValueError, KeyError):
            identity = ""
        if identity != self._identity:
            raise StageGone(f"the lab in {self.lab.folder} was destroyed meanwhile", mend="labctl up, and the same command goes on")

    def _get(self, path: str) -> Any:
        return self._asked(lambda: self.lab.api.get(path))

    def _find(self, path: str) -> Any:
        return self._asked(lambda: self.lab.api.find(path))

    def unmet(self, condition: Condition) -> str:
        if condition.service:
            there = self._endpoints(condition.service)
            return "" if there == condition.endpoints else f"service {condition.service} has {there} of {condition.endpoints} endpoints"
        if condition.workload:
            ready = sum(pod.ready for pod in self.pods(condition.workload))
            return "" if ready == condition.ready else f"{condition.workload} has {ready} of {condition.ready} Ready pods"
        nodes = self._get("/api/v1/nodes")["items"]
        ready = sum(_condition(node, "Ready") == "True" and not _SILENT & _taints(node) for node in nodes)
        return "" if ready >= condition.nodes else f"{ready} of {condition.nodes} nodes are Ready"

    def _endpoints(self, service: str) -> int:
        """Return how many ready endpoints a Service has."""
        namespace, name = service.split("/")
        path = f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices?labelSelector=kubernetes.io%2Fservice-name%3D{name}"
        endpoints = [each for piece in self._get(path)["items"] for each in piece.get("endpoints") or []]
        return sum(each.get("conditions", {}).get("ready", True) for each in endpoints)

    def pods(self, what: str) -> Sequence[Pod]:
        kind, namespace, name = what.split("/")
        found = self._find(_PATHS[kind].format(namespace, name))
        if found is None:
            return []
        pods = self._get(f"/api/v1/namespaces/{namespace}/pods?labelSelector={_selector(found['spec'].get('selector') or {})}")["items"]
        there = [
            Pod(
                namespace=namespace,
                name=pod["metadata"]["name"],
                node=pod["spec"].get("nodeName", ""),
                ready=_condition(pod, "Ready") == "True",
            )
            for pod in pods
            if "deletionTimestamp" not in pod["metadata"]
        ]
        return sorted(there, key=lambda pod: (_numbered(pod.node), pod.name))

    def minions(self) -> Sequence[str]:
        return sorted((node["metadata"]["name"] for node in self._get("/api/v1/nodes")["items"]), key=_numbered)

    # -- doing -----------------------------------------------------------------------------------------------------

    def deploy(self, manifests: Sequence[Mapping[str, Any]]) -> None:
        if manifests:
            self._asked(lambda: self._actions.apply(manifests))

    def load(self, request: LoadRequest) -> Running:
        from labctl.lab.stage_load import begin

        return self._asked(lambda: begin(self.lab, request))

    def refuse(self, faults: Sequence[FaultRequest]) -> Sequence[str]:
        """Ask the API whether it would take each Fault, and the master whether it could do it: by its provider, by the kernel, and on that machine."""
        refused = []
        for fault in faults:
            try:
                self._asked(lambda fault=fault: self.lab.api.post(f"{_FAULTS}?dryRun=All", _manifest(fault)))  # type: ignore[misc]
            except ApiError as error:
                refused.append(f"{fault.name}: {error.message}")
        return refused or self._can_not(faults)

    def _can_not(self, faults: Sequence[FaultRequest]) -> Sequence[str]:
        whys: list[str] = []
        try:
            for at in range(0, len(faults), _CHECKED_AT_ONCE):
                asked = {"items": [_manifest(fault)["spec"] for fault in faults[at : at + _CHECKED_AT_ONCE]]}
                whys += self._asked(lambda asked=asked: self.lab.api.post("/labctl/v1/faults/check", asked))["items"]  # type: ignore[misc]
        except ApiError as error:
            if error.code != 404:
                raise
            return ()  # a master from before there was this question says it when the fault is injected
        return [f"{fault.name}: {why}" for fault, why in zip(faults, whys, strict=True) if why]

    def inject(self, fault: FaultRequest) -> Sequence[str]:
        faults = LabFaults(self.lab)
        how = {"duration": fault.duration, "peer": fault.peer, "direction": fault.direction, "parameters": fault.parameters}
        if _kills_master(fault):
            return self._kill_master(fault, how)
        try:
            made = self._asked(lambda: faults.inject(fault.type, fault.target, name=PREFIX + fault.name, **how))
        except LabctlError as error:
            if str(error).startswith("refused: "):
                raise StageRefuses(f"{fault.name}: {str(error).removeprefix('refused: ')}") from None
            raise
        return list(made["status"].get("done", ()))

    def _kill_master(self, fault: FaultRequest, how: Mapping[str, Any]) -> Sequence[str]:
        """Have the master killed, and start none: it stays dead until something is asked of it. A dead master can't tell that it was killed."""
        with self._there():
            try:
                LabFaults(self.lab).inject(fault.type, fault.target, name=PREFIX + fault.name, **how)
            except LabctlError as error:
                if "does not answer" not in str(error):
                    raise
        return ["the master was killed"]

    def act(self, action: ActionRequest) -> Sequence[str]:
        began_s = self.now()
        done = self._asked(lambda: self._actions.take(action))
        self._taken[action.name] = FaultFacts(
            name=action.name, type=action.type, target=action.target, injected_s=began_s, uncertainty_s=self.now() - began_s
        )
        return [done]

    def timelines(self, names: Sequence[str], measurement: Measurement | None) -> Sequence[Timeline]:
        return [self._asked(lambda name=name: self._timeline(name, measurement)) for name in names]  # type: ignore[misc]

    def _timeline(self, name: str, measurement: Measurement | None) -> Timeline:
        if facts := self._taken.get(name):
            return timeline(facts, lines_since(self.lab, facts.injected_s), measurement)
        found = timeline_of(self.lab, PREFIX + name, measurement=measurement)
        return msgspec.structs.replace(found, fault=msgspec.structs.replace(found.fault, name=name))

    def heal(self) -> None:
        self._actions.end()
        faults = LabFaults(self.lab)
        healed = self._asked(lambda: faults.heal([name for name in faults.unfinished() if name.startswith(PREFIX)]))
        failed = [
            f"{each['metadata']['name']}: {each['status'].get('message', '')}" for each in healed if each["status"]["phase"] == "Failed"
        ]
        if failed:
            raise LabctlError("; ".join(failed), mend="labctl fault list")

    # -- states ----------------------------------------------------------------------------------------------------

    def save(self, name: str) -> None:
        with self._there():
            self.forget(name)
            self._asked(lambda: snapshots.save(self.lab, name))

    def saved(self, name: str) -> bool:
        self._check_there()
        with contextlib.suppress(LabctlError):
            return snapshots.find(self.lab, name).lab == self._identity
        return False

    def restore(self, name: str) -> None:
        with self._there():
            self._actions.end()
            self._taken.clear()
            self.lab.up(snapshot=name)
            self.lab.__dict__.pop("api", None)
            wait_until(self._power_is_known, "the master knows which machines run", _POWER_S)

    def _power_is_known(self) -> bool:
        """Tell whether the master knows each machine's true power. Right after a restore it says what the snapshot has, in which machines were paused."""
        told = {machine["metadata"]["name"]: machine.get("status", {}).get("power") for machine in machines.list_machines(self.lab)}
        real = providers.make(self.lab, self.lab.record["kept"]["provider"]).machines() if told else {}
        return all(told.get(name) == machine.power.value for name, machine in real.items())

    def forget(self, name: str) -> None:
        if (self.lab.paths.snapshots / name).exists():
            snapshots.delete(self.lab, name)


def _kills_master(fault: FaultRequest) -> bool:
    return (fault.type, fault.target) == ("kill-process", "master") and fault.parameters.get("process", "master") == "master"


def _manifest(fault: FaultRequest) -> dict[str, Any]:
    given = {"peer": fault.peer, "direction": fault.direction, "duration": fault.duration, "parameters": dict(fault.parameters)}
    spec = {"type": fault.type, "target": fault.target, **{name: value for name, value in given.items() if value}}
    return {"apiVersion": "labctl.internal/v1", "kind": "Fault", "metadata": {"name": PREFIX + fault.name}, "spec": spec}


def _condition(thing: Mapping[str, Any], kind: str) -> str:
    return next((c["status"] for c in thing.get("status", {}).get("conditions", []) if c["type"] == kind), "")


def _taints(node: Mapping[str, Any]) -> set[str]:
    return {taint["key"] for taint in node["spec"].get("taints") or ()}


def _selector(selector: Mapping[str, Any]) -> str:
    """Return a selector as a query: a map of labels, or matchLabels with matchExpressions."""
    from urllib.parse import quote

    if not {"matchLabels", "matchExpressions"} & set(selector):
        return quote(",".join(f"{name}={value}" for name, value in selector.items()))
    words = [f"{name}={value}" for name, value in (selector.get("matchLabels") or {}).items()]
    for each in selector.get("matchExpressions") or []:
        key, operator, values = each["key"], each["operator"], ",".join(each.get("values") or [])
        words.append({"Exists": key, "DoesNotExist": f"!{key}"}.get(operator) or f"{key} {operator.lower()} ({values})")
    return quote(",".join(words))


def _numbered(name: str) -> tuple[str, int]:
    match = re.fullmatch(r"(.*?)(\d{0,9})", name)
    return (match[1], int(match[2] or 0)) if match else (name, 0)
