"""ServiceAccounts' tokens: made for a TokenRequest, checked with each request that brings one, published as keys that others check them with.

Who calls it: the server (subresource `serviceaccounts/token`, bearer tokens), reviews.py (TokenReview), paths.py (OpenID discovery).
A token says whose it is and, if it was made for a pod, for which. It counts only while that ServiceAccount and that pod are the live ones in the
store: a token of a pod that is gone is worth nothing, also before it expires.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import msgspec
from aiohttp import web

from labctl.api import answer, bodies, status
from labctl.api.call import Call
from labctl.clock import Clock, parse_rfc3339, rfc3339
from labctl.errors import ApiError
from labctl.resources import failures, fields
from labctl.resources.admission import Attributes
from labctl.resources.kind import FieldError, Object
from labctl.resources.plurals import NODES, PODS, SERVICE_ACCOUNTS
from labctl.resources.resources import Resources
from labctl.resources.schema.validate import decode
from labctl.resources.service import AUTHENTICATED, ISSUER, SERVICE_ACCOUNT_PREFIX, User, account_groups
from labctl.resources.verbs.subresources import body_kind
from labctl.tokens import ALGORITHM, Claims, TokenKeys

LIFE_S = 3600
LIFE_LEAST_S, LIFE_MOST_S = 600, 1 << 32
LEAVING_S = 60  # a token counts so long after its ServiceAccount or pod was asked to go
PRIVATE = "kubernetes.io"  # the claim that names objects
_EXTRA = "authentication.kubernetes.io/"
_BOUND = {"Pod": (PODS, "v1"), "Node": (NODES, "v1"), "Secret": ("secrets", "v1")}

_encode = msgspec.json.Encoder().encode


class ServiceAccountTokens:
    """`keys` None: a server that neither makes nor accepts tokens."""

    def __init__(self, keys: TokenKeys | None, resources: Resources, clock: Clock) -> None:
        self._keys = keys
        self._resources = resources
        self._clock = clock

    # -- making one ----------------------------------------------------------------------------------------------------

    async def create(self, call: Call) -> web.StreamResponse:
        """Answers a TokenRequest for the ServiceAccount that the path names."""
        if call.method != "POST":
            raise status.method_not_allowed()
        target, options = call.target, call.write_options()
        account = self._resources.view(self._resources.get(call.kind, target.namespace, target.name))
        kind = body_kind(call.kind, call.target.subresource)
        asked, warnings = decode(self._resources.schema, kind, await bodies.read(call), options.field_validation)
        _refuse_other_uid(asked, account)
        asked.setdefault("spec", {}).setdefault("expirationSeconds", LIFE_S)
        attributes = Attributes(call.user, "create", call.kind, None, asked, options, "token", path=(target.namespace, target.name))
        await self._resources.admit(attributes, lambda: _complete(asked, account))
        spec = asked["spec"]
        token = self._status(account, spec, self._bound(account, spec.get("boundObjectRef")))
        answered = {**asked, "kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "status": token}
        answered["metadata"] = {**asked["metadata"], "creationTimestamp": rfc3339(self._clock.wall())}
        return await call.answer(_encode(answered), 201, form=call.format, extra=answer.warning_lines([*warnings, *attributes.warnings]))

    def _bound(self, account: Any, reference: Object | None) -> dict[str, Any]:
        """Return the claims that name the object to which a token is bound. The token is valid only while that object lives."""
        if not reference:
            return {}
        kind, name, uid = reference.get("kind", ""), reference.get("name", ""), reference.get("uid", "")
        resource, version = _BOUND.get(kind, ("", ""))
        if not resource or reference.get("apiVersion", "v1") != version:
            raise status.bad_request(f"cannot bind token to object of type {reference.get('apiVersion', '')}, Kind={kind}")
        namespace = "" if kind == "Node" else account.metadata.namespace
        view = self._resources.view(self._resources.get(self._resources.registry[resource], namespace, name))
        if kind == "Pod" and view.spec.service_account_name != account.metadata.name:
            words = "cannot bind token for serviceaccount"
            raise status.bad_request(f'{words} "{account.metadata.name}" to pod running with different serviceaccount name.')
        if uid and uid != view.metadata.uid:
            why = "The object might have been deleted and then recreated"
            words = f"the UID in the bound object reference ({uid}) does not match the UID in record. {why}"
            raise ApiError(
                409, "Conflict", f'Operation cannot be fulfilled on {kind} "{name}": {words}', details={"name": name, "kind": kind}
            )
        claims = {kind.lower(): _named(view)}
        if kind == "Pod" and (node := self._live(NODES, view.spec.node_name)):
            claims["node"] = _named(node)
        return claims

    def _status(self, account: Any, spec: Object, bound: dict[str, Any]) -> Object:
        now_s, life_s = int(self._clock.wall()), spec["expirationSeconds"]
        claims = {
            "aud": spec["audiences"],
            "exp": now_s + life_s,
            "iat": now_s,
            "nbf": now_s,
            "iss": ISSUER,
            "jti": str(uuid4()),
            "sub": f"{SERVICE_ACCOUNT_PREFIX}{account.metadata.namespace}:{account.metadata.name}",
            PRIVATE: {"namespace": account.metadata.namespace, "serviceaccount": _named(account), **bound},
        }
        return {"token": self._must_have_keys().sign(claims), "expirationTimestamp": rfc3339(now_s + life_s)}

    def _must_have_keys(self) -> TokenKeys:
        if self._keys is None:
            raise ApiError(503, "ServiceUnavailable", "this server has no key to sign tokens with")
        return self._keys

    # -- checking one --------------------------------------------------------------------------------------------------

    def user(self, token: str) -> User | None:
        """Whom a bearer token speaks for with this API; None if it is not valid now."""
        found = self.review(token, ())
        return found[0] if found else None

    def review(self, token: str, audiences: Sequence[str]) -> tuple[User, list[str]] | None:
        """Return the token's user and which of the audiences (none: this API) it was made for, or None if it is not valid now."""
        claims = self._keys.verify(token) if self._keys else None
        if claims is None or not self._in_time(claims):
            return None
        said = claims.get("aud", ())
        meant = [audience for audience in (said if isinstance(said, list) else [said]) if audience in (audiences or (ISSUER,))]
        private = claims.get(PRIVATE, {})
        return (_user(claims, private), meant) if meant and self._all_live(private) else None

    def _in_time(self, claims: Claims) -> bool:
        return bool(claims.get("iss") == ISSUER and claims.get("nbf", 0) <= self._clock.wall() < claims.get("exp", 0))

    def _all_live(self, private: Object) -> bool:
        """Tell whether the objects that a token names are still the ones that it was made for."""
        namespace = private.get("namespace", "")
        objects = [(f"{namespace}/", SERVICE_ACCOUNTS, private.get("serviceaccount", {}))]
        if "pod" in private:
            objects.append((f"{namespace}/", PODS, private["pod"]))
        elif "node" in private:
            objects.append(("", NODES, private["node"]))
        if "secret" in private:
            objects.append((f"{namespace}/", "secrets", private["secret"]))
        return all(self._is_live(self._live(resource, where + named.get("name", "")), named) for where, resource, named in objects)

    def _is_live(self, view: Any, named: Object) -> bool:
        if view is None or view.metadata.uid != named.get("uid"):
            return False
        leaving = view.metadata.deletion_timestamp
        return leaving is None or self._clock.wall() < parse_rfc3339(leaving) + LEAVING_S

    def _live(self, resource: str, key: str) -> Any:
        entry = self._resources.store.get(f"{resource}/{key}")
        return None if entry is None else self._resources.view(entry)

    # -- OpenID discovery ----------------------------------------------------------------------------------------------

    def configuration(self) -> Object:
        """Return /.well-known/openid-configuration, which says where the keys are."""
        return {
            "issuer": ISSUER,
            "jwks_uri": f"{ISSUER}/openid/v1/jwks",
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": [ALGORITHM],
        }

    def public_keys(self) -> Object:
        """Return /openid/v1/jwks."""
        return {"keys": self._must_have_keys().public()}


def _refuse_other_uid(asked: Object, account: Any) -> None:
    """Raises 409 if the request is for an account of this name that is there no more, as its uid says."""
    uid = asked.get("metadata", {}).get("uid")
    if uid and uid != account.metadata.uid:
        why = f"the UID in the token request ({uid}) does not match the UID of the service account ({account.metadata.uid})"
        details = {"name": account.metadata.name, "group": "authentication.k8s.io", "kind": "TokenRequest"}
        words = f'Operation cannot be fulfilled on TokenRequest.authentication.k8s.io "{account.metadata.name}": {why}'
        raise ApiError(409, "Conflict", words, details=details)


def _complete(asked: Object, account: Any) -> None:
    """Fills in, in place, what a TokenRequest left out, and checks it. Raises 422."""
    _refuse_other(asked, account)
    name = account.metadata.name
    asked["metadata"] = {"name": name, "namespace": account.metadata.namespace}
    spec = asked.setdefault("spec", {})
    spec["audiences"] = spec.get("audiences") or [ISSUER]
    spec.setdefault("expirationSeconds", LIFE_S)
    if errors := list(_wrong(spec)):
        raise failures.invalid_of("TokenRequest", "authentication.k8s.io", name, errors)


def _refuse_other(asked: Object, account: Any) -> None:
    said, metadata = asked.get("metadata", {}), account.metadata
    for field, whose in (("name", metadata.name), ("namespace", metadata.namespace)):
        if said.get(field) not in (None, "", whose):
            errors = [fields.invalid(f"metadata.{field}", said[field], f"must match the service account {field} if specified")]
            raise failures.invalid_of("TokenRequest", "authentication.k8s.io", metadata.name, errors)


def _wrong(spec: Object) -> list[FieldError]:
    life_s, path = spec["expirationSeconds"], "spec.expirationSeconds"
    if life_s < LIFE_LEAST_S:
        return [fields.invalid(path, life_s, "may not specify a duration less than 10 minutes")]
    if life_s > LIFE_MOST_S:
        return [fields.invalid(path, life_s, "may not specify a duration larger than 2^32 seconds")]
    return []


def _named(view: Any) -> dict[str, str]:
    return {"name": view.metadata.name, "uid": view.metadata.uid}


def _user(claims: Claims, private: Object) -> User:
    namespace, account = private["namespace"], private["serviceaccount"]
    extra = [(f"{_EXTRA}credential-id", (f"JTI={claims.get('jti', '')}",))]
    for kind in ("node", "pod"):
        if kind in private:
            extra += [(f"{_EXTRA}{kind}-{field}", (private[kind][field],)) for field in ("name", "uid")]
    groups = (*account_groups(namespace), AUTHENTICATED)
    return User(f"{SERVICE_ACCOUNT_PREFIX}{namespace}:{account['name']}", groups, account["uid"], tuple(extra))
