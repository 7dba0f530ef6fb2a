"""How a pod is called: in the API's paths, and in messages for people."""

from __future__ import annotations

from typing import Any, Dict

Object = Dict[str, Any]


def pod_path(pod: Object) -> str:
    return f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}"


def pod_title(pod: Object) -> str:
    """Return a pod's name as the kubelet's messages have it: nginx_default(uid)."""
    meta = pod["metadata"]
    return f"{meta['name']}_{meta['namespace']}({meta['uid']})"


def log_folder(pod: Dict[str, Any]) -> str:
    """Return the name of the folder with the pod's logs, below that of all pods."""
    meta = pod["metadata"]
    return f"{meta['namespace']}_{meta['name']}_{meta['uid']}"
