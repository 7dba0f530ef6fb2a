"""Affinity and anti-affinity between pods: where those run that a pod wants near or far, and where those run that want it far.

One `Neighbours` is made for a decision, from tallies that are there: for each term a count per domain (a value of the term's node label). Then each node costs
a few look-ups. The counts can be changed, so that preemption can ask what would be if some pods were gone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from labctl.resources.kinds.core_v1.pod_view import Pod
from labctl.scheduler.cluster import Cluster, NodeState, Placed, add
from labctl.scheduler.demand import Demand
from labctl.scheduler.refusal import Refusal
from labctl.scheduler.terms import NamespaceLabels, Term, Terms, all_of

NEAR = Refusal("node(s) didn't match pod affinity rules", final=True)
FAR = Refusal("node(s) didn't match pod anti-affinity rules")
EXISTING = Refusal("node(s) didn't satisfy existing pods anti-affinity rules")

Domains = dict[str, int]

_NO_TERMS = Terms()
_HARD_WEIGHT = 1  # what a required affinity of a running pod counts when nodes are compared, as in Kubernetes


class Neighbours:
    def __init__(self, pod: Pod, demand: Demand, cluster: Cluster, labels_of: NamespaceLabels) -> None:
        self._pod, self._cluster, self._labels_of = pod, cluster, labels_of
        terms = demand.terms or _NO_TERMS
        self._near_terms, self._far_terms = terms.near, terms.far
        self._first = bool(terms.near) and all(term.concerns(pod, labels_of) for term in terms.near)  # it may be the first of its kind
        self._near = self._count_near()
        self._far: list[Domains] = [self._count(term, self._covered(term)) for term in terms.far]
        self._existing: dict[str, Domains] = {}  # label -> value -> pods there that want this pod far
        for term, nodes in cluster.far.terms.items():
            if term.concerns(pod, labels_of):
                self._enter(self._existing.setdefault(term.topology_key, {}), term.topology_key, nodes)

    def copy(self) -> Neighbours:
        copied = object.__new__(Neighbours)
        copied.__dict__.update(self.__dict__)
        copied._near = [dict(domains) for domains in self._near]
        copied._far = [dict(domains) for domains in self._far]
        copied._existing = {key: dict(domains) for key, domains in self._existing.items()}
        return copied

    def refuses(self, state: NodeState) -> Refusal | None:
        labels = state.labels
        if self._near_terms and not self._is_near(labels):
            return NEAR
        for term, domains in zip(self._far_terms, self._far, strict=True):
            if _at(domains, labels, term.topology_key) > 0:
                return FAR
        for key, domains in self._existing.items():
            if _at(domains, labels, key) > 0:
                return EXISTING
        return None

    def change(self, placed: Placed, labels: Mapping[str, str], sign: int) -> None:
        """Counts another pod on the node with these labels, or no longer."""
        if self._near_terms and all(term.concerns(placed.pod, self._labels_of) for term in self._near_terms):
            for term, domains in zip(self._near_terms, self._near, strict=True):
                _enter_one(domains, labels, term.topology_key, sign)
        for term, domains in zip(self._far_terms, self._far, strict=True):
            if term.concerns(placed.pod, self._labels_of):
                _enter_one(domains, labels, term.topology_key, sign)
        for term in placed.demand.terms.far if placed.demand.terms else ():
            if term.concerns(self._pod, self._labels_of):
                _enter_one(self._existing.setdefault(term.topology_key, {}), labels, term.topology_key, sign)

    def _is_near(self, labels: Mapping[str, str]) -> bool:
        if any(term.topology_key not in labels for term in self._near_terms):
            return False
        if all(domains.get(labels[term.topology_key], 0) > 0 for term, domains in zip(self._near_terms, self._near, strict=True)):
            return True
        return self._first and not any(self._near)  # nobody like it runs anywhere yet

    def _count_near(self) -> list[Domains]:
        """Count the pods near. A pod counts only if all the terms select it."""
        terms = self._near_terms
        if not terms:
            return []
        pods = all_of(tuple(term.pods for term in terms)) if len(terms) > 1 else terms[0].pods
        covered = [name for name in self._covered(terms[0]) if all(term.covers(name, self._labels_of) for term in terms[1:])]
        counted: list[Domains] = [{} for _ in terms]
        for namespace in covered:
            nodes = self._cluster.tallies.found(namespace, pods, leaving=True)
            for term, domains in zip(terms, counted, strict=True):
                self._enter(domains, term.topology_key, nodes)
        return counted

    def _covered(self, term: Term) -> Sequence[str]:
        if term.namespace_selector is None:
            return sorted(term.namespaces)
        return sorted(name for name in self._cluster.tallies.namespaces if term.covers(name, self._labels_of))

    def _count(self, term: Term, namespaces: Sequence[str]) -> Domains:
        domains: Domains = {}
        for namespace in namespaces:
            self._enter(domains, term.topology_key, self._cluster.tallies.found(namespace, term.pods, leaving=True))
        return domains

    def _enter(self, domains: Domains, key: str, nodes: Mapping[str, int], weight: int = 1) -> None:
        for name, pods in nodes.items():
            state = self._cluster.state(name)
            if state is not None and key in state.labels:
                value = state.labels[key]
                domains[value] = domains.get(value, 0) + pods * weight

    # -- which node is better ----------------------------------------------------------------------------------------------------------

    def preferred(self, terms: Terms | None) -> dict[str, Domains]:
        """Label -> value -> points: of what the pod prefers, and of what running pods prefer or require of it."""
        points: dict[str, Domains] = {}
        said = terms or _NO_TERMS
        for own, sign in ((said.rather_near, 1), (said.rather_far, -1)):
            for term in own:
                domains = points.setdefault(term.topology_key, {})
                for namespace in self._covered(term):
                    self._enter(
                        domains, term.topology_key, self._cluster.tallies.found(namespace, term.pods, leaving=True), sign * term.weight
                    )
        cluster = self._cluster
        for carriers, sign in ((cluster.rather_near, 1), (cluster.near, 1), (cluster.rather_far, -1)):
            for term, nodes in carriers.terms.items():
                if term.concerns(self._pod, self._labels_of):
                    self._enter(points.setdefault(term.topology_key, {}), term.topology_key, nodes, sign * (term.weight or _HARD_WEIGHT))
        return points


def _at(domains: Domains, labels: Mapping[str, str], key: str) -> int:
    return domains.get(labels[key], 0) if key in labels else 0


def _enter_one(domains: Domains, labels: Mapping[str, str], key: str, amount: int) -> None:
    if key in labels:
        add(domains, labels[key], amount)
