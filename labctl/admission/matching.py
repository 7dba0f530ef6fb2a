"""Which writes a webhook or a policy is asked about: rules, exclusions, selectors, and versions that mean the same."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from labctl.resources import selectors
from labctl.resources.admission import Attributes, Verb
from labctl.resources.kind import Kind, Object

OPERATIONS = {"create": "CREATE", "update": "UPDATE", "delete": "DELETE", "post": "CREATE", "connect": "CONNECT"}
NAMESPACES = "namespaces"
OWN_GROUP = "admissionregistration.k8s.io"
EVERY_VERB: frozenset[Verb] = frozenset({"create", "update", "delete", "post", "connect"})

LabelsOf = Callable[[str], Mapping[str, str] | None]
"""The labels of a namespace, by its name."""


class Rule(msgspec.Struct, frozen=True):
    groups: tuple[str, ...]
    versions: tuple[str, ...]
    operations: tuple[str, ...]
    resources: tuple[tuple[str, str], ...]
    scope: str
    names: tuple[str, ...]

    def fits(self, attributes: Attributes, kind: Kind) -> bool:
        return (
            _in(self.groups, kind.group)
            and _in(self.versions, kind.version)
            and _in(self.operations, OPERATIONS[attributes.verb])
            and any(name in ("*", kind.plural) and sub in ("*", attributes.subresource) for name, sub in self.resources)
            and self.scope in ("*", "Namespaced" if kind.namespaced else "Cluster")
            and (not self.names or attributes.name in self.names)
        )


def _in(values: Sequence[str], value: str) -> bool:
    return "*" in values or value in values


def rule_of(said: Object) -> Rule:
    parts = [str(resource).partition("/") for resource in said.get("resources") or ()]
    return Rule(
        tuple(said.get("apiGroups") or ()),
        tuple(said.get("apiVersions") or ()),
        tuple(said.get("operations") or ()),
        tuple((name, sub) for name, _, sub in parts),
        said.get("scope") or "*",
        tuple(said.get("resourceNames") or ()),
    )


class Match:
    """The matching part of a webhook (`rules`) or of a policy's `matchConstraints` (`resourceRules`)."""

    def __init__(self, said: Object, rules: Iterable[Object]) -> None:
        self._rules = [rule_of(rule) for rule in rules]
        self._excluded = [rule_of(rule) for rule in said.get("excludeResourceRules") or ()]
        self._equivalent = said.get("matchPolicy", "Equivalent") == "Equivalent"
        self._namespaces = selectors.from_object(said.get("namespaceSelector") or {})
        self._objects = selectors.from_object(said.get("objectSelector") or {})
        self._any_namespace = not said.get("namespaceSelector")
        self._any_object = not said.get("objectSelector")

    def kind(self, attributes: Attributes, versions: Sequence[Kind], labels_of: LabelsOf, *, anything: bool = False) -> Kind | None:
        """Return the version of the object's kind that it wants to see, or None if the rules don't match. `anything`: no rule means every write."""
        if any(rule.fits(attributes, kind) for kind in versions for rule in self._excluded):
            return None
        candidates = [attributes.kind, *(kind for kind in versions if kind is not attributes.kind and self._equivalent)]
        if anything and not self._rules:
            found: Kind | None = attributes.kind
        else:
            found = next((kind for kind in candidates for rule in self._rules if rule.fits(attributes, kind)), None)
        if found is None or not self._selects(attributes, labels_of):
            return None
        return found

    def _selects(self, attributes: Attributes, labels_of: LabelsOf) -> bool:
        objects = [each for each in (attributes.new, attributes.old) if each is not None]
        if not self._any_object and not any("metadata" in each and self._objects.matches(_labels(each)) for each in objects):
            return False
        if self._any_namespace:
            return True
        if attributes.kind.resource == NAMESPACES:
            return self._namespaces.matches(_labels(objects[0]))
        if not attributes.kind.namespaced:
            return True
        labels = labels_of(attributes.namespace)
        return labels is not None and self._namespaces.matches(labels)


def is_exempt(attributes: Attributes) -> bool:
    """True if neither webhooks nor policies are asked: about what configures them, about what a Binding does to its pod (they see the Binding), and about
    questions that are answered and not kept, such as a SubjectAccessReview: who refuses these could lock everybody out."""
    of_a_binding = attributes.verb == "update" and attributes.subresource == "binding"
    return attributes.kind.group == OWN_GROUP or of_a_binding or not attributes.kind.persisted


def _labels(obj: Object) -> Mapping[str, str]:
    labels: Mapping[str, str] = obj.get("metadata", {}).get("labels") or {}
    return labels
