"""SelfSubjectAccessReview: may I do this? What `kubectl auth can-i` asks. The api answers it; nothing is kept."""

from __future__ import annotations

from labctl.resources.kind import Kind, Viewed
from labctl.resources.kinds.authorization_v1 import access

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
    validate=access.attributes,
)
