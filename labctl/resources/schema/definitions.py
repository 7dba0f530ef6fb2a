"""The schema knows the type of every field of every kind: from schema.json and from the definitions in the kinds' own files. Types are compiled on first use.

A Schema is a value that each master owns, as the Registry is; it follows the Registry, so that definitions come and go with the kinds that bring them.
Decoding, defaults, strategic merge, server-side apply and OpenAPI all read the same Types; none of them knows a kind by name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.resources import files
from typing import Any

import msgspec

from labctl.resources.registry import KindChange, Registry, builtin_registry

Definition = dict[str, Any]
"""An OpenAPI v2 schema with Kubernetes' extensions; references are `#/definitions/NAME`."""

META = "io.k8s.apimachinery.pkg.apis.meta.v1."

# Definitions of scalars that have a special form.
_SCALAR_DEFINITIONS = {
    "io.k8s.apimachinery.pkg.api.resource.Quantity": "quantity",
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": "int-or-string",
    META + "Time": "time",
    META + "MicroTime": "micro-time",
}
# Definitions that hold a schema or something simpler, and that something.
_SCHEMA = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps"
_OR_SCHEMA = {_SCHEMA + "OrArray": "array", _SCHEMA + "OrBool": "bool", _SCHEMA + "OrStringArray": "strings"}
# Objects of any content: Go keeps their bytes as they are.
_RAW = (META + "FieldsV1", "io.k8s.apimachinery.pkg.runtime.RawExtension")
# The Python types of decoded JSON values that need no further check.
_PLAIN = {"string": str, "boolean": bool}


@dataclass(slots=True, eq=False)
class Type:
    """The type of one field, item or object.

    `shape`: struct, map, list, string, bytes, int32, int64, number, boolean, quantity, int-or-string, time, micro-time, any.
    `name` is the definition's path where it has one. `list_type`: atomic, map (with `keys`), set; `map_type`: granular, atomic.
    `or_schema` says what such an `any` holds if it is no JSON schema (`item`): an array of them, a bool, or strings.
    `open` says that a struct keeps fields that it does not name (x-kubernetes-preserve-unknown-fields).
    `default` is what a field of a custom kind has if it is left out.
    `strategy` and `merge_key` are strategic merge patch's. `plain` is the Python type whose values need no further look.
    `struct` and `decoder` are what quick.py made of this type; they go when the type goes.
    """

    shape: str
    name: str = ""
    fields: dict[str, Type] = field(default_factory=dict)
    required: tuple[str, ...] = ()
    item: Type | None = None
    list_type: str = "atomic"
    keys: tuple[str, ...] = ()
    map_type: str = "granular"
    or_schema: str = ""
    open: bool = False
    default: Any = None
    strategy: frozenset[str] = frozenset()
    merge_key: str = ""
    plain: type | None = None
    struct: Any = None
    decoder: Any = None

    @property
    def short_name(self) -> str:
        """Return the last part of the name: `PodSpec` for `io.k8s.api.core.v1.PodSpec`."""
        return self.name.rsplit(".", 1)[-1]

    def structs(self) -> Iterator[tuple[str, str, Type]]:
        """Yields the fields in which there are structs: the field's name, its shape (struct, list, map), and the struct's type."""
        for name, child in self.fields.items():
            target = child.item if child.shape in ("list", "map") else child
            if target is not None and target.shape == "struct":
                yield name, child.shape, target


class Schema:
    """Holds definitions by name and by (group, version, kind)."""

    def __init__(self, definitions: Mapping[str, Definition]) -> None:
        self.definitions: dict[str, Definition] = dict(definitions)
        self._types: dict[str, Type] = {}
        self._names: dict[tuple[str, str, str], str] = {}
        for name, definition in definitions.items():
            self._index(name, definition)

    def frozen(self) -> Schema:
        """Returns a copy that does not change, so that a thread can read it."""
        copy = Schema({})
        copy.definitions, copy._names = dict(self.definitions), dict(self._names)
        return copy

    def follow(self, registry: Registry) -> None:
        """Adds the definitions of the registry's kinds, and keeps them up to date when kinds come or go."""
        for kind in registry:
            self._kinds_changed(KindChange(kind.resource, (), registry.versions(kind.resource)))
        registry.listen(self._kinds_changed)

    def _kinds_changed(self, change: KindChange) -> None:
        new = {name: definition for kind in change.new for name, definition in kind.definitions.items()}
        for name in {name: None for kind in change.old for name in kind.definitions}:
            if name not in new:
                self.remove(name)
        for name, definition in new.items():
            self.add(name, definition)

    def add(self, name: str, definition: Definition) -> None:
        """Adds a definition; it replaces one of the same name."""
        self.definitions[name] = definition
        self._types.pop(name, None)
        self._index(name, definition)

    def remove(self, name: str) -> None:
        del self.definitions[name]
        self._types.pop(name, None)
        self._names = {gvk: of for gvk, of in self._names.items() if of != name}

    def name_of(self, group: str, version: str, kind: str) -> str:
        """Returns the name of a kind's definition; empty if there is none."""
        return self._names.get((group, version, kind), "")

    def type_of(self, group: str, version: str, kind: str) -> Type:
        """Returns the compiled type of a kind; `any` for a kind without a definition."""
        name = self.name_of(group, version, kind)
        return self.named(name) if name else ANY

    def named(self, name: str) -> Type:
        """Returns the compiled type of a definition."""
        found = self._types.get(name)
        if found is None:
            found = self._types[name] = Type(shape="any", name=name)
            self._compile(self.definitions[name], found)
        return found

    def _index(self, name: str, definition: Definition) -> None:
        for gvk in definition.get("x-kubernetes-group-version-kind", ()):
            self._names[gvk["group"], gvk["version"], gvk["kind"]] = name

    def _of(self, node: Definition) -> Type:
        """Returns the type of a property or item."""
        if "$ref" not in node:
            compiled = Type(shape="any")
            self._compile(node, compiled)
            return compiled
        target = self.named(node["$ref"].removeprefix("#/definitions/"))
        if len(node) == 1:
            return target
        # A reference may have its own merge rules. The fields are then shared with the referenced type, so that recursion is safe.
        ruled = replace(target)
        _read_rules(node, ruled)
        return ruled

    def _compile(self, node: Definition, into: Type) -> None:
        into.shape = _SCALAR_DEFINITIONS.get(into.name) or ("struct" if _is_empty(into.name, node) else _shape(node))
        into.plain = _PLAIN.get(into.shape)
        into.required = tuple(node.get("required", ()))
        _read_rules(node, into)
        for name, child in node.get("properties", {}).items():
            into.fields[name] = self._of(child)
        if into.shape == "list":
            into.item = self._of(node.get("items", {}))
        elif into.shape == "map":
            into.item = self._of(node["additionalProperties"])
        elif into.name in _OR_SCHEMA:
            into.or_schema, into.item = _OR_SCHEMA[into.name], self.named(_SCHEMA)


def _is_empty(name: str, node: Definition) -> bool:
    """True for Kubernetes' Structs without fields, which OpenAPI does not tell from objects of any content."""
    return name.startswith("io.k8s.") and name not in _RAW and node == {"type": "object"}


def _shape(node: Definition) -> str:
    if node.get("x-kubernetes-int-or-string"):
        return "int-or-string"
    match node.get("type", "object" if "properties" in node else ""):
        case "object" if "properties" in node:
            return "struct"
        case "object" if isinstance(node.get("additionalProperties"), dict):
            return "map"
        case "array":
            return "list"
        case "string":
            return {"byte": "bytes", "int-or-string": "int-or-string", "quantity": "quantity"}.get(node.get("format", ""), "string")
        case "integer":
            return "int32" if node.get("format") == "int32" else "int64"
        case "number" | "boolean" as shape:
            return shape
        case _:
            return "any"


def _read_rules(node: Definition, into: Type) -> None:
    into.list_type = node.get("x-kubernetes-list-type", into.list_type)
    into.keys = tuple(node.get("x-kubernetes-list-map-keys", into.keys))
    into.map_type = node.get("x-kubernetes-map-type", into.map_type)
    into.open = node.get("x-kubernetes-preserve-unknown-fields", into.open)
    into.default = node.get("default", into.default)
    into.merge_key = node.get("x-kubernetes-patch-merge-key", into.merge_key)
    if "x-kubernetes-patch-strategy" in node:
        into.strategy = frozenset(node["x-kubernetes-patch-strategy"].split(","))


ANY = Type(shape="any")


@cache
def official() -> Mapping[str, Definition]:
    """Returns Kubernetes' definitions from schema.json. They are read once in a process, and must not be changed."""
    return _read("schema.json")


def builtin_schema(registry: Registry | None = None) -> Schema:
    """Returns a Schema with Kubernetes' definitions and those of the registry's kinds."""
    schema = Schema(official())
    schema.follow(registry or builtin_registry())
    return schema


def _read(name: str) -> dict[str, Definition]:
    text = (files("labctl.resources.schema") / name).read_bytes()
    definitions: dict[str, Definition] = msgspec.json.decode(text)
    return definitions
