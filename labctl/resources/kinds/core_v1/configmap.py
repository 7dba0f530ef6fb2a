"""ConfigMap: settings that pods read as environment or files."""

from __future__ import annotations

from collections.abc import Iterator

from labctl.resources import fields
from labctl.resources.cells import AGE, NAME
from labctl.resources.kind import Column, FieldError, Kind, Object, Viewed
from labctl.resources.kinds.core_v1 import data_rules
from labctl.resources.kinds.core_v1.data_rules import decoded_size


class ConfigMap(Viewed, frozen=True, rename="camel", gc=False):
    data: dict[str, str] = {}
    binary_data: dict[str, str] = {}  # base64
    immutable: bool = False


def validate(new: Object, old: Object | None) -> Iterator[FieldError]:
    data, binary = new.get("data", {}), new.get("binaryData", {})
    yield from data_rules.keys("data", data)
    yield from data_rules.keys("binaryData", binary)
    for key in data:
        if key in binary:
            yield fields.invalid(f"data[{key}]", key, "duplicate of key present in binaryData")
    size = sum(len(text.encode()) for text in data.values()) + sum(decoded_size(text) for text in binary.values())
    yield from data_rules.too_long("[]", size)
    yield from data_rules.immutable(new, old, "data", "binaryData")


COLUMNS: tuple[Column, ...] = (
    NAME,
    Column("Data", lambda cm, _now: len(cm.data) + len(cm.binary_data), description="How many keys it has."),
    AGE,
)

KIND = Kind(
    group="",
    version="v1",
    kind="ConfigMap",
    plural="configmaps",
    singular="configmap",
    namespaced=True,
    view=ConfigMap,
    short_names=("cm",),
    validate=validate,
    columns=COLUMNS,
)
