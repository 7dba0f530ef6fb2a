"""Conversion of custom objects between versions: by name only (`None`), or by a webhook (`ConversionReview`, apiextensions.k8s.io/v1).

A webhook is shown the objects of one request together, in the first version of its list (`conversionReviewVersions`) that is known here: `v1`, or `v1beta1`,
whose answers need not say what they are nor which question they answer. It may change anything but who an object is: its name, namespace, uid,
resourceVersion and the like stay, and only labels and annotations of its metadata may differ.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from labctl.errors import ApiError
from labctl.resources import names
from labctl.resources.custom.schema import Node, fill, prune
from labctl.resources.kind import Kind, Object
from labctl.resources.webhooks import WebhookFailed, Webhooks
from labctl.store.interface import Entry

GROUP, KIND = "apiextensions.k8s.io", "ConversionReview"
VERSIONS = ("v1", "v1beta1")
TIMEOUT_S = 30.0
_CHANGEABLE = {"labels": ("metadata.labels", names.labels), "annotations": ("metadata.annotation", names.annotation_keys)}
"""What may differ in the metadata: how errors call it, and its rules."""


class ByName:
    """Only the apiVersion differs, and what the other version's schema does not know is dropped. Objects that are older than the schema are read with its
    defaults, and without what it does not know."""

    def __init__(self, nodes: Mapping[str, Node], since_revision: int) -> None:
        self._nodes = nodes
        self._since = since_revision

    def needed(self, kind: Kind, entry: Entry) -> bool:
        return entry.revision < self._since or not _is_of(kind, entry)

    async def convert(self, kind: Kind, objects: Sequence[Object]) -> Sequence[Object]:
        converted = [{**obj, "apiVersion": kind.api_version, "kind": kind.kind} for obj in objects]
        for obj in converted:
            prune(self._nodes[kind.version], obj)
            fill(self._nodes[kind.version], obj)
        return converted


class ByWebhook:
    """What is of the right version already gets its defaults; everything else is sent to the webhook."""

    def __init__(self, nodes: Mapping[str, Node], since_revision: int, webhooks: Webhooks, said: Object) -> None:
        """`said` is the definition's `conversion.webhook`."""
        self._nodes = nodes
        self._since = since_revision
        self._webhooks = webhooks
        self._config: Object = said.get("clientConfig") or {}
        self._version = next((each for each in said.get("conversionReviewVersions") or () if each in VERSIONS), VERSIONS[0])

    def needed(self, kind: Kind, entry: Entry) -> bool:
        return entry.revision < self._since or not _is_of(kind, entry)

    async def convert(self, kind: Kind, objects: Sequence[Object]) -> Sequence[Object]:
        other = [obj for obj in objects if obj.get("apiVersion") != kind.api_version]
        converted = iter(await self._asked(kind, other) if other else ())
        result = [next(converted) if obj.get("apiVersion") != kind.api_version else obj for obj in objects]
        for obj in result:
            prune(self._nodes[kind.version], obj)
            fill(self._nodes[kind.version], obj)
        return result

    async def _asked(self, kind: Kind, objects: Sequence[Object]) -> Sequence[Object]:
        """Return what the webhook makes of the objects. Raises ApiError without a reason, as Kubernetes does, whose store meets this error."""
        asked = {"uid": str(uuid.uuid4()), "desiredAPIVersion": kind.api_version, "objects": list(objects)}
        review = {"apiVersion": f"{GROUP}/{self._version}", "kind": KIND, "request": asked}
        from_here = f"conversion webhook for {objects[0].get('apiVersion')}, Kind={kind.kind}"
        try:
            answer = await self._webhooks.call(self._config, TIMEOUT_S, review)
            found = _response(answer, review)
        except WebhookFailed as error:
            raise ApiError(500, "", f"{from_here} failed: {error}") from None
        try:
            return _converted(kind, objects, found)
        except WebhookFailed as error:
            raise ApiError(500, "", f"{from_here} returned {error}") from None


def _is_of(kind: Kind, entry: Entry) -> bool:
    return entry.value.startswith(b'{"kind":"%s","apiVersion":"%s",' % (kind.kind.encode(), kind.api_version.encode()))


def _response(answer: Object, review: Object) -> Sequence[Any]:
    """Return the objects of an answer, if it is one, answers this question, and says that the conversion succeeded."""
    response, strict = answer.get("response"), review["apiVersion"] == f"{GROUP}/v1"
    if strict and (answer.get("apiVersion"), answer.get("kind")) != (review["apiVersion"], KIND):
        raise WebhookFailed(
            f"expected webhook response of {GROUP}/v1, Kind={KIND}, got {answer.get('apiVersion')}, Kind={answer.get('kind')}"
        )
    if not isinstance(response, dict):
        raise WebhookFailed("no response provided")
    if strict and response.get("uid") != review["request"]["uid"]:
        raise WebhookFailed(f'expected response.uid="{review["request"]["uid"]}", got "{response.get("uid", "")}"')
    said = response.get("result")
    result: Object = said if isinstance(said, dict) else {}
    if result.get("status") != "Success":
        raise WebhookFailed(str(result.get("message") or f"response.result.status was '{result.get('status', '')}', not 'Success'"))
    objects = response.get("convertedObjects")
    return objects if isinstance(objects, list) else []


def _converted(kind: Kind, asked: Sequence[Object], objects: Sequence[Any]) -> Sequence[Object]:
    """Return the webhook's objects, each with the metadata that it may not change. What is raised goes on after `conversion webhook for ... returned`."""
    if len(objects) != len(asked):
        raise WebhookFailed(f"{len(objects)} objects, expected {len(asked)}")
    result = []
    for index, (old, new) in enumerate(zip(asked, objects, strict=True)):
        there = f" at index {index}" if len(asked) > 1 else ""
        said = new if isinstance(new, dict) else {}
        called = f"invalid converted object{there}" if there else "invalid object at index 0"
        if said.get("apiVersion") != kind.api_version:
            raise WebhookFailed(f"{called}: invalid groupVersion (expected {kind.api_version}, received {said.get('apiVersion') or '/'})")
        if said.get("kind") != kind.kind:
            raise WebhookFailed(f"{called}: invalid kind (expected {kind.kind}, received {said.get('kind') or ''})")
        result.append(_merged(old, said, there))
    return result


def _merged(old: Object, new: Object, there: str) -> Object:
    """Return the converted object with the metadata that it had, except for labels and annotations."""
    before, now = old.get("metadata") or {}, new.get("metadata")
    same = now if isinstance(now, dict) else {}
    for name, called in (("name", "name"), ("namespace", "namespace"), ("uid", "UID")):
        if same.get(name, "") != before.get(name, ""):
            which = f"invalid converted object{there}" if there else "invalid object"
            raise WebhookFailed(f"{which}: must have the same {called}: {before.get(name, '')} != {same.get(name, '')}")
    try:
        metadata = _metadata(before, now, known="metadata" in new)
    except WebhookFailed as error:
        raise WebhookFailed(f"invalid metadata{f' in object{there}' if there else ''}: {error}") from None
    head = {"apiVersion": new["apiVersion"], "kind": new["kind"], "metadata": metadata}
    return {**head, **{name: said for name, said in new.items() if name not in head}}


def _metadata(before: Object, now: Any, *, known: bool) -> Object:
    if not isinstance(now, dict):
        raise WebhookFailed("invalid metadata in converted object: it is no object" if known else "missing metadata in converted object")
    metadata: dict[str, Any] = {name: said for name, said in before.items() if name not in _CHANGEABLE}
    for name, (path, rule) in _CHANGEABLE.items():
        values = now.get(name)
        if values is None:
            continue
        if not isinstance(values, dict):
            raise WebhookFailed(f"invalid metadata.{name} in converted object: it is no object")
        wrong = next((key for key, value in values.items() if not isinstance(value, str)), None)
        if wrong is not None:
            raise WebhookFailed(f"metadata.{name}[{wrong}] must be a string in converted object")
        if values != before.get(name):
            texts = [f"{error.field}: {error.message}" for error in rule(path, values)]
            if texts:
                raise WebhookFailed(texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]")
        metadata[name] = values
    return metadata
