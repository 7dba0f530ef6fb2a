"""What a custom kind's schema may say at all, apart from being structural (structural.py): the parts of OpenAPI that Kubernetes knows, and its extensions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from labctl.resources import fields
from labctl.resources.custom import formats
from labctl.resources.kind import FieldError

TYPES = ("array", "boolean", "integer", "number", "object", "string")
_UNSUPPORTED = ("id", "additionalItems", "patternProperties", "definitions", "dependencies", "$ref")
_AT_ROOT = {
    "description": "Description", "type": "Type", "format": "Format", "title": "Title", "maximum": "Maximum", "exclusiveMaximum": "ExclusiveMaximum",
    "minimum": "Minimum", "exclusiveMinimum": "ExclusiveMinimum", "maxLength": "MaxLength", "minLength": "MinLength", "pattern": "Pattern",
    "maxItems": "MaxItems", "minItems": "MinItems", "uniqueItems": "UniqueItems", "multipleOf": "MultipleOf", "required": "Required", "items": "Items",
    "properties": "Properties", "externalDocs": "ExternalDocs", "example": "Example", "x-kubernetes-preserve-unknown-fields": "XPreserveUnknownFields",
    "x-kubernetes-validations": "XValidations",
}  # fmt: skip
_POINTERS = ("additionalProperties", "not", "default")
"""What is said by being there, even if it is empty."""

_NUMBER_FORMATS = {"integer": ("int32", "int64"), "number": ("float", "double")}
_HEAD = ("metadata", "kind", "apiVersion")

Said = Mapping[str, Any]


class Place(msgspec.Struct, frozen=True):
    """Where a schema stands: at the root, in the metadata of an object, and why it may have no default; empty if it may."""

    root: bool = False
    in_head: bool = False
    no_default: str = ""


def said(schema: Said) -> list[str]:
    """Return the names of what a schema says, rather than leaving it empty."""
    return [name for name, value in schema.items() if value is not None and (name in _POINTERS or value not in (False, "", [], {}))]


def root(path: str, schema: Said, *, has_status: bool) -> Iterator[FieldError]:
    """Check the root. A kind with a status subresource judges its status by the status' own schema, so nothing at the root may speak of it."""
    if has_status and schema.get("type", "object") != "object":
        yield fields.invalid(
            f"{path}.type",
            schema["type"],
            'only "object" is allowed as the type at the root of the schema if the status subresource is enabled',
        )
    elif has_status and any(name not in _AT_ROOT for name in said(schema)):
        why = f"only [{' '.join(_AT_ROOT.values())}] fields are allowed at the root of the schema if the status subresource is enabled"
        yield fields.invalid(path, schema, why)
    if schema.get("nullable"):
        yield fields.forbidden(f"{path}.nullable", "nullable cannot be true at the root")


def is_readable(schema: Any) -> bool:
    """Tell whether nothing in a schema keeps a server from asking whether it is structural."""
    if isinstance(schema, list):
        return all(map(is_readable, schema))
    if not isinstance(schema, dict):
        return True
    if any(schema.get(name) for name in (*_UNSUPPORTED, "$schema")) or schema.get("x-kubernetes-preserve-unknown-fields") is False:
        return False
    below = [
        *(schema.get("properties") or {}).values(),
        *(schema.get(name) for name in ("additionalProperties", "items", "not", "allOf", "anyOf", "oneOf")),
    ]
    return not isinstance(schema.get("items"), list) and is_readable(below)


def problems(path: str, schema: Said, place: Place = Place(root=True)) -> Iterator[FieldError]:  # noqa: B008 - it is frozen
    """Check a schema and all that it holds."""
    yield from _known(path, schema, place)
    additional, items = schema.get("additionalProperties"), schema.get("items")
    if additional is not None and additional is not True and schema.get("properties"):
        yield fields.forbidden(f"{path}.additionalProperties", "additionalProperties and properties are mutual exclusive")
    if isinstance(additional, dict):
        why = "inside additionalProperties applying to object metadata" if place.in_head else place.no_default
        yield from problems(f"{path}.additionalProperties", additional, Place(in_head=place.in_head, no_default=why))
    for name, child in (schema.get("properties") or {}).items():
        head = name in _HEAD and (place.root or bool(schema.get("x-kubernetes-embedded-resource")))
        why = f"in top-level {name}" if head and place.root else place.no_default
        yield from problems(f"{path}.properties[{name}]", child, Place(in_head=head or place.in_head, no_default=why))
    inside = Place(in_head=place.in_head, no_default=place.no_default)
    for name in ("allOf", "oneOf", "anyOf"):
        for number, piece in enumerate(schema.get(name) or ()):
            yield from problems(f"{path}.{name}[{number}]", piece, inside)
    if isinstance(schema.get("not"), dict):
        yield from problems(f"{path}.not", schema["not"], inside)
    if isinstance(items, dict):
        yield from problems(f"{path}.items", items, inside)
    yield from _extensions(path, schema)


def unknown_formats(schema: Any) -> Iterator[str]:
    """Yield the formats at every depth that are not checked: they say nothing for the type that they stand with."""
    if isinstance(schema, list):
        for each in schema:
            yield from unknown_formats(each)
    if not isinstance(schema, dict):
        return
    format_, type_ = schema.get("format"), schema.get("type", "")
    if format_ and not (formats.is_known(format_) if type_ in ("", "string") else format_ in _NUMBER_FORMATS.get(type_, ())):
        yield format_
    for name in ("items", "allOf", "anyOf", "oneOf", "not", "additionalProperties"):
        yield from unknown_formats(schema.get(name))
    for child in (schema.get("properties") or {}).values():
        yield from unknown_formats(child)


def _known(path: str, schema: Said, place: Place) -> Iterator[FieldError]:
    type_ = schema.get("type", "")
    if type_ and type_ not in TYPES:
        yield fields.not_supported(f"{path}.type", type_, TYPES)
    if schema.get("default") is not None and place.no_default:
        yield fields.forbidden(f"{path}.default", f"must not be set {place.no_default}")
    for name in _UNSUPPORTED:
        if schema.get(name):
            yield fields.forbidden(f"{path}.{name}", f"{name} is not supported")
    if type_ == "null":
        yield fields.forbidden(f"{path}.type", "type cannot be set to null, use nullable as an alternative")
    if isinstance(schema.get("items"), list):
        yield fields.forbidden(f"{path}.items", "items must be a schema object and not an array")
    if place.in_head and schema.get("x-kubernetes-embedded-resource"):
        yield fields.forbidden(f"{path}.x-kubernetes-embedded-resource", "must not be used inside of resource meta")
    if schema.get("uniqueItems"):
        yield fields.forbidden(f"{path}.uniqueItems", "uniqueItems cannot be set to true since the runtime complexity becomes quadratic")


def _extensions(path: str, schema: Said) -> Iterator[FieldError]:
    if schema.get("x-kubernetes-preserve-unknown-fields") is False:
        yield fields.invalid(f"{path}.x-kubernetes-preserve-unknown-fields", False, "must be true or undefined")
    map_type, list_type = schema.get("x-kubernetes-map-type"), schema.get("x-kubernetes-list-type")
    if map_type is not None:
        yield from _is(path, schema, "object", "x-kubernetes-map-type")
        if map_type not in ("atomic", "granular"):
            yield fields.not_supported(f"{path}.x-kubernetes-map-type", map_type, ("atomic", "granular"))
    if list_type is not None:
        wrong = list(_is(path, schema, "array", "x-kubernetes-list-type"))
        yield from wrong or _set(path, schema)
        if list_type not in ("atomic", "map", "set"):
            why = f'Unsupported value: {fields.shown(list_type)}: supported values: "atomic", "set", "map"'
            yield FieldError(f"{path}.x-kubernetes-list-type", "FieldValueNotSupported", why)
    if schema.get("x-kubernetes-list-map-keys") and list_type != "map":
        why = "must be map if x-kubernetes-list-map-keys is non-empty"
        at = f"{path}.x-kubernetes-list-type"
        yield fields.required(at, why) if list_type is None else fields.invalid(at, list_type, why)
    if list_type == "map":
        yield from _map(path, schema)
    yield from _no_nulls(path, schema)


def _is(path: str, schema: Said, wanted: str, extension: str) -> Iterator[FieldError]:
    type_, why = schema.get("type", ""), f"must be {wanted} if {extension} is specified"
    if type_ != wanted:
        yield fields.invalid(f"{path}.type", type_, why) if type_ else fields.required(f"{path}.type", why)


def _set(path: str, schema: Said) -> Iterator[FieldError]:
    """Check that the items of a set are whole: nobody owns a part of one."""
    items = schema.get("items")
    if schema["x-kubernetes-list-type"] != "set" or not isinstance(items, dict):
        return
    why = "must be atomic as item of a list with x-kubernetes-list-type=set"
    if items.get("type") == "array" and items.get("x-kubernetes-list-type", "atomic") != "atomic":
        yield fields.invalid(f"{path}.items.x-kubernetes-list-type", items["x-kubernetes-list-type"], why)
    if items.get("type") == "object" and items.get("x-kubernetes-map-type") != "atomic":
        yield FieldError(f"{path}.items.x-kubernetes-map-type", "FieldValueInvalid", f'Invalid value: "null": {why}')


def _map(path: str, schema: Said) -> Iterator[FieldError]:
    keys, items = schema.get("x-kubernetes-list-map-keys") or [], schema.get("items")
    at = f"{path}.x-kubernetes-list-map-keys"
    if not keys:
        yield fields.required(at, "must not be empty if x-kubernetes-list-type is map")
    if items is None:
        yield fields.required(f"{path}.items", "must have a schema if x-kubernetes-list-type is map")
    if not isinstance(items, dict):
        return
    if items.get("type") != "object":
        yield fields.invalid(f"{path}.items.type", items.get("type", ""), "must be object if parent array's x-kubernetes-list-type is map")
        return
    for number, key in enumerate(keys):
        said = (items.get("properties") or {}).get(key)
        if said is None:
            yield fields.invalid(at, keys, "entries must all be names of item properties")
        elif said.get("type") in ("array", "object"):
            why = "must be a scalar type if parent array's x-kubernetes-list-type is map"
            yield fields.invalid(f"{path}.items.properties[{key}].type", "object", why)
        if key in keys[:number]:
            yield fields.invalid(at, keys, "must not contain duplicate entries")


def _no_nulls(path: str, schema: Said) -> Iterator[FieldError]:
    """Check that items which are told apart by what they hold are never null, and that their keys are always there."""
    items, list_type = schema.get("items"), schema.get("x-kubernetes-list-type")
    if not isinstance(items, dict) or list_type not in ("map", "set"):
        return
    if items.get("nullable"):
        yield fields.forbidden(f"{path}.items.nullable", f"cannot be nullable when x-kubernetes-list-type is {list_type}")
    for key in (schema.get("x-kubernetes-list-map-keys") or ()) if list_type == "map" else ():
        said = (items.get("properties") or {}).get(key)
        if said is None:
            continue
        why = "this property is in x-kubernetes-list-map-keys, so it"
        if said.get("default") is None and key not in (items.get("required") or ()):
            yield fields.required(f"{path}.items.properties[{key}].default", f"{why} must have a default or be a required property")
        if said.get("nullable"):
            yield fields.forbidden(f"{path}.items.properties[{key}].nullable", f"{why} cannot be nullable")
