"""Objects inside of objects (`x-kubernetes-embedded-resource`): each says its apiVersion and kind, and its metadata is an ObjectMeta.

coerced() runs when an object is decoded, as a Go server would have decoded that metadata: what has a wrong type makes the whole body bad, and what is unknown
or empty is dropped. problems() runs with the other validation.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from functools import cache
from typing import Any

from labctl.resources import fields, names, objectmeta
from labctl.resources.custom.schema import Node
from labctl.resources.kind import FieldError
from labctl.resources.schema import golang
from labctl.resources.schema.definitions import META, Schema, Type, official
from labctl.resources.schema.walk import Findings, check
from labctl.resources.schema.zeros import drop_zeros


@cache
def metadata_type() -> Type:
    """Return the type of every object's metadata."""
    return Schema(official()).named(META + "ObjectMeta")


class Malformed(ValueError):
    """An embedded object's apiVersion, kind or metadata has a wrong type. `field`: which one."""

    def __init__(self, field: str, value: Any, why: str) -> None:
        self.error = fields.invalid(field, value, why)
        super().__init__(f"{field}: {self.error.message}")


def coerced(node: Node, value: Any, path: str = "") -> list[str]:
    """Bring the metadata of embedded objects into its stored form, in place. Return the paths of unknown fields. Raises Malformed."""
    return [unknown for holder, obj, at in _embedded(node, value, path) for unknown in _head(holder, obj, at)]


def problems(node: Node, value: Any, path: str = "") -> Iterator[FieldError]:
    """Yield what is wrong with embedded objects, apart from their schema."""
    for _holder, obj, at in _embedded(node, value, path):
        yield from _problems(obj, at)


def _embedded(node: Node, value: Any, path: str = "") -> Iterator[tuple[Node, dict[str, Any], str]]:
    """Yield each embedded object with its schema and path, before those inside of it: whoever takes it may change its metadata."""
    if not node.embeds:
        return
    if isinstance(value, dict):
        if node.embedded:
            yield node, value, path
        for name, item in value.items():
            if name in node.properties:
                yield from _embedded(node.properties[name], item, f"{path}.{name}" if path else name)
            elif node.extra is not None:
                yield from _embedded(node.extra, item, f"{path}[{name}]")
    elif isinstance(value, list) and node.items is not None:
        for number, item in enumerate(value):
            yield from _embedded(node.items, item, f"{path}[{number}]")


def _head(node: Node, value: dict[str, Any], path: str) -> Iterator[str]:
    for name in ("apiVersion", "kind"):
        if name in value and not isinstance(value[name], str):
            raise Malformed(f"{path}.{name}", value[name], "must be a string")
    if "metadata" not in value or (value["metadata"] is None and "metadata" in node.properties):  # a null goes when defaults come
        return
    metadata = value["metadata"] if value["metadata"] is not None else {}
    if not isinstance(metadata, dict):
        raise Malformed(f"{path}.metadata", metadata, not_metadata(metadata))
    was = deepcopy(metadata)  # for the error's words: the check changes it
    findings = check(metadata_type(), metadata)
    if findings.error:
        raise Malformed(f"{path}.metadata", was, findings.error)
    drop_zeros(metadata_type(), metadata)
    value["metadata"] = metadata
    yield from (f"{path}.metadata.{name}" for name in unknown_fields(findings))


def not_metadata(value: Any) -> str:
    """Return a Go decoder's words for a value that is no object where metadata is expected."""
    return f"json: cannot unmarshal {golang.value_name(value)} into Go value of type v1.ObjectMeta"


def unknown_fields(findings: Findings) -> list[str]:
    """Return the paths of unknown fields, below the metadata."""
    return [words.removeprefix('unknown field "').removesuffix('"') for words in findings.strict]


def _problems(value: dict[str, Any], path: str) -> Iterator[FieldError]:
    for name in ("apiVersion", "kind"):
        if name not in value:
            yield fields.required(f"{path}.{name}", "must not be empty")
        elif not isinstance(value[name], str):
            yield fields.invalid(f"{path}.{name}", value[name], "must be a string")
        elif not value[name]:
            yield fields.invalid(f"{path}.{name}", value[name], "must not be empty")
        elif name == "apiVersion" and value[name].count("/") > 1:
            yield fields.invalid(f"{path}.apiVersion", value[name], f"unexpected GroupVersion string: {value[name]}")
        elif name == "kind" and (wrong := names.label_1035(value[name].lower())):
            why = f"may have mixed case, but should otherwise match: {','.join(wrong)}"
            yield fields.invalid(f"{path}.kind", value[name], why)
    if isinstance(value.get("metadata"), dict):
        yield from _metadata(value["metadata"], f"{path}.metadata")


def _metadata(metadata: dict[str, Any], path: str) -> Iterator[FieldError]:
    if metadata.get("generateName"):
        yield from names.checked(f"{path}.generateName", metadata["generateName"], names.path_segment_prefix)
    if metadata.get("name"):
        yield from names.checked(f"{path}.name", metadata["name"], names.path_segment)
    if metadata.get("namespace"):
        yield from names.checked(f"{path}.namespace", metadata["namespace"], names.label)
    if metadata.get("generation", 0) < 0:
        yield fields.invalid(f"{path}.generation", metadata["generation"], "must be greater than or equal to 0")
    yield from names.labels(f"{path}.labels", metadata.get("labels") or {})
    yield from names.annotation_keys(f"{path}.annotations", metadata.get("annotations") or {})
    yield from objectmeta.owners(f"{path}.ownerReferences", metadata.get("ownerReferences") or [])
    yield from objectmeta.finalizers(f"{path}.finalizers", metadata.get("finalizers") or [])
