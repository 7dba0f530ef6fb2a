"""What is wrong with the schema of a custom kind: it must be structural, and what it says must make sense.

The rules are those of Kubernetes' apiextensions (structural schemas, KEP-1002); words and paths are a real server's. What can't be compiled is said here, so
that compiling (schema.py) never fails later.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any

from labctl.resources import fields
from labctl.resources.custom import embedded
from labctl.resources.custom.schema import Node, compiled, prune
from labctl.resources.custom.validate import validate
from labctl.resources.kind import FieldError

TYPES = ("array", "boolean", "integer", "number", "object", "string")
_UNSUPPORTED = ("$ref", "definitions", "dependencies", "patternProperties", "additionalItems", "id")
_NOT_IN_VALUE_VALIDATION = (
    "additionalProperties", "default", "nullable", "title", "type", "x-kubernetes-embedded-resource", "x-kubernetes-int-or-string",
    "x-kubernetes-list-map-keys", "x-kubernetes-list-type", "x-kubernetes-map-type", "x-kubernetes-preserve-unknown-fields", "x-kubernetes-validations", "description",
)  # fmt: skip
_JUNCTORS = ("allOf", "anyOf", "oneOf")

Said = Mapping[str, Any]


def problems(path: str, schema: Said) -> list[FieldError]:
    """Everything that is wrong with an openAPIV3Schema; only what is wrong with rules and defaults is left for when the rest is right."""
    found = [*_root(path, schema), *_value(path, schema, root=True)]
    return found or [*_rules(path, schema), *_defaults(path, schema)]


def _rules(path: str, schema: Said) -> list[FieldError]:
    if not has_rules(schema):
        return []
    from labctl.resources.custom.schemarules import rule_problems  # CEL is imported by those who write rules

    return rule_problems(path, schema)


def has_rules(schema: Any) -> bool:
    """Tell whether `x-kubernetes-validations` is anywhere in a schema."""
    if isinstance(schema, list):
        return any(has_rules(each) for each in schema)
    if not isinstance(schema, dict):
        return False
    return bool(schema.get("x-kubernetes-validations")) or any(has_rules(each) for each in schema.values())


def _root(path: str, schema: Said) -> Iterator[FieldError]:
    if not schema.get("type"):
        yield fields.required(f"{path}.type", "must not be empty at the root")
    elif schema["type"] != "object":
        yield fields.invalid(f"{path}.type", schema["type"], "must be object at the root")
    if schema.get("nullable"):
        yield fields.forbidden(f"{path}.nullable", "nullable cannot be true at the root")
    for name in ("apiVersion", "kind"):
        said = (schema.get("properties") or {}).get(name, {}).get("type", "string")
        if said != "string":
            yield fields.invalid(f"{path}.properties[{name}].type", said, "must be string")
    metadata = (schema.get("properties") or {}).get("metadata", {})
    if metadata.get("type", "object") != "object":
        yield fields.invalid(f"{path}.properties[metadata].type", metadata["type"], "must be object")
    if set(metadata.get("properties") or {}) - {"name", "generateName"}:
        why = "must not specify anything other than name and generateName, but metadata is implicitly specified"
        yield fields.forbidden(f"{path}.properties[metadata]", why)


def _value(path: str, schema: Said, *, root: bool = False, place: str = "specified object fields") -> Iterator[FieldError]:
    """Check a schema outside of junctors: it must have a type."""
    int_or_string, keeps = schema.get("x-kubernetes-int-or-string"), schema.get("x-kubernetes-preserve-unknown-fields")
    type_ = schema.get("type", "")
    if not type_ and not root and not int_or_string and not keeps:
        yield fields.required(f"{path}.type", f"must not be empty for {place}")
    if type_ and type_ not in TYPES:
        yield fields.not_supported(f"{path}.type", type_, TYPES)
    if keeps is False:
        yield fields.invalid(f"{path}.x-kubernetes-preserve-unknown-fields", False, "must be true or undefined")
    yield from _unsupported(path, schema)
    yield from _extensions(path, schema)
    yield from _scalars(path, schema)
    yield from _below(path, schema)
    yield from _junctors(path, schema, schema)


def _unsupported(path: str, schema: Said) -> Iterator[FieldError]:
    for name in _UNSUPPORTED:
        if schema.get(name):
            yield fields.forbidden(f"{path}.{name}", f"{name} is not supported")
    if schema.get("uniqueItems"):
        yield fields.forbidden(f"{path}.uniqueItems", "uniqueItems cannot be set to true since the runtime complexity becomes quadratic")
    if schema.get("additionalProperties") is False:
        yield fields.forbidden(f"{path}.additionalProperties", "additionalProperties cannot be set to false")
    if schema.get("properties") and schema.get("additionalProperties"):
        yield fields.forbidden(f"{path}.additionalProperties", "additionalProperties and properties are mutual exclusive")
    if isinstance(schema.get("items"), list):
        yield fields.forbidden(f"{path}.items", "items must be a schema object and not an array")


def _extensions(path: str, schema: Said) -> Iterator[FieldError]:
    type_, list_type, map_type = schema.get("type", ""), schema.get("x-kubernetes-list-type"), schema.get("x-kubernetes-map-type")
    if schema.get("x-kubernetes-embedded-resource"):
        if type_ != "object":
            yield fields.invalid(f"{path}.type", type_, "must be object if x-kubernetes-embedded-resource is true")
        if not schema.get("properties") and not schema.get("x-kubernetes-preserve-unknown-fields"):
            yield fields.required(
                f"{path}.properties",
                "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields",
            )
    if list_type is not None:
        if list_type not in ("atomic", "map", "set"):
            yield fields.not_supported(f"{path}.x-kubernetes-list-type", list_type, ("atomic", "map", "set"))
        if type_ != "array":
            yield fields.invalid(f"{path}.type", type_, "must be array if x-kubernetes-list-type is specified")
    if map_type is not None:
        if map_type not in ("atomic", "granular"):
            yield fields.not_supported(f"{path}.x-kubernetes-map-type", map_type, ("atomic", "granular"))
        if type_ != "object":
            yield fields.invalid(f"{path}.type", type_, "must be object if x-kubernetes-map-type is specified")
    yield from _map_keys(path, schema)


def _map_keys(path: str, schema: Said) -> Iterator[FieldError]:
    keys, is_map = schema.get("x-kubernetes-list-map-keys") or (), schema.get("x-kubernetes-list-type") == "map"
    if not is_map:
        if keys:
            yield fields.forbidden(f"{path}.x-kubernetes-list-map-keys", "must be empty if x-kubernetes-list-type is not map")
        return
    if not keys:
        yield fields.required(f"{path}.x-kubernetes-list-map-keys", "must not be empty if x-kubernetes-list-type is map")
    items = schema.get("items")
    item: Said = items if isinstance(items, dict) else {}
    if item.get("type") != "object":
        yield fields.invalid(f"{path}.items.type", item.get("type", ""), "must be object if parent array's x-kubernetes-list-type is map")
    for number, key in enumerate(keys):
        said = (item.get("properties") or {}).get(key)
        if said is None:
            yield fields.invalid(f"{path}.x-kubernetes-list-map-keys[{number}]", key, "entries must all be names of item properties")
        elif said.get("default") is None and key not in (item.get("required") or ()):
            why = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property"
            yield fields.required(f"{path}.items.properties[{key}].default", why)


def _scalars(path: str, schema: Said) -> Iterator[FieldError]:
    if schema.get("pattern"):
        try:
            compiled(schema["pattern"])
        except ValueError as error:
            yield fields.invalid(f"{path}.pattern", schema["pattern"], f"must be a valid regular expression, but isn't: {error}")
    for name in ("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"):
        if (schema.get(name) or 0) < 0:
            yield fields.invalid(f"{path}.{name}", schema[name], "must be greater than or equal to 0")
    if schema.get("multipleOf") is not None and schema["multipleOf"] <= 0:
        yield fields.invalid(f"{path}.multipleOf", schema["multipleOf"], "must be greater than 0")


def _below(path: str, schema: Said) -> Iterator[FieldError]:
    for name, child in (schema.get("properties") or {}).items():
        yield from _value(f"{path}.properties[{name}]", child)
    if isinstance(schema.get("additionalProperties"), dict):
        yield from _value(f"{path}.additionalProperties", schema["additionalProperties"])
    if schema.get("type") == "array" and schema.get("items") is None:
        yield fields.required(f"{path}.items", "must be specified")
    elif isinstance(schema.get("items"), dict):
        yield from _value(f"{path}.items", schema["items"], place="specified array items")


def _junctors(path: str, schema: Said, structure: Said) -> Iterator[FieldError]:
    """Check that what is under allOf, anyOf, oneOf and not only validates what the structure has already."""
    pieces = [(f"{path}.{name}[{number}]", piece) for name in _JUNCTORS for number, piece in enumerate(schema.get(name) or ())]
    if schema.get("not"):
        pieces.append((f"{path}.not", schema["not"]))
    exempt = structure.get("x-kubernetes-int-or-string", False)
    for below, piece in pieces:
        yield from _validation_only(below, piece, structure, exempt=bool(exempt))


def _validation_only(path: str, piece: Said, structure: Said, *, exempt: bool) -> Iterator[FieldError]:
    for name in _NOT_IN_VALUE_VALIDATION:
        if piece.get(name) not in (None, "", False) and not (exempt and name == "type"):
            yield fields.forbidden(
                f"{path}.{name}", "must be empty to be structural" if name != "default" else "must be undefined to be structural"
            )
    yield from _scalars(path, piece)
    for name, child in (piece.get("properties") or {}).items():
        known = (structure.get("properties") or {}).get(name)
        additional = structure.get("additionalProperties")
        if known is None and not isinstance(additional, dict):
            where = f"{path.rpartition('.')[0]}.properties[{name}]"
            yield fields.required(where, f"because it is defined in {path}.properties[{name}]")
            continue
        yield from _validation_only(f"{path}.properties[{name}]", child, known or additional or {}, exempt=False)
    if isinstance(piece.get("items"), dict):
        items = structure.get("items")
        yield from _validation_only(f"{path}.items", piece["items"], items if isinstance(items, dict) else {}, exempt=False)
    yield from _junctors(path, piece, structure)


def _defaults(path: str, schema: Said) -> Iterator[FieldError]:
    """Check that a default is valid by the schema, and has no unknown field."""
    default = schema.get("default")
    if default is not None:
        node = Node({name: value for name, value in schema.items() if name != "default"})
        unknown = prune(node, deepcopy(default), root=False) if isinstance(default, (dict, list)) else []
        if unknown:
            yield fields.invalid(f"{path}.default", default, "must not have unknown fields")
        yield from _default_problems(node, default, f"{path}.default")
    for name, child in (schema.get("properties") or {}).items():
        yield from _defaults(f"{path}.properties[{name}]", child)
    for name in ("additionalProperties", "items"):
        if isinstance(schema.get(name), dict):
            yield from _defaults(f"{path}.{name}", schema[name])


def _default_problems(node: Node, default: Any, path: str) -> Iterator[FieldError]:
    """Check what is said of objects inside of a default, and if that is right the rest."""
    try:
        embedded.coerced(node, default := deepcopy(default), path)
    except embedded.Malformed as error:
        yield error.error
        return
    yield from list(embedded.problems(node, default, path)) or validate(node, default, path)
