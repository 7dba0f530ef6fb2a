"""EventRateLimit: how many Events a node may write, and how long each may be. As Kubernetes' plugin of the same name, with the limit per node.

Events are kept for an hour, so without a limit one stolen certificate fills the master's memory. Controllers' Events are ours and have no limit here.
"""

from __future__ import annotations

from labctl.admission.buckets import Buckets
from labctl.clock import Clock
from labctl.errors import ApiError
from labctl.resources import encoding
from labctl.resources.admission import Attributes, Verb

BURST = 1000  # a node that starts a hundred pods at once tells several hundred
PER_S = 10.0
EVENT_BYTES = 1 << 10  # what an Event of an agent has at most as a rule; a longer one counts as several
EVENT_MOST_BYTES = 8 << 10  # an agent's messages have 1,024 characters at most


class EventRateLimit:
    """A validating step. Each node has a bucket of BURST tokens, filled with PER_S tokens a second; a write of an Event takes one for each EVENT_BYTES."""

    name = "EventRateLimit"
    kinds: frozenset[str] | None = frozenset({"events"})
    verbs: frozenset[Verb] = frozenset({"create", "update"})

    def __init__(self, clock: Clock) -> None:
        self._buckets = Buckets(clock, BURST, PER_S)

    async def admit(self, attributes: Attributes) -> None:
        node = attributes.user.node
        if not node:
            return
        size = len(encoding.encode(attributes.new))
        if size > EVENT_MOST_BYTES:
            raise ApiError(413, "RequestEntityTooLarge", f"an event of a node may have {EVENT_MOST_BYTES} bytes, this one has {size}")
        if not self._buckets.take(node, -(-size // EVENT_BYTES)):
            message = f"limit reached on type event for node {node}"
            raise ApiError(429, "TooManyRequests", message, details={"retryAfterSeconds": 1}, retry_after_s=1)
