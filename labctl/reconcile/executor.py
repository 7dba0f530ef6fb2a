"""The executor carries out the actions of a plan: each action is one write through the in-process client, and only so many run at once.

The runner calls it after a plan. It answers the typed view of the written object, and raises the client's errors as they are.
"""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from labctl.reconcile.plan import Action, Bind, Create, Delete, Key, Patch, Record, Replace


class Writer(Protocol):
    """The part of resources' in-process Client that carries plans out."""

    async def create(self, resource: str, obj: dict[str, Any]) -> Any: ...
    async def patch(self, resource: str, key: Key, patch: dict[str, Any], subresource: str = "", revision: int = 0) -> Any: ...
    async def replace(self, resource: str, obj: dict[str, Any], subresource: str = "") -> Any: ...
    async def delete(
        self, resource: str, key: Key, uid: str = "", grace_s: int | None = None, propagation: str | None = None, version: str = ""
    ) -> Any: ...
    async def bind(self, key: Key, node: str, uid: str = "") -> Any: ...


class ActionExecutor:
    def __init__(self, client: Writer, actions_at_once: int) -> None:
        self._client = client
        self._free = asyncio.Semaphore(actions_at_once)

    async def do(self, action: Action) -> Any:
        """Carries one action out. It does nothing for a Record: the runner gives those to the reporter."""
        async with self._free:
            match action:
                case Bind():
                    return await self._client.bind(action.key, action.node, action.uid)
                case Patch():
                    return await self._client.patch(action.kind, action.key, action.patch, action.subresource, action.revision)
                case Create():
                    return await self._client.create(action.kind, action.object)
                case Delete():
                    propagation = action.propagation or None
                    return await self._client.delete(action.kind, action.key, action.uid, action.grace_s, propagation, action.version)
                case Replace():
                    return await self._client.replace(action.kind, action.object, action.subresource)
                case Record():
                    return None


def target(action: Action) -> tuple[str, Key]:
    """Return the kind and the key of the object that an action is about."""
    match action:
        case Create() | Replace():
            metadata = action.object["metadata"]
            name = metadata.get("name") or metadata.get("generateName", "")
            return action.kind, f"{metadata['namespace']}/{name}" if metadata.get("namespace") else name
        case Bind():
            return "pods", action.key
        case _:
            return action.kind, action.key
