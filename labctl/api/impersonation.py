"""Who a request counts for if its headers name somebody else (`kubectl --as`): the server asks here once it knows what is requested.

Two ways lead there, tried in this order (KEP-5284, on by default since Kubernetes 1.36):

1. Constrained: the caller may `impersonate:MODE` the identity, and `impersonate-on:MODE:VERB` what the request asks for. The mode depends on who is named:
   `associated-node` (the node that the caller's token is bound to), `arbitrary-node`, `serviceaccount`, `user-info`. Identities are in the group
   authentication.k8s.io. Of nodes and ServiceAccounts only the name may be given; nobody becomes a member of system:masters so.
2. The older way: the caller may `impersonate` the name, each group, the uid and each extra value, and then do all that the other may.

If neither does, the first refusal is told.
"""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import unquote

import msgspec
from multidict import CIMultiDictProxy

from labctl.api import status
from labctl.api.authorize import Authorizer
from labctl.api.query import Query
from labctl.api.route import Target
from labctl.errors import ApiError
from labctl.resources import names
from labctl.resources.service import AUTHENTICATED, MASTERS, NODE_PREFIX, NODES, SERVICE_ACCOUNT_PREFIX, User, account_groups

GROUP = "authentication.k8s.io"
NODE_OF_TOKEN = "authentication.kubernetes.io/node-name"
_MANY = 4  # so many groups or extra values may be allowed by one rule about `*`, as in Kubernetes


class Asked(msgspec.Struct, frozen=True):
    """What a request asks for: a verb on a target, or a method on a path."""

    verb: str
    target: Target | None
    method: str
    path: str
    query: Query


class Impersonation:
    """Decides about the headers of each request that has them."""

    def __init__(self, authorizer: Authorizer) -> None:
        self._authorizer = authorizer

    def user(self, caller: User, headers: CIMultiDictProxy[str], asked: Asked) -> tuple[User, str]:
        """Returns the user that the headers name, and the constrained verb that allowed it (empty for the older way). Raises 400 and 403."""
        name = headers.get("Impersonate-User", "")
        if not name:
            raise status.bad_request("a group is impersonated, but no user")
        wanted = User(name, tuple(headers.getall("Impersonate-Group", ())), headers.get("Impersonate-Uid", ""), _extra(headers))
        refusal = None
        for mode in _modes(caller, wanted):
            try:
                self._may_do(caller, mode, asked)
                self._may_be(caller, mode, wanted)
            except ApiError as refused:
                refusal = refusal or refused
                continue
            return _complete(wanted, constrained=True), f"impersonate:{mode}"
        try:
            for target in _identities(wanted, "", "serviceaccounts" if _account(name) else "users"):
                self._authorizer.objects(caller, "impersonate", target, _NO_QUERY)
        except ApiError as refused:
            raise refusal or refused from None
        return _complete(wanted, constrained=False), ""

    def _may_do(self, caller: User, mode: str, asked: Asked) -> None:
        prefix = f"impersonate-on:{mode}:"
        if asked.target is None:
            self._authorizer.path(caller, prefix + ("GET" if asked.method == "HEAD" else asked.method), asked.path, asked.query)
        else:
            self._authorizer.objects(caller, prefix + asked.verb, asked.target, asked.query)

    def _may_be(self, caller: User, mode: str, wanted: User) -> None:
        verb = f"impersonate:{mode}"
        resource = {"serviceaccount": "serviceaccounts", "user-info": "users"}.get(mode, "nodes")
        everything = _all_of_them(wanted, verb, self._authorizer, caller)
        for target in _identities(wanted, GROUP, resource):
            if target.resource == "groups" and target.name in ("", MASTERS):
                raise status.forbidden(f"impersonating the {target.name or 'empty string'} group is not allowed")
            if target.resource == "userextras" and not (target.name and _is_key(target.subresource)):
                raise status.forbidden(f"impersonating the key {target.subresource!r} in extra is not allowed")
            if target.resource in everything:
                continue
            any_node = mode == "associated-node" and target.resource == "nodes"
            self._authorizer.objects(caller, verb, msgspec.structs.replace(target, name="*") if any_node else target, _NO_QUERY)


_NO_QUERY = Query({})


def _modes(caller: User, wanted: User) -> Iterator[str]:
    """Yield the constrained modes that may apply, in Kubernetes' order."""
    only_named = not (wanted.groups or wanted.uid or wanted.extra)
    node = _node(wanted.name)
    if node:
        if only_named and caller.name.startswith(SERVICE_ACCOUNT_PREFIX) and dict(caller.extra).get(NODE_OF_TOKEN) == (node,):
            yield "associated-node"
        if only_named:
            yield "arbitrary-node"
    elif _account(wanted.name):
        if only_named:
            yield "serviceaccount"
    else:
        yield "user-info"


def _identities(wanted: User, group: str, resource: str) -> Iterator[Target]:
    """Yield what has to be allowed for this user, one by one; `group` is the API group of users, groups and the like."""
    if account := _account(wanted.name):
        yield Target(group, "v1", resource, *account)
    else:
        yield Target(group, "v1", resource, name=_node(wanted.name) if resource == "nodes" else wanted.name)
    if wanted.uid:
        yield Target(GROUP, "v1", "uids", name=wanted.uid)
    for each in wanted.groups:
        yield Target(group, "v1", "groups", name=each)
    for key, values in wanted.extra:
        for value in values:
            yield Target(GROUP, "v1", "userextras", "", value, key)


def _all_of_them(wanted: User, verb: str, authorizer: Authorizer, caller: User) -> frozenset[str]:
    """Return which of groups and userextras the caller may impersonate without exception; asked only if many are named."""
    asked = []
    if len(wanted.groups) >= _MANY:
        asked.append(Target(GROUP, "v1", "groups", name="*"))
    if sum(len(values) for _, values in wanted.extra) >= _MANY:
        asked.append(Target(GROUP, "v1", "userextras", "", "*", "*"))
    return frozenset(target.resource for target in asked if authorizer.why_objects(caller, verb, target, _NO_QUERY))


def _complete(wanted: User, *, constrained: bool) -> User:
    """Return the user with the groups that an authenticator adds: a ServiceAccount's own if none is named, a node's, and that of all known users."""
    groups = wanted.groups
    if not groups and (account := _account(wanted.name)):
        groups = account_groups(account[0])
    if constrained and _node(wanted.name):
        groups = (NODES,)
    nobody = "system:unauthenticated"
    last = nobody if wanted.name == "system:anonymous" else AUTHENTICATED
    if last not in groups and nobody not in groups:
        groups = (*groups, last)
    return msgspec.structs.replace(wanted, groups=groups)


def _account(name: str) -> tuple[str, str] | None:
    """Return the namespace and the name of the ServiceAccount that this is the user of, or None."""
    namespace, colon, account = name.removeprefix(SERVICE_ACCOUNT_PREFIX).partition(":")
    return (namespace, account) if name.startswith(SERVICE_ACCOUNT_PREFIX) and colon else None


def _node(name: str) -> str:
    """Return the name of the node that this is the user of, or ""."""
    node = name.removeprefix(NODE_PREFIX)
    return node if name.startswith(NODE_PREFIX) and not names.subdomain(node) else ""


def _is_key(key: str) -> bool:
    """Tell whether an extra key is a domain and a path, in lower case, as a constrained impersonation asks."""
    domain, slash, path = key.partition("/")
    return bool(slash and path) and key == key.lower() and not names.subdomain(domain)


def _extra(headers: CIMultiDictProxy[str]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    prefix = "impersonate-extra-"
    keys = dict.fromkeys(header.lower() for header in headers if header.lower().startswith(prefix))
    return tuple((unquote(key.removeprefix(prefix)), tuple(headers.getall(key))) for key in keys)
