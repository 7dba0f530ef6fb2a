"""The in-process client: what controllers, the scheduler and the machines room write with. Objects as dicts in, typed views out; no HTTP.

Kinds are named by `Kind.resource` ("pods"), objects by `namespace/name` or `name`. It asks as SYSTEM, so nothing warns it.
"""

from __future__ import annotations

from typing import Any

from labctl.resources.kind import Object
from labctl.resources.resources import Resources
from labctl.resources.service import SYSTEM, User


class Client:
    def __init__(self, resources: Resources, user: User = SYSTEM) -> None:
        self.resources = resources
        self.user = user

    def get(self, resource: str, key: str) -> Any:
        """The typed view, or None."""
        raise NotImplementedError

    def raw(self, resource: str, key: str) -> Object | None:
        """The whole object as a fresh dict, or None."""
        raise NotImplementedError

    def list(self, resource: str, namespace: str = "", labels: str = "") -> list[Any]:
        """Typed views in key order; `labels` is a label selector."""
        raise NotImplementedError

    async def create(self, resource: str, obj: Object) -> Any:
        """Make an object; its namespace is the one inside its metadata."""
        raise NotImplementedError

    async def patch(self, resource: str, key: str, patch: Object, subresource: str = "", revision: int = 0) -> Any:
        """A JSON merge patch; with `revision`, only if the object still stands there."""
        raise NotImplementedError

    async def replace(self, resource: str, obj: Object, subresource: str = "") -> Any:
        """The whole object anew, at the resourceVersion inside it if there is one."""
        raise NotImplementedError

    async def delete(self, resource: str, key: str, uid: str = "", grace_s: int | None = None, propagation: str | None = None) -> Any:
        """The last view of it; ApiError 404 when it is gone already, 409 when the uid is another's."""
        raise NotImplementedError

    async def bind(self, key: str, node: str, uid: str = "") -> None:
        """The scheduler's word: this pod goes to that node."""
        raise NotImplementedError
