"""Secret: data like a ConfigMap's, but tables don't show it, and a node's agent can read only those that its own pods use."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
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
}
_JSON = ("kubernetes.io/dockerconfigjson", "kubernetes.io/dockercfg")


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
        elif new["type"] in _JSON:
            yield from _docker_config(f"data[{key}]", data[key])
    if new["type"] == "kubernetes.io/basic-auth" and not data.keys() & {"username", "password"}:
        yield fields.required("data[username]")
        yield fields.required("data[password]")
    if new["type"] == "kubernetes.io/ssh-auth" and not data.get("ssh-privatekey"):
        yield fields.required("data[ssh-privatekey]")
    if new["type"] == ACCOUNT_TOKEN and not (new["metadata"].get("annotations") or {}).get(ACCOUNT_NAME):
        yield fields.required(f"metadata.annotations[{ACCOUNT_NAME}]")
    if old is not None and new["type"] != old["type"]:
        yield fields.invalid("type", new["type"], "field is immutable")
    yield from data_rules.immutable(new, old, "data")


def _docker_config(path: str, base64: str) -> Iterator[FieldError]:
    """Check that a registry's password file is a JSON object, without showing any of it."""
    text = b64decode(base64).decode(errors="replace")
    try:
        why = "" if isinstance(json.loads(text), dict) else "json: cannot unmarshal the text into Go value of type map[string]interface {}"
    except json.JSONDecodeError as error:
        at_end = error.pos >= len(text.rstrip())
        why = "unexpected end of JSON input" if at_end else f"invalid character {text[error.pos]!r} looking for beginning of value"
    except RecursionError:
        why = "exceeded max depth"
    if why:
        yield fields.invalid(path, "<secret contents redacted>", why)


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
