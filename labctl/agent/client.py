"""The API as the agent needs it: objects in, objects out, a refusal as an exception with the server's own words; and the reflector, which lists and then watches.

Who calls it: every module that talks to the master. What it never does: cache, or retry a write (who asked knows whether it still matters).
"""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any, AsyncIterator, Awaitable, Callable, Dict, Optional
from urllib.parse import urlencode

from .deadlines import wait_for
from .http import Http, Response, Unreachable

MERGE, STRATEGIC = "application/merge-patch+json", "application/strategic-merge-patch+json"
WATCH_TIMEOUT_S = 300
_ACCEPT = {"Accept": "application/json"}

Object = Dict[str, Any]


class Refused(Exception):
    """The API said no: `code`, `reason` and message of its Status."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason


def refusal(status: int, body: bytes) -> Refused:
    try:
        told = json.loads(body)
        return Refused(status, told.get("reason", ""), told.get("message", ""))
    except (ValueError, AttributeError):
        return Refused(status, "", body.decode(errors="replace")[:500] or f"HTTP {status}")


class Api:
    """Paths are as the API has them: /api/v1/namespaces/NS/pods/NAME/status."""

    def __init__(self, http: Http) -> None:
        self._http = http

    async def get(self, path: str, timeout_s: float = 10.0, **query: str) -> Object:
        return await self._call("GET", path + ("?" + urlencode(query) if query else ""), timeout_s=timeout_s)

    async def create(self, path: str, value: Object) -> Object:
        return await self._call("POST", path, value)

    async def replace(self, path: str, value: Object, timeout_s: float = 10.0) -> Object:
        return await self._call("PUT", path, value, timeout_s=timeout_s)

    async def patch(self, path: str, value: Object, kind: str = STRATEGIC) -> Object:
        return await self._call("PATCH", path, value, kind)

    async def delete(self, path: str, options: Object) -> Object:
        return await self._call("DELETE", path, options)

    async def pause(self, seconds: float) -> None:
        """Wait so long before another try, or until the API listens again, whichever is first."""
        await self._http.pause(seconds)

    async def stream(self, path: str, timeout_s: float = 10.0) -> Response:
        """Return an answer whose body is read piece by piece: a blob, or a watch."""
        response = await self._http.request("GET", path, headers=_ACCEPT, timeout_s=timeout_s)
        if response.status >= 400:
            raise refusal(response.status, await response.read())
        return response

    async def _call(
        self, method: str, path: str, value: Optional[Object] = None, kind: str = "application/json", timeout_s: float = 10.0
    ) -> Object:
        body = b"" if value is None else json.dumps(value, separators=(",", ":")).encode()
        headers = {**_ACCEPT, "Content-Type": kind} if body else _ACCEPT
        response = await self._http.request(method, path, body=body, headers=headers, timeout_s=timeout_s)
        try:
            answer = await wait_for(response.read(), timeout_s)
        except asyncio.TimeoutError:
            raise Unreachable(f"{method} {path}: the answer took longer than {timeout_s:g} s") from None
        finally:
            response.close()  # if it was not read: whoever is cancelled may not even have begun
        if response.status >= 400:
            raise refusal(response.status, answer)
        try:
            return json.loads(answer) if answer else {}
        except ValueError as error:
            raise Unreachable(f"{method} {path}: not JSON: {error}") from error


class Delays:
    """How long to wait before the next try: doubling with jitter, back to the start after a success."""

    def __init__(self, first_s: float = 0.05, most_s: float = 5.0, rng: Optional[random.Random] = None) -> None:
        self._first_s, self._most_s, self._rng = first_s, most_s, rng or random.Random()
        self._next_s = first_s

    def reset(self) -> None:
        self._next_s = self._first_s

    def next(self) -> float:
        wait_s, self._next_s = self._next_s, min(self._most_s, self._next_s * 2)
        return wait_s * self._rng.uniform(0.7, 1.3)


async def reflect(
    api: Api,
    path: str,
    field_selector: str,
    listed: Callable[[list], Awaitable[None]],
    event: Callable[[str, Object], Awaitable[None]],
    say: Callable[[str], None],
    delays: Optional[Delays] = None,
) -> None:
    """Run until cancelled: list all objects (`listed`), then report each change (`event`). List again when the API answers that it forgot (410)."""
    delays = delays or Delays()
    revision = ""
    while True:
        try:
            if not revision:
                whole = await api.get(path, fieldSelector=field_selector)
                revision = whole["metadata"]["resourceVersion"]
                await listed(whole.get("items") or [])
            async for kind, value in _watch(api, path, field_selector, revision):
                delays.reset()
                if kind == "ERROR":
                    raise Refused(value.get("code", 500), value.get("reason", ""), value.get("message", ""))
                revision = value["metadata"]["resourceVersion"]
                if kind != "BOOKMARK":
                    await event(kind, value)
        except Refused as error:
            say(f"watch of {path}: {error}")
            revision = "" if error.code in (400, 404, 410) else revision
        except (Unreachable, KeyError) as error:
            say(f"watch of {path}: {error}")
        await api.pause(delays.next())


async def _watch(api: Api, path: str, field_selector: str, revision: str) -> AsyncIterator[tuple]:
    query = urlencode(
        {
            "watch": "1",
            "fieldSelector": field_selector,
            "resourceVersion": revision,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(WATCH_TIMEOUT_S),
        }
    )
    response = await api.stream(f"{path}?{query}")
    try:
        async for line in response.lines():
            try:
                told = json.loads(line)
            except ValueError as error:
                raise Unreachable(f"not JSON: {error}") from error
            yield told["type"], told["object"]
    finally:
        response.close()
