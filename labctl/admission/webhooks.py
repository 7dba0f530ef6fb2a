"""Mutating and validating webhooks: servers that people run and name in a configuration; each is asked about the writes that it matches.

Mutating ones are asked one after the other, each with what those before it made of the object, and may change it by a JSON patch; who asks for it
(`reinvocationPolicy: IfNeeded`) is asked once more when the object was changed after it (reinvocation.py). Validating ones are asked all at once, about the
result. One that can't be asked refuses the write (`failurePolicy: Fail`) or is passed over (`Ignore`). The objects that configure admission are never
judged by it, so that a mistake can be taken back. Connections (exec, attach, portforward, proxy) are judged by their options, Bindings and Evictions by
their bodies.

A write waits for its webhooks, and others' writes of the same object wait for it: a webhook must not write the object that it is asked about.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import msgspec

from labctl.admission.authorizer import authorizer_of
from labctl.admission.conditions import Condition, all_hold, conditions_of
from labctl.admission.matching import EVERY_VERB, NAMESPACES, OWN_GROUP, Match, is_exempt
from labctl.admission.reinvocation import Round
from labctl.admission.reviews import Shown, request, shown, take
from labctl.errors import ApiError
from labctl.resources import encoding, failures
from labctl.resources.admission import Attributes, Verb
from labctl.resources.cel.expressions import EvaluationError
from labctl.resources.client import Client
from labctl.resources.generic import GenericObject
from labctl.resources.kind import Kind, Object
from labctl.resources.kinds.admissionrules import REQUEST_VARIABLES
from labctl.resources.patches import json as json_patch
from labctl.resources.rbac.matching import Permissions
from labctl.resources.webhooks import WebhookFailed, Webhooks

VERSIONS = ("v1", "v1beta1")
MOST_WARNING = 256  # characters


class Webhook:
    """One entry of a configuration."""

    def __init__(self, key: Hashable, said: Object) -> None:
        self.key = key
        self.name: str = said.get("name", "")
        self.client: Object = said.get("clientConfig") or {}
        self.fails = said.get("failurePolicy", "Fail") == "Fail"
        self.timeout_s = float(said.get("timeoutSeconds") or 10)
        self.again = said.get("reinvocationPolicy") == "IfNeeded"
        self.safe_when_dry = said.get("sideEffects") in ("None", "NoneOnDryRun")
        self.version = next((each for each in said.get("admissionReviewVersions") or () if each in VERSIONS), VERSIONS[0])
        self.match = Match(said, said.get("rules") or ())
        self._said = said.get("matchConditions") or ()
        self._conditions: list[Condition] | None = None

    def conditions(self) -> list[Condition]:
        if self._conditions is None:
            self._conditions = conditions_of(self._said, REQUEST_VARIABLES) if self._said else []
        return self._conditions


class Asker:
    """What both steps do: find the webhooks that are concerned, ask one, understand its answer."""

    def __init__(self, client: Client, webhooks: Webhooks, permissions: Permissions, resource: str) -> None:
        self.client = client
        self._permissions = permissions
        self._webhooks = webhooks
        self._prefix = resource + "/"
        self._known: dict[str, tuple[int, list[Webhook]]] = {}

    def all(self) -> Sequence[Webhook]:
        """Return the webhooks of all configurations, in the order of their names."""
        entries = self.client.resources.store.range(self._prefix).entries
        if not entries and not self._known:
            return ()
        known: dict[str, tuple[int, list[Webhook]]] = {}
        for entry in entries:
            found = self._known.get(entry.key)
            if found is None or found[0] != entry.revision:
                view: GenericObject = self.client.resources.view(entry)
                found = entry.revision, [Webhook((entry.key, place), said) for place, said in enumerate(view.whole.get("webhooks") or ())]
            known[entry.key] = found
        self._known = known
        return [webhook for _, webhooks in known.values() for webhook in webhooks]

    def concerned(self, attributes: Attributes, webhook: Webhook) -> Kind | None:
        """Return the version that the webhook must be asked about, or None."""
        versions = self.client.resources.registry.versions(attributes.kind.resource) or (attributes.kind,)
        return webhook.match.kind(attributes, versions, self.labels_of)

    def labels_of(self, namespace: str) -> Mapping[str, str] | None:
        found = self.client.get(NAMESPACES, namespace)
        return None if found is None else found.metadata.labels

    async def ask(self, attributes: Attributes, webhook: Webhook, kind: Kind) -> tuple[Shown, Object | None]:
        """Return what it was shown and the `response` of its answer; None if it is passed over. Raises ApiError."""
        seen = await shown(attributes, kind)
        asked = request(attributes, seen)
        if not await self._wanted(attributes, webhook, kind, asked):
            return seen, None
        if attributes.options.dry_run and not webhook.safe_when_dry:
            raise failures.bad_request(f'admission webhook "{webhook.name}" does not support dry run')
        try:
            said = "failed to call webhook"
            review = {"apiVersion": f"admission.k8s.io/{webhook.version}", "kind": "AdmissionReview", "request": asked}
            answer = await self._webhooks.call(webhook.client, webhook.timeout_s, review)
            said = "received invalid webhook response"
            return seen, _response(answer, review)
        except WebhookFailed as error:
            if not webhook.fails:
                return seen, None
            raise failures.internal(f'failed calling webhook "{webhook.name}": {said}: {error}') from None

    async def _wanted(self, attributes: Attributes, webhook: Webhook, kind: Kind, asked: Object) -> bool:
        conditions = webhook.conditions()
        if not conditions:
            return True
        try:
            authorizer = authorizer_of(self._permissions, attributes, kind)
            known = {"object": asked["object"], "oldObject": asked["oldObject"], "request": asked, "authorizer": authorizer}
            return await all_hold(conditions, known)
        except EvaluationError as error:
            if not webhook.fails:
                return False
            raise failures.forbidden(attributes.kind, attributes.name, str(error)) from None


def _response(answer: Object, review: Object) -> Object:
    """Return the response of a review, if it is one and answers this question. In v1beta1 an answer need not say what it is, nor how it patches."""
    strict, uid = review["apiVersion"] == "admission.k8s.io/v1", review["request"]["uid"]
    if strict and (answer.get("apiVersion"), answer.get("kind")) != (review["apiVersion"], review["kind"]):
        said = f"{answer.get('apiVersion')}, Kind={answer.get('kind')}"
        raise WebhookFailed(f"expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got {said}")
    response = answer.get("response")
    if not isinstance(response, dict):
        raise WebhookFailed("webhook response was absent")
    if not strict:
        return {**response, "patchType": "JSONPatch"} if response.get("patch") else response
    if response.get("uid") != uid:
        raise WebhookFailed(f'expected response.uid="{uid}", got "{response.get("uid", "")}"')
    return response


def _judged(webhook: Webhook, response: Object, attributes: Attributes) -> None:
    """Notes the warnings of an answer; raises ApiError if it denies."""
    for warning in response.get("warnings") or ():
        if isinstance(warning, str) and warning:
            attributes.warnings.append(warning[:MOST_WARNING])
    if response.get("allowed") is True:
        return
    result: Object = response.get("status") if isinstance(response.get("status"), dict) else {}  # type: ignore[assignment]
    said, code = f'admission webhook "{webhook.name}" denied the request', result.get("code")
    why = result.get("message") or result.get("reason")
    number = code if isinstance(code, int) and 400 <= code < 600 else 400
    details = result.get("details") if isinstance(result.get("details"), dict) else None
    raise ApiError(number, str(result.get("reason") or ""), f"{said}: {why}" if why else f"{said} without explanation", details=details)


class MutatingWebhooks:
    """A mutating step."""

    name = "MutatingAdmissionWebhook"
    kinds: frozenset[str] | None = None
    verbs: frozenset[Verb] = EVERY_VERB

    def __init__(self, client: Client, webhooks: Webhooks, permissions: Permissions) -> None:
        self._asker = Asker(client, webhooks, permissions, f"mutatingwebhookconfigurations.{OWN_GROUP}")

    async def admit(self, attributes: Attributes) -> None:
        webhooks = self._asker.all()
        if not webhooks or is_exempt(attributes):
            return
        current = Round(self.name, attributes)
        for webhook in webhooks:
            if current.asks(webhook.key) and (kind := self._asker.concerned(attributes, webhook)) is not None:
                changed = await self._one(attributes, webhook, kind)
                current.was_asked(webhook.key, again=webhook.again, changed=changed)
        current.end()

    async def _one(self, attributes: Attributes, webhook: Webhook, kind: Kind) -> bool:
        """Call one webhook, and tell whether it changed the object."""
        if attributes.new is not None and attributes.verb == "create":
            self._asker.client.resources.complete(attributes.kind, attributes.new)
        seen, response = await self._asker.ask(attributes, webhook, kind)
        if response is None:
            return False
        _judged(webhook, response, attributes)
        patch = response.get("patch")
        if not patch or attributes.subresource == "scale":
            return False
        if attributes.new is None:
            why = f'admission webhook "{webhook.name}" attempted to modify the object, which is not supported for this operation'
            raise failures.internal(why)
        before = encoding.encode(attributes.new)
        try:
            patched = _patched(response, seen.new or {})
            await take(self._asker.client.resources, attributes, kind, patched)
        except (WebhookFailed, ApiError) as error:
            if not webhook.fails:
                return False
            raise failures.internal(f'failed calling webhook "{webhook.name}": {error}') from None
        return encoding.encode(attributes.new) != before


def _patched(response: Object, obj: Object) -> Object:
    if response.get("patchType") != "JSONPatch":
        raise WebhookFailed(f'expected response.patchType="JSONPatch", got "{response.get("patchType") or ""}"')
    try:
        patch: Any = msgspec.json.decode(base64.b64decode(str(response["patch"]), validate=True))
    except (ValueError, binascii.Error, RecursionError) as error:
        raise WebhookFailed(f"the patch is no JSON patch: {error}") from None
    return json_patch.apply(patch, encoding.decode(encoding.encode(obj)))


class ValidatingWebhooks:
    """A validating step."""

    name = "ValidatingAdmissionWebhook"
    kinds: frozenset[str] | None = None
    verbs: frozenset[Verb] = EVERY_VERB

    def __init__(self, client: Client, webhooks: Webhooks, permissions: Permissions) -> None:
        self._asker = Asker(client, webhooks, permissions, f"validatingwebhookconfigurations.{OWN_GROUP}")

    async def admit(self, attributes: Attributes) -> None:
        webhooks = self._asker.all()
        if not webhooks or is_exempt(attributes):
            return
        concerned = [(webhook, kind) for webhook in webhooks if (kind := self._asker.concerned(attributes, webhook)) is not None]
        answers = await asyncio.gather(*(self._asker.ask(attributes, *each) for each in concerned), return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
        for (webhook, _), answer in zip(concerned, answers, strict=True):
            if not isinstance(answer, BaseException) and answer[1] is not None:
                _judged(webhook, answer[1], attributes)
