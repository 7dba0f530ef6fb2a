"""Reviews are questions that are sent as objects: who am I, may I do this, what may I do? The answer is the object with a status; nothing is stored.

kubectl asks them (`auth whoami`, `auth can-i`), and so do controllers that check their own rights before they start. To answer "may I", this module asks
the Authorizer as if the request had come.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from aiohttp import web

from labctl.api import answer, authorize, bodies
from labctl.api.authorize import Authorizer
from labctl.api.call import Call
from labctl.api.query import Query
from labctl.api.route import Target
from labctl.errors import ApiError
from labctl.resources import failures
from labctl.resources.kind import Object
from labctl.resources.schema.definitions import Schema
from labctl.resources.schema.validate import decode
from labctl.resources.service import User

_encode = msgspec.json.Encoder().encode
_ALL = ["*"]
_SELF_REVIEW_RULE = {"apiGroups": ["authentication.k8s.io", "authorization.k8s.io"], "resources": _ALL, "verbs": ["create"]}


class Reviews:
    """Answers reviews. `create` is the only verb of these kinds."""

    def __init__(self, schema: Schema, authorizer: Authorizer) -> None:
        self._schema = schema
        self._authorizer = authorizer
        self._answers: dict[str, Callable[[User, Object], Object]] = {
            "SelfSubjectReview": lambda user, _spec: {"userInfo": {"username": user.name, "groups": list(user.groups)}},
            "SelfSubjectAccessReview": self._access,
            "SelfSubjectRulesReview": lambda user, _spec: _rules(user),
        }

    async def create(self, call: Call) -> web.StreamResponse:
        kind = call.kind
        review, warnings = decode(self._schema, kind, await bodies.read(call), call.write_options().field_validation)
        errors = list(kind.validate(review, None))
        if errors:
            raise failures.invalid(kind, "", errors)
        answered = {"kind": kind.kind, "apiVersion": kind.api_version, "metadata": {}}
        if "spec" in review:
            answered["spec"] = review["spec"]
        answered["status"] = self._answers[kind.kind](call.user, review.get("spec", {}))
        return await call.answer(_encode(answered), 201, form=call.format, extra=answer.warning_lines(warnings))

    def _access(self, user: User, spec: Object) -> Object:
        try:
            if "nonResourceAttributes" in spec:
                wanted = spec["nonResourceAttributes"]
                self._authorizer.path(user, wanted.get("verb", "").upper(), wanted.get("path", ""), Query({}))
            else:
                self._objects(user, spec["resourceAttributes"])
        except ApiError:
            return {"allowed": False}
        return {"allowed": True}

    def _objects(self, user: User, wanted: Object) -> None:
        target = Target(*(wanted.get(name, "") for name in ("group", "version", "resource", "namespace", "name", "subresource")))
        selector = wanted.get("fieldSelector", {}).get("rawSelector", "")
        self._authorizer.objects(user, wanted.get("verb", ""), target, Query({"fieldSelector": [selector]} if selector else {}))


def _rules(user: User) -> Object:
    """Returns the rules of a user. An admin's are simple; a node's depend on the objects it asks about, so the list is marked incomplete."""
    if authorize.is_admin(user):
        everything = {"apiGroups": _ALL, "resources": _ALL, "verbs": _ALL}
        return {"resourceRules": [everything], "nonResourceRules": [{"nonResourceURLs": _ALL, "verbs": _ALL}], "incomplete": False}
    found = [{"nonResourceURLs": [path, f"{path}/*"], "verbs": ["get"]} for path in authorize.DISCOVERY]
    why = "what a node may do depends on the objects it asks about"
    return {"resourceRules": [_SELF_REVIEW_RULE], "nonResourceRules": found, "incomplete": True, "evaluationError": why}
