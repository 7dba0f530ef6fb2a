"""Priority: the number that a new pod's PriorityClass stands for is written into the pod. As Kubernetes' plugin of the same name.

A mutating step. A pod that names an absent class is refused; one that names none gets the lab's default class, or priority 0.
Only one class may be the default one.
"""

from __future__ import annotations

from collections.abc import Iterator

from labctl.resources import failures
from labctl.resources.admission import Attributes, Verb
from labctl.resources.client import Client
from labctl.resources.kinds.scheduling_v1.priorityclass import SYSTEM, PriorityClass
from labctl.resources.plurals import PODS, PRIORITY_CLASSES

_NONE = PriorityClass()  # priority 0, and its pods may push out others


class Priority:
    name = "Priority"
    kinds: frozenset[str] | None = frozenset({PODS, PRIORITY_CLASSES})
    verbs: frozenset[Verb] = frozenset({"create", "update"})

    def __init__(self, client: Client) -> None:
        self._client = client
        self._default, self._as_of = _NONE, -1  # the class of pods that name none, as of a `changed_at`

    async def admit(self, attributes: Attributes) -> None:
        if attributes.kind.resource == PRIORITY_CLASSES:
            self._admit_class(attributes)
        elif attributes.verb == "create" and not attributes.subresource:
            self._admit_pod(attributes)

    def _admit_class(self, attributes: Attributes) -> None:
        if not attributes.new or not attributes.new.get("globalDefault"):
            return
        other = next((each.metadata.name for each in self._classes() if each.global_default and each.metadata.name != attributes.name), "")
        if other:
            why = f"PriorityClass {other} is already marked as default. Only one default can exist"
            raise failures.forbidden(attributes.kind, attributes.name, why)

    def _admit_pod(self, attributes: Attributes) -> None:
        assert attributes.new is not None, "a create has a new object"
        spec = attributes.new.setdefault("spec", {})
        class_ = self._class(attributes, spec.get("priorityClassName") or "")
        if class_.metadata.name:
            spec["priorityClassName"] = class_.metadata.name
        for field, computed, what in (
            ("priority", class_.value, "integer value of priority"),
            ("preemptionPolicy", class_.preemption_policy, "string value of PreemptionPolicy"),
        ):
            said = spec.get(field)
            if said not in (None, "", computed):
                why = f"the {what} ({said}) must not be provided in pod spec; priority admission controller computed {computed}"
                raise failures.forbidden(attributes.kind, attributes.name, f"{why} from the given PriorityClass name")
            spec[field] = computed

    def _class(self, attributes: Attributes, name: str) -> PriorityClass:
        if not name:
            return self._global_default()
        found: PriorityClass | None = self._client.get(PRIORITY_CLASSES, name)
        if found is None and name in SYSTEM:  # a lab has these from its start; somebody may have deleted one
            return PriorityClass(_NONE.metadata, SYSTEM[name])
        if found is None:
            raise failures.forbidden(attributes.kind, attributes.name, f"no PriorityClass with name {name} was found")
        return found

    def _global_default(self) -> PriorityClass:
        """Returns the class of pods that name none. It is looked for once after each change, because every pod asks."""
        changed_at = self._client.resources.store.changed_at(f"{PRIORITY_CLASSES}/")
        if changed_at != self._as_of:
            defaults = (each for each in self._classes() if each.global_default)
            self._default, self._as_of = min(defaults, key=lambda each: each.value, default=_NONE), changed_at
        return self._default

    def _classes(self) -> Iterator[PriorityClass]:
        resources = self._client.resources
        return (resources.view(entry) for entry in resources.store.range(f"{PRIORITY_CLASSES}/").entries)
