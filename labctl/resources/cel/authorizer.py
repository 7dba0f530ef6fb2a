"""`authorizer` in CEL: what the user who writes, or a ServiceAccount, may do. `authorizer.group('apps').resource('deployments').check('create').allowed()`

An Authorizer is handed to an expression as the variable `authorizer`. The library knows plain values only, so it is a map that says who is asked about, and
each step of the chain makes a map that says more; `check` asks the function that `deciding` set for this evaluation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

from labctl.resources import names

AUTHORIZER, PATH, GROUP, RESOURCE, DECISION = (
    f"kubernetes.authorization.{name}" for name in ("Authorizer", "PathCheck", "GroupCheck", "ResourceCheck", "Decision")
)
_TYPE = "type"
_SERVICE_ACCOUNTS = "system:serviceaccounts"


class Question(NamedTuple):
    """May this user do `verb`? On a path, or on a resource."""

    user: str
    groups: tuple[str, ...]
    verb: str
    path: str = ""
    group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    field_selector: str = ""


Decide = Callable[[Question], str]
"""Returns why it is allowed, or an empty text."""

_deciding: ContextVar[Decide] = ContextVar("deciding")
Value = Mapping[str, Any]


class Authorizer(dict[str, Any]):
    """The variable. `resource` is what the request is about: the variable's field `requestResource`."""

    def __init__(self, decide: Decide, user: str, groups: tuple[str, ...], resource: Mapping[str, str]) -> None:
        who = {"user": user, "groups": list(groups)}
        super().__init__({_TYPE: AUTHORIZER, **who, "requestResource": {_TYPE: RESOURCE, **who, **resource}})
        self.decide = decide


@contextmanager
def deciding(variables: Mapping[str, Any]) -> Iterator[None]:
    """Answers the questions of an expression with these variables while it is evaluated."""
    authorizer = variables.get("authorizer")
    if not isinstance(authorizer, Authorizer):
        yield
        return
    token = _deciding.set(authorizer.decide)
    try:
        yield
    finally:
        _deciding.reset(token)


def _more(value: Value, of: str, becomes: str = "", **said: Any) -> dict[str, Any]:
    """Returns the next step of the chain."""
    if value.get(_TYPE) != of:
        raise ValueError("no such overload")
    kept = {key: each for key, each in value.items() if key != "requestResource"}
    return {**kept, _TYPE: becomes or of, **said}


def _filled(text: str, what: str) -> str:
    if not text.strip():
        raise ValueError(f"{what} must not be empty")
    return text


def _service_account(value: Value, namespace: str, name: str) -> dict[str, Any]:
    for what, wrong in (("name", names.subdomain(name)), ("namespace", names.label(namespace))):
        if wrong:
            raise ValueError(f"Invalid service account {what}: {', '.join(wrong)}")
    groups = [_SERVICE_ACCOUNTS, f"{_SERVICE_ACCOUNTS}:{namespace}", "system:authenticated"]
    return _more(value, AUTHORIZER, user=f"system:serviceaccount:{namespace}:{name}", groups=groups)


def _check(value: Value, verb: str) -> dict[str, Any]:
    if value.get(_TYPE) not in (PATH, RESOURCE):
        raise ValueError("no such overload")
    said = {key: each for key, each in value.items() if key in Question._fields and key not in ("user", "groups", "verb")}
    why = _deciding.get()(Question(value["user"], tuple(value["groups"]), verb, **said))
    return {_TYPE: DECISION, "allowed": bool(why), "reason": why, "errored": False, "error": ""}  # to look at RBAC's rules does not fail


def _decided(value: Value, field: str) -> Any:
    if value.get(_TYPE) != DECISION:
        raise ValueError("no such overload")
    return value[field]


Row = tuple[str, tuple[str, ...], str, Callable[..., Any], bool]


def table() -> Iterator[Row]:
    """Yields a row for each function: name, types of the parameters, type of the result, function, whether it is a method."""
    one, two = ("opaque", "string"), ("opaque", "string", "string")
    yield "path", one, "opaque", lambda value, path: _more(value, AUTHORIZER, PATH, path=_filled(path, "path")), True
    yield "group", one, "opaque", lambda value, group: _more(value, AUTHORIZER, GROUP, group=group), True
    yield "serviceAccount", two, "opaque", _service_account, True
    yield "resource", one, "opaque", lambda value, name: _more(value, GROUP, RESOURCE, resource=_filled(name, "resource")), True
    for field in ("subresource", "namespace", "name"):
        yield field, one, "opaque", lambda value, text, field=field: _more(value, RESOURCE, **{field: text}), True
    yield "fieldSelector", one, "opaque", lambda value, text: _more(value, RESOURCE, field_selector=text), True
    yield (
        "labelSelector",
        one,
        "opaque",
        lambda value, _text: _more(value, RESOURCE),
        True,
    )  # no authorizer of Kubernetes or labctl looks at it
    yield "check", one, "opaque", _check, True
    for field, type_ in (("allowed", "bool"), ("reason", "string"), ("errored", "bool"), ("error", "string")):
        yield field, ("opaque",), type_, lambda value, field=field: _decided(value, field), True
