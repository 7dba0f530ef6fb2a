"""SelfSubjectAccessReview: may I do this? What `kubectl auth can-i` asks. The api answers it; nothing is kept."""

from __future__ import annotations

from collections.abc import Iterator

from labctl.resources import fields
from labctl.resources.kind import FieldError, Kind, Object, Viewed


def validate(new: Object, _old: Object | None) -> Iterator[FieldError]:
    spec = new.get("spec", {})
    resource, other = spec.get("resourceAttributes"), spec.get("nonResourceAttributes")
    if resource is not None and other is not None:
        yield fields.invalid("spec.nonResourceAttributes", other, "cannot be specified in combination with resourceAttributes")
    if resource is None and other is None:
        why = "exactly one of nonResourceAttributes or resourceAttributes must be specified"
        yield fields.invalid("spec.resourceAttributes", None, why)


KIND = Kind(
    group="authorization.k8s.io",
    version="v1",
    kind="SelfSubjectAccessReview",
    plural="selfsubjectaccessreviews",
    singular="selfsubjectaccessreview",
    namespaced=False,
    view=Viewed,
    verbs=("create",),
    persisted=False,
    validate=validate,
)
