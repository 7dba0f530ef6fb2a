"""NodeWriteLimit: how large what a node's agent writes about itself and its pods may be, and how much it may write.

What an agent tells is kept in memory, on the disk and by every watcher. NodeRestriction decides which fields it may write; this step bounds what stands in
them. An honest status has a few kilobytes, and is written when something changes.
"""

from __future__ import annotations

from labctl.admission.buckets import Buckets
from labctl.clock import Clock
from labctl.errors import ApiError
from labctl.resources import encoding
from labctl.resources.admission import Attributes, Verb
from labctl.resources.plurals import LEASES, NODES, POD_SIGNING_REQUESTS, PODS

REQUESTS_BURST_BYTES, REQUESTS_BYTES_PER_S = 4 << 20, 16 << 10
"""Of requests for pods' certificates, which are not written over the ones before: they lie there for half an hour. One has some two kilobytes."""
BURST_BYTES = 32 << 20  # a hundred pods that start at once, each told of five times, are 3 MB
BYTES_PER_S = 1 << 20
MOST_BYTES = {NODES: 256 << 10, PODS: 256 << 10, LEASES: 4 << 10, POD_SIGNING_REQUESTS: 512 << 10}
"""Of a Node, a Lease and a request, all of the object; of a Pod, its status, since its author wrote the rest."""


class NodeWriteLimit:
    """A validating step. An object that is too large is refused with 413, a write beyond the rate with 429. Leases are small, and no flood of others may make
    a node seem dead, so they have no rate."""

    name = "NodeWriteLimit"
    kinds: frozenset[str] | None = frozenset(MOST_BYTES)
    verbs: frozenset[Verb] = frozenset({"create", "update"})

    def __init__(self, clock: Clock) -> None:
        self._buckets = Buckets(clock, BURST_BYTES, BYTES_PER_S)
        self._requests = Buckets(clock, REQUESTS_BURST_BYTES, REQUESTS_BYTES_PER_S)

    async def admit(self, attributes: Attributes) -> None:
        node, new = attributes.user.node, attributes.new
        if not node or new is None:
            return
        resource = attributes.kind.resource
        size = len(encoding.encode(new.get("status", {}) if resource == PODS else new))
        most = MOST_BYTES[resource]
        if size > most:
            what = "the status of a pod" if resource == PODS else f"one of {resource}"
            raise ApiError(413, "RequestEntityTooLarge", f"a node may write {most} bytes as {what}, these are {size}")
        if resource == POD_SIGNING_REQUESTS:
            per_s, taken = REQUESTS_BYTES_PER_S, self._requests.take(node, size)
        else:
            per_s = BYTES_PER_S
            taken = resource == LEASES or self._buckets.take(node, len(encoding.encode(new)) if resource == PODS else size)
        if not taken:
            message = f"node {node} writes more than {per_s} bytes a second{' as ' + resource if resource == POD_SIGNING_REQUESTS else ''}"
            raise ApiError(429, "TooManyRequests", message, details={"retryAfterSeconds": 1}, retry_after_s=1)
