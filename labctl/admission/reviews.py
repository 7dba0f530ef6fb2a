"""What a webhook or a policy is shown of a write: the `request` of an AdmissionReview (admission.k8s.io/v1)."""

from __future__ import annotations

import uuid
from typing import Any

import msgspec

from labctl.admission.matching import OPERATIONS
from labctl.errors import ApiError
from labctl.resources import encoding, failures
from labctl.resources.admission import Attributes
from labctl.resources.kind import Kind, Object
from labctl.resources.resources import Resources
from labctl.resources.service import DeleteOptions
from labctl.resources.verbs import subresources


class Shown(msgspec.Struct, frozen=True):
    """The objects of a write in one version of their kind."""

    kind: Kind
    new: Object | None
    old: Object | None


async def shown(attributes: Attributes, kind: Kind) -> Shown:
    """Return the write's objects in the version `kind`. They may be the write's own objects, so nobody may change them. Raises ApiError if they can't be had."""
    new, old = attributes.new, attributes.old
    if attributes.subresource == "scale":
        return Shown(kind, *(None if obj is None else subresources.scale_object(kind, obj) for obj in (new, old)))
    if kind is attributes.kind or kind.conversion is None:
        return Shown(kind, new, old)
    there = [encoding.decode(encoding.encode(obj)) for obj in (new, old) if obj is not None]
    try:
        converted = list(await kind.conversion.convert(kind, there)) if there else []
    except ApiError as error:
        raise failures.internal(str(error)) from None
    return Shown(kind, converted.pop(0) if new is not None else None, converted.pop(0) if old is not None else None)


async def take(resources: Resources, attributes: Attributes, kind: Kind, changed: Object) -> None:
    """Puts what a step made of the object, in the version `kind` of it, in the place of the write's new object. Raises ApiError if it is no such object."""
    if kind is not attributes.kind and attributes.kind.conversion is not None:
        changed = (await attributes.kind.conversion.convert(attributes.kind, [changed]))[0]
    resources.tidied(resources.body_kind(attributes.kind, attributes.subresource), changed)
    assert attributes.new is not None
    attributes.new.clear()
    attributes.new.update(changed)


def request(attributes: Attributes, seen: Shown) -> dict[str, Any]:
    """Everything but the user's secrets: as Kubernetes writes it, with the keys that may be empty left out."""
    kind, asked = seen.kind, attributes.kind
    said: dict[str, Any] = {
        "uid": str(uuid.uuid4()),
        "kind": _kind(kind, attributes.subresource),
        "resource": {"group": kind.group, "version": kind.version, "resource": kind.plural},
        "requestKind": _kind(asked, attributes.subresource),
        "requestResource": {"group": asked.group, "version": asked.version, "resource": asked.plural},
        "operation": OPERATIONS[attributes.verb],
        "userInfo": attributes.user.info,
        "object": seen.new,
        "oldObject": seen.old,
        "dryRun": attributes.options.dry_run,
        "options": _options(attributes),
    }
    optional = {
        "name": attributes.name,
        "namespace": attributes.name if asked.resource == "namespaces" else attributes.namespace,
        "subResource": attributes.subresource,
        "requestSubResource": attributes.subresource,
    }
    return said | {name: value for name, value in optional.items() if value}


def _kind(kind: Kind, subresource: str) -> dict[str, str]:
    if subresource:
        kind = subresources.body_kind(kind, subresource)
    return {"group": kind.group, "version": kind.version, "kind": kind.kind}


def _options(attributes: Attributes) -> dict[str, Any] | None:
    options = attributes.options
    if attributes.verb == "connect":
        return None
    said: dict[str, Any]
    if isinstance(options, DeleteOptions):
        only = {"uid": options.precondition_uid, "resourceVersion": options.precondition_resource_version}
        name, said = (
            "DeleteOptions",
            {
                "gracePeriodSeconds": options.grace_period_seconds,
                "preconditions": {key: value for key, value in only.items() if value} or None,
                "propagationPolicy": options.propagation_policy,
            },
        )
    else:
        name, said = (
            "CreateOptions" if attributes.verb in ("create", "post") else "UpdateOptions",
            {
                "fieldManager": options.field_manager or None,
                "fieldValidation": options.field_validation if options.field_validation != "Warn" else None,
            },
        )
    said["dryRun"] = ["All"] if options.dry_run else None
    return {"apiVersion": "meta.k8s.io/v1", "kind": name, **{key: value for key, value in said.items() if value is not None}}
