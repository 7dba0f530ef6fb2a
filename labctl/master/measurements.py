"""The live measurements under /labctl/v1/measurements, for admins: `labctl measure` posts each second, the live page reads the last of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import msgspec

from labctl.api.extensions import ExtensionRequest, Extensions
from labctl.errors import ApiError

if TYPE_CHECKING:
    from labctl.measure.live import LiveMeasurements, Tick


def add_routes(routes: Extensions) -> Callable[[float], Sequence[Tick]]:
    """Adds the routes, and returns a function with which the live page reads the seconds after a time."""

    @cache
    def live() -> LiveMeasurements:
        from labctl.measure.live import LiveMeasurements  # only a lab in which something is measured pays for the import

        return LiveMeasurements()

    routes.add("POST", "/labctl/v1/measurements", lambda request: _add(live(), request))
    routes.add("GET", "/labctl/v1/measurements", lambda request: _list(live(), request))
    return lambda since_s: live().since(since_s)


async def _add(live: LiveMeasurements, request: ExtensionRequest) -> dict[str, Any]:
    """Takes one second of a running measurement."""
    try:
        live.add(request.body)
    except ValueError as error:
        raise ApiError(400, "BadRequest", f"this is no second of a measurement: {error}") from None
    return {}


async def _list(live: LiveMeasurements, request: ExtensionRequest) -> dict[str, Any]:
    """Returns the last seconds of all measurements; with ?since=T those after T of the master's host's CLOCK_MONOTONIC."""
    since = request.query.first("since") or "0"
    try:
        at_s = float(since)
    except ValueError:
        raise ApiError(400, "BadRequest", f"since: {since[:40]!r} is no time") from None
    return {"items": [msgspec.to_builtins(tick) for tick in live.since(at_s)]}
