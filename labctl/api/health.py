"""The health endpoints /healthz, /livez and /readyz run named checks and answer in Kubernetes' form.

Who calls it: paths.py, for everybody (the three paths) and for those who may read more than that (a single check below them). `master` gives the
checks. The answer is "ok", or the list of checks if one failed or `?verbose` asks for it; `?exclude=NAME` leaves one out. The reason of a failure is
shown only at the check's own path, because anybody may read the list.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
from aiohttp import web

from labctl.api import answer
from labctl.api.query import Query

ENDPOINTS = ("healthz", "livez", "readyz")


class Check(msgspec.Struct, frozen=True):
    """A named check. `look` returns what is wrong, or "", and never waits. With `live` False the check counts for /readyz alone: a restart would not help."""

    name: str
    look: Callable[[], str]
    live: bool = True


PING = Check("ping", lambda: "")

Checks = Callable[[], Sequence[Check]]


def serve(checks: Checks, path: str, query: Query) -> web.StreamResponse:
    """Returns the answer to one of the endpoints, or to a path below it."""
    endpoint, _, name = path.strip("/").partition("/")
    wanted = [check for check in (PING, *checks()) if check.live or endpoint == "readyz"]
    if name:
        return _one(wanted, name)
    return _all(endpoint, wanted, query)


def _one(checks: Sequence[Check], name: str) -> web.StreamResponse:
    check = next((check for check in checks if check.name == name), None)
    if check is None:
        return answer.text(answer.NOT_FOUND, 404)
    wrong = check.look()
    return answer.text(f"internal server error: {wrong}\n", 500) if wrong else answer.text("ok")


def _all(endpoint: str, checks: Sequence[Check], query: Query) -> web.StreamResponse:
    excluded = set(query.all("exclude"))
    lines, failed = [], False
    for check in checks:
        if check.name in excluded:
            excluded.discard(check.name)
            lines.append(f"[+]{check.name} excluded: ok")
        elif check.look():
            failed = True
            lines.append(f"[-]{check.name} failed: reason withheld")
        else:
            lines.append(f"[+]{check.name} ok")
    if excluded:
        names = ",".join(f'"{name}"' for name in sorted(excluded))
        lines.append(f"warn: some health checks cannot be excluded: no matches for {names}")
    if failed:
        return answer.text("\n".join([*lines, f"{endpoint} check failed", ""]), 500)
    if "verbose" not in query:
        return answer.text("ok")
    return answer.text("\n".join([*lines, f"{endpoint} check passed", ""]))
