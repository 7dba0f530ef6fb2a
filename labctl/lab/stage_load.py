"""The load of an experiment on a real lab: what `labctl measure` sends, begun and ended by the runner."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labctl.lab.measuring import Asked, Measuring

if TYPE_CHECKING:
    from labctl.experiments.stage import LoadRequest, Running
    from labctl.lab.lab import Lab


def begin(lab: Lab, request: LoadRequest) -> Running:
    """Begin to send the requests, and return what ends it."""
    is_url = "://" in request.target
    target = f"{request.target}:{request.port}" if request.port and not is_url else request.target
    asked = Asked(target=target, protocol="" if is_url else request.protocol, path=request.path, keepalive=request.keepalive)
    return Measuring(lab).start(asked, rate=request.rate, sources=request.sources, deadline_s=request.timeout_s)
