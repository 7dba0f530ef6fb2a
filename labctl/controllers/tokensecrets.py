"""Secrets of type kubernetes.io/service-account-token: each is given a token of the ServiceAccount that its annotation names, for programs outside of the lab.

The token is bound to the Secret: whoever deletes the Secret ends it. It has no other end, as in Kubernetes; `kubectl create token` makes one that expires.
A Secret whose ServiceAccount does not exist, or is another one of that name by now, is deleted. Keys: Secrets.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Mapping
from random import Random
from typing import Any

from labctl.controllers.indexes import SECRETS, SERVICE_ACCOUNTS
from labctl.controllers.settings import ControllerSettings
from labctl.reconcile.plan import NOTHING, Delete, Index, Key, Patch, Plan, Seen, View
from labctl.resources.kinds.core_v1.secret import ACCOUNT_NAME, ACCOUNT_TOKEN, ACCOUNT_UID, Secret
from labctl.resources.service import ISSUER, SERVICE_ACCOUNT_PREFIX

NEVER_S = 253_402_300_799  # the last second of the year 9999
_BY_ACCOUNT = "account"

Sign = Callable[[Mapping[str, Any]], str]


class TokenSecrets:
    name = "tokens-controller"
    kind = SECRETS

    def __init__(self, sign: Sign, settings: ControllerSettings) -> None:
        self._sign = sign
        self._certificate = settings.root_certificate
        self.watches = {SECRETS: _itself, SERVICE_ACCOUNTS: _of_account}
        self.indexes: Mapping[tuple[str, str], Index] = {(SECRETS, _BY_ACCOUNT): _account}

    def plan(self, view: View, key: Key, now: float, rng: Random) -> Plan:
        secret: Secret | None = view.get(SECRETS, key)
        if secret is None or secret.type != ACCOUNT_TOKEN or secret.metadata.deletion_timestamp:
            return NOTHING
        namespace, annotations = secret.metadata.namespace, secret.metadata.annotations
        account = view.get(SERVICE_ACCOUNTS, f"{namespace}/{annotations.get(ACCOUNT_NAME, '')}")
        if account is None or annotations.get(ACCOUNT_UID, account.metadata.uid) != account.metadata.uid:
            return Plan([Delete(SECRETS, key, secret.metadata.uid, why="the ServiceAccount that it is of does not exist")])
        wanted = {"ca.crt": self._certificate, "namespace": namespace}
        if not secret.data.get("token"):
            wanted["token"] = self._sign(_claims(secret, account, view.wall()))
        data = {name: base64.b64encode(text.encode()).decode() for name, text in wanted.items()}
        if all(secret.data.get(name) == text for name, text in data.items()) and ACCOUNT_UID in annotations:
            return NOTHING
        patch = {"metadata": {"annotations": {ACCOUNT_UID: account.metadata.uid}}, "data": data}
        return Plan([Patch(SECRETS, key, patch, revision=secret.metadata.revision, why=f"it has a token of {account.metadata.name}")])


def _claims(secret: Secret, account: Any, wall_s: float) -> Mapping[str, Any]:
    namespace = account.metadata.namespace
    objects = {"serviceaccount": account, "secret": secret}
    named = {kind: {"name": view.metadata.name, "uid": view.metadata.uid} for kind, view in objects.items()}
    subject = f"{SERVICE_ACCOUNT_PREFIX}{namespace}:{account.metadata.name}"
    made = {"iat": int(wall_s), "nbf": int(wall_s), "exp": NEVER_S, "jti": secret.metadata.uid}
    return {"iss": ISSUER, "aud": [ISSUER], "sub": subject, **made, "kubernetes.io": {"namespace": namespace, **named}}


def _account(secret: Secret) -> Iterable[str]:
    if secret.type != ACCOUNT_TOKEN:
        return ()
    return (f"{secret.metadata.namespace}/{secret.metadata.annotations.get(ACCOUNT_NAME, '')}",)


def _itself(_view: View, seen: Seen) -> Iterable[Key]:
    return (seen.key,) if seen.new is not None and seen.new.type == ACCOUNT_TOKEN else ()


def _of_account(view: View, seen: Seen) -> Iterable[Key]:
    return [secret.metadata.key for secret in view.by(SECRETS, _BY_ACCOUNT, seen.key)]
