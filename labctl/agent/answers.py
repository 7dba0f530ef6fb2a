"""The ends of this node's PodCertificateRequests: issued, denied, failed, or deleted.

Who calls it: certificates.py, which waits for one request at a time per certificate. There is one watch for all of them, and none while nothing is asked for, so that
a lab whose pods need no certificates pays nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, Callable, Dict, List, Optional

from .client import Api, Refused, reflect
from .http import Unreachable

Object = Dict[str, Any]
PATH = "/apis/certificates.k8s.io/v1/podcertificaterequests"
_ONE = "/apis/certificates.k8s.io/v1/namespaces/{}/podcertificaterequests/{}"


class Answers:
    ENDS = ("Issued", "Denied", "Failed")

    def __init__(self, api: Api, node: str, say: Callable[[str], None]) -> None:
        self._api, self._node, self._say = api, node, say
        self._waiting: Dict[str, "asyncio.Future[Optional[Object]]"] = {}  # by the uid of the request
        self._requests: Dict[str, Object] = {}
        self._watch: "Optional[asyncio.Future[None]]" = None

    async def of(self, request: Object) -> Optional[Object]:
        """Return the request when its signer has answered; None if it was deleted before. Raises Refused, Unreachable."""
        uid = request["metadata"]["uid"]
        heard = self._waiting[uid] = asyncio.get_running_loop().create_future()
        self._requests[uid] = request
        try:
            if self._watch is None:
                self._watch = asyncio.ensure_future(
                    reflect(self._api, PATH, f"spec.nodeName={self._node}", self._listed, self._event, self._say)
                )
            await self._look(uid)  # the watch may have told of the end before anybody asked
            await asyncio.wait({heard, self._watch}, return_when=asyncio.FIRST_COMPLETED)
            if not heard.done():
                raise Unreachable("the watch of requests ended")
            return heard.result()
        finally:
            del self._waiting[uid], self._requests[uid]
            if not self._waiting and self._watch is not None:
                self._watch.cancel()
                self._watch = None

    async def _listed(self, found: List[Object]) -> None:
        for each in found:
            self._seen(each)
        there = {each["metadata"]["uid"] for each in found}
        for uid in [uid for uid in self._waiting if uid not in there]:
            with contextlib.suppress(Refused, Unreachable):  # it may be younger than the list: only its own path tells
                await self._look(uid)

    async def _event(self, kind: str, request: Object) -> None:
        if kind == "DELETED":
            self._hear(request["metadata"]["uid"], None)
        else:
            self._seen(request)

    async def _look(self, uid: str) -> None:
        request = self._requests.get(uid)
        if request is None:
            return
        try:
            found = await self._api.get(_ONE.format(request["metadata"]["namespace"], request["metadata"]["name"]))
        except Refused as error:
            if error.code not in (403, 404):  # a node may read only what is there
                raise
            self._hear(uid, None)
            return
        if found["metadata"]["uid"] == uid:
            self._seen(found)
        else:
            self._hear(uid, None)

    def _seen(self, request: Object) -> None:
        conditions = (request.get("status") or {}).get("conditions") or ()
        if any(each["type"] in self.ENDS for each in conditions):
            self._hear(request["metadata"]["uid"], request)

    def _hear(self, uid: str, request: Optional[Object]) -> None:
        heard = self._waiting.get(uid)
        if heard is not None and not heard.done():
            heard.set_result(request)
