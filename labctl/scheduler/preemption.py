"""Preemption: which pods of a lower priority must go so that one that fits nowhere fits somewhere. Pure functions of the scheduler's picture.

For each node where it could help, all pods of a lower priority are taken out in thought; if the pod fits then, as many as possible are put back, those
first that a PodDisruptionBudget protects, and of the others the most important. Of the nodes Kubernetes' order takes one: the fewest protected victims,
then the least important ones, the fewest, and the youngest.
A pod that is leaving already is no victim: the room that it leaves is waited for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import inf

import msgspec

from labctl.clock import parse_rfc3339
from labctl.reconcile.plan import View
from labctl.resources.disruption import BY_SCHEDULER, DISRUPTION
from labctl.resources.kinds.core_v1.pod_view import Pod
from labctl.resources.kinds.policy_v1.poddisruptionbudget import PodDisruptionBudget
from labctl.resources.kinds.shared import condition
from labctl.scheduler.cluster import Cluster, NodeState, Placed
from labctl.scheduler.filters import Situation, sentence
from labctl.scheduler.refusal import Refusal

NEVER = "not eligible due to preemptionPolicy=Never."
WAITS = "not eligible due to a terminating pod on the nominated node."
CANDIDATES = 100  # so many nodes where it works are compared

NO_HELP = Refusal("Preemption is not helpful for scheduling", final=True)
_NO_VICTIMS = Refusal("No preemption victims found for incoming pod", final=True)
_BUDGETS = "poddisruptionbudgets.policy"
_OFFSET = 2**31  # so that more pods of a negative priority are a larger sum


class Budget:
    """How many pods a PodDisruptionBudget lets go. Each asks it once."""

    def __init__(self, budget: PodDisruptionBudget) -> None:
        self.namespace, self.selector = budget.metadata.namespace, budget.pod_selector
        self.allowed, self.going = budget.status.disruptions_allowed, budget.status.disrupted_pods

    def protects(self, pod: Pod) -> bool:
        metadata = pod.metadata
        if metadata.namespace != self.namespace or self.selector.everything or not metadata.labels:
            return False
        return self.selector.matches(metadata.labels) and metadata.name not in self.going


class Candidate(msgspec.Struct, frozen=True, gc=False):
    """A node on which the pod would fit without the victims."""

    state: NodeState
    victims: Sequence[Placed]
    protected: int  # victims that a budget protects

    def cost(self) -> tuple[float, ...]:
        """Less is better, in Kubernetes' order."""
        if not self.victims:
            return (self.protected, -inf)
        highest = max(victim.demand.priority for victim in self.victims)
        total = sum(victim.demand.priority + _OFFSET for victim in self.victims)
        earliest = min(_started(victim.pod) for victim in self.victims if victim.demand.priority == highest)
        return self.protected, highest, total, len(self.victims), -earliest


Refused = Sequence[tuple[NodeState, Refusal]]


def preempt(
    view: View, situation: Situation, refused: Refused, cluster: Cluster, with_nominated: Callable[..., Refusal | None]
) -> Candidate | str:
    """Return the node to make room on, or a sentence why there is none. `with_nominated(situation, state)` filters as for a decision."""
    pod = situation.pod
    if pod.spec.preemption_policy == "Never":
        return f"preemption: {NEVER}"
    if _waits(pod, situation.demand.priority, cluster):
        return f"preemption: {WAITS}"
    pdbs = list(budgets(view))
    candidates: list[Candidate] = []
    answers: list[Refusal] = []
    hopeless = situation.demand.priority <= cluster.lowest_priority
    for state, refusal in refused:
        if refusal.final:
            answers.append(NO_HELP)
            continue
        answer = _NO_VICTIMS if hopeless else _select(situation, state, pdbs, with_nominated)
        if isinstance(answer, Refusal):
            answers.append(answer)
        elif len(candidates) < CANDIDATES:
            candidates.append(answer)
    if candidates:
        return min(candidates, key=Candidate.cost)
    return f"preemption: {sentence(len(refused), answers)}"


def budgets(view: View) -> Iterable[PodDisruptionBudget]:
    return view.all(_BUDGETS)


def _waits(pod: Pod, priority: int, cluster: Cluster) -> bool:
    """Tell whether a victim of the pod is still on the node that the pod was nominated for."""
    state = cluster.state(pod.status.nominated_node_name) if pod.status.nominated_node_name else None
    return state is not None and any(
        there.leaving and there.demand.priority < priority and _preempted(there.pod) for there in state.occupants.values()
    )


def _preempted(pod: Pod) -> bool:
    told = condition(pod.status.conditions, DISRUPTION)
    return told is not None and told.reason == BY_SCHEDULER


def _select(
    situation: Situation, state: NodeState, pdbs: Sequence[PodDisruptionBudget], refuses: Callable[..., Refusal | None]
) -> Candidate | Refusal:
    lower = [placed for placed in state.occupants.values() if placed.demand.priority < situation.demand.priority]
    if not lower:
        return _NO_VICTIMS
    trial, there = situation.copy(), state.copy()
    for placed in lower:
        _move(trial, there, placed, -1)
    refusal = refuses(trial, there)
    if refusal:
        return refusal
    staying = sorted((placed for placed in lower if not placed.leaving), key=_importance)
    protected, others = _divided(staying, pdbs)
    victims = [placed for placed in (*protected, *others) if not _spared(trial, there, placed, refuses)]
    violations = sum(victim in protected for victim in victims)
    return Candidate(state, victims, violations)


def _spared(trial: Situation, there: NodeState, placed: Placed, refuses: Callable[..., Refusal | None]) -> bool:
    """Puts a pod back if the other one still fits."""
    _move(trial, there, placed, +1)
    if refuses(trial, there) is None:
        return True
    _move(trial, there, placed, -1)
    return False


def _move(trial: Situation, there: NodeState, placed: Placed, sign: int) -> None:
    there.count(placed, sign)
    trial.change(placed, there, sign)


def _divided(staying: Sequence[Placed], pdbs: Iterable[PodDisruptionBudget]) -> tuple[list[Placed], list[Placed]]:
    """Those whose going a budget does not allow, and the others."""
    counted = [Budget(budget) for budget in pdbs]
    protected: list[Placed] = []
    others: list[Placed] = []
    for placed in staying:
        violated = False
        for budget in counted:
            if budget.protects(placed.pod):
                budget.allowed -= 1
                violated |= budget.allowed < 0
        (protected if violated else others).append(placed)
    return protected, others


def _importance(placed: Placed) -> tuple[float, float]:
    """Return a key for sorting, the most important first: by priority, then the one that has run longest."""
    return -placed.demand.priority, _started(placed.pod)


def _started(pod: Pod) -> float:
    started = parse_rfc3339(pod.status.start_time) if pod.status.start_time else None
    return inf if started is None else started
