"""SubjectAccessReview: may somebody do this? What a program asks that guards something of its own. The api answers it; nothing is kept."""

from __future__ import annotations

from labctl.resources.kind import Kind, Viewed
from labctl.resources.kinds.authorization_v1 import access

KIND = Kind(
    group="authorization.k8s.io",
    version="v1",
    kind="SubjectAccessReview",
    plural="subjectaccessreviews",
    singular="subjectaccessreview",
    namespaced=False,
    view=Viewed,
    verbs=("create",),
    persisted=False,
    validate=access.subject,
)
