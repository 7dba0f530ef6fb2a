"""Tokens of ServiceAccounts for the pods on this machine: asked for with the pod's first step, kept in memory, asked for anew before they expire.

Who calls it: worker.py begins (`ask`), so that the API answers while the pod's sandbox is made; volumes.py waits for the answer and writes it into the pod's
files. As with the kubelet, a token is renewed when 80 % of its life or a day is over. A token is bound to its pod: when the pod is gone it is worth nothing.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, Callable, Dict, Iterator, Tuple

from .client import Api
from .times import parse

Object = Dict[str, Any]
Name = Tuple[str, str, int]  # a pod's uid, an audience, a life in seconds

RENEW_AFTER = 0.8  # of a token's life
RENEW_AFTER_S = 24 * 3600.0
LIFE_S = 3600


class Tokens:
    def __init__(self, api: Api, wall: Callable[[], float] = time.time) -> None:
        self._api = api
        self._wall = wall
        self._asked: Dict[Name, "asyncio.Future[str]"] = {}
        self._due_s: Dict[Name, float] = {}  # when a token is to be renewed

    def ask(self, pod: Object) -> None:
        """Asks for every token that the pod's volumes need and that is not here yet; returns at once."""
        for source in _sources(pod):
            self._ask(pod, source)

    async def token(self, pod: Object, source: Object) -> str:
        """Return the token for a projected volume's `serviceAccountToken`. Raises Refused, Unreachable."""
        asked = self._ask(pod, source)
        try:
            return await asyncio.shield(asked)
        except Exception:
            self._forget(_name(pod, source), asked)  # the next one who needs it asks again
            raise

    def forget(self, uid: str) -> None:
        """Forget the tokens of a pod that is gone."""
        for name in [name for name in self._asked if name[0] == uid]:
            self._asked.pop(name).cancel()
            self._due_s.pop(name, None)

    def _ask(self, pod: Object, source: Object) -> "asyncio.Future[str]":
        name = _name(pod, source)
        asked = self._asked.get(name)
        if asked is not None and self._wall() < self._due_s.get(name, float("inf")):
            return asked
        fresh = asyncio.ensure_future(self._fetch(pod, name))
        fresh.add_done_callback(_heard)
        self._asked[name] = fresh
        self._due_s.pop(name, None)
        return fresh

    async def _fetch(self, pod: Object, name: Name) -> str:
        meta = pod["metadata"]
        _, audience, life_s = name
        bound = {"apiVersion": "v1", "kind": "Pod", "name": meta["name"], "uid": meta["uid"]}
        spec: Object = {"expirationSeconds": life_s, "boundObjectRef": bound, "audiences": [audience] if audience else []}
        account = pod["spec"].get("serviceAccountName") or "default"
        path = f"/api/v1/namespaces/{meta['namespace']}/serviceaccounts/{account}/token"
        asked_s = self._wall()
        answered = await self._api.create(path, {"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "spec": spec})
        made_s = (
            parse((answered.get("metadata") or {}).get("creationTimestamp")) or asked_s
        )  # both by the master's clock: this machine's may be wrong
        lives_s = parse(answered["status"]["expirationTimestamp"]) - made_s
        self._due_s[name] = asked_s + min(RENEW_AFTER * lives_s, RENEW_AFTER_S)
        token: str = answered["status"]["token"]
        return token

    def _forget(self, name: Name, asked: "asyncio.Future[str]") -> None:
        if self._asked.get(name) is asked:
            del self._asked[name]
            self._due_s.pop(name, None)


def _heard(asked: "asyncio.Future[str]") -> None:
    """Takes note of a failure that nobody may wait for any more."""
    if not asked.cancelled():
        asked.exception()


def _sources(pod: Object) -> Iterator[Object]:
    for volume in pod["spec"].get("volumes") or ():
        for source in (volume.get("projected") or {}).get("sources") or ():
            if source.get("serviceAccountToken") is not None:
                yield source["serviceAccountToken"]


def _name(pod: Object, source: Object) -> Name:
    return pod["metadata"]["uid"], source.get("audience", ""), int(source.get("expirationSeconds") or LIFE_S)
