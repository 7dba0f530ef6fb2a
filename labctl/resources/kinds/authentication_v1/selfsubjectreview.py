"""SelfSubjectReview: who am I? What `kubectl auth whoami` asks. The api answers it; nothing is kept."""

from __future__ import annotations

from labctl.resources.kind import Kind, Viewed

KIND = Kind(
    group="authentication.k8s.io",
    version="v1",
    kind="SelfSubjectReview",
    plural="selfsubjectreviews",
    singular="selfsubjectreview",
    namespaced=False,
    view=Viewed,
    verbs=("create",),
    persisted=False,
)
