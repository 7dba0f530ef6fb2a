"""What a node may write about itself, and how much, on a clock that stands still until it is moved."""

from __future__ import annotations

from typing import Any

import pytest

from labctl.admission.nodewritelimit import BURST_BYTES, BYTES_PER_S, MOST_BYTES, REQUESTS_BURST_BYTES, REQUESTS_BYTES_PER_S, NodeWriteLimit
from labctl.errors import ApiError
from labctl.resources.admission import Attributes
from labctl.resources.kind import Kind
from labctl.resources.plurals import LEASES, NODES, POD_SIGNING_REQUESTS, PODS
from labctl.resources.registry import builtin_registry
from labctl.resources.service import SYSTEM, User, WriteOptions
from tests.admission.test_eventratelimit import ONE, OTHER, Clock

KINDS = builtin_registry()


async def write(step: NodeWriteLimit, kind: Kind, size: int, user: User = ONE, part: str = "status") -> int:
    """The code that a write of `size` bytes in one part of the object gets."""
    new: dict[str, Any] = {"metadata": {"name": "x"}, part: {"message": "m" * size}}
    try:
        await step.admit(Attributes(user, "update", kind, {}, new, WriteOptions()))
    except ApiError as refused:
        return refused.code
    return 200


@pytest.mark.parametrize("resource", [NODES, PODS, LEASES, POD_SIGNING_REQUESTS])
async def test_each_has_a_size(resource: str) -> None:
    step, kind, most = NodeWriteLimit(Clock()), KINDS[resource], MOST_BYTES[resource]
    assert await write(step, kind, most - 100) == 200
    assert await write(step, kind, most + 1) == 413
    assert await write(step, kind, most + 1, SYSTEM) == 200


async def test_what_a_pods_author_wrote_is_not_the_nodes() -> None:
    assert await write(NodeWriteLimit(Clock()), KINDS[PODS], 2 * MOST_BYTES[PODS], part="spec") == 200


async def test_a_burst_then_a_rate_for_each_node_and_leases_pass() -> None:
    clock = Clock()
    step, size = NodeWriteLimit(clock), 200_000

    async def passed() -> int:
        count = 0
        while await write(step, KINDS[PODS if count % 2 else NODES], size) == 200:
            count += 1
        return count

    assert BURST_BYTES // (size + 200) <= await passed() <= BURST_BYTES // size
    assert await write(step, KINDS[NODES], size, OTHER) == 200
    assert await write(step, KINDS[LEASES], 100) == 200
    clock.at += 3
    assert 3 * BYTES_PER_S // (size + 200) <= await passed() <= 3 * BYTES_PER_S // size + 1


async def test_requests_for_certificates_have_a_rate_of_their_own() -> None:
    """They lie there for half an hour, and a flood of them shall stop no status."""
    clock = Clock()
    step, size, count = NodeWriteLimit(clock), 2000, 0
    while await write(step, KINDS[POD_SIGNING_REQUESTS], size) == 200:
        count += 1
    assert REQUESTS_BURST_BYTES // (size + 200) <= count <= REQUESTS_BURST_BYTES // size
    assert await write(step, KINDS[PODS], size) == 200 and await write(step, KINDS[POD_SIGNING_REQUESTS], size, OTHER) == 200
    clock.at += 1
    assert await write(step, KINDS[POD_SIGNING_REQUESTS], REQUESTS_BYTES_PER_S - 200) == 200
