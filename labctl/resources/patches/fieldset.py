"""This module describes the fields of an object as sets of paths, which field managers own and updates compare.

A path is a tuple of elements as FieldsV1 spells them: `f:name` a field or map key, `k:{"name":"web"}` an item of a list of maps,
`v:"x"` a member of a set. A path stands for a scalar, an atomic list or map, an item, or an empty object; containers are only on the way to them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from labctl.resources.kind import Object
from labctl.resources.schema.definitions import ANY, Type
from labctl.resources.schema.golang import value_name

Path = tuple[str, ...]
Fields = frozenset[Path]

NO_FIELDS: Fields = frozenset()

# List keys that may be left out, and what they mean then: the only defaulted key of Kubernetes' own kinds. A custom kind's schema has its own.
_KEY_DEFAULTS = {"protocol": "TCP"}
# Go's structs that are there even when nobody set them: making one is no change.
_ALWAYS_THERE = {"f:metadata", "f:spec", "f:status", "f:template", "f:containers", "f:resources"}

# What a value of a shape must be, in structured-merge-diff's words; shapes left out are read later, as text.
_SHAPES: dict[str, tuple[str, tuple[type, ...]]] = {
    "struct": ("map", (dict,)),
    "map": ("map", (dict,)),
    "list": ("list", (list,)),
    "string": ("string", (str,)),
    "boolean": ("boolean", (bool,)),
    "int32": ("numeric (int or float)", (int, float)),
    "int64": ("numeric (int or float)", (int, float)),
    "number": ("numeric (int or float)", (int, float)),
}

_CONTAINER = object()  # a map or list that merges: not owned itself
_ITEM = object()  # an item of a list of maps: owned, beside its fields


class Comparison(NamedTuple):
    """The paths that an update added, modified and removed."""

    added: Fields
    modified: Fields
    removed: Fields


def owned(type_: Type, obj: Object) -> Fields:
    """Returns the fields that a manager owns after it applied this object."""
    return frozenset(path for path, value in _flatten(type_, obj) if value is not _CONTAINER)


def mentioned(type_: Type, obj: Object) -> Fields:
    """Returns every path of the object, also those of maps and lists that merge."""
    return frozenset(path for path, _ in _flatten(type_, obj))


def compare(type_: Type, old: Object, new: Object) -> Comparison:
    """Returns what changed from `old` to `new`, also maps and lists that were added or removed."""
    before, after = dict(_flatten(type_, old)), dict(_flatten(type_, new))
    added = frozenset(path for path in after if path not in before and path[-1] not in _ALWAYS_THERE)
    removed = frozenset(path for path in before if path not in after)
    modified = frozenset(path for path, value in after.items() if path in before and not _same(before[path], value))
    return Comparison(added, modified, removed)


def problems(type_: Type, obj: Object, path: Path = ()) -> Iterator[str]:
    """Yields the reasons why an object can't be applied: unknown fields, values of a wrong shape, list items with equal or missing keys."""
    for key, value in obj.items():
        here = (*path, f"f:{key}")
        field = _field(type_, key)
        if field is None:
            yield f"{show(here)}: field not declared in schema"
        elif value is not None:
            yield from _value_problems(field, value, here)


def _value_problems(type_: Type, value: Any, path: Path) -> Iterator[str]:
    wanted, right = _SHAPES.get(type_.shape, ("", (object,)))
    if not isinstance(value, right) or (isinstance(value, bool) and bool not in right and object not in right):
        found = _go_value(value) if wanted in ("list", "map") else f"&value.valueUnstructured{{Value:{json.dumps(value)}}}"
        yield f"{show(path)}: expected {wanted}, got {found}"
    elif isinstance(value, dict) and type_.shape in ("struct", "map"):
        yield from problems(type_, value, path)
    elif isinstance(value, list) and type_.shape == "list" and type_.list_type != "atomic":
        yield from _list_problems(type_, value, path)


def _go_value(value: Any) -> str:
    return value_name(value) if isinstance(value, (dict, list)) else f"&{{{value}}}"


def _list_problems(type_: Type, items: list[Any], path: Path) -> Iterator[str]:
    seen = set()
    for index, item in enumerate(items):
        try:
            element = element_of(type_, item)
        except MissingKey as missing:
            yield f"{show(path)}: element {index}: {missing}"
            continue
        if element in seen:
            yield f"{show(path)}: duplicate entries for key {show((element,))}"
        seen.add(element)
        if type_.item:
            yield from _value_problems(type_.item, item, (*path, element))


class MissingKey(Exception):
    """An item of a list of maps lacks a key field."""

    def __init__(self, key: str) -> None:
        super().__init__(f'associative list with keys has an element that omits key field "{key}" (and doesn\'t have default value)')


def element_of(type_: Type, item: Any) -> str:
    """Returns the path element of a list's item. Raises MissingKey."""
    if type_.list_type == "set" or not isinstance(item, dict):
        return f"v:{json.dumps(item, separators=(',', ':'))}"
    keys = {}
    for key in sorted(type_.keys):
        default = _default_of(type_.item, key)
        if key not in item and default is None:
            raise MissingKey(key)
        keys[key] = item.get(key, default)
    return f"k:{json.dumps(keys, separators=(',', ':'))}"


def _default_of(item: Type | None, key: str) -> Any:
    if item is None or item.name:
        return _KEY_DEFAULTS.get(key)
    return item.fields[key].default if key in item.fields else None


def elements(type_: Type, items: Iterable[Any]) -> dict[str, Any]:
    """Returns the items of a merging list by path element, in order. An item without its key is left out; of equal ones the last counts."""
    found = {}
    for item in items:
        try:
            found[element_of(type_, item)] = item
        except MissingKey:
            continue
    return found


def is_granular(type_: Type, value: Any) -> bool:
    """True if the parts of the value are owned one by one. If the type is unknown, those of maps are and those of lists are not."""
    if isinstance(value, dict):
        return type_.map_type != "atomic" and type_.shape in ("struct", "map", "any")
    return isinstance(value, list) and type_.shape == "list" and type_.list_type != "atomic"


def child(type_: Type, key: str) -> Type:
    """Returns the type of a field or of a map's value."""
    return _field(type_, key) or ANY


def _field(type_: Type, key: str) -> Type | None:
    if type_.shape == "struct":
        return type_.fields.get(key) or (ANY if type_.open else None)
    return type_.item if type_.shape == "map" else ANY


def _flatten(type_: Type, obj: Object, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    for key, value in obj.items():
        yield from _flatten_value(child(type_, key), value, (*path, f"f:{key}"))


def _flatten_value(type_: Type, value: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    if not is_granular(type_, value) or value == {}:
        yield path, value
    elif isinstance(value, dict):
        yield path, _CONTAINER
        yield from _flatten(type_, value, path)
    else:
        yield path, _CONTAINER
        for element, item in elements(type_, value).items():
            yield (*path, element), _ITEM
            if isinstance(item, dict):
                yield from _flatten(type_.item or ANY, item, (*path, element))


def _same(a: Any, b: Any) -> bool:
    return a is b or (type(a) is type(b) and a == b)


# ---- as FieldsV1 has them


def encode(fields: Fields) -> Object:
    """Encodes paths as FieldsV1: `{"f:spec": {"f:replicas": {}}}`. A `.` says that a path belongs to the set although longer paths follow."""
    root: Object = {}
    for path in sorted(fields):
        node = root
        for element in path:
            node = node.setdefault(element, {})
        node["."] = {}
    return _without_lone_dots(root)


def _without_lone_dots(node: Object) -> Object:
    return {element: {} if below.keys() == {"."} else _without_lone_dots(below) for element, below in node.items()}


def decode(node: Mapping[str, Any], path: Path = ()) -> Iterator[Path]:
    """Yield the paths of a FieldsV1. Raises ValueError if it is none: a client may send its own."""
    for element, below in node.items():
        if element == ".":
            yield path
            continue
        if not isinstance(below, Mapping) or not (element.startswith("f:") or _is_element(element)):
            raise ValueError(f"{element!r} is no element of FieldsV1")
        if not below:
            yield (*path, element)
        else:
            yield from decode(below, (*path, element))


@lru_cache(maxsize=4096)
def _is_element(element: str) -> bool:
    """Tell whether the text names an item: by its keys, its value or its number."""
    kind, _, said = element.partition(":")
    try:
        value = json.loads(said)
    except ValueError:
        return False
    return isinstance(value, dict) if kind == "k" else kind == "v" or (kind == "i" and isinstance(value, int))


def show(path: Path) -> str:
    """Formats a path as Kubernetes prints it: `.spec.containers[name="web"].image`."""
    return "".join(map(_show_element, path))


def _show_element(element: str) -> str:
    spelled, _, value = element.partition(":")
    match spelled:
        case "f":
            return f".{value}"
        case "k":
            return "[" + ",".join(f"{key}={json.dumps(of)}" for key, of in json.loads(value).items()) + "]"
        case "v":
            return f"[={value}]"
        case _:
            return f"[{value}]"
