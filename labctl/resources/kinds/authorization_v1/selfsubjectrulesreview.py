"""SelfSubjectRulesReview: what may I do in this namespace? What `kubectl auth can-i --list` asks. The api answers it; nothing is kept."""

from __future__ import annotations

from collections.abc import Iterator

from labctl.resources import fields
from labctl.resources.kind import FieldError, Kind, Object, Viewed


def validate(new: Object, _old: Object | None) -> Iterator[FieldError]:
    if not new.get("spec", {}).get("namespace"):
        yield fields.required("spec.namespace")


KIND = Kind(
    group="authorization.k8s.io",
    version="v1",
    kind="SelfSubjectRulesReview",
    plural="selfsubjectrulesreviews",
    singular="selfsubjectrulesreview",
    namespaced=False,
    view=Viewed,
    verbs=("create",),
    persisted=False,
    validate=validate,
)
