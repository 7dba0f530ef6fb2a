"""What is wrong with the schema of a custom kind: it must be structural, and what it says must make sense.

A schema is structural (KEP-1002) if each value's type is known without looking at the value. What else is asked of a schema stands in openapischema.py. Rules,
words and order are those of Kubernetes' apiextensions. What can't be compiled is said here, so that compiling (schema.py) never fails later.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from typing import Any

from labctl.resources import fields
from labctl.resources.custom import embedded, openapischema
from labctl.resources.custom.schema import Node, compiled, prune
from labctl.resources.custom.validate import validate
from labctl.resources.kind import FieldError

_JUNCTORS = ("allOf", "anyOf", "oneOf")
_INT_OR_STRING = [{"type": "integer"}, {"type": "string"}]
_ONLY_STRUCTURE = (
    ("type", "empty"), ("additionalProperties", "undefined"), ("default", "undefined"), ("title", "empty"), ("description", "empty"), ("nullable", "false"),
    ("externalDocs", "undefined"), ("x-kubernetes-preserve-unknown-fields", "false"), ("x-kubernetes-embedded-resource", "false"),
    ("x-kubernetes-int-or-string", "false"), ("x-kubernetes-list-map-keys", "empty"), ("x-kubernetes-list-type", "undefined"),
    ("x-kubernetes-map-type", "undefined"), ("x-kubernetes-validations", "empty"),
)  # fmt: skip
_PLACES = {"root": "at the root", "item": "for specified array items", "field": "for specified object fields"}

Said = Mapping[str, Any]


def problems(path: str, schema: Said, *, has_status: bool = False, before: Iterable[Said] = ()) -> list[FieldError]:
    """Everything that is wrong with an openAPIV3Schema; what is wrong with rules is left for when the rest is right. `before`: see schemarules.py."""
    found = list(openapischema.root(path, schema, has_status=has_status))
    readable = openapischema.is_readable(schema)
    if readable:
        structural = [*_structural(path, schema, "root"), *_complete(path, path, schema, schema)]
        found += sorted(structural, key=lambda error: f"{error.field}: {error.message}") or _defaults(path, schema, root=True)
    found += openapischema.problems(path, schema)
    if not readable and not found:
        found.append(fields.invalid(path, "", "OpenAPIV3Schema 'schema' is not supported"))
    return found or _rules(path, schema, before)


def _rules(path: str, schema: Said, before: Iterable[Said]) -> list[FieldError]:
    if not has_rules(schema):
        return []
    from labctl.resources.custom.schemarules import rule_problems  # CEL is imported by those who write rules

    return rule_problems(path, schema, before)


def has_rules(schema: Any) -> bool:
    """Tell whether `x-kubernetes-validations` is anywhere in a schema."""
    if isinstance(schema, list):
        return any(has_rules(each) for each in schema)
    if not isinstance(schema, dict):
        return False
    return bool(schema.get("x-kubernetes-validations")) or any(has_rules(each) for each in schema.values())


def _structural(path: str, schema: Said, level: str) -> Iterator[FieldError]:
    """Check the schema of a value; `level` says whether that is the root, an item or a field."""
    items, additional = schema.get("items"), schema.get("additionalProperties")
    if schema.get("type") == "array" and items is None:
        yield fields.required(f"{path}.items", "must be specified")
    if isinstance(items, dict):
        yield from _structural(f"{path}.items", items, "item")
    for name, child in (schema.get("properties") or {}).items():
        yield from _structural(f"{path}.properties[{name}]", child, "field")
    if additional is not None and level == "root":
        yield fields.forbidden(f"{path}.additionalProperties", "must not be used at the root")
    if isinstance(additional, dict):
        yield from _structural(f"{path}.additionalProperties", additional, "field")
    if schema.get("x-kubernetes-int-or-string"):
        for name in ("x-kubernetes-preserve-unknown-fields", "x-kubernetes-embedded-resource"):
            if schema.get(name):
                yield fields.invalid(f"{path}.{name}", True, "must be false if x-kubernetes-int-or-string is true")
    yield from _validations(path, schema)
    yield from _type(path, schema, level)
    yield from _head(path, schema, level)


def _type(path: str, schema: Said, level: str) -> Iterator[FieldError]:
    type_, whole = schema.get("type", ""), schema.get("x-kubernetes-embedded-resource", False)
    if whole and type_ != "object":
        why = "must be object if x-kubernetes-embedded-resource is true"
        yield fields.invalid(f"{path}.type", type_, why) if type_ else fields.required(f"{path}.type", why)
    elif not type_ and not schema.get("x-kubernetes-int-or-string") and not schema.get("x-kubernetes-preserve-unknown-fields"):
        yield fields.required(f"{path}.type", f"must not be empty {_PLACES[level]}")
    if whole and schema.get("additionalProperties") is not None:
        yield fields.forbidden(f"{path}.additionalProperties", "must not be used if x-kubernetes-embedded-resource is set")
    if level == "root" and type_ not in ("", "object"):
        yield fields.invalid(f"{path}.type", type_, "must be object at the root")
    if whole and not schema.get("x-kubernetes-preserve-unknown-fields") and not schema.get("properties"):
        why = "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields"
        yield fields.required(f"{path}.properties", why)


def _head(path: str, schema: Said, level: str) -> Iterator[FieldError]:
    """Check apiVersion, kind and metadata of whole objects. Of the root's metadata, only names may be restricted."""
    if level != "root" and not schema.get("x-kubernetes-embedded-resource"):
        return
    known = schema.get("properties") or {}
    for name, wanted in (("kind", "string"), ("apiVersion", "string"), ("metadata", "object")):
        if name in known and (said := known[name].get("type", "")) != wanted:
            yield fields.invalid(f"{path}.properties[{name}].type", said, f"must be {wanted}")
    metadata = known.get("metadata", {})
    more = set(openapischema.said(metadata)) - {"type", "default", "properties"}
    if level == "root" and (more or set(metadata.get("properties") or ()) - {"name", "generateName"}):
        why = "must not specify anything other than name and generateName, but metadata is implicitly specified"
        yield fields.forbidden(f"{path}.properties[metadata]", why)


def _pieces(path: str, schema: Said) -> Iterator[tuple[str, Said]]:
    for name in ("anyOf", "allOf", "oneOf"):
        for number, piece in enumerate(schema.get(name) or ()):
            yield f"{path}.{name}[{number}]", piece
    if schema.get("not") is not None:
        yield f"{path}.not", schema["not"]


def _validations(path: str, schema: Said, *, plain: bool = False) -> Iterator[FieldError]:
    """Check what only validates. A number or text may say so once in the old way: as anyOf, or as the anyOf of the first allOf. `plain`: it has."""
    either, every = schema.get("anyOf") or [], schema.get("allOf") or []
    old = not plain and either == _INT_OR_STRING
    older = not plain and bool(every) and (every[0].get("anyOf") or []) == _INT_OR_STRING
    for below, piece in _pieces(path, schema):
        if old and below.startswith(f"{path}.anyOf["):
            continue
        yield from _nested(below, piece, without_types=older and below == f"{path}.allOf[0]")
    if schema.get("pattern"):
        try:
            compiled(schema["pattern"])
        except ValueError as error:
            yield fields.invalid(f"{path}.pattern", schema["pattern"], f"must be a valid regular expression, but isn't: {error}")


def _nested(path: str, piece: Said, *, without_types: bool = False) -> Iterator[FieldError]:
    """Check a piece under allOf, anyOf, oneOf or not: it says nothing of structure."""
    said = {name: value for name, value in piece.items() if name != "anyOf"} if without_types else piece
    yield from _validations(path, said, plain=True)
    if isinstance(piece.get("items"), dict):
        yield from _nested(f"{path}.items", piece["items"])
    for name, child in (piece.get("properties") or {}).items():
        yield from _nested(f"{path}.properties[{name}]", child)
    for name, wanted in _ONLY_STRUCTURE:
        if piece.get(name) not in (None, "", False, []):
            yield fields.forbidden(f"{path}.{name}", f"must be {wanted} to be structural")
    if "metadata" in (piece.get("properties") or {}):
        yield fields.forbidden(f"{path}.properties[metadata]", "must not be specified in a nested context")


def _complete(path: str, below: str, piece: Said, structure: Said | None) -> Iterator[FieldError]:
    """Check that what pieces validate (at `below`) is there in the structure (at `path`), too."""
    for at, part in _pieces(below, piece):
        yield from _complete_nested(path, at, part, structure)


def _complete_nested(path: str, below: str, piece: Said, structure: Said | None) -> Iterator[FieldError]:
    if structure is None:
        yield fields.required(path, f"because it is defined in {below}")
        return
    yield from _complete(path, below, piece, structure)
    if isinstance(piece.get("items"), dict):
        items = structure.get("items")
        yield from _complete_nested(f"{path}.items", f"{below}.items", piece["items"], items if isinstance(items, dict) else None)
    for name, child in (piece.get("properties") or {}).items():
        known = (structure.get("properties") or {}).get(name)
        yield from _complete_nested(f"{path}.properties[{name}]", f"{below}.properties[{name}]", child, known)


def _defaults(path: str, schema: Said, *, root: bool = False) -> list[FieldError]:
    """Check that defaults are valid by the schema, and have no unknown field."""
    found: list[FieldError] = []
    default = schema.get("default")
    if default is not None:
        plain = {name: value for name, value in schema.items() if name != "default"}
        node = Node({**plain, "x-kubernetes-embedded-resource": True} if root else plain)
        found += _default(node, default, f"{path}.default")
    if isinstance(schema.get("items"), dict):
        found += _defaults(f"{path}.items", schema["items"])
    for name, child in (schema.get("properties") or {}).items():
        found += _defaults(f"{path}.properties[{name}]", child)
    return found


def _default(node: Node, default: Any, path: str) -> Iterator[FieldError]:
    tidy = deepcopy(default)
    if isinstance(default, (dict, list)) and prune(node, tidy, root=node.embedded):
        yield fields.invalid(path, default, "must not have unknown fields")
    tidy = deepcopy(default)
    try:
        embedded.coerced(node, tidy, path)
    except embedded.Malformed as error:
        yield error.error
        return
    wrong = list(embedded.problems(node, tidy, path))
    yield from wrong
    for each in () if wrong else validate(node, tidy):  # a real server's sentence does not say here where the default stands
        at = "" if each.field in ("", "<nil>") else each.field if each.field.startswith("[") else f".{each.field}"
        yield FieldError(f"{path}{at}", each.type, each.message)
