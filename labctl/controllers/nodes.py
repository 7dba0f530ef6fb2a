"""The node controller decides whether a node is healthy, and sets the taints that follow from that. It moves no pod: the scheduler and the evictions read the taints.

Two ways to lose a node. Silence: its lease is not renewed for the grace period, so Ready becomes Unknown and the node unreachable; nothing is proven, and
when it speaks again all is well. Death: its Machine's status says Off about the very boot the node registered with, so nothing of it can run any more;
it is fenced with node.kubernetes.io/out-of-service, until its agent registers with another boot id.
The age of a lease counts from when this process saw it change, so a restart of the master or a jump of the clock kills nobody.

Either way pods are moved only if somebody is left who can take them: another node that was heard of a moment ago. When all nodes fall silent together it is the master
that is cut off, or the machines were asleep; when all are dead the host went down. Then pods stay where they are, and go on, or start again, when their machine is back
(Kubernetes stops its evictions then, too: "master disruption mode"). A dead machine that boots just now is waited for as long as pods tolerate a node that is not ready.

Machines that end together are told of one after the other, in any order. So the first of them is fenced only after a moment (`ends_together_s`): were it fenced at once,
its pods would move to a machine that has ended too. Its pods leave the endpoints at once all the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from random import Random
from typing import Any

from labctl.clock import rfc3339
from labctl.controllers.conditions import plain, with_condition
from labctl.controllers.indexes import LEASES, MACHINES, NODES, NODES_READY, PODS, PODS_BY_NODE, READY
from labctl.controllers.settings import ControllerSettings
from labctl.reconcile.plan import NOTHING, Action, Index, Key, Patch, Plan, Record, Seen, View
from labctl.resources.kinds.core_v1.node import Node, Taint
from labctl.resources.kinds.core_v1.pod_view import Pod
from labctl.resources.kinds.labctl_internal_v1.machine import Machine, PowerEvent
from labctl.resources.kinds.shared import condition, condition_status
from labctl.resources.taints import NOT_READY, OUT_OF_SERVICE, PRESSURES, UNREACHABLE, UNSCHEDULABLE

LEASE_NAMESPACE = "kube-node-lease"

BOOT = "boot-"  # our own out-of-service taint has the value boot-ID: the boot that is over. One that a person set has another, and only a person removes it

ENDED = "ended"
OURS = frozenset({NOT_READY, UNREACHABLE, UNSCHEDULABLE, *PRESSURES.values()})

ON_ITS_WAY = frozenset({"Booting", "Joining"})  # phases of a machine that will run its pods again
LOOK_AGAIN_S = 1.0  # whether somebody else is left, while that decides
ASKED = 64  # so many of the others are asked, at most: those that are gone are soon no longer among them

SILENT = ("Unknown", "NodeStatusUnknown", "Kubelet stopped posting node status.")
NEVER_SPOKE = ("Unknown", "NodeStatusNeverUpdated", "Kubelet never posted node status.")


class Nodes:
    name = "node-controller"
    kind = NODES

    def __init__(self, settings: ControllerSettings = ControllerSettings()) -> None:  # noqa: B008 - frozen
        self._grace_s = settings.lease_grace_s
        self._together_s = settings.ends_together_s
        self.watches = {
            NODES: lambda _view, seen: (seen.key,) if seen.new is not None else (),
            LEASES: _renewed,
            MACHINES: lambda view, seen: (seen.key,) if view.get(NODES, seen.key) else (),
        }
        self.indexes: Mapping[tuple[str, str], Index] = {
            **PODS_BY_NODE,
            **NODES_READY,
            (NODES, "report"): _report,
            (NODES, "born"): _born,
            (MACHINES, "end"): _end,
        }

    def plan(self, view: View, key: Key, now: float, rng: Random) -> Plan:
        node: Node | None = view.get(NODES, key)
        if node is None:
            return NOTHING
        machine = view.get(MACHINES, key)
        death = death_of(machine, node)
        if death and _fenced(node):
            return Plan(_fence(view, node, death))
        left_s = self._grace_s - (now - _heard(view, key))
        if not death and left_s > 0:
            actions = _healthy(view, node)
            return Plan(actions + _pods_not_ready(view, node) if _booted_anew(machine, node) else actions, left_s)
        elsewhere = self._others(view, key, now)
        if death and elsewhere and not _comes_back(machine):
            wait_s = 0.0 if death.intended else self._together_s - (now - _last_end(view))
            if wait_s <= 0:
                return Plan(_fence(view, node, death))
            return Plan(_pods_not_ready(view, node), wait_s)
        return Plan(_lost(view, node, death, elsewhere), LOOK_AGAIN_S)

    def _others(self, view: View, name: str, now: float) -> bool:
        """Whether pods could move to another node: one that gave a sign of life lately."""
        return any(self._lives(view, node, now) for node in islice(view.by(NODES, "ready", READY), ASKED) if node.metadata.name != name)

    def _lives(self, view: View, node: Node, now: float) -> bool:
        machine: Machine | None = view.get(MACHINES, node.metadata.name)
        if machine is not None and (machine.spec.power == "Off" or death_of(machine, node)):
            return False
        lease = view.get(LEASES, f"{LEASE_NAMESPACE}/{node.metadata.name}")
        if lease is None or lease.metadata.revision <= view.begun:
            return False  # what was so before this process began, or before it fell asleep, proves nothing
        return now - _heard(view, node.metadata.name) <= self._grace_s / 2


def _end(machine: Machine) -> Iterable[str]:
    """Machines whose last boot ended and was not meant to."""
    event = machine.status.last_event
    return (ENDED,) if event is not None and event.power == "Off" and not event.intended else ()


def _last_end(view: View) -> float:
    """When this process saw the last machine end."""
    return max((view.since(MACHINES, "end", ENDED, each.metadata.name) for each in view.by(MACHINES, "end", ENDED)), default=0.0)


def _comes_back(machine: Machine) -> bool:
    """It boots now, or somebody has asked for it: its pods will start there again."""
    return machine.status.phase in ON_ITS_WAY or machine.boot_requested


def cause_of(death: PowerEvent) -> str:
    return "its machine was halted, as intended" if death.intended else f"its machine is off: {death.reason or 'it lost power'}"


def _report(node: Node) -> Iterable[str]:
    """What its agent last said of itself; a new value is a sign of life, as a renewed lease is. Unknown is our word, not its."""
    ready = condition(node.status.conditions, "Ready")
    said = f"{ready.status}@{ready.last_heartbeat_time}" if ready and ready.status != "Unknown" else ""
    return (f"{node.status.node_info.boot_id}:{said}",)


def _born(node: Node) -> Iterable[str]:
    """The same for as long as it is this Node, and no later one of the same name."""
    return (node.metadata.uid,)


def death_of(machine: Machine | None, node: Node) -> PowerEvent | None:
    """The provider's event that ended the boot with which this node registered; None if no such event is known."""
    return machine.end_of(node.status.node_info.boot_id) if machine is not None else None


def _booted_anew(machine: Machine | None, node: Node) -> bool:
    """Its machine runs another boot than the one it registered with, and nobody said how that one ended (a restored snapshot, a rebooted host):
    its pods are its agent's to start again, but what they ran is gone."""
    boot = node.status.node_info.boot_id
    return machine is not None and machine.status.power == "On" and bool(boot) and machine.status.boot_id not in ("", boot)


def _renewed(view: View, seen: Seen) -> Iterable[Key]:
    """A lease that is renewed concerns nobody, unless its node was thought silent."""
    namespace, _, name = seen.key.partition("/")
    node = view.get(NODES, name) if namespace == LEASE_NAMESPACE else None
    return (name,) if node is not None and (seen.old is None or not node.ready) else ()


def _heard(view: View, name: str) -> float:
    """When the node last gave a sign of life, as this process saw it: it registered, reported its status, or renewed its lease.

    A node without a lease is silent: what others write into its object, as this controller does, is no sign of its life."""
    lease, node = f"{LEASE_NAMESPACE}/{name}", view.get(NODES, name)
    signs = [view.since(NODES, "born", node.metadata.uid, name)]
    (report,) = _report(node)
    if not report.endswith(":"):
        signs.append(view.since(NODES, "report", report, name))
    if view.get(LEASES, lease):
        signs.append(view.seen(LEASES, lease))
    return max(signs)


# -- health ----------------------------------------------------------------------------------------------------------------------------


def _healthy(view: View, node: Node) -> list[Action]:
    taints = _taints(node, condition_status(node.status.conditions, "Ready"), view.wall())
    return [taints] if taints is not None else []


def _lost(view: View, node: Node, death: PowerEvent | None, elsewhere: bool) -> list[Action]:
    """Silent, or dead but not fenced: tainted, not Ready, and its pods answer nobody. They are moved in their time, if there is anywhere to move to."""
    wall_s = view.wall()
    taints = _taints(node, "False" if death else "Unknown", wall_s, moves=elsewhere)
    if taints is not None:
        return [taints, *_pods_not_ready(view, node)]
    conditions, why = _off(node, death, wall_s) if death else _silenced(node, wall_s)
    status = [_status(node, conditions, why)] if conditions is not None else []
    return [*status, *_pods_not_ready(view, node)]


def _off(node: Node, death: PowerEvent, wall_s: float) -> tuple[list[dict[str, Any]] | None, str]:
    """The conditions of a node whose machine is off; None if that is what they say already."""
    if condition_status(node.status.conditions, "Ready") == "False":
        return None, ""
    why = cause_of(death)
    said = ("False", "MachineHalted" if death.intended else "MachineOff", f"The node is out of service: {why}.")
    return _set(node.status.conditions, "Ready", said, wall_s), f"not ready: {why}"


def _silenced(node: Node, wall_s: float) -> tuple[list[dict[str, Any]] | None, str]:
    """The conditions of a node that stopped speaking; None if that is what they say already."""
    spoke = {condition.type: condition for condition in node.status.conditions}
    if spoke.get("Ready") and all(spoke[type_].status == "Unknown" for type_ in ("Ready", *PRESSURES) if type_ in spoke):
        return None, ""
    conditions: Any = node.status.conditions
    for type_ in ("Ready", *PRESSURES):
        conditions = _set(conditions, type_, SILENT if type_ in spoke else NEVER_SPOKE, wall_s)
    return conditions, "its lease has not been renewed for the grace period: Kubelet stopped posting node status"


def _set(conditions: Any, type_: str, said: tuple[str, str, str], wall_s: float) -> list[dict[str, Any]]:
    return with_condition(conditions, type_, *said, wall_s)


def _status(node: Node, conditions: list[dict[str, Any]], why: str) -> Action:
    name = node.metadata.name
    event = _now(node, "NodeNotReady") if node.ready else None
    return Patch(NODES, name, {"status": {"conditions": conditions}}, "status", node.metadata.revision, why, event)


def _now(node: Node, reason: str) -> Record:
    """The Event with which Kubernetes says what a Node's status is now."""
    return Record(NODES, node.metadata.name, reason, f"Node {node.metadata.name} status is now: {reason}")


def _pods_not_ready(view: View, node: Node) -> list[Action]:
    """Whether its pods answer is not known any more, so they leave the endpoints. Their agent says so again when it is back."""
    name = node.metadata.name
    return [_pod_not_ready(pod, view.wall()) for pod in view.by(PODS, "node", name) if pod.ready and not pod.finished]


def _pod_not_ready(pod: Pod, wall_s: float) -> Action:
    why = f"not ready: node {pod.spec.node_name} is not ready"
    conditions = with_condition(pod.status.conditions, "Ready", "False", "NodeNotReady", "Node is not ready", wall_s)
    event = Record(PODS, pod.metadata.key, "NodeNotReady", "Node is not ready", "Warning")
    return Patch(PODS, pod.metadata.key, {"status": {"conditions": conditions}}, "status", pod.metadata.revision, why, event)


# -- death -----------------------------------------------------------------------------------------------------------------------------


def _fence(view: View, node: Node, death: PowerEvent) -> list[Action]:
    """Fences a node. The taint comes first, because pods are replaced on it; the condition follows."""
    why = cause_of(death)
    wall_s = view.wall()
    taints = _taints(node, "False", wall_s, dead_boot=death.boot_id, why=f"out of service: {why}")
    if taints is not None:
        return [taints]
    conditions, said = _off(node, death, wall_s)
    return [_status(node, conditions, said)] if conditions is not None else []


def _taints(node: Node, ready: str, wall_s: float, *, moves: bool = True, dead_boot: str = "", why: str = "") -> Action | None:
    """What makes the node's taints follow from its health; None if they do. `moves`: its pods may be moved."""
    wanted = list(_wanted_taints(node, ready, moves, dead_boot))
    there = {(taint.key, taint.effect): taint for taint in node.spec.taints}
    kept = [taint for taint in node.spec.taints if not _ours(taint) or (taint.key, taint.value, taint.effect) in wanted]
    new = [(key, value, effect) for key, value, effect in wanted if (key, effect) not in there or there[key, effect].value != value]
    if not new and len(kept) == len(node.spec.taints):
        return None
    taints = [plain(taint) for taint in kept]
    taints += [_taint(key, value, effect, wall_s) for key, value, effect in new]
    gone = sorted({taint.key for taint in node.spec.taints} - {taint["key"] for taint in taints})
    added = sorted({key for key, _, _ in new})
    sentence = why or "; ".join([*(f"tainted {key}" for key in added), *(f"no longer {key}" for key in gone)])
    if not moves:
        sentence = "; ".join([*filter(None, [sentence]), "its pods stay: no other node is left to take them"])
    event = _now(node, "NodeReady") if {NOT_READY, UNREACHABLE} & set(gone) else None
    return Patch(NODES, node.metadata.name, {"spec": {"taints": taints or None}}, "", node.metadata.revision, sentence, event)


def _wanted_taints(node: Node, ready: str, moves: bool, dead_boot: str) -> Iterable[tuple[str, str, str]]:
    """(key, value, effect) of every taint that is ours to set."""
    if ready != "True":
        key = UNREACHABLE if ready == "Unknown" else NOT_READY
        yield key, "", "NoSchedule"
        if ready and moves:  # a node that just registered and said nothing yet loses no pods for it
            yield key, "", "NoExecute"
    for type_, key in PRESSURES.items():
        if condition_status(node.status.conditions, type_) == "True":
            yield key, "", "NoSchedule"
    if node.spec.unschedulable:
        yield UNSCHEDULABLE, "", "NoSchedule"
    if dead_boot:
        yield OUT_OF_SERVICE, BOOT + dead_boot, "NoExecute"
    else:
        yield from _still_dead(node)


def _still_dead(node: Node) -> Iterable[tuple[str, str, str]]:
    """Our fence stays while the node is still the boot that is over, whatever the machine does meanwhile."""
    if _fenced(node):
        yield OUT_OF_SERVICE, BOOT + node.status.node_info.boot_id, "NoExecute"


def _fenced(node: Node) -> bool:
    """Whether the boot with which it registered is fenced."""
    fence = (OUT_OF_SERVICE, BOOT + node.status.node_info.boot_id, "NoExecute")
    return any((taint.key, taint.value, taint.effect) == fence for taint in node.spec.taints)


def _ours(taint: Taint) -> bool:
    return taint.key in OURS or (taint.key == OUT_OF_SERVICE and taint.value.startswith(BOOT))


def _taint(key: str, value: str, effect: str, wall_s: float) -> dict[str, str]:
    taint = {"key": key, "value": value, "effect": effect}
    if effect == "NoExecute":
        taint["timeAdded"] = rfc3339(wall_s)
    return {name: text for name, text in taint.items() if text}
