"""The definitions that a custom kind brings to the schema: what `kubectl explain`, client validation and server-side apply read."""

from __future__ import annotations

from typing import Any

from labctl.resources.kinds import own
from labctl.resources.schema.prose import OBJECT
from labctl.resources.schema.tree import changed

Definition = dict[str, Any]
_KEPT = (
    "type", "format", "title", "description", "externalDocs", "required", "enum", "default", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum",
    "multipleOf", "minLength", "maxLength", "pattern", "minItems", "maxItems", "minProperties", "maxProperties", "properties", "additionalProperties", "items",
    "allOf", "anyOf", "oneOf", "not", "nullable", "x-kubernetes-list-type", "x-kubernetes-list-map-keys", "x-kubernetes-map-type", "x-kubernetes-validations",
    "x-kubernetes-embedded-resource", "x-kubernetes-int-or-string", "x-kubernetes-preserve-unknown-fields",
)  # fmt: skip
_AT_ROOT = tuple(name for name in _KEPT if name not in ("type", "properties"))
_EITHER = [{"type": "integer"}, {"type": "string"}]

_HEAD: dict[str, Definition] = {
    "apiVersion": {**own.STRING, "description": OBJECT["apiVersion"]},
    "kind": {**own.STRING, "description": OBJECT["kind"]},
    "metadata": {**own.reference(own.META + "ObjectMeta"), "description": OBJECT["metadata"]},
}
"""What every object has, also one inside of another."""


def definitions(group: str, version: str, kind: str, schema: dict[str, Any]) -> dict[str, Definition]:
    """Return the definitions of the kind and of its list, by name: `com.example.v1.Widget`, `com.example.v1.WidgetList`."""
    name = f"{'.'.join(reversed(group.split('.')))}.{version}.{kind}"
    said = _published(schema)
    properties = {key: child for key, child in said.get("properties", {}).items() if key not in ("apiVersion", "kind", "metadata")}
    made = own.top_level(name, group, version, **properties)
    for field, prose in OBJECT.items():
        made[name]["properties"][field] = {**made[name]["properties"][field], "description": prose}
    made[name] |= {key: said[key] for key in _AT_ROOT if key in said}
    return made


def _published(schema: dict[str, Any]) -> Definition:
    """Return one schema as it is published: without what nobody acts on, and with what its extensions stand for."""
    made = changed({key: schema[key] for key in _KEPT if _is_said(key, schema.get(key))}, _published)
    if schema.get("x-kubernetes-int-or-string"):
        _unfold(made)
    if schema.get("x-kubernetes-embedded-resource"):
        made["properties"] = {**made.get("properties", {}), **_HEAD}
        made["required"] = [*made.get("required", ()), *(name for name in ("kind", "apiVersion") if name not in made.get("required", ()))]
    return made


def _is_said(key: str, value: Any) -> bool:
    """Tell what is said from what is empty, which Go's types don't keep apart from what is absent, but for these four."""
    if key in ("default", "items", "additionalProperties", "not"):
        return value is not None
    return value not in (None, "", [], {}) and value is not False


def _unfold(made: Definition) -> None:
    """Say in words of OpenAPI that a value is an integer or a string, unless its author did."""
    if _is_either(made) or _is_either(next(iter(made.get("allOf", ())), {})):
        return
    if made.get("anyOf"):
        made["allOf"] = [{"anyOf": _EITHER}, *made.get("allOf", ())]
    else:
        made["anyOf"] = _EITHER


def _is_either(schema: Definition) -> bool:
    return [each.get("type") for each in schema.get("anyOf", ())] == ["integer", "string"]
