"""Events about pods and the node, in the kubelet's words. Told in the background; what repeats is counted, not repeated; what can't be told is dropped.

Who calls it: workers, probes, node. It never delays them and never fails them.
An Event's times are whole seconds of this machine's clock. So each also says, in the annotation AGE, how long ago it happened when it was sent, and how long
the request before took: then the master knows to a few milliseconds when it was, whatever this machine's clock says.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time
from collections import OrderedDict
from typing import Any, Dict, Tuple

from .client import MERGE, Api, Refused
from .http import Unreachable
from .times import rfc3339

QUEUE_LIMIT = 500
REMEMBERED = 1000
COMPONENT = "kubelet"
AGE = "labctl.internal/age"  # resources/reports.py reads it

Object = Dict[str, Any]


_PARTS = ("containers", "initContainers", "ephemeralContainers")


def of_pod(pod: Object, container: str = "") -> Object:
    """Return a reference to a pod, or to one of its containers; a name that none of them has, as of an image that is a volume, means the whole pod."""
    meta = pod["metadata"]
    reference = {"apiVersion": "v1", "kind": "Pod", "namespace": meta["namespace"], "name": meta["name"], "uid": meta["uid"]}
    for part in _PARTS:
        if any(each["name"] == container for each in pod["spec"].get(part) or ()):
            reference["fieldPath"] = f"spec.{part}{{{container}}}"
    return reference


class Recorder:
    def __init__(self, api: Api, node: str) -> None:
        self._api, self._node = api, node
        self._stamp_us = 0
        self._took_s = 0.0  # the request before
        self._queue: "asyncio.Queue[Object]" = asyncio.Queue(QUEUE_LIMIT)
        self._counted: "OrderedDict[Tuple[str, ...], Tuple[str, int]]" = OrderedDict()  # what was told -> (event's name, how often)

    def record(self, reference: Object, kind: str, reason: str, message: str) -> None:
        """Record an Event. `kind` is Normal or Warning."""
        event = {"ref": reference, "type": kind, "reason": reason, "message": message[:1024], "at": time.time(), "then": time.monotonic()}
        with contextlib.suppress(asyncio.QueueFull):
            self._queue.put_nowait(event)

    async def run(self) -> None:
        while True:
            event = await self._queue.get()
            began = time.monotonic()
            with contextlib.suppress(Refused, Unreachable):  # an Event is a courtesy; the status carries the truth
                await self._tell(event)
                self._took_s = time.monotonic() - began

    def _age(self, event: Object) -> Object:
        return {AGE: f"{time.monotonic() - event['then']:.6f} {self._took_s:.6f}"}

    async def _tell(self, event: Object) -> None:
        reference = event["ref"]
        key = (reference.get("uid", ""), reference.get("fieldPath", ""), event["type"], event["reason"], event["message"])
        base = f"/api/v1/namespaces/{reference.get('namespace') or 'default'}/events"
        name, count = self._counted.pop(key, ("", 0))
        if name:
            try:
                again = {"count": count + 1, "lastTimestamp": rfc3339(event["at"]), "metadata": {"annotations": self._age(event)}}
                await self._api.patch(f"{base}/{name}", again, MERGE)
                self._remember(key, name, count + 1)
                return
            except Refused:
                pass  # it expired: begin a new one
        name = self._name(reference["name"], event["at"], key)
        await self._api.create(base, self._object(event, name))
        self._remember(key, name, 1)

    def _remember(self, key: Tuple[str, ...], name: str, count: int) -> None:
        self._counted[key] = (name, count)
        if len(self._counted) > REMEMBERED:
            self._counted.popitem(last=False)

    def _name(self, about: str, at: float, key: Tuple[str, ...]) -> str:
        """Return a name that sorts by time, because lists are sorted by name and Events of one second can't be told apart otherwise."""
        self._stamp_us = max(int(at * 1e6), self._stamp_us + 1)
        return f"{about}.{self._stamp_us:x}{hashlib.sha256(repr(key).encode()).hexdigest()[:4]}"

    def _object(self, event: Object, name: str) -> Object:
        reference, at = event["ref"], rfc3339(event["at"])
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": reference.get("namespace") or "default", "annotations": self._age(event)},
            "involvedObject": reference,
            "type": event["type"],
            "reason": event["reason"],
            "message": event["message"],
            "firstTimestamp": at,
            "lastTimestamp": at,
            "count": 1,
            "source": {"component": COMPONENT, "host": self._node},
            "reportingComponent": COMPONENT,
            "reportingInstance": self._node,
        }
