"""What a pod says about where it wants to run: near or far from nodes and other pods. Part of the view of a pod (pod_view.py); the scheduler reads it."""

from __future__ import annotations

import msgspec


class NodeRequirement(msgspec.Struct, frozen=True, rename="camel", gc=False):
    key: str = ""
    operator: str = ""  # In, NotIn, Exists, DoesNotExist, Gt, Lt
    values: tuple[str, ...] = ()


class NodeTerm(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """All requirements of a term must hold; an empty term matches nothing."""

    match_expressions: tuple[NodeRequirement, ...] = ()
    match_fields: tuple[NodeRequirement, ...] = ()


class NodeSelector(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """One of the terms must hold."""

    node_selector_terms: tuple[NodeTerm, ...] = ()


class PreferredNodes(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """A node that satisfies the preference gets the weight, 1 to 100."""

    weight: int = 0
    preference: NodeTerm = NodeTerm()


class NodeAffinity(msgspec.Struct, frozen=True, rename="camel", gc=False):
    required: NodeSelector | None = msgspec.field(default=None, name="requiredDuringSchedulingIgnoredDuringExecution")
    preferred: tuple[PreferredNodes, ...] = msgspec.field(default=(), name="preferredDuringSchedulingIgnoredDuringExecution")


class PodTerm(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """Pods of some namespaces that a label selector finds, and the node label whose value makes a domain. Selectors are kept as their JSON."""

    topology_key: str = ""
    label_selector: msgspec.Raw = msgspec.Raw()  # empty: no pod
    namespaces: tuple[str, ...] = ()
    namespace_selector: msgspec.Raw = msgspec.Raw()  # with no namespaces either: the pod's own namespace


class WeightedPodTerm(msgspec.Struct, frozen=True, rename="camel", gc=False):
    weight: int = 0
    pod_affinity_term: PodTerm = PodTerm()


class PodAffinity(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """Also podAntiAffinity has this form."""

    required: tuple[PodTerm, ...] = msgspec.field(default=(), name="requiredDuringSchedulingIgnoredDuringExecution")
    preferred: tuple[WeightedPodTerm, ...] = msgspec.field(default=(), name="preferredDuringSchedulingIgnoredDuringExecution")


class Affinity(msgspec.Struct, frozen=True, rename="camel", gc=False):
    node_affinity: NodeAffinity | None = None
    pod_affinity: PodAffinity | None = None
    pod_anti_affinity: PodAffinity | None = None

    @property
    def required(self) -> tuple[NodeTerm, ...]:
        """Return the terms of which a node must satisfy one. If there are none, any node will do."""
        node = self.node_affinity
        return node.required.node_selector_terms if node and node.required else ()

    @property
    def preferred(self) -> tuple[PreferredNodes, ...]:
        return self.node_affinity.preferred if self.node_affinity else ()


class TopologySpreadConstraint(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """How unevenly the pods that the selector finds may be spread over the values of a node label."""

    max_skew: int = 1
    topology_key: str = ""
    when_unsatisfiable: str = "DoNotSchedule"
    label_selector: msgspec.Raw = msgspec.Raw()
    min_domains: int | None = None
    node_affinity_policy: str = "Honor"
    node_taints_policy: str = "Ignore"


class SchedulingGate(msgspec.Struct, frozen=True, rename="camel", gc=False):
    name: str = ""
