"""Which of the nodes that fit is best: first spread the replicas, then even out what is requested, then draw lots.

The order is strict rather than weighted, so that the reason can be told in a sentence.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from labctl.scheduler.cluster import NodeState
from labctl.scheduler.demand import Demand

Score = tuple[int, int]


def score(demand: Demand, state: NodeState) -> Score:
    """Less is better: replicas of the same group there, then the share that would be requested, in thousandths (mean of CPU and memory)."""
    cpu = 1000 * (state.weight_millicores + demand.weight_millicores) // (state.millicores or 1)
    memory = 1000 * (state.weight_bytes + demand.weight_bytes) // (state.bytes or 1)
    return state.groups.get(demand.group, 0), (cpu + memory) // 2


def best(demand: Demand, fitting: Sequence[NodeState], rng: Random) -> tuple[NodeState, str]:
    """The chosen node, and a sentence that says why."""
    scores = [score(demand, state) for state in fitting]
    lowest = min(scores)
    equals = [state for state, its in zip(fitting, scores, strict=True) if its == lowest]
    chosen = equals[0] if len(equals) == 1 else rng.choice(equals)
    return chosen, _why(chosen, lowest, scores, len(equals))


def _why(chosen: NodeState, lowest: Score, scores: Sequence[Score], equals: int) -> str:
    if len(scores) == 1:
        return f"placed on {chosen.name}: the only node where it fits"
    if max(scores)[0] > lowest[0]:
        reason = f"this one runs the fewest of its replicas ({lowest[0]})"
    elif equals < len(scores):
        reason = "this one has the least requested"
    else:
        return f"placed on {chosen.name}: it fits {len(scores)} nodes equally well, and lots were drawn"
    return f"placed on {chosen.name}: of the {len(scores)} nodes where it fits, {reason}"
