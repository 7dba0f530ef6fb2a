"""Conversion of custom objects between versions: by name only (`None`), or by a webhook (`ConversionReview`, apiextensions.k8s.io/v1).

A webhook is shown the objects of one request together. It may change anything but who an object is: its name, namespace, uid, resourceVersion and the like
stay, and only labels and annotations of its metadata may differ.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from labctl.errors import ApiError
from labctl.resources.custom.schema import Node, fill, prune
from labctl.resources.kind import Kind, Object
from labctl.resources.webhooks import WebhookFailed, Webhooks
from labctl.store.interface import Entry

REVIEW = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview"}
TIMEOUT_S = 30.0
_CHANGEABLE = ("labels", "annotations")


class ByName:
    """Only the apiVersion differs. Objects that are older than the schema get its defaults when they are read."""

    def __init__(self, nodes: Mapping[str, Node], since_revision: int) -> None:
        self._nodes = nodes
        self._since = since_revision

    def needed(self, kind: Kind, entry: Entry) -> bool:
        return not _is_of(kind, entry) or (self._nodes[kind.version].fills and entry.revision < self._since)

    async def convert(self, kind: Kind, objects: Sequence[Object]) -> Sequence[Object]:
        converted = [{**obj, "apiVersion": kind.api_version, "kind": kind.kind} for obj in objects]
        for obj in converted:
            fill(self._nodes[kind.version], obj)
        return converted


class ByWebhook:
    """What is of the right version already gets its defaults; everything else is sent to the webhook."""

    def __init__(self, nodes: Mapping[str, Node], since_revision: int, webhooks: Webhooks, config: Object) -> None:
        self._nodes = nodes
        self._since = since_revision
        self._webhooks = webhooks
        self._config = config

    def needed(self, kind: Kind, entry: Entry) -> bool:
        return not _is_of(kind, entry) or (self._nodes[kind.version].fills and entry.revision < self._since)

    async def convert(self, kind: Kind, objects: Sequence[Object]) -> Sequence[Object]:
        other = [obj for obj in objects if obj.get("apiVersion") != kind.api_version]
        converted = iter(await self._asked(kind, other) if other else ())
        result = [next(converted) if obj.get("apiVersion") != kind.api_version else obj for obj in objects]
        for obj in result:
            prune(self._nodes[kind.version], obj)
            fill(self._nodes[kind.version], obj)
        return result

    async def _asked(self, kind: Kind, objects: Sequence[Object]) -> Sequence[Object]:
        asked = {"uid": str(uuid.uuid4()), "desiredAPIVersion": kind.api_version, "objects": list(objects)}
        failed = f"conversion webhook for {objects[0].get('apiVersion')}, Kind={kind.kind} failed"
        try:
            answer = await self._webhooks.call(self._config, TIMEOUT_S, {**REVIEW, "request": asked})
            return [_merged(old, new) for old, new in zip(objects, _converted(answer, asked, kind), strict=True)]
        except WebhookFailed as error:
            raise ApiError(500, "InternalError", f"{failed}: {error}") from None


def _is_of(kind: Kind, entry: Entry) -> bool:
    return entry.value.startswith(b'{"kind":"%s","apiVersion":"%s",' % (kind.kind.encode(), kind.api_version.encode()))


def _converted(answer: Object, asked: Object, kind: Kind) -> Sequence[Object]:
    """Return the objects of an answer, if it is one and answers this question."""
    if (answer.get("apiVersion"), answer.get("kind")) != (REVIEW["apiVersion"], REVIEW["kind"]):
        raise WebhookFailed(f"expected webhook response of apiextensions.k8s.io/v1, Kind=ConversionReview, got {answer.get('apiVersion')}, Kind={answer.get('kind')}")  # fmt: skip
    response = answer.get("response")
    if not isinstance(response, dict) or response.get("uid") != asked["uid"]:
        found = response.get("uid", "") if isinstance(response, dict) else ""
        raise WebhookFailed(f'expected response.uid="{asked["uid"]}", got "{found}"')
    result = response.get("result") or {}
    if result.get("status") != "Success":
        raise WebhookFailed(str(result.get("message") or "unsuccessful, without a message"))
    objects = response.get("convertedObjects") or []
    if len(objects) != len(asked["objects"]):
        raise WebhookFailed(f"webhook returned {len(objects)} objects, expected {len(asked['objects'])}")
    for number, obj in enumerate(objects):
        if not isinstance(obj, dict) or (obj.get("apiVersion"), obj.get("kind")) != (kind.api_version, kind.kind):
            raise WebhookFailed(f"invalid groupVersion in object at index {number}: expected {kind.api_version}, Kind={kind.kind}")
    return objects


def _merged(old: Object, new: Object) -> Object:
    """Return the converted object with the metadata that it had, except for labels and annotations."""
    before, now = old.get("metadata") or {}, new.get("metadata")
    if not isinstance(now, dict):
        raise WebhookFailed("invalid metadata in the converted object: it is no object")
    for name in ("name", "namespace", "uid"):
        if now.get(name, "") != before.get(name, ""):
            raise WebhookFailed(f"{name} changed in the converted object: {before.get(name)!r} to {now.get(name)!r}")
    metadata: dict[str, Any] = {name: said for name, said in before.items() if name not in _CHANGEABLE}
    metadata |= {name: now[name] for name in _CHANGEABLE if isinstance(now.get(name), dict)}
    head = {"apiVersion": new["apiVersion"], "kind": new["kind"], "metadata": metadata}
    return {**head, **{name: said for name, said in new.items() if name not in head}}
