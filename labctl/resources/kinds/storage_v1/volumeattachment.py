"""VolumeAttachment: that a volume should be attached to a node. labctl keeps it for programs; nothing attaches the volume."""

from __future__ import annotations

from collections.abc import Iterator

from labctl.resources import fields, names
from labctl.resources.cells import AGE, NAME
from labctl.resources.generic import GenericObject
from labctl.resources.kind import KEEPS_METADATA, Column, FieldError, Kind, Object, Subresource
from labctl.resources.kinds.core_v1 import persistentvolume_rules
from labctl.resources.kinds.inert import at, fixed, stored_only
from labctl.resources.kinds.storage_v1.csidriver import NO_DRIVERS


def prepare(new: Object, old: Object | None) -> None:
    if old is None:
        new["status"] = {"attached": False}


def validate(new: Object, old: Object | None) -> Iterator[FieldError]:
    spec = new.get("spec") or {}
    source = spec.get("source") or {}
    yield from persistentvolume_rules.driver_name("spec.attacher", spec.get("attacher", ""))
    volume, inline = source.get("persistentVolumeName"), source.get("inlineVolumeSpec")
    if volume is None and inline is None:
        yield fields.required("spec.source", "must specify exactly one of inlineVolumeSpec and persistentVolumeName")
    elif volume is not None and inline is not None:
        yield fields.forbidden("spec.source", "must specify exactly one of inlineVolumeSpec and persistentVolumeName")
    elif volume == "":
        yield fields.required("spec.source.persistentVolumeName", "must specify non empty persistentVolumeName")
    elif volume is not None:
        yield from names.checked("spec.source.persistentVolumeName", volume, names.subdomain)
    else:
        yield from persistentvolume_rules.inline("spec.source.inlineVolumeSpec", inline or {})
    yield from names.checked("spec.nodeName", spec.get("nodeName", ""), names.subdomain)
    if old is not None:
        yield from fixed(new, old, "spec")


KIND = Kind(
    group="storage.k8s.io",
    version="v1",
    kind="VolumeAttachment",
    plural="volumeattachments",
    singular="volumeattachment",
    namespaced=False,
    view=GenericObject,
    columns=(
        NAME,
        Column("Attacher", at("spec.attacher"), format="name", description="The driver that is to attach it."),
        Column("PV", at("spec.source.persistentVolumeName"), description="The volume."),
        Column("Node", at("spec.nodeName"), description="The node."),
        Column("Attached", at("status.attached", "false"), type="boolean", description="Whether it is attached."),
        AGE,
    ),
    subresources=(Subresource("status", ("get", "patch", "update"), keeps=KEEPS_METADATA),),
    has_status=True,
    prepare=prepare,
    validate=validate,
    warnings=stored_only(NO_DRIVERS),
)
