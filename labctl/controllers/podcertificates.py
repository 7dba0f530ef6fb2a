"""Deletes PodCertificateRequests half an hour after they were made, answered or not: an agent has its answer long before, and asks anew if it has none.

As Kubernetes' podcertificaterequestcleaner. Keys: those of requests.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from random import Random

from labctl.clock import parse_rfc3339
from labctl.controllers.indexes import POD_SIGNING_REQUESTS
from labctl.reconcile.plan import NOTHING, Delete, Index, Key, Plan, Seen, View
from labctl.resources.kinds.certificates_v1.podcertificaterequest import PodCertificateRequest

KEPT_S = 1800.0


class PodCertificates:
    """The controller that the module's docstring describes."""

    name = "podcertificaterequest-cleaner-controller"
    kind = POD_SIGNING_REQUESTS

    def __init__(self) -> None:
        self.watches = {POD_SIGNING_REQUESTS: _made}
        self.indexes: Mapping[tuple[str, str], Index] = {(POD_SIGNING_REQUESTS, "pod"): _pod}

    def plan(self, view: View, key: Key, now: float, rng: Random) -> Plan:
        request: PodCertificateRequest | None = view.get(POD_SIGNING_REQUESTS, key)
        if request is None or request.metadata.deletion_timestamp:
            return NOTHING
        left_s = parse_rfc3339(request.metadata.creation_timestamp or "1970-01-01T00:00:00Z") + KEPT_S - view.wall()
        if left_s > 0:
            return Plan(again_s=left_s)
        return Plan([Delete(POD_SIGNING_REQUESTS, key, request.metadata.uid, why="it is older than half an hour")])


def _made(_view: View, seen: Seen) -> Iterable[Key]:
    return (seen.key,) if seen.new is not None and seen.old is None else ()


def _pod(request: PodCertificateRequest) -> Iterable[str]:
    """Index a request by its pod, for whoever asks why that one does not start."""
    return (f"{request.metadata.namespace}/{request.spec.pod_name}",)
