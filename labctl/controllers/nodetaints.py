"""The taints that say how a node is. The node controller sets them; the scheduler and the evictions read them."""

from __future__ import annotations

from collections.abc import Iterable

from labctl.clock import rfc3339
from labctl.controllers.conditions import plain
from labctl.controllers.indexes import NODES
from labctl.reconcile.plan import Action, Patch, Record
from labctl.resources.kinds.core_v1.node import Node, Taint
from labctl.resources.kinds.shared import condition_status
from labctl.resources.taints import NOT_READY, OUT_OF_SERVICE, PRESSURES, UNREACHABLE, UNSCHEDULABLE

BOOT = "boot-"  # labctl's own out-of-service taint has the value boot-ID, with the boot that ended; one with another value was set by a person, who removes it
OURS = frozenset({NOT_READY, UNREACHABLE, UNSCHEDULABLE, *PRESSURES.values()})


def node_event(node: Node, reason: str) -> Record:
    """Return the Event with which Kubernetes reports a Node's new status."""
    return Record(NODES, node.metadata.name, reason, f"Node {node.metadata.name} status is now: {reason}")


def loses_pods(node: Node) -> bool:
    """Tell whether the node has the taint with which pods leave a node that is silent."""
    return any((taint.key, taint.effect) == (UNREACHABLE, "NoExecute") for taint in node.spec.taints)


def keeps_pods(node: Node) -> bool:
    """Tell whether the node is tainted as not ready or unreachable, but none of its pods may leave it for that."""
    return {taint.effect for taint in node.spec.taints if taint.key in (NOT_READY, UNREACHABLE)} == {"NoSchedule"}


def adds_eviction(action: Action) -> bool:
    """Tell whether a write gives a node that taint, or keeps it."""
    taints = action.patch.get("spec", {}).get("taints") if isinstance(action, Patch) else None
    return any((taint["key"], taint["effect"]) == (UNREACHABLE, "NoExecute") for taint in taints or ())


def taints_of(node: Node, ready: str, wall_s: float, *, stays: str = "", dead_boot: str = "", why: str = "") -> Action | None:
    """Return the write that makes the node's taints follow from its health, or None if they do.

    `stays` says why its pods may not be moved; it is empty if they may.
    """
    wanted = list(_wanted_taints(node, ready, not stays, dead_boot))
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
    if stays:
        sentence = "; ".join([*filter(None, [sentence]), f"its pods stay: {stays}"])
    event = node_event(node, "NodeReady") if {NOT_READY, UNREACHABLE} & set(gone) else None
    return Patch(NODES, node.metadata.name, {"spec": {"taints": taints or None}}, "", node.metadata.revision, sentence, event)


def _wanted_taints(node: Node, ready: str, moves: bool, dead_boot: str) -> Iterable[tuple[str, str, str]]:
    """Yield (key, value, effect) of every taint that this controller sets."""
    if ready != "True":
        key = UNREACHABLE if ready == "Unknown" else NOT_READY
        yield key, "", "NoSchedule"
        if ready and moves:  # a node that just registered and has not reported yet must not lose pods
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
    """Yield our fence while the node is still registered with the boot that ended, whatever the machine does meanwhile."""
    if is_fenced(node):
        yield OUT_OF_SERVICE, BOOT + node.status.node_info.boot_id, "NoExecute"


def is_fenced(node: Node) -> bool:
    """Tell whether the boot with which it registered is fenced."""
    fence = (OUT_OF_SERVICE, BOOT + node.status.node_info.boot_id, "NoExecute")
    return any((taint.key, taint.value, taint.effect) == fence for taint in node.spec.taints)


def _ours(taint: Taint) -> bool:
    return taint.key in OURS or (taint.key == OUT_OF_SERVICE and taint.value.startswith(BOOT))


def _taint(key: str, value: str, effect: str, wall_s: float) -> dict[str, str]:
    taint = {"key": key, "value": value, "effect": effect}
    if effect == "NoExecute":
        taint["timeAdded"] = rfc3339(wall_s)
    return {name: text for name, text in taint.items() if text}
