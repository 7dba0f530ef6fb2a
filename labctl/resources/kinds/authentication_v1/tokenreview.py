"""TokenReview: whose token is this? What a program asks that is handed tokens by its own clients. The api answers it; nothing is kept."""

from __future__ import annotations

from labctl.resources.kind import Kind, Viewed

KIND = Kind(
    group="authentication.k8s.io",
    version="v1",
    kind="TokenReview",
    plural="tokenreviews",
    singular="tokenreview",
    namespaced=False,
    view=Viewed,
    verbs=("create",),
    persisted=False,
)
