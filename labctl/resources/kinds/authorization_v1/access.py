"""What the three access reviews (SelfSubjectAccessReview, SubjectAccessReview, LocalSubjectAccessReview) check of a question."""

from __future__ import annotations

from collections.abc import Iterator

from labctl.resources import fields
from labctl.resources.kind import FieldError, Object


def attributes(new: Object, _old: Object | None) -> Iterator[FieldError]:
    """Check that a question is about a resource or about a path, not about both."""
    spec = new.get("spec", {})
    resource, other = spec.get("resourceAttributes"), spec.get("nonResourceAttributes")
    if resource is not None and other is not None:
        yield fields.invalid("spec.nonResourceAttributes", other, "cannot be specified in combination with resourceAttributes")
    if resource is None and other is None:
        why = "exactly one of nonResourceAttributes or resourceAttributes must be specified"
        yield fields.invalid("spec.resourceAttributes", None, why)
    for name in ("fieldSelector", "labelSelector"):
        said = (resource or {}).get(name)
        if said is not None:
            yield from _selector(f"spec.resourceAttributes.{name}", said)


def _selector(path: str, said: Object) -> Iterator[FieldError]:
    raw, requirements = said.get("rawSelector"), said.get("requirements")
    if raw and requirements:
        yield fields.invalid(f"{path}.rawSelector", raw, "may not specified at the same time as requirements")
    if not raw and not requirements:
        yield fields.required(f"{path}.requirements", f"when {path} is specified, requirements or rawSelector is required")
    for index, each in enumerate(requirements or ()):
        yield from _requirement(f"{path}.requirements[{index}]", each)


def _requirement(path: str, said: Object) -> Iterator[FieldError]:
    operator, values = said.get("operator", ""), said.get("values")
    if not said.get("key"):
        yield fields.required(f"{path}.key", "must be specified")
    if operator in ("In", "NotIn") and not values:
        yield fields.required(f"{path}.values", "must be specified when `operator` is 'In' or 'NotIn'")
    elif operator in ("Exists", "DoesNotExist") and values:
        yield fields.forbidden(f"{path}.values", "may not be specified when `operator` is 'Exists' or 'DoesNotExist'")


def subject(new: Object, old: Object | None) -> Iterator[FieldError]:
    """Check that a question about somebody else names that user or one of its groups."""
    yield from attributes(new, old)
    spec = new.get("spec", {})
    if not spec.get("user") and not spec.get("groups"):
        yield fields.invalid("spec.user", spec.get("user", ""), "at least one of user or group must be specified")


def local(new: Object, old: Object | None) -> Iterator[FieldError]:
    """Check that a local question is about resources of its own namespace."""
    yield from subject(new, old)
    spec = new.get("spec", {})
    resource, namespace = spec.get("resourceAttributes"), new.get("metadata", {}).get("namespace", "")
    if resource is not None and resource.get("namespace", "") != namespace:
        why = "must match metadata.namespace"
        yield fields.invalid("spec.resourceAttributes.namespace", resource.get("namespace", ""), why)
    if spec.get("nonResourceAttributes") is not None:
        yield fields.invalid("spec.nonResourceAttributes", spec["nonResourceAttributes"], "disallowed on this kind of request")
