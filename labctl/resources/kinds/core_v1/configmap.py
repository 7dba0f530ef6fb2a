"""ConfigMap: settings that pods read as environment or files."""

from __future__ import annotations

from labctl.resources.cells import AGE, NAME
from labctl.resources.kind import Column, Kind, Viewed


class ConfigMap(Viewed, frozen=True, rename="camel", gc=False):
    data: dict[str, str] = {}
    binary_data: dict[str, str] = {}  # base64
    immutable: bool = False


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
    columns=COLUMNS,
)
