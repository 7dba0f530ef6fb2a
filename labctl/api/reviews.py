"""Questions that are sent as objects: who am I, whose token is this, may I (or somebody else) do this, what may I do?

They are answered with the object and its status, and nothing is kept. Webhooks and policies are not shown them. kubectl asks them (`auth whoami`,
`auth can-i`), and programs that guard something of their own. The answer to "may I" is found by asking the Authorizer as if the request had come.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from aiohttp import web

from labctl.api import answer, bodies, negotiate
from labctl.api.authorize import Authorizer
from labctl.api.call import Call
from labctl.api.query import Query
from labctl.api.route import Target
from labctl.api.status import bad_request
from labctl.api.tokens import ServiceAccountTokens
from labctl.resources import failures
from labctl.resources.admission import Attributes
from labctl.resources.kind import Kind, Object
from labctl.resources.kinds.rbac_v1.rules import PolicyRule
from labctl.resources.rbac.holders import Rbac
from labctl.resources.resources import Resources
from labctl.resources.schema.validate import decode
from labctl.resources.service import User

_encode = msgspec.json.Encoder().encode
Answer = Callable[[Call, Object], Object]


class Reviews:
    """Answers reviews. `create` is the only verb of these kinds."""

    def __init__(self, resources: Resources, authorizer: Authorizer, rbac: Rbac, tokens: ServiceAccountTokens) -> None:
        self._resources = resources
        self._authorizer = authorizer
        self._rbac = rbac
        self._tokens = tokens
        self._answers: dict[str, Answer] = {
            "SelfSubjectReview": lambda call, _spec: {"userInfo": call.user.info},
            "SelfSubjectAccessReview": lambda call, spec: self._access(call.user, spec),
            "SelfSubjectRulesReview": lambda call, spec: self._rules(call.user, spec.get("namespace", "")),
            "SubjectAccessReview": lambda _call, spec: self._access(_subject(spec), spec),
            "LocalSubjectAccessReview": lambda _call, spec: self._access(_subject(spec), spec),
            "TokenReview": lambda _call, spec: self._token(spec),
        }

    async def create(self, call: Call) -> web.StreamResponse:
        kind = call.kind
        form = negotiate.accepted(call.request.headers.get("Accept", ""), negotiate.NO_SHAPES)  # an answer has no metadata to make a row of
        options, namespace = call.write_options(), call.target.namespace
        asked, warnings = decode(self._resources.schema, kind, await bodies.read(call), options.field_validation)
        if namespace:
            _in_namespace(asked, namespace)
        attributes = Attributes(call.user, "create", kind, None, asked, options, path=(namespace, ""))
        await self._resources.admit(attributes, lambda: _check(kind, asked))
        said = {"kind": kind.kind, "apiVersion": kind.api_version, "metadata": {}}
        if namespace:
            said["metadata"] = {"namespace": namespace}
        if "spec" in asked:
            said["spec"] = asked["spec"]
        said["status"] = self._answers[kind.kind](call, asked.get("spec", {}))
        return await call.answer(_encode(said), 201, form=form, extra=answer.warning_lines([*warnings, *attributes.warnings]))

    def _access(self, user: User, spec: Object) -> Object:
        if "nonResourceAttributes" in spec:
            wanted = spec["nonResourceAttributes"]
            why = self._authorizer.why_path(user, wanted.get("verb", "").upper(), wanted.get("path", ""), Query({}))
        else:
            why = self._objects(user, spec["resourceAttributes"])
        status: Object = {"allowed": bool(why)}
        return {**status, "reason": why} if why.startswith("RBAC") else status

    def _objects(self, user: User, wanted: Object) -> str:
        target = Target(*(wanted.get(name, "") for name in ("group", "version", "resource", "namespace", "name", "subresource")))
        selector = _field_selector(wanted.get("fieldSelector") or {})
        query = Query({"fieldSelector": [selector]} if selector else {})
        return self._authorizer.why_objects(user, wanted.get("verb", ""), target, query)

    def _rules(self, user: User, namespace: str) -> Object:
        """Return the rules that RBAC gives. A node's agent has other rights that depend on the objects it asks about, so they can't all be listed."""
        rules = self._rbac.rules(user, namespace)
        told: Object = {
            "resourceRules": [msgspec.to_builtins(_without_paths(rule)) for rule in rules if rule.resources],
            "nonResourceRules": [
                {"verbs": list(rule.verbs), "nonResourceURLs": list(rule.non_resource_urls)} for rule in rules if rule.non_resource_urls
            ],
            "incomplete": bool(user.node),
        }
        if user.node:
            told["evaluationError"] = "what a node may do depends on the objects it asks about"
        return told

    def _token(self, spec: Object) -> Object:
        found = self._tokens.review(spec["token"], spec.get("audiences") or ())
        if found is None:
            return {"user": {}, "error": "invalid bearer token"}
        user, audiences = found
        return {"authenticated": True, "user": user.info, "audiences": audiences}


def _check(kind: Kind, asked: Object) -> None:
    """Raises ApiError for a question that asks nothing."""
    if kind.kind == "TokenReview" and not (asked.get("spec") or {}).get("token"):
        raise bad_request("token is required for TokenReview in authentication")
    if errors := list(kind.validate(asked, None)):
        raise failures.invalid(kind, "", errors)


class _ResourceRule(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    verbs: tuple[str, ...]
    api_groups: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()
    resource_names: tuple[str, ...] = ()


def _without_paths(rule: PolicyRule) -> _ResourceRule:
    return _ResourceRule(rule.verbs, rule.api_groups, rule.resources, rule.resource_names)


def _field_selector(said: Object) -> str:
    """Return a question's field selector as a request's URL has it. Requirements that a URL can't say are left out: then less is allowed, never more."""
    if raw := said.get("rawSelector"):
        return str(raw)
    known = {"In": "=", "NotIn": "!="}
    terms = [
        f"{each.get('key')}{known[each['operator']]}{each['values'][0]}"
        for each in said.get("requirements") or ()
        if each.get("operator") in known and len(each.get("values") or ()) == 1
    ]
    return ",".join(term for term in terms if "," not in term)


def _subject(spec: Object) -> User:
    extra = tuple((key, tuple(values)) for key, values in (spec.get("extra") or {}).items())
    return User(spec.get("user", ""), tuple(spec.get("groups") or ()), spec.get("uid", ""), extra)


def _in_namespace(asked: Object, namespace: str) -> None:
    said = asked.setdefault("metadata", {}).setdefault("namespace", namespace)
    if said != namespace:
        raise bad_request("the namespace of the provided object does not match the namespace sent on the request")
