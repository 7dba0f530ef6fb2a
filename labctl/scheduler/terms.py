"""What a pod says about other pods, compiled once for all pods that say the same: (anti-)affinity terms and topology spread constraints.

A pod's Demand holds its Terms; affinity.py and spread.py ask them of the cluster.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache

import msgspec

from labctl.resources.kinds.core_v1.pod_affinity import PodTerm, TopologySpreadConstraint
from labctl.resources.kinds.core_v1.pod_view import Pod
from labctl.resources.selectors import NOTHING, Selector, of_json

NamespaceLabels = Callable[[str], Mapping[str, str]]
"""The labels of a namespace, by its name."""

_REMEMBERED = 4096


class PodSelector:
    """A compiled label selector. There is one for each JSON text that pods use, so it is compared by identity."""

    __slots__ = ("selector", "matches")

    def __init__(self, selector: Selector) -> None:
        self.selector = selector
        self.matches = selector.matches


class Term:
    """One (anti-)affinity term: pods that `pods` finds in the namespaces it `covers`, and the label that makes domains of nodes.

    Pods made from one template share their Terms, and a Term is compared by identity.
    """

    __slots__ = ("topology_key", "pods", "namespaces", "namespace_selector", "weight")

    def __init__(
        self, topology_key: str, pods: PodSelector, namespaces: frozenset[str], namespace_selector: Selector | None, weight: int
    ) -> None:
        self.topology_key, self.pods = topology_key, pods
        self.namespaces, self.namespace_selector = namespaces, namespace_selector
        self.weight = weight  # of a preferred term, 1 to 100

    def covers(self, namespace: str, labels_of: NamespaceLabels) -> bool:
        if namespace in self.namespaces:
            return True
        return self.namespace_selector is not None and self.namespace_selector.matches(labels_of(namespace))

    def concerns(self, pod: Pod, labels_of: NamespaceLabels) -> bool:
        """Tell whether the term selects the pod."""
        return self.pods.matches(pod.metadata.labels) and self.covers(pod.metadata.namespace, labels_of)


class Constraint(msgspec.Struct, frozen=True, gc=False):
    """A topology spread constraint, about pods of its pod's own namespace."""

    topology_key: str
    pods: PodSelector
    max_skew: int
    hard: bool  # DoNotSchedule
    min_domains: int
    honors_affinity: bool
    honors_taints: bool


class Terms(msgspec.Struct, frozen=True, gc=False):
    near: tuple[Term, ...] = ()
    far: tuple[Term, ...] = ()
    rather_near: tuple[Term, ...] = ()
    rather_far: tuple[Term, ...] = ()
    constraints: tuple[Constraint, ...] = ()


def terms_of(pod: Pod) -> Terms | None:
    """Return the pod's terms about other pods, or None for the many pods that have none."""
    affinity, spread = pod.spec.affinity, pod.spec.topology_spread_constraints
    near = affinity.pod_affinity if affinity else None
    far = affinity.pod_anti_affinity if affinity else None
    if not near and not far and not spread:
        return None
    namespace = pod.metadata.namespace
    return Terms(
        near=_required(near.required, namespace) if near else (),
        far=_required(far.required, namespace) if far else (),
        rather_near=tuple(_term(one.pod_affinity_term, namespace, one.weight) for one in near.preferred) if near else (),
        rather_far=tuple(_term(one.pod_affinity_term, namespace, one.weight) for one in far.preferred) if far else (),
        constraints=tuple(_constraint(one) for one in spread),
    )


def _required(terms: Iterable[PodTerm], namespace: str) -> tuple[Term, ...]:
    return tuple(_term(term, namespace, 0) for term in terms)


def _term(term: PodTerm, namespace: str, weight: int) -> Term:
    namespaces, selector = term.namespaces, bytes(term.namespace_selector)
    if not namespaces and not selector:
        namespaces = (namespace,)
    return _compiled(term.topology_key, bytes(term.label_selector), namespaces, selector, weight)


@lru_cache(maxsize=_REMEMBERED)
def _compiled(topology_key: str, pods: bytes, namespaces: tuple[str, ...], namespace_selector: bytes, weight: int) -> Term:
    selected = _selector(namespace_selector) if namespace_selector else None
    return Term(topology_key, pod_selector(pods), frozenset(namespaces), selected, weight)


def _constraint(said: TopologySpreadConstraint) -> Constraint:
    return Constraint(
        said.topology_key,
        pod_selector(bytes(said.label_selector)),
        said.max_skew,
        said.when_unsatisfiable != "ScheduleAnyway",
        said.min_domains or 1,
        said.node_affinity_policy != "Ignore",
        said.node_taints_policy == "Honor",
    )


@lru_cache(maxsize=_REMEMBERED)
def pod_selector(selector: bytes) -> PodSelector:
    return PodSelector(_selector(selector))


@lru_cache(maxsize=_REMEMBERED)
def all_of(selectors: tuple[PodSelector, ...]) -> PodSelector:
    """Finds the pods that every one of the selectors finds."""
    return PodSelector(Selector(tuple(requirement for one in selectors for requirement in one.selector.requirements)))


def _selector(selector: bytes) -> Selector:
    """Parse a selector. An absent selector selects nothing, and so does one that no server would have accepted."""
    try:
        return of_json(selector or b"null")
    except ValueError:
        return NOTHING
