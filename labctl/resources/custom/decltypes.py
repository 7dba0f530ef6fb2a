"""The types that a schema gives to its values in rules, as Kubernetes declares them.

A value is seen by rules if its type is known. Of a value that may be anything (`x-kubernetes-preserve-unknown-fields` without a type), nothing is: neither
a field that holds it, nor a list or map of such values. An object that keeps unknown fields is seen with the fields that its schema names. That a value may
be null makes no difference: a field that is null counts as absent.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property

from labctl.resources.cel.types import DYN, Type, Types
from labctl.resources.custom.schema import Node, escaped

_NAMED = re.compile(r"[A-Za-z_./-][A-Za-z0-9_./-]*")
_OF_FORMAT = {"byte": "bytes", "duration": "duration", "date": "timestamp", "date-time": "timestamp"}
_OF_TYPE = {"boolean": "bool", "number": "double", "integer": "int"}
_TEXT = {"type": "string"}
_METADATA = {"type": "object", "properties": {"name": _TEXT, "generateName": _TEXT}}
_HEAD = {"apiVersion": Node(_TEXT), "kind": Node(_TEXT), "metadata": Node(_METADATA)}
SELF = "selfType"
"""How errors call the type of `self`; that of its field `spec` is `selfType.spec`."""


def declared_type(types: Types, node: Node, name: str = SELF, root: bool = False) -> Type | None:
    """Return the type of a node's values, or None if rules do not see them. `root`: it is a whole object, whose head every rule may read."""
    root = root or node.embedded
    if node.int_or_string:
        return DYN
    if node.type == "array":
        item = declared_type(types, node.items, f"{name}.@idx") if node.items is not None else None
        return types.list_of(item) if item is not None else None
    if node.type == "object":
        if node.extra is not None and not node.anything:
            value = declared_type(types, node.extra, f"{name}.@elem")
            return types.map_of(types.simple("string"), value) if value is not None else None
        return types.object(name, lambda: ObjectFields(node, name, root=root))
    if node.type == "string":
        return types.simple(_OF_FORMAT.get(node.format, "string"))
    return types.simple(_OF_TYPE[node.type]) if node.type in _OF_TYPE else None


class ObjectFields:
    """The fields of an object; their types are made when an expression reads them."""

    def __init__(self, node: Node, name: str, *, root: bool) -> None:
        self._node, self._name, self._root = node, name, root

    def get(self, name: str, types: Types) -> Type | None:
        child = self._children.get(name)
        return declared_type(types, child, f"{self._name}.{name}") if child is not None else None

    @cached_property
    def _children(self) -> Mapping[str, Node]:
        known = {escaped(name): child for name, child in self._node.properties.items() if _NAMED.fullmatch(name)}
        return known if not self._root or _has_head(self._node) else known | _HEAD


def _has_head(node: Node) -> bool:
    """Tell whether a schema itself says what all objects have. If not, Kubernetes takes its own declaration of the whole head."""
    known = node.properties
    metadata = known["metadata"].properties if "metadata" in known else {}
    texts = [known.get("kind"), known.get("apiVersion"), metadata.get("name"), metadata.get("generateName")]
    return all(text is not None and text.type == "string" for text in texts)
