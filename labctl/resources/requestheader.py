"""How servers behind this API learn who asks: the X-Remote-* headers, and the ConfigMap in which those servers find which client certificate to believe.

The names are Kubernetes' (`--requestheader-client-ca-file` and the options beside it; "Configure the Aggregation Layer" in its documentation).
"""

from __future__ import annotations

import json

from labctl.resources.kind import Object

NAME = "front-proxy-client"
CONFIG = "extension-apiserver-authentication"
NAMESPACE = "kube-system"
USER, GROUP, UID, EXTRA = "X-Remote-User", "X-Remote-Group", "X-Remote-Uid", "X-Remote-Extra-"


def config(client_ca: str, front_ca: str) -> Object:
    """Return the ConfigMap in which aggregated servers find whom to believe."""
    data = {
        "client-ca-file": client_ca,
        "requestheader-client-ca-file": front_ca,
        "requestheader-allowed-names": json.dumps([NAME]),
        "requestheader-username-headers": json.dumps([USER]),
        "requestheader-uid-headers": json.dumps([UID]),
        "requestheader-group-headers": json.dumps([GROUP]),
        "requestheader-extra-headers-prefix": json.dumps([EXTRA]),
    }
    return {"metadata": {"name": CONFIG, "namespace": NAMESPACE}, "data": data}


def reader() -> Object:
    """Return the Role by which aggregated servers may read the ConfigMap. A RoleBinding of theirs names it."""
    rule = {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": [CONFIG], "verbs": ["get", "list", "watch"]}
    return {"metadata": {"name": f"{CONFIG}-reader", "namespace": NAMESPACE}, "rules": [rule]}
