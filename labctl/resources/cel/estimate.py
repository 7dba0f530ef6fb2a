"""What an expression may cost in the worst case that a schema allows, and whether it reads fields that the schema does not have.

The model is cel-go's with Kubernetes' library: each step costs 1; what walks through a text costs a tenth of its characters, rounded up; a loop costs its
body times the items. Kubernetes refuses a definition whose rules may cost more than a budget, so that no object can make the server slow; so does labctl.
Its authors measured their rules with Kubernetes' numbers, so these must be the same, also where they are odd: `has()` is free, `startsWith` costs by what
is looked for, and reading a quantity or an address out of a text costs 1. What makes more than it is given costs what it makes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import ceil, log2

import msgspec

from labctl.resources.cel.shapes import Shape
from labctl.resources.cel.tree import Call, Comprehension, Const, Ident, Literal, Node, Select, names

MOST_SIZE = 3 << 20
"""No value of a request is bigger."""

_TEXT = 0.1  # of a character
_PATTERN = 0.25  # of a pattern's character
_LIST, _MAP = 10, 30
_BY_TEXT = frozenset("lowerAscii upperAscii trim substring quote url bytes jsonpatch.escapeKey".split())
_MAKING = _LIST + 1
"""What it costs to make a list, apart from its items."""
_OPAQUE = frozenset("ip cidr quantity semver masked add sub".split())
"""What these give has no size."""
_CONTAIN = {"containsIP": 4, "containsCIDR": 7}
_BY_SOUGHT = frozenset({"startsWith", "endsWith"})
_BY_BOTH = frozenset({"contains", "indexOf", "lastIndexOf", "_indexOf", "_lastIndexOf", "split"})
_BY_ITEMS = frozenset({"isSorted", "sum", "min", "max"})
_OF_SETS: Mapping[str, int] = {"sets.contains": 1, "sets.intersects": 1, "sets.equivalent": 2}
_BOTH_SIDES = frozenset({"_&&_", "_||_"})
_CHECK = 350_000
"""What a question to the authorizer costs: an expression may ask a few dozen times, not a thousand."""
_FORMAT = 15  # the pattern of the longest format, per character of the text
_EQUAL = frozenset({"_==_", "_!=_"})
_ORDERED = frozenset({"_<_", "_<=_", "_>_", "_>=_"})


class Found(msgspec.Struct, frozen=True):
    """Of one part of an expression: what it costs, the size of its value, and its shape where it is known."""

    cost: float
    size: int
    shape: Shape | None = None


class UndefinedField(Exception):  # noqa: N818 - it says what was found
    """A field that the schema does not have."""

    def __init__(self, select: Select) -> None:
        super().__init__(f"undefined field '{select.field}'")
        self.select = select


def estimate(node: Node, shapes: Mapping[str, Shape]) -> Found:
    """Estimate a whole expression. `shapes` are those of its variables. Raises UndefinedField."""
    return _Walk(shapes).of(node, {})


class _Walk:
    def __init__(self, shapes: Mapping[str, Shape]) -> None:
        self._shapes = shapes

    def of(self, node: Node, scope: Mapping[str, Found]) -> Found:
        if isinstance(node, Const):
            return Found(0, node.size)
        if isinstance(node, Ident):
            return self._ident(node, scope)
        if isinstance(node, Select):
            return self._select(node, scope)
        if isinstance(node, Call):
            return self._call(node, scope)
        if isinstance(node, Comprehension):
            return self._loop(node, scope)
        assert isinstance(node, Literal)
        parts = [self.of(part, scope) for part in node.parts]
        shape = None if node.is_map else Made(len(parts), Made(max((part.size for part in parts), default=1)))
        return Found((_MAP if node.is_map else _LIST) + sum(part.cost for part in parts), len(parts), shape)

    def _ident(self, node: Ident, scope: Mapping[str, Found]) -> Found:
        if node.name in scope:
            return Found(1, scope[node.name].size, scope[node.name].shape)
        shape = self._shapes.get(node.name)
        return Found(1, shape.most if shape else 1, shape)

    def _select(self, node: Select, scope: Mapping[str, Found]) -> Found:
        operand = self.of(node.operand, scope)
        fields = operand.shape.fields if operand.shape is not None else None
        if fields is not None and node.field not in fields:
            raise UndefinedField(node)
        if node.test:
            return Found(operand.cost, 1)
        if operand.shape is None:
            return Found(operand.cost + 1, MOST_SIZE)
        return _shaped(operand.cost + 1, operand.shape.item if fields is None else fields[node.field])

    def _call(self, node: Call, scope: Mapping[str, Found]) -> Found:
        parts = [self.of(argument, scope) for argument in node.arguments]
        cost, name = sum(part.cost for part in parts), node.function
        sizes = [part.size for part in parts] or [0]
        if name == "_?_:_":
            chosen = parts[1] if parts[1].size >= parts[2].size else parts[2]
            return Found(parts[0].cost + max(parts[1].cost, parts[2].cost), chosen.size, chosen.shape)
        if name in ("_[_]", "_[?_]", "_?._"):
            field = parts[0].shape.fields if parts[0].shape else None
            if name == "_?._" and field is not None and isinstance(node.arguments[1], Const):
                return _shaped(cost + 1, field.get(node.arguments[1].text))
            return _shaped(cost + 1, parts[0].shape.item if parts[0].shape else None)
        if name in _BOTH_SIDES:
            return Found(cost, 1)
        if name in _EQUAL:
            return Found(cost + _walked(min(sizes)), 1)
        if name in _ORDERED:
            return Found(cost + max(1, _walked(min(sizes))), 1)
        if name == "_+_":
            both = sum(sizes)
            return Found(
                cost + (1 if any(isinstance(each, Literal) for each in node.arguments) else max(1, _walked(both))), both, _larger(parts)
            )
        if name in _OF_LISTS:
            return _OF_LISTS[name](node, cost, parts)
        if name in _CONTAIN:
            parsed = 0 if isinstance(node.arguments[-1], Call) else _walked(sizes[-1])
            return Found(cost + _CONTAIN[name] + parsed, 1)
        return self._function(name, cost, sizes, parts)

    def _function(self, name: str, cost: float, sizes: list[int], parts: list[Found]) -> Found:
        sought = sizes[1] if len(sizes) > 1 else 1
        if name in ("matches", "find", "findAll"):
            return Found(cost + _walked(sizes[0] + 1) * ceil(sought * _PATTERN), sizes[0])
        if name in _GROWING:
            grown = _GROWING[name](parts)
            return Found(cost + _walked(sizes[0]) * (max(1, _walked(sought)) if name == "replace" else 1) + _walked(grown), grown)
        if name in _BY_BOTH:
            made = _walked(sizes[0]) if name == "split" else 0
            return Found(cost + _walked(sizes[0]) * _walked(sought) + made, max(sizes))
        if name in _OF_SETS:
            return Found(cost + sizes[0] * sought * _OF_SETS[name] + 1, 1)
        if name == "check":
            return Found(cost + _CHECK, 1)
        if name == "validate":
            return Found(cost + _walked(sizes[-1] + 1) * _FORMAT, 5)
        if name == "@in":
            return Found(cost + (1 if parts[-1].shape and parts[-1].shape.key else sizes[-1]), 1)
        if name in _BY_SOUGHT:
            return Found(cost + _walked(sought), 1)
        if name in _BY_TEXT:
            return Found(cost + _walked(sizes[0]), sizes[0])
        if name in _BY_ITEMS:
            item = parts[0].shape.item if parts[0].shape else None
            return Found(cost + sizes[0] * (1 + _walked(item.most if item else 0)), item.most if item else 1, item)
        if name in ("orValue", "value", "optional.of", "optional.ofNonZeroValue", "dyn"):
            return Found(cost + 1, max(sizes), parts[0].shape if parts else None)
        return Found(cost + 1, 1 if name == "size" or name in _OPAQUE else max(sizes))

    def _loop(self, node: Comprehension, scope: Mapping[str, Found]) -> Found:
        over, begin = self.of(node.over, scope), self.of(node.begin, scope)
        if isinstance(node.over, Literal) and not node.over.parts:  # cel.bind(): the loop is never taken, its result is
            return self._bound(node, begin, scope)
        inside = {**scope, node.total: Found(1, begin.size), **_items(node.variables, over)}
        each = self.of(node.go_on, inside).cost + self.of(node.step, inside).cost
        result = self.of(node.result, {**scope, node.total: Found(1, over.size)})
        made = _made(node.step, node.total)
        item = self.of(made, inside) if made is not None else Found(0, 1)
        shape = Made(over.size, item.shape or Made(item.size)) if made is not None else None
        return Found(over.cost + begin.cost + over.size * each + result.cost, over.size if shape else 1, shape)

    def _bound(self, node: Comprehension, begin: Found, scope: Mapping[str, Found]) -> Found:
        result = self.of(node.result, {**scope, node.total: begin})
        return Found(begin.cost + result.cost, result.size, result.shape)


def _walked(characters: int) -> int:
    """Return what it costs to walk through a text, or to compare what has a size."""
    return ceil(characters * _TEXT)


def _sorted(cost: float, parts: list[Found], factor: float) -> Found:
    size = parts[0].size
    compared = ceil(size * ceil(log2(size)) * factor) if size > 1 else 0
    return Found(cost + compared + _MAKING, size, parts[0].shape)


def _copied(cost: float, parts: list[Found], size: int) -> Found:
    return Found(cost + size + _MAKING, size, Made(size, parts[0].shape.item if parts[0].shape else None))


def _flattened(node: Call, cost: float, parts: list[Found]) -> Found:
    """Estimate `list.flatten(depth)`: all items of the lists in the list, as often as it goes deeper."""
    size, shape = parts[0].size, parts[0].shape
    inner = shape.item if shape else None
    depth = _integer(node.arguments[1], 256) if len(parts) > 1 else 1
    most = size * (inner.most if inner else MOST_SIZE)
    counted = size if depth <= 1 else most * depth
    return Found(cost + counted + _MAKING, most, Made(most, inner.item if inner else None))


def _sliced(node: Call, cost: float, parts: list[Found]) -> Found:
    begin, end = _integer(node.arguments[1], 0), _integer(node.arguments[2], parts[0].size)
    return _copied(cost, parts, end - begin if end >= begin else parts[0].size)


def _ranged(node: Call, cost: float, parts: list[Found]) -> Found:
    size = _integer(node.arguments[0], MOST_ITEMS)
    return Found(cost + size + _MAKING, size, Made(size))


def _integer(node: Node, otherwise: int) -> int:
    return int(node.text) if isinstance(node, Const) and node.type == "int" and node.text.isdigit() else otherwise


MOST_ITEMS = 1_000_000
"""No list that is made out of a number alone is longer (functions.py)."""

_OF_LISTS: Mapping[str, Callable[[Call, float, list[Found]], Found]] = {
    "sort": lambda _node, cost, parts: _sorted(cost, parts, 0.1),
    "@sortByAssociatedKeys": lambda _node, cost, parts: _sorted(cost, parts, 0.2),
    "distinct": lambda _node, cost, parts: Found(cost + parts[0].size ** 2 + _MAKING, parts[0].size, parts[0].shape),
    "reverse": lambda _node, cost, parts: _copied(cost, parts, parts[0].size),
    "flatten": _flattened,
    "slice": _sliced,
    "_range": _ranged,
}
"""cel-go's functions of lists, with its costs (ext/lists.go, version 3)."""


class Made(msgspec.Struct, frozen=True):
    """The shape of what an expression makes itself."""

    most: int
    item: Shape | None = None
    key: Shape | None = None
    fields: Mapping[str, Shape] | None = None


def _replaced(parts: list[Found]) -> int:
    """Return the most characters after `text.replace(old, new)`: one `new` for each character, or for each constant `old`, which alone costs nothing."""
    text, old, new = (part.size for part in parts[:3])
    found = text // max(1, old if parts[1].cost == 0 else 1) + 1
    return text + found * new


def _joined(parts: list[Found]) -> int:
    """Return the most characters of `list.join(separator)`."""
    items, between = parts[0].size, parts[1].size if len(parts) > 1 else 0
    return items * (_text_of(parts[0].shape) + between)


def _formatted(parts: list[Found]) -> int:
    """Return the most characters of `text.format(list)`: each item is printed once."""
    return parts[0].size + parts[-1].size * _text_of(parts[-1].shape)


_GROWING: Mapping[str, Callable[[list[Found]], int]] = {"replace": _replaced, "join": _joined, "format": _formatted}
"""Functions whose value may be larger than all that they are given together."""


def _text_of(items: Shape | None) -> int:
    """Return the most characters of an item of a list; 1 if nothing is known of it."""
    item = items.item if items else None
    return item.most * (item.item.most if item.item else 1) if item else 1


def _larger(parts: list[Found]) -> Shape | None:
    """Return the shape of two texts or lists together: that with the larger items."""
    return max((part.shape for part in parts), key=_text_of)


def _made(step: Node, total: str) -> Node | None:
    """Return what a loop adds to its list in each step: `map` and `filter` are `total + [item]`, perhaps under a condition."""
    if isinstance(step, Call) and step.function == "_?_:_":
        step = step.arguments[1]
    if isinstance(step, Call) and step.function == "_+_" and names(step.arguments[0], total):
        added = step.arguments[1]
        return added.parts[0] if isinstance(added, Literal) and added.parts else None
    return None


def _shaped(cost: float, shape: Shape | None) -> Found:
    return Found(cost, shape.most if shape else MOST_SIZE, shape)


def _items(variables: tuple[str, ...], over: Found) -> dict[str, Found]:
    """Return what the loop's variables hold: items of a list, keys of a map; with two variables, index or key, and value."""
    shape = over.shape
    item = _shaped(0, shape.item) if shape else Found(0, over.size)
    key = _shaped(0, shape.key) if shape and shape.key else Found(0, 1)
    if len(variables) == 2:
        return {variables[0]: key, variables[1]: item}
    return {variables[0]: key if shape and shape.key else item}
