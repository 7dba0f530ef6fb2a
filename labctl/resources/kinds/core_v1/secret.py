"""Secret: data like a ConfigMap's, but tables don't show it, and a node's agent can read only those that its own pods use."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator, Mapping

from labctl.resources import fields
from labctl.resources.cells import AGE, NAME
from labctl.resources.kind import Column, FieldError, Kind, Object, TypeDefaults, Viewed
from labctl.resources.kinds.core_v1 import data_rules

ACCOUNT_TOKEN = "kubernetes.io/service-account-token"
ACCOUNT_NAME = "kubernetes.io/service-account.name"
ACCOUNT_UID = "kubernetes.io/service-account.uid"
_NEEDED: Mapping[str, tuple[str, ...]] = {
    "kubernetes.io/tls": ("tls.crt", "tls.key"),
    "kubernetes.io/dockerconfigjson": (".dockerconfigjson",),
    "kubernetes.io/dockercfg": (".dockercfg",),
    "kubernetes.io/ssh-auth": ("ssh-privatekey",),
}


class Secret(Viewed, frozen=True, rename="camel", gc=False):
    type: str = "Opaque"
    data: dict[str, str] = {}  # base64
    immutable: bool = False


def defaults(secret: Object) -> None:
    """Moves stringData, in which people write plain text, to data."""
    plain = secret.pop("stringData", None)
    if plain:
        data = secret.setdefault("data", {})
        data.update((key, b64encode(text.encode()).decode()) for key, text in plain.items())


def validate(new: Object, old: Object | None) -> Iterator[FieldError]:
    data = new.get("data", {})
    yield from data_rules.keys("data", data)
    yield from data_rules.too_long("data", sum(data_rules.decoded_size(text) for text in data.values()))
    for key in _NEEDED.get(new["type"], ()):
        if key not in data:
            yield fields.required(f"data[{key}]")
    if new["type"] == ACCOUNT_TOKEN and not (new["metadata"].get("annotations") or {}).get(ACCOUNT_NAME):
        yield fields.required(f"metadata.annotations[{ACCOUNT_NAME}]")
    if old is not None and new["type"] != old["type"]:
        yield fields.invalid("type", new["type"], "field is immutable")
    yield from data_rules.immutable(new, old, "data")


def selectable(secret: Secret) -> Mapping[str, str]:
    return {"type": secret.type}


COLUMNS: tuple[Column, ...] = (
    NAME,
    Column("Type", lambda secret, _now: secret.type, description="What programs may expect in it."),
    Column("Data", lambda secret, _now: len(secret.data), description="How many keys it has."),
    AGE,
)

KIND = Kind(
    group="",
    version="v1",
    kind="Secret",
    plural="secrets",
    singular="secret",
    namespaced=True,
    view=Secret,
    columns=COLUMNS,
    defaults=defaults,
    validate=validate,
    fields=selectable,
    type_defaults={"io.k8s.api.core.v1.Secret": TypeDefaults(zero={"type": "Opaque"})},
)
