"""A CustomResourceDefinition's schema, compiled once: what is pruned, what is filled in. Validation is in validate.py.

A schema is structural (KEP-1002): each value's type is known without looking at the value, so that unknown fields can be pruned and defaults filled in
by one walk. The pieces under allOf, anyOf, oneOf and not only validate.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any

Object = dict[str, Any]
_MISSING = object()
_EMBEDDED = ("apiVersion", "kind", "metadata")


class Node:
    """One JSONSchemaProps. `extra` is what further keys of an object hold; `keep`: unknown fields stay."""

    __slots__ = (
        "_pattern", "all_of", "any_of", "anything", "checked", "checks", "choices", "dear",
        "default", "embedded", "embeds", "enum", "exclusive_maximum", "exclusive_minimum", "extra", "fills", "format", "int_or_string", "items", "keep", "keyed",
        "list_keys", "list_type", "map_type", "max_items", "max_length", "max_properties", "maximum", "min_items", "min_length", "min_properties", "minimum",
        "multiple_of", "not_", "nullable", "odd",
        "one_of", "pattern_text", "pieces", "properties", "required", "rules", "type", "unique",
    )  # fmt: skip

    def __init__(self, said: Mapping[str, Any]) -> None:
        self.type: str = said.get("type", "")
        self.nullable: bool = said.get("nullable", False)
        self.int_or_string: bool = said.get("x-kubernetes-int-or-string", False)
        self.keep: bool = said.get("x-kubernetes-preserve-unknown-fields", False)
        self.embedded: bool = said.get("x-kubernetes-embedded-resource", False)
        self.list_type: str = said.get("x-kubernetes-list-type", "")
        self.list_keys: tuple[str, ...] = tuple(said.get("x-kubernetes-list-map-keys") or ())
        self.map_type: str = said.get("x-kubernetes-map-type", "")
        self.rules: list[Mapping[str, Any]] = list(said.get("x-kubernetes-validations") or ())
        self.properties = {name: Node(child) for name, child in (said.get("properties") or {}).items()}
        additional, items = said.get("additionalProperties"), said.get("items")
        self.extra: Node | None = (
            Node(additional)
            if isinstance(additional, dict)
            else Node({"x-kubernetes-preserve-unknown-fields": True})
            if additional
            else None
        )
        self.anything: bool = additional is True  # further keys may hold anything, by no schema
        self.items: Node | None = Node(items) if isinstance(items, dict) else None
        self.required: tuple[str, ...] = tuple(said.get("required") or ())
        self.enum: list[Any] | None = said.get("enum") or None
        self.choices = frozenset((type(each) is bool, each) for each in self.enum or () if isinstance(each, Hashable))
        self.format: str = said.get("format", "")
        self.pattern_text: str = said.get("pattern", "")
        self._pattern: Any = None
        self.minimum, self.maximum = said.get("minimum"), said.get("maximum")
        self.exclusive_minimum, self.exclusive_maximum = said.get("exclusiveMinimum", False), said.get("exclusiveMaximum", False)
        self.multiple_of = said.get("multipleOf")
        self.min_length, self.max_length = said.get("minLength"), said.get("maxLength")
        self.min_items, self.max_items = said.get("minItems"), said.get("maxItems")
        self.min_properties, self.max_properties = said.get("minProperties"), said.get("maxProperties")
        self.unique: bool = said.get("uniqueItems", False)
        self.all_of, self.any_of, self.one_of = ([Node(child) for child in said.get(name) or ()] for name in ("allOf", "anyOf", "oneOf"))
        self.not_: Node | None = Node(said["not"]) if said.get("not") is not None else None
        default = said.get("default", _MISSING)
        self.default = _MISSING if default is None else default
        below = [*self.properties.values(), *(each for each in (self.items, self.extra) if each)]
        self.fills: bool = self.default is not _MISSING or any(child.fills for child in below)
        self.checks: bool = bool(self.rules) or any(child.checks for child in below)  # rules here or below: see rules.py
        within = [*self.all_of, *self.any_of, *self.one_of, *((self.not_,) if self.not_ else ())]
        self.pieces: int = len(within) + sum(max((each.pieces for each in (piece, *piece.under())), default=0) for piece in within)
        self.dear: bool = self.pieces > _MANY_PIECES or _are_dear(self.rules) or any(child.dear for child in below)
        self.checked: Any = None  # the rules, compiled when the first object is looked at
        self.odd: bool = is_odd(self) or any(child.odd for child in below)
        self.embeds: bool = self.embedded or any(child.embeds for child in below)  # whole objects here or below: see embedded.py
        self.keyed: bool = self.list_type in ("map", "set") or any(child.keyed for child in below)  # see listtypes.py

    def under(self) -> Iterator[Node]:
        """Yield the nodes of the values inside this one's."""
        yield from self.properties.values()
        yield from (each for each in (self.items, self.extra) if each is not None)

    @property
    def pattern(self) -> Any:
        """The pattern, compiled when the first text is compared with it: who makes a kind need not wait for thousands of them."""
        if self._pattern is None:
            self._pattern = compiled(self.pattern_text)
        return self._pattern

    def offers(self, value: Any) -> bool:
        """Tell whether the value is one of `enum`, which may hold tens of thousands. To Python `true` is 1; here it is not."""
        return (type(value) is bool, value) in self.choices if isinstance(value, Hashable) else value in (self.enum or ())

    @property
    def has_default(self) -> bool:
        return self.default is not _MISSING


def is_odd(node: Node) -> bool:
    """Tell whether CEL's value differs from JSON's: a time, bytes or a double, or another name."""
    return (
        node.type == "number"
        or node.format in ("date", "date-time", "duration", "byte")
        or any(escaped(name) != name for name in node.properties)
    )


_DEAR = re.compile(
    r"\.(all|exists\w*|map|filter|transform\w+|contains|matches|replace|split|find\w*|indexOf|lastIndexOf|validate|check|sort\w*|distinct|flatten|reverse|slice|range)\("
)
"""Rules with these may take more than microseconds, so they are asked in a thread."""
_GROWS = re.compile(r"\+|cel\.bind\(|\.(join|format)\(")
"""Expressions with these may make far more than they are given."""

_MANY_PIECES = 20
"""A value that is compared with more pieces of schema than this (allOf, anyOf, ...) is validated in a thread."""

_MUCH_TEXT = 2_000
"""Rules of more characters take tens of milliseconds to compile, which is done when the first object is looked at: in a thread, too."""


def _are_dear(rules: Sequence[Mapping[str, Any]]) -> bool:
    texts = [str(rule) for rule in rules]
    return sum(map(len, texts)) > _MUCH_TEXT or any(_DEAR.search(text) for text in texts)


_RESERVED = frozenset(
    "true false null in as break const continue else for function if import let loop package namespace return var void while".split()
)
_ESCAPES = {"__": "__underscores__", ".": "__dot__", "-": "__dash__", "/": "__slash__"}


def escaped(name: str) -> str:
    """Return a property's name as rules write it."""
    if name in _RESERVED:
        return f"__{name}__"
    for said, instead in _ESCAPES.items():
        name = name.replace(said, instead)
    return name


def is_dear(expression: str) -> bool:
    """Tell whether an expression looks as if it might take more than microseconds, or make more than it is given."""
    return (_DEAR.search(expression) or _GROWS.search(expression)) is not None


def compiled(pattern: str) -> Any:
    """Compile a pattern as Kubernetes reads it: RE2, whose time is linear in the text for every pattern. Raises ValueError."""
    import re2  # only who has a custom kind with a pattern pays for it

    options = re2.Options()
    options.log_errors = False
    options.never_capture = (
        True  # with groups a text is matched by a slower machine that keeps the place of each: seconds for a thousand of them
    )
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        said = error.args[0].decode(errors="replace") if error.args and isinstance(error.args[0], bytes) else str(error)
        raise ValueError(f"error parsing regexp: {said}") from None


# -- prune -----------------------------------------------------------------------------------------------------------------------------


def prune(node: Node, value: Any, *, root: bool = True) -> list[str]:
    """Remove, in place, what the schema does not know. Return the paths that were removed, such as `spec.foo`."""
    return list(_prune(node, value, "", root))


def _prune(node: Node, value: Any, path: str, embedded: bool) -> Iterator[str]:
    if isinstance(value, dict):
        yield from _prune_object(node, value, path, embedded or node.embedded)
    elif isinstance(value, list) and node.items is not None:
        for number, item in enumerate(value):
            yield from _prune(node.items, item, f"{path}[{number}]", False)


def _prune_object(node: Node, value: Object, path: str, embedded: bool) -> Iterator[str]:
    for key in tuple(value):
        below = f"{path}.{key}" if path else key
        child = node.properties.get(key) or node.extra
        if embedded and key in _EMBEDDED:
            continue
        if child is not None:
            yield from _prune(child, value[key], below, False)
        elif not node.keep:
            del value[key]
            yield below


# -- defaults --------------------------------------------------------------------------------------------------------------------------


def fill(node: Node, value: Any) -> None:
    """Fills in defaults, in place, wherever the object above them is there. A null that may not be one counts as absent."""
    if not node.fills:
        return
    if isinstance(value, dict):
        for name, child in node.properties.items():
            if child.has_default and (name not in value or (value[name] is None and not child.nullable)):
                value[name] = deepcopy(child.default)
            if name in value:
                fill(child, value[name])
        if node.extra is not None:
            for name, item in value.items():
                if name not in node.properties:
                    fill(node.extra, item)
    elif isinstance(value, list) and node.items is not None:
        for item in value:
            fill(node.items, item)


def drop_nulls(node: Node, value: Any) -> None:
    """Remove, in place, a null where the schema allows none. It runs after `fill`, when a field with a default already has it."""
    if isinstance(value, dict):
        for name in tuple(value):
            child = node.properties.get(name) or node.extra
            if child is None:
                continue
            if value[name] is None and not child.nullable and not child.has_default:
                del value[name]
            else:
                drop_nulls(child, value[name])
    elif isinstance(value, list) and node.items is not None:
        for item in value:
            drop_nulls(node.items, item)
