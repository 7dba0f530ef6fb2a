"""Says which faults this lab could not do now, under /labctl/v1/faults/check. Experiments ask before anything is deployed or sent.

    POST /labctl/v1/faults/check   {"items": [{"type": "delay", "target": "minion-1", "parameters": {"time": "50ms"}}, ...]}
    {"items": ["this host's kernel has no netem", ...]}     one sentence for each fault, empty if it could be done

No Fault is made, and nothing is touched; what must be tried is tried where nobody uses it, as before a real fault.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from labctl.api.extensions import ExtensionRequest, Extensions
from labctl.decoding import from_json
from labctl.errors import ApiError
from labctl.resources.kind import Meta
from labctl.resources.kinds.labctl_internal_v1 import fault as faults

if TYPE_CHECKING:
    from labctl.faults.reconciler import Faults
    from labctl.reconcile.plan import View

FAULTS_MAX = 100


class _Asked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    items: Annotated[tuple[faults.FaultSpec, ...], msgspec.Meta(max_length=FAULTS_MAX)]


def add_routes(routes: Extensions, room: Faults, view: View) -> None:
    routes.add("POST", "/labctl/v1/faults/check", lambda request: _check(room, view, request))


async def _check(room: Faults, view: View, request: ExtensionRequest) -> dict[str, Any]:
    try:
        asked = from_json(request.body, _Asked)
    except msgspec.DecodeError as error:
        raise ApiError(400, "BadRequest", f"these are no faults: {error}") from None
    return {"items": await asyncio.gather(*(_why_not(room, view, spec) for spec in asked.items))}


async def _why_not(room: Faults, view: View, spec: faults.FaultSpec) -> str:
    invalid = [f"{each.field}: {each.message}" for each in faults.validate({"spec": msgspec.to_builtins(spec)}, None)]
    if invalid:
        return "; ".join(invalid)[:1_000]
    return await room.why_not(view, faults.Fault(metadata=Meta(name="not-yet-a-fault"), spec=spec))
