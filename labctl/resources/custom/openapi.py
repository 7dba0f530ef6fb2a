"""The definitions that a custom kind brings to the schema: what `kubectl explain`, client validation and server-side apply read."""

from __future__ import annotations

from typing import Any

from labctl.resources.kinds import own
from labctl.resources.schema.prose import OBJECT

Definition = dict[str, Any]
_KEPT = (
    "type", "format", "description", "required", "enum", "default", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength",
    "maxLength", "pattern", "minItems", "maxItems", "minProperties", "maxProperties", "x-kubernetes-list-type", "x-kubernetes-list-map-keys",
    "x-kubernetes-map-type", "x-kubernetes-embedded-resource", "x-kubernetes-preserve-unknown-fields", "x-kubernetes-validations", "nullable",
)  # fmt: skip

_HEAD: dict[str, Definition] = {
    "apiVersion": {**own.STRING, "description": OBJECT["apiVersion"]},
    "kind": {**own.STRING, "description": OBJECT["kind"]},
    "metadata": {**own.reference(own.META + "ObjectMeta"), "description": OBJECT["metadata"]},
}
"""What every object has, also one inside of another."""


def definitions(group: str, version: str, kind: str, schema: dict[str, Any]) -> dict[str, Definition]:
    """Return the definitions of the kind and of its list, by name: `com.example.v1.Widget`, `com.example.v1.WidgetList`."""
    name = f"{'.'.join(reversed(group.split('.')))}.{version}.{kind}"
    properties = {
        key: _plain(child) for key, child in (schema.get("properties") or {}).items() if key not in ("apiVersion", "kind", "metadata")
    }
    made = own.top_level(name, group, version, **properties)
    for field, prose in OBJECT.items():
        made[name]["properties"][field] = {**made[name]["properties"][field], "description": prose}
    for field in ("description", "required", "x-kubernetes-preserve-unknown-fields"):
        if schema.get(field):
            made[name][field] = schema[field]
    return made


def _plain(schema: dict[str, Any]) -> Definition:
    """Return one schema in the form of OpenAPI v2. What only validates (allOf, anyOf, ...) is left out."""
    plain = {key: schema[key] for key in _KEPT if key in schema}
    if schema.get("x-kubernetes-int-or-string"):
        plain |= {"type": "string", "format": "int-or-string", "x-kubernetes-int-or-string": True}
    if schema.get("properties"):
        plain["properties"] = {name: _plain(child) for name, child in schema["properties"].items()}
    if schema.get("x-kubernetes-embedded-resource"):
        plain["properties"] = {**plain.get("properties", {}), **_HEAD}
    if isinstance(schema.get("additionalProperties"), dict):
        plain["additionalProperties"] = _plain(schema["additionalProperties"])
    if isinstance(schema.get("items"), dict):
        plain["items"] = _plain(schema["items"])
    return plain
