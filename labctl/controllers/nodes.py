"""The node controller decides whether a node is healthy, and sets the taints that follow. It moves no pod: the scheduler and the evictions
read the taints.

A node can be lost in two ways. Silence: its lease is not renewed for the grace period (silence.py says when that counts), so Ready becomes Unknown and
the node unreachable. Nothing is proven, and when its agent reports again, the node is healthy again. How fast silent nodes may lose their pods, the rule
for zones says (zones.py). Death: its Machine's status says Off about the very boot with which the node
registered, so nothing of it
can run any more. It is fenced with node.kubernetes.io/out-of-service, until its agent registers with another boot id.
In both cases pods are moved only if another node can take them: one that reported a moment ago. If all nodes fall silent together, the
master
is cut off, or the machines were asleep; if all are dead, the host went down. Then pods stay where they are, and continue, or start again,
when their machine is back
(Kubernetes stops its evictions then, too: "master disruption mode"). After a host's reboot all machines boot side by side, and who is first must not
take the pods of the others: pods that stayed for want of another node wait while their machine boots (`boot_s`), and only after that as long as they
tolerate a node that is not ready. A dead machine whose boot began while others lived is waited for as long as its pods tolerate that.

The ends of machines that end together are reported one after the other, in any order. So the first of them is fenced only after a moment
(`ends_together_s`). If it
were fenced at once, its pods would move to a machine that has ended too. Nor is it fenced before every end that was known in that moment is written,
however slow the disk is. Its pods leave the endpoints at once in any case.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from random import Random
from typing import Any

from labctl.controllers.conditions import with_condition
from labctl.controllers.indexes import LEASES, MACHINES, NODES, NODES_READY, PODS, PODS_BY_NODE, READY
from labctl.controllers.nodetaints import adds_eviction, is_fenced, keeps_pods, loses_pods, node_event, taints_of
from labctl.controllers.peers import LEASE_NAMESPACE
from labctl.controllers.settings import ControllerSettings
from labctl.controllers.silence import Judgement, Silence, born, heard, report
from labctl.controllers.zones import Zones
from labctl.reconcile.plan import NOTHING, Action, Index, Key, Patch, Plan, Record, Seen, View
from labctl.resources.kinds.core_v1.node import Node
from labctl.resources.kinds.core_v1.pod_view import Pod
from labctl.resources.kinds.labctl_internal_v1.machine import Machine, PowerEvent
from labctl.resources.kinds.shared import condition_status
from labctl.resources.taints import PRESSURES

ENDED, COMING = "ended", "coming"
BOOTS = "nobody could take them when their machine ended, and it boots"

ON_ITS_WAY = frozenset({"Booting", "Joining"})  # phases of a machine that will run its pods again
WRITTEN_BEFORE = (
    0.25  # in this last part of `ends_together_s` it is written that a machine is off; a quick disk has written it when the time is over
)
LOOK_AGAIN_S = 1.0  # how often it is checked whether another node is left, while that decides
ASKED = 64  # the most other nodes that are checked; nodes that are gone are soon no longer among them

SILENT = ("Unknown", "NodeStatusUnknown", "Kubelet stopped posting node status.")
NEVER_SPOKE = ("Unknown", "NodeStatusNeverUpdated", "Kubelet never posted node status.")


class Nodes:
    """The controller that the module's docstring describes."""

    name = "node-controller"
    kind = NODES

    def __init__(self, settings: ControllerSettings = ControllerSettings()) -> None:  # noqa: B008 - frozen
        self._grace_s = settings.lease_grace_s
        self._silence = Silence(settings)
        self._zones = Zones(settings, self._silence.is_suspect)
        self._together_s = settings.ends_together_s
        self._boot_s = settings.boot_s
        self.watches = {
            NODES: lambda _view, seen: (seen.key,) if seen.new is not None else (),
            LEASES: _renewed,
            MACHINES: lambda view, seen: (seen.key,) if view.get(NODES, seen.key) else (),
        }
        self.indexes: Mapping[tuple[str, str], Index] = {
            **PODS_BY_NODE,
            **NODES_READY,
            (NODES, "report"): report,
            (NODES, "born"): born,
            (MACHINES, "end"): _end,
            (MACHINES, "coming"): _coming,
        }

    def plan(self, view: View, key: Key, now: float, rng: Random) -> Plan:
        node: Node | None = view.get(NODES, key)
        if node is None:
            return NOTHING
        machine = view.get(MACHINES, key)
        death = death_of(machine, node)
        if death and is_fenced(node):
            return Plan(_fence(view, node, death))
        judgement = self._silence.judge(view, key, now)
        boots_s = self._boots_s(view, node, machine, now)
        if not death and (boots_s > 0 or not judgement.given_up):
            actions = _healthy(view, node, BOOTS if boots_s > 0 else "")
            again_s = min(boots_s, LOOK_AGAIN_S) if boots_s > 0 else judgement.again_s
            return Plan(actions + _pods_not_ready(view, node) if _booted_anew(machine, node) else actions, again_s)
        elsewhere = self._others(view, key, now)
        if death and elsewhere and not _comes_back(machine):
            wait_s = 0.0 if death.intended else self._together_s - (now - view.latest(MACHINES, "end", ENDED))
            return self._fence_soon(view, node, death, wait_s)
        stays = "" if elsewhere else "no other node is left to take them"
        if death:
            stays = stays or (BOOTS if boots_s > 0 else "")
            return Plan(_lost(view, node, death, stays), LOOK_AGAIN_S)
        again_s = LOOK_AGAIN_S
        if not stays and not loses_pods(node):
            stays, again_s = self._stay(view, node, judgement, now)
        return Plan(_lost(view, node, None, stays, judgement.why), again_s)

    def decided(self, view: View, key: Key, plan: Plan, now: float) -> None:
        """Remember that a silent node loses its pods, before the view shows it: the next one of its zone is planned in the same moment."""
        node: Node | None = view.get(NODES, key)
        if node is not None and not loses_pods(node) and any(adds_eviction(action) for action in plan.actions):
            self._zones.evicted(node, now)

    def _fence_soon(self, view: View, node: Node, death: PowerEvent, wait_s: float) -> Plan:
        """Fence a node in `wait_s`, if no other machine ends meanwhile.

        That it is off is written shortly before. On a slow disk the ends of other machines may wait to be written; they come before that write, so the
        view has them when it has that.
        """
        told, why = (None, "") if death.intended else _off(node, death, view.wall())
        if wait_s <= 0 and told is None:
            return Plan(_fence(view, node, death))
        early_s = wait_s - WRITTEN_BEFORE * self._together_s
        if told is None or early_s > 0:
            return Plan(_pods_not_ready(view, node), early_s if early_s > 0 else wait_s)
        return Plan([_status(node, told, why), *_pods_not_ready(view, node)], max(0.0, wait_s))

    def _boots_s(self, view: View, node: Node, machine: Machine | None, now: float) -> float:
        """Return how many seconds the node's pods, which stayed when nobody could take them, wait yet for its machine. 0 if it does not boot."""
        if machine is None or not _comes_back(machine) or not keeps_pods(node):
            return 0.0
        return max(0.0, self._boot_s - (now - view.since(MACHINES, "coming", COMING, machine.metadata.name)))

    def _stay(self, view: View, node: Node, judgement: Judgement, now: float) -> tuple[str, float]:
        """Return why the pods of a silent node stay where they are (empty if they may be evicted), and when that may change."""
        if not judgement.evicted:
            return judgement.why, min(judgement.again_s, LOOK_AGAIN_S)
        wait_s, why = self._zones.wait(view, node, now)
        return (why, min(wait_s, LOOK_AGAIN_S)) if wait_s > 0 else ("", LOOK_AGAIN_S)

    def _others(self, view: View, name: str, now: float) -> bool:
        """Tell whether pods could move to another node, one that reported lately."""
        return any(self._lives(view, node, now) for node in view.some(NODES, "ready", READY, ASKED) if node.metadata.name != name)

    def _lives(self, view: View, node: Node, now: float) -> bool:
        machine: Machine | None = view.get(MACHINES, node.metadata.name)
        if machine is not None and (machine.spec.power == "Off" or death_of(machine, node)):
            return False
        lease = view.get(LEASES, f"{LEASE_NAMESPACE}/{node.metadata.name}")
        if lease is None or lease.metadata.revision <= view.begun:
            return False  # a state from before this process started, or before it was asleep, proves nothing
        return now - heard(view, node.metadata.name) <= self._grace_s / 2


def _end(machine: Machine) -> Iterable[str]:
    """Return the key of machines whose last boot ended unintendedly."""
    event = machine.status.last_event
    return (ENDED,) if event is not None and event.power == "Off" and not event.intended else ()


def _coming(machine: Machine) -> Iterable[str]:
    """Return the key of machines that boot, or are to boot."""
    return (COMING,) if _comes_back(machine) else ()


def _comes_back(machine: Machine) -> bool:
    """Tell whether it boots now, or a boot was requested, so that its pods will start there again."""
    return machine.status.phase in ON_ITS_WAY or machine.boot_requested


def cause_of(death: PowerEvent) -> str:
    return "its machine was halted, as intended" if death.intended else f"its machine is off: {death.reason or 'it lost power'}"


def death_of(machine: Machine | None, node: Node) -> PowerEvent | None:
    """Return the provider's event that ended the boot with which this node registered, or None if no such event is known."""
    return machine.end_of(node.status.node_info.boot_id) if machine is not None else None


def _booted_anew(machine: Machine | None, node: Node) -> bool:
    """Tell whether its machine runs another boot than the one with which it registered, and nobody reported how that one ended.

    That happens after a restored snapshot or a reboot of the host. Its agent starts its pods again, but what they ran is gone.
    """
    boot = node.status.node_info.boot_id
    return machine is not None and machine.status.power == "On" and bool(boot) and machine.status.boot_id not in ("", boot)


def _renewed(view: View, seen: Seen) -> Iterable[Key]:
    """Yield the node of a renewed lease only if it was thought silent."""
    namespace, _, name = seen.key.partition("/")
    node = view.get(NODES, name) if namespace == LEASE_NAMESPACE else None
    return (name,) if node is not None and (seen.old is None or not node.ready) else ()


# -- health ----------------------------------------------------------------------------------------------------------------------------


def _healthy(view: View, node: Node, stays: str = "") -> list[Action]:
    """Handle a node that is heard, or whose machine boots, for which its pods stay: `stays` says why, and is empty otherwise."""
    ready = condition_status(node.status.conditions, "Ready")
    if ready == "True":
        stays = ""
    elif not stays and ready == "Unknown" and not loses_pods(node):
        stays = "it is heard again"
    taints = taints_of(node, ready, view.wall(), stays=stays)
    return [taints] if taints is not None else []


def _lost(view: View, node: Node, death: PowerEvent | None, stays: str, silence: str = "") -> list[Action]:
    """Handle a node that is silent, or dead but not fenced.

    It is tainted and not Ready, and its pods leave the endpoints. They are moved in their time, unless `stays` says why not.
    """
    wall_s = view.wall()
    taints = taints_of(node, "False" if death else "Unknown", wall_s, stays=stays)
    if taints is not None:
        return [taints, *_pods_not_ready(view, node)]
    conditions, why = _off(node, death, wall_s) if death else _silenced(node, silence, wall_s)
    status = [_status(node, conditions, why)] if conditions is not None else []
    return [*status, *_pods_not_ready(view, node)]


def _off(node: Node, death: PowerEvent, wall_s: float) -> tuple[list[dict[str, Any]] | None, str]:
    """Return the conditions of a node whose machine is off, or None if they say that already."""
    if condition_status(node.status.conditions, "Ready") == "False":
        return None, ""
    why = cause_of(death)
    said = ("False", "MachineHalted" if death.intended else "MachineOff", f"The node is out of service: {why}.")
    return _set(node.status.conditions, "Ready", said, wall_s), f"not ready: {why}"


def _silenced(node: Node, why: str, wall_s: float) -> tuple[list[dict[str, Any]] | None, str]:
    """Return the conditions of a node that stopped reporting, or None if they say that already."""
    spoke = {condition.type: condition for condition in node.status.conditions}
    if spoke.get("Ready") and all(spoke[type_].status == "Unknown" for type_ in ("Ready", *PRESSURES) if type_ in spoke):
        return None, ""
    conditions: Any = node.status.conditions
    for type_ in ("Ready", *PRESSURES):
        conditions = _set(conditions, type_, SILENT if type_ in spoke else NEVER_SPOKE, wall_s)
    return conditions, f"{why}: Kubelet stopped posting node status"


def _set(conditions: Any, type_: str, said: tuple[str, str, str], wall_s: float) -> list[dict[str, Any]]:
    return with_condition(conditions, type_, *said, wall_s)


def _status(node: Node, conditions: list[dict[str, Any]], why: str) -> Action:
    name = node.metadata.name
    event = node_event(node, "NodeNotReady") if node.ready else None
    return Patch(NODES, name, {"status": {"conditions": conditions}}, "status", node.metadata.revision, why, event)


def _pods_not_ready(view: View, node: Node) -> list[Action]:
    """Make its pods not ready, so that they leave the endpoints, because nobody knows whether they still answer.

    Their agent reports them again later.
    """
    name = node.metadata.name
    return [_pod_not_ready(pod, view.wall()) for pod in view.by(PODS, "node", name) if pod.ready and not pod.finished]


def _pod_not_ready(pod: Pod, wall_s: float) -> Action:
    why = f"not ready: node {pod.spec.node_name} is not ready"
    conditions = with_condition(pod.status.conditions, "Ready", "False", "NodeNotReady", "Node is not ready", wall_s)
    event = Record(PODS, pod.metadata.key, "NodeNotReady", "Node is not ready", "Warning")
    return Patch(PODS, pod.metadata.key, {"status": {"conditions": conditions}}, "status", pod.metadata.revision, why, event)


# -- death -----------------------------------------------------------------------------------------------------------------------------


def _fence(view: View, node: Node, death: PowerEvent) -> list[Action]:
    """Fence a node. The taint comes first, because the pods are replaced on it; the condition follows."""
    why = cause_of(death)
    wall_s = view.wall()
    taints = taints_of(node, "False", wall_s, dead_boot=death.boot_id, why=f"out of service: {why}")
    if taints is not None:
        return [taints]
    conditions, said = _off(node, death, wall_s)
    return [_status(node, conditions, said)] if conditions is not None else []
