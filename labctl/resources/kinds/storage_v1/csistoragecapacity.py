"""CSIStorageCapacity: how much a storage driver has left somewhere. labctl keeps it for programs; its minions run no drivers."""

from __future__ import annotations

from collections.abc import Iterator

from labctl.resources import fields, names, quantities
from labctl.resources.cells import AGE, NAME
from labctl.resources.generic import GenericObject
from labctl.resources.kind import Column, FieldError, Kind, Object
from labctl.resources.kinds.inert import at, fixed, stored_only
from labctl.resources.kinds.selector_rules import label_selector
from labctl.resources.kinds.storage_v1.csidriver import NO_DRIVERS


def validate(new: Object, old: Object | None) -> Iterator[FieldError]:
    if new.get("nodeTopology") is not None:
        yield from label_selector("nodeTopology", new["nodeTopology"], may_be_empty=True)
    yield from names.checked("storageClassName", new.get("storageClassName", ""), names.subdomain)
    for name in ("capacity", "maximumVolumeSize"):
        if new.get(name) is not None and quantities.parse(new[name]) < 0:
            yield fields.invalid(name, new[name], "must be greater than or equal to 0")
    yield from fixed(new, old, "nodeTopology", "storageClassName")


KIND = Kind(
    group="storage.k8s.io",
    version="v1",
    kind="CSIStorageCapacity",
    plural="csistoragecapacities",
    singular="csistoragecapacity",
    namespaced=True,
    view=GenericObject,
    columns=(
        NAME,
        Column("StorageClassName", at("storageClassName"), description="The class whose volumes it has room for."),
        Column("Capacity", at("capacity", "<unset>"), description="How much room there is."),
        AGE,
    ),
    validate=validate,
    warnings=stored_only(NO_DRIVERS),
)
