"""A pod's status, as the kubelet words it: from the pod's spec and what the machine holds to phase, conditions and container statuses. Pure.

What others write (PodScheduled, labctl.internal/Drained, labctl.internal/NetworkReady, qosClass) is left alone: conditions are merged by type on the
server. Only a network that was made anew makes NetworkReady False again (isolation.py).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Collection, Dict, List, Mapping, Optional, Sequence, Tuple

from . import isolation, mountmodes
from .backoff import matches, should_restart
from .runtime.interface import Container, Pod, State
from .runtime.records import LOST_REASON, REFUSED_REASON
from .signals import name_of
from .times import rfc3339

Object = Dict[str, Any]
TERMINAL = ("Succeeded", "Failed")
RESIZING = ("PodResizePending", "PodResizeInProgress")
RESTARTING = "AllContainersRestarting"
LOST_MESSAGE = "The container could not be located when the pod was terminated"
_CREATING, _INITIALIZING = "ContainerCreating", "PodInitializing"  # what waits in a pod without init containers, and with some


@dataclass(frozen=True)
class Seen:
    """What a worker knows besides the machine. `waiting`: why a container is not running; `ready`, `started`: what probes say (absent: no such probe)."""

    host_ip: str
    waiting: Mapping[str, Tuple[str, str]] = field(default_factory=dict)
    ready: Mapping[str, bool] = field(default_factory=dict)
    started: Mapping[str, bool] = field(default_factory=dict)
    messages: Mapping[str, str] = field(default_factory=dict)  # container id -> its last words
    leaving: bool = False  # being deleted: no container is started again
    ended: bool = False  # nothing of it runs any more, and nothing ever will
    failed: Optional[Tuple[str, str]] = None  # reason, message: the whole pod has failed
    disrupted: bool = False  # it failed because this machine needs what it has: it did nothing wrong (KEP-3329)
    volumes_ready: bool = True
    resources: Mapping[str, Object] = field(default_factory=dict)  # container, "" for the pod itself -> allocatedResources, resources
    resizing: Sequence[Tuple[str, str, str]] = ()  # type, reason, message of conditions that are there only while they are true
    seen_s: float = 0.0  # when this agent first saw the pod
    network_anew: bool = False  # it was made since its rules were said to be in force
    recursive_read_only: bool = True  # this machine can keep all below a mount from being written
    beginning: Collection[str] = ()  # containers that are started now, with their postStart hooks: until these have ended none is running
    restarting: Optional[Tuple[bool, str, str]] = None  # whether all containers end to begin again, why; None: never so in this pod


def build(pod: Object, found: Pod, seen: Seen, now_s: float) -> Object:
    """Return the fields of `status` that the agent owns."""
    spec, before = pod["spec"], pod.get("status") or {}
    inits, mains, initialized = _statuses(pod, found, seen, now_s)
    if seen.ended:
        _end_all(inits, mains if initialized else [])
    phase = _phase(pod, found, seen, inits, mains, initialized)
    if seen.ended and phase not in TERMINAL:
        phase = "Failed"
    over = before.get("phase", "") in TERMINAL  # for good, whoever said so
    # No pod is over before all of its containers have ended, sidecars too (KEP-753): whoever is told so may give away what they use.
    held = phase in TERMINAL and not over and any(each.state is State.RUNNING for each in found.containers)
    if held:
        phase = before.get("phase") or "Pending" if seen.failed else "Running"
    status: Object = {
        "phase": phase,
        "observedGeneration": pod["metadata"].get("generation", 0),
        "conditions": _conditions(pod, found, seen, phase, initialized, inits, mains, now_s),
        "hostIP": seen.host_ip,
        "hostIPs": [{"ip": seen.host_ip}],
        "startTime": before.get("startTime") or rfc3339(seen.seen_s or now_s),
        "containerStatuses": mains,
    }
    if not status["observedGeneration"]:
        del status["observedGeneration"]
    if inits:
        status["initContainerStatuses"] = inits
    ephemeral = spec.get("ephemeralContainers")
    if ephemeral:
        status["ephemeralContainerStatuses"] = [_ephemeral(each, found, seen, before, now_s) for each in ephemeral]
    address = pod_address(found, seen.host_ip) or before.get("podIP", "")
    if address:
        status.update(podIP=address, podIPs=[{"ip": address}])
    status.update(seen.resources.get("", {}))
    if seen.failed and not held:
        status.update(reason=seen.failed[0], message=seen.failed[1])
    return status


def _end_all(inits: List[Object], mains: List[Object]) -> None:
    """Give containers an end that have none when their pod's has come (KEP-3329): how they ended, or whether they began, is not known.

    Init containers after the last one that began keep waiting, but for the first of all.
    """
    begun = [number for number, each in enumerate(inits) if "waiting" not in each["state"] or each["lastState"]]
    for each in (*inits[: max(begun, default=0) + 1], *mains):
        if "terminated" not in each["state"]:
            each.update(state={"terminated": {"exitCode": 137, "reason": LOST_REASON, "message": LOST_MESSAGE}}, ready=False, started=False)


def is_done(pod: Object, found: Pod, seen: Seen, now_s: float) -> bool:
    """Tell whether all containers have ended for good. Sidecars may still run, and must be stopped then."""
    return _phase(pod, found, seen, *_statuses(pod, found, seen, now_s)) in TERMINAL


def _statuses(pod: Object, found: Pod, seen: Seen, now_s: float) -> Tuple[List[Object], List[Object], bool]:
    """Return the statuses of init containers and of containers, and whether the pod is initialized."""
    spec, before = pod["spec"], pod.get("status") or {}
    inits = [_container(each, found, seen, before, now_s, _INITIALIZING, init=True) for each in spec.get("initContainers") or ()]
    creating = _INITIALIZING if inits else _CREATING
    begun = has_begun(pod, found) or (before.get("phase") in TERMINAL and _was_initialized(before))  # what it had is gone by now
    initialized = all(
        _init_done(each, status, found.latest(each["name"]), begun)
        for each, status in zip(spec.get("initContainers") or (), inits)  # noqa: B905 - Python 3.9
    )
    return inits, [_container(each, found, seen, before, now_s, creating) for each in spec["containers"]], initialized


def _was_initialized(before: Object) -> bool:
    return any(each["type"] == "Initialized" and each["status"] == "True" for each in before.get("conditions") or ())


def _phase(pod: Object, found: Pod, seen: Seen, inits: List[Object], mains: List[Object], initialized: bool) -> str:
    before = (pod.get("status") or {}).get("phase", "")
    if before in TERMINAL or seen.failed:
        return before if before in TERMINAL else "Failed"
    every = [*pod["spec"]["containers"], *(pod["spec"].get("initContainers") or ())]
    codes = {each["name"]: each["state"].get("terminated", {}).get("exitCode") for each in (*inits, *mains)}
    policies = {each["name"]: "Never" if seen.leaving else restart_policy(pod, each, codes.get(each["name"])) for each in every}
    again = _beginning_again(pod, found)
    phase = phase_of({**policies, **dict.fromkeys(again, "Always")}, inits, mains, initialized)
    return "Pending" if again and phase == "Running" else phase


def _beginning_again(pod: Object, found: Pod) -> List[str]:
    """Return the containers that are to begin again because all of the pod are, and have not yet."""
    latest = [found.latest(each["name"]) for each in (*(pod["spec"].get("initContainers") or ()), *pod["spec"]["containers"])]
    return [each.name for each in latest if each is not None and each.again]


def restart_policy(pod: Object, container: Object, exit_code: Optional[int] = None) -> str:
    """Return the policy for a container that ended so (None: it did not end): Always if one of its rules says so, else its own, else its pod's."""
    if exit_code is not None and any(matches(rule, exit_code) for rule in container.get("restartPolicyRules") or ()):
        return "Always"
    return container.get("restartPolicy") or pod["spec"].get("restartPolicy") or "Always"


def pod_address(found: Pod, host_ip: str) -> str:
    if found.sandbox is None or not found.sandbox.ready:
        return ""
    return host_ip if found.sandbox.host_network else found.sandbox.address


def is_sidecar(container: Object) -> bool:
    """Tell whether it is an init container that keeps running beside the others."""
    return container.get("restartPolicy") == "Always"


def has_begun(pod: Object, found: Pod) -> bool:
    """Tell whether the init containers' turn is over.

    It is when another container was started since the machine's boot, or ever in a pod that is never restarted.
    """
    once = pod["spec"].get("restartPolicy") == "Never"
    attempts = (found.latest(each["name"]) for each in pod["spec"]["containers"])
    return any(each is not None and not each.again and (once or not each.earlier_boot) for each in attempts)


def has_succeeded(init: Optional[Container]) -> bool:
    """Tell whether an init container's work is done. What it did before a boot may be gone: its pod has new namespaces and empty volumes in memory."""
    ended_well = init is not None and init.state is State.EXITED and init.exit_code == 0 and not init.lost
    return init is not None and ended_well and not init.earlier_boot and not init.again


def _init_done(spec: Object, status: Object, latest: Optional[Container], begun: bool) -> bool:
    return begun or (bool(status.get("started")) if is_sidecar(spec) else has_succeeded(latest))


# -- containers


def _container(spec: Object, found: Pod, seen: Seen, before: Object, now_s: float, creating: str = _CREATING, init: bool = False) -> Object:
    """Return one container's status. `creating` is the reason of one that waits and has no other."""
    name = spec["name"]
    attempts = [each for each in found.containers if each.name == name]
    latest = attempts[-1] if attempts else None
    status: Object = {
        "name": name,
        "image": spec["image"],
        "imageID": "",
        "lastState": {},
        "ready": False,
        "restartCount": 0,
        "started": False,
        "state": {},
        **seen.resources.get(name, {}),
    }
    if spec.get("volumeMounts"):
        status["volumeMounts"] = mountmodes.told(spec, seen.recursive_read_only)
    waiting = seen.waiting.get(name)
    if waiting and waiting[0] == _CREATING:
        waiting = (creating, waiting[1])
    if latest is None:
        status["state"] = {"waiting": _reason(waiting or (creating, ""))}
        return status
    status.update(image=latest.image, imageID=latest.image_id, containerID=f"crun://{latest.id}", restartCount=latest.attempt)
    status["stopSignal"] = name_of(latest.stop_signal)
    ended = [each for each in attempts if each.state is State.EXITED]
    if latest.state is State.RUNNING and name not in seen.beginning:
        status["state"] = {"running": {"startedAt": rfc3339(latest.started_s)}}
        status["user"] = _user(latest)
        status["started"] = seen.started.get(name, True)
        status["ready"] = status["started"] and seen.ready.get(name, True) and (not init or is_sidecar(spec))
        status["lastState"] = _last(ended, seen, before, name)
    elif latest.state in (State.CREATED, State.RUNNING):
        status["state"] = {"waiting": _reason(waiting or (creating, ""))}
        status["lastState"] = _last(ended, seen, before, name)
    elif waiting:
        status["state"] = {"waiting": _reason(waiting)}
        status["lastState"] = {"terminated": terminated(latest, seen)}
    else:
        status["state"] = {"terminated": terminated(latest, seen)}
        status["lastState"] = _last(ended[:-1], seen, before, name)
        status["ready"] = init and latest.exit_code == 0
    return status


def _user(container: Container) -> Object:
    """Return as whom the container's first process runs (KEP-3619)."""
    uid, gid, groups = container.user
    return {"linux": {"uid": uid, "gid": gid, "supplementalGroups": sorted({gid, *groups})}}


def _ephemeral(spec: Object, found: Pod, seen: Seen, before: Object, now_s: float) -> Object:
    """Return the status of a container that was added to a running pod. It is never ready, and does not count for the pod's phase and conditions."""
    status = _container(spec, found, seen, before, now_s)
    status["ready"] = False
    del status["started"]
    return status


def _reason(waiting: Tuple[str, str]) -> Object:
    return {"reason": waiting[0], "message": waiting[1]} if waiting[1] else {"reason": waiting[0]}


def _last(ended: List[Container], seen: Seen, before: Object, name: str) -> Object:
    """Return how the attempt before ended: from the machine, else as it was reported already."""
    if ended:
        return {"terminated": terminated(ended[-1], seen)}
    for each in (before.get("containerStatuses") or []) + (before.get("initContainerStatuses") or []):
        if each["name"] == name:
            return each.get("lastState") or {}
    return {}


def terminated(container: Container, seen: Seen) -> Object:
    if container.lost:
        reason, message = LOST_REASON, LOST_MESSAGE
    elif container.start_error:
        reason, message = REFUSED_REASON, container.start_error
    else:
        reason = "OOMKilled" if container.oom_killed and container.exit_code else "Completed" if container.exit_code == 0 else "Error"
        message = seen.messages.get(container.id, "")
    state: Object = {"exitCode": container.exit_code, "reason": reason, "containerID": f"crun://{container.id}"}
    if message:
        state["message"] = message
    began_s, ended_s = container.started_s or container.created_s, container.finished_s or container.created_s
    if began_s and ended_s:
        began_s = min(began_s, ended_s)  # a short program may be over before its start is written down
    for key, moment_s in (("startedAt", began_s or ended_s), ("finishedAt", ended_s or began_s)):
        if moment_s:  # unknown is not 1970
            state[key] = rfc3339(moment_s)
    return state


# -- the whole


def phase_of(policies: Mapping[str, str], inits: List[Object], mains: List[Object], initialized: bool) -> str:
    """Return the pod's phase. `policies` has each container's restart policy, by its name."""
    if not initialized:
        failed = [each for each in inits if each["state"].get("terminated", {}).get("exitCode", 0) != 0]
        return "Failed" if any(policies[each["name"]] == "Never" for each in failed) else "Pending"
    running = sum("running" in each["state"] for each in mains)
    waiting = [each for each in mains if "waiting" in each["state"]]
    never_ran = [each for each in waiting if "terminated" not in each["lastState"]]
    ended = {each["name"]: each["state"]["terminated"]["exitCode"] for each in mains if "terminated" in each["state"]}
    if never_ran:
        return "Pending"
    if running or waiting or not ended:
        return "Running"
    if any(should_restart(policies[name], code) for name, code in ended.items()):
        return "Running"
    return "Failed" if any(ended.values()) else "Succeeded"


def _conditions(
    pod: Object, found: Pod, seen: Seen, phase: str, initialized: bool, inits: List[Object], mains: List[Object], now_s: float
) -> List[Object]:
    over, before = phase in TERMINAL, pod.get("status") or {}
    sidecars = [each["name"] for each in pod["spec"].get("initContainers") or () if is_sidecar(each)]
    unready = [each["name"] for each in (*(each for each in inits if each["name"] in sidecars), *mains) if not each["ready"]]
    ready: Tuple[bool, str, str] = (True, "", "")
    if over:
        ready = (False, "PodCompleted" if phase == "Succeeded" else "PodFailed", "")
    elif unready:
        ready = (False, "ContainersNotReady", f"containers with unready status: [{' '.join(unready)}]")
    waiting_inits = [each["name"] for each in inits if not (each["started"] if each["name"] in sidecars else _is_zero(each))]
    init = (True, "PodCompleted" if phase == "Succeeded" else "", "")
    if not initialized and not _beginning_again(pod, found):  # that its containers begin again makes no pod uninitialized (KEP-5532)
        init = (False, "ContainersNotInitialized", f"containers with incomplete status: [{' '.join(waiting_inits)}]")
    open_ = found.sandbox is not None and found.sandbox.ready and seen.volumes_ready
    all_ready = _gated(pod, before) if ready[0] else ready
    wanted = [("PodReadyToStartContainers", (open_, "", "")), ("Initialized", init), ("Ready", all_ready), ("ContainersReady", ready)]
    if not any(each["type"] == "PodScheduled" for each in before.get("conditions") or ()):
        wanted.append(("PodScheduled", (True, "", "")))
    fenced = isolation.told_again(pod, pod_address(found, seen.host_ip), seen.network_anew)
    if fenced is not None:
        wanted.append((isolation.NETWORK_READY, fenced))
    if seen.restarting is not None:
        wanted.append((RESTARTING, (False, "PodCompleted", "") if over else seen.restarting))
    if seen.failed and seen.disrupted:
        wanted.append(("DisruptionTarget", (True, "TerminationByKubelet", seen.failed[1])))
    wanted += [(kind, (True, reason, message)) for kind, reason, message in seen.resizing]
    there = {each["type"] for each in before.get("conditions") or ()} - {kind for kind, _ in wanted}
    over_now = [{"type": kind, "$patch": "delete"} for kind in RESIZING if kind in there]
    observed = {"observedGeneration": pod["metadata"]["generation"]} if pod["metadata"].get("generation") else {}
    return [*({**_condition(before, kind, *value, now_s=now_s), **observed} for kind, value in wanted), *over_now]


def _gated(pod: Object, before: Object) -> Tuple[bool, str, str]:
    """Tell whether a pod whose containers are ready is ready, too: somebody else may have to say so first, for each of its readiness gates (KEP-580)."""
    said = {each["type"]: each.get("status") for each in before.get("conditions") or ()}
    why = []
    for gate in pod["spec"].get("readinessGates") or ():
        kind = gate.get("conditionType", "")
        if kind not in said:
            why.append(f'corresponding condition of pod readiness gate "{kind}" does not exist.')
        elif said[kind] != "True":
            why.append(f'the status of pod readiness gate "{kind}" is not "True", but {said[kind]}')
    return (False, "ReadinessGatesNotReady", ", ".join(why)) if why else (True, "", "")


def _is_zero(status: Object) -> bool:
    return status["state"].get("terminated", {}).get("exitCode") == 0


def _condition(before: Object, kind: str, true: bool, reason: str, message: str, now_s: float) -> Object:
    """Return a condition. Its transition time changes only with its status."""
    word = "True" if true else "False"
    old = next((each for each in before.get("conditions") or () if each["type"] == kind), None)
    since = old.get("lastTransitionTime") if old and old["status"] == word else rfc3339(now_s)
    condition: Object = {"type": kind, "status": word, "lastTransitionTime": since}
    for key, text in (("reason", reason), ("message", message)):
        if text:
            condition[key] = text
        elif old and old.get(key):
            condition[key] = None  # the patch is merged into the condition that is there: null takes away what an earlier report said
    return condition


def differs(before: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Would writing `wanted` change what the API holds?"""
    old_conditions = {each["type"]: each for each in before.get("conditions") or ()}
    for condition in wanted["conditions"]:
        old = old_conditions.get(condition["type"])
        if "$patch" in condition:
            if old is not None:
                return True
            continue
        if old is None or any((old.get(key) or None) != (condition.get(key) or None) for key in ("status", "reason", "message")):
            return True
    return any(before.get(key) != value for key, value in wanted.items() if key != "conditions")


def just_creating(status: Object) -> bool:
    """Nothing to tell that will not be old news in a moment; if it takes longer, the first report comes by itself."""
    return all(each["state"].get("waiting", {}).get("reason") == "ContainerCreating" for each in status["containerStatuses"])


def exit_code_of(latest: Optional[Container]) -> Optional[int]:
    """Return how a container's last attempt ended; None if it did not."""
    return latest.exit_code if latest and latest.state is State.EXITED else None
