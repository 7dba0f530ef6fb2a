"""LocalSubjectAccessReview: a SubjectAccessReview about one namespace, so that its admins may be allowed to ask. The api answers it; nothing is kept."""

from __future__ import annotations

from labctl.resources.kind import Kind, Viewed
from labctl.resources.kinds.authorization_v1 import access

KIND = Kind(
    group="authorization.k8s.io",
    version="v1",
    kind="LocalSubjectAccessReview",
    plural="localsubjectaccessreviews",
    singular="localsubjectaccessreview",
    namespaced=True,
    view=Viewed,
    verbs=("create",),
    persisted=False,
    validate=access.local,
)
