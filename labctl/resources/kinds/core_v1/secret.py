"""Secret: a ConfigMap that tables don't show and that a node's agent reads only for its own pods."""

from __future__ import annotations

from collections.abc import Mapping

from labctl.resources.cells import AGE, NAME
from labctl.resources.kind import Column, Kind, Viewed


class Secret(Viewed, frozen=True, rename="camel", gc=False):
    type: str = "Opaque"
    data: dict[str, str] = {}  # base64
    immutable: bool = False


def fields(secret: Secret) -> Mapping[str, str]:
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
    fields=fields,
)
