"""Which of the nodes that fit is best: first what was asked for, then spread the replicas, then even out what is requested, then draw lots.

What people ask for (preferred affinities, ScheduleAnyway constraints, PreferNoSchedule taints) is weighed against each other with Kubernetes' weights. The rest
follows in a strict order rather than weighted, so that the reason can be told in a sentence. The replicas of one controller are spread as Kubernetes' default
constraints say, over nodes and zones. The larger share of CPU or memory that would be requested is the sum of Kubernetes' LeastAllocated and
BalancedAllocation. Images are so small here that ImageLocality would count none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import log
from random import Random

from labctl.resources.kinds.core_v1.node import Node
from labctl.resources.kinds.core_v1.pod_view import Pod
from labctl.resources.placement import matches_term
from labctl.resources.tolerations import tolerated
from labctl.scheduler.affinity import Neighbours
from labctl.scheduler.cluster import Cluster, NodeState
from labctl.scheduler.demand import Demand
from labctl.scheduler.filters import Situation
from labctl.scheduler.spread import unevenness
from labctl.scheduler.terms import NamespaceLabels

Score = tuple[int, int]
"""Less is better: against what was asked for; how many replicas are near. Among equals the share that would be requested decides."""

_TAINTS, _NODES, _SPREAD, _PODS = 3, 2, 2, 2  # Kubernetes' weights of its plugins
_BEST = 100


def best(
    situation: Situation, fitting: Sequence[NodeState], cluster: Cluster, labels_of: NamespaceLabels, rng: Random
) -> tuple[NodeState, str]:
    """Return the chosen node, and a sentence that says why."""
    if len(fitting) == 1:
        return fitting[0], f"placed on {fitting[0].name}: the only node where it fits"
    demand = situation.demand
    against = _against(situation, fitting, cluster, labels_of)
    scores = list(zip(against, _near(demand, fitting, cluster), strict=True))
    lowest = min(scores)
    tied = [state for state, its in zip(fitting, scores, strict=True) if its == lowest]
    shares = _shares(demand, tied)
    least = min(shares)
    equals = [state for state, share in zip(tied, shares, strict=True) if share == least]
    chosen = equals[0] if len(equals) == 1 else rng.choice(equals)
    return chosen, _why(chosen, demand, lowest, scores, len(tied) - len(equals))


def _shares(demand: Demand, states: Iterable[NodeState]) -> list[int]:
    """Return for each node the larger share of its CPU or memory that would be requested, in thousandths."""
    millicores, size = demand.weight_millicores, demand.weight_bytes
    both = [
        (
            1000 * (state.weight_millicores + millicores) // (state.millicores or 1),
            1000 * (state.weight_bytes + size) // (state.bytes or 1),
        )
        for state in states
    ]
    return [cpu if cpu > memory else memory for cpu, memory in both]


def _near(demand: Demand, fitting: Sequence[NodeState], cluster: Cluster) -> list[int]:
    """Return how many of the pod's replicas are on each node. With zones, those of the zone count too, with Kubernetes' weights."""
    group = demand.group
    if cluster.zones < 2:
        return [state.groups.get(group, 0) for state in fitting]
    zones: dict[str, int] = {}
    nodes = cluster.nodes()
    for state in nodes:
        if state.zone and (replicas := state.groups.get(group)):
            zones[state.zone] = zones.get(state.zone, 0) + replicas
    for_node, for_zone = int(100 * log(len(nodes) + 2)), int(100 * log(cluster.zones + 2))
    return [state.groups.get(group, 0) * for_node + zones.get(state.zone, 0) * for_zone for state in fitting]


# -- what was asked for --------------------------------------------------------------------------------------------------------------------


def _against(situation: Situation, fitting: Sequence[NodeState], cluster: Cluster, labels_of: NamespaceLabels) -> Sequence[int]:
    """Return how far each node is from what was preferred; 0 for all if nothing was."""
    pod, demand = situation.pod, situation.demand
    total = [0] * len(fitting)
    if cluster.discouraging:
        _weigh(total, _lowered([float(_discouraging(pod, state)) for state in fitting]), _TAINTS)
    affinity = pod.spec.affinity
    if affinity and affinity.preferred:
        _weigh(total, _raised([_preference(pod, state.node) if state.node else 0 for state in fitting]), _NODES)
    soft = [constraint for constraint in demand.terms.constraints if not constraint.hard] if demand.terms else []
    if soft:
        _weigh(total, _evened(unevenness(pod, soft, fitting, cluster)), _SPREAD)
    if demand.terms or cluster.near.terms or cluster.rather_near.terms or cluster.rather_far.terms:
        neighbours = situation.neighbours or Neighbours(pod, demand, cluster, labels_of)
        points = neighbours.preferred(demand.terms)
        if points:
            _weigh(total, _ranged([_points(points, state) for state in fitting]), _PODS)
    return total


def _weigh(total: list[int], scores: Sequence[float], weight: int) -> None:
    for number, points in enumerate(scores):
        total[number] -= weight * int(points)


def _preference(pod: Pod, node: Node) -> int:
    assert pod.spec.affinity
    return sum(one.weight for one in pod.spec.affinity.preferred if matches_term(one.preference, node))


def _discouraging(pod: Pod, state: NodeState) -> int:
    """Return how many PreferNoSchedule taints the pod does not tolerate."""
    tolerations = [one for one in pod.spec.tolerations if one.effect in ("", "PreferNoSchedule")]
    return sum(not tolerated(taint, tolerations) for taint in state.discourages)


def _points(points: Mapping[str, Mapping[str, int]], state: NodeState) -> int:
    return sum(domains.get(state.labels[key], 0) for key, domains in points.items() if key in state.labels)


def _raised(values: Sequence[float]) -> list[float]:
    most = max(values)
    return [_BEST * value / most if most else 0 for value in values]


def _lowered(values: Sequence[float]) -> list[float]:
    most = max(values)
    return [_BEST - _BEST * value / most if most else _BEST for value in values]


def _ranged(values: Sequence[float]) -> list[float]:
    least, most = min(values), max(values)
    return [_BEST * (value - least) / (most - least) if most > least else 0 for value in values]


def _evened(values: Sequence[float | None]) -> list[float]:
    """Return scores. A node that lacks a label gets 0."""
    known = [value for value in values if value is not None]
    if not known:
        return [0] * len(values)
    least, most = min(known), max(known)
    return [0 if value is None else _BEST * (most + least - value) / most if most else _BEST for value in values]


# -- why -----------------------------------------------------------------------------------------------------------------------------------


def _why(chosen: NodeState, demand: Demand, lowest: Score, scores: Sequence[Score], fuller: int) -> str:
    among = f"placed on {chosen.name}: of the {len(scores)} nodes where it fits, "
    rivals = [score for score in scores if score[0] == lowest[0]]
    if len(rivals) == 1:
        return among + "this one comes nearest to what it prefers"
    if max(rivals) > lowest:
        return among + f"this one runs the fewest of its replicas ({chosen.groups.get(demand.group, 0)})"
    if fuller:
        return among + "this one has the least requested"
    if len(rivals) < len(scores):
        return among + f"{len(rivals)} come equally near to what it prefers, and lots were drawn"
    return f"placed on {chosen.name}: it fits {len(scores)} nodes equally well, and lots were drawn"
