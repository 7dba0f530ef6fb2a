"""Finds the types of an expression's parts, and says where they do not fit: `found no matching overload for '_==_' applied to '(int, string)'`.

The library compiles rules of custom kinds with variables of any type. Here they are looked at once more, with the types that a schema gives to its values, by
the rules of cel-go's checker and in its words. Who refuses an expression that Kubernetes takes does more harm than who takes one that it refuses: a
name or a function that is not known here has any type, and `sure` says whether there was one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from labctl.resources.cel import tree
from labctl.resources.cel.declarations import Overload, declared
from labctl.resources.cel.tree import Call, Comprehension, Const, Ident, Literal, Node, Select
from labctl.resources.cel.types import BOOL, DYN, ERROR, INT, OPTIONAL, TooManySteps, Type, Types

Scope = Mapping[str, Type]

_BOTH = frozenset({"_&&_", "_||_"})
NAMES = {"_indexOf": "indexOf", "_lastIndexOf": "lastIndexOf", "_string": "string", "_range": "lists.range"}
"""What rewrite.py calls some functions, and what their authors do."""
_ELSEWHERE = {"jsonpatch.escapeKey": "jsonpatch"}
"""Functions that only policies have."""
_TYPE_NAMES = {
    "bool": "bool", "int": "int", "uint": "uint", "double": "double", "string": "string", "bytes": "bytes", "null_type": "null",
    "google.protobuf.Timestamp": "timestamp", "google.protobuf.Duration": "duration", "list": "list", "map": "map", "type": "type",
}  # fmt: skip


class Problem(NamedTuple):
    """What is wrong, and the number of the part where it is."""

    number: int
    said: str


class Checked(NamedTuple):
    """The type of the whole expression, and what is wrong. `sure`: nothing in it is unknown to the checker."""

    type: Type
    problems: list[Problem]
    sure: bool


def check(expression: Node, types: Types, variables: Scope, inserted: frozenset[int] = frozenset()) -> Checked:
    """Check a whole expression. `types` made the types of the variables. `inserted` are the numbers of parts that rewrite.py wrote."""
    checker = _Checker(types, inserted)
    try:
        found = types.solved(checker.of(expression, variables), dyn=True)
        checker.literals(expression)
    except TooManySteps:
        return Checked(DYN, checker.problems, False)
    return Checked(found, checker.problems, checker.sure)


class _Checker:
    def __init__(self, types: Types, inserted: frozenset[int]) -> None:
        self._types, self._inserted = types, inserted
        self._found: dict[int, Type] = {}
        self.problems: list[Problem] = []
        self.sure = True

    def of(self, node: Node, scope: Scope) -> Type:
        found = self._found[node.number] = _READERS[type(node)](self, node, scope)
        return found

    def _wrong(self, node: Node, said: str) -> Type:
        self.problems.append(Problem(node.number, said))
        return ERROR

    def _unsure(self) -> Type:
        self.sure = False
        return DYN

    def _said(self, type_: Type) -> str:
        return str(self._types.solved(type_, dyn=True))

    def _fits(self, given: Type, wanted: Type) -> bool:
        return self._types.assignable([given], [wanted])

    # -- parts

    def _const(self, node: Const, _scope: Scope) -> Type:
        return self._types.simple(node.type) if node.type else self._unsure()

    def _ident(self, node: Ident, scope: Scope) -> Type:
        if node.name in scope:
            return scope[node.name]
        if node.name in _TYPE_NAMES:
            of = _TYPE_NAMES[node.name]
            params = {"list": [DYN], "map": [DYN, DYN]}.get(of, [])
            return self._types.type_of(self._types.make(of, "", *params) if params else self._types.simple(of))
        return self._unsure()

    def _select(self, node: Select, scope: Scope) -> Type:
        found = self._field(node, self.of(node.operand, scope), node.field, optional=False)
        return BOOL if node.test else self._types.solved(found)

    def _field(self, node: Node, operand: Type, field: str, *, optional: bool) -> Type:
        """Return the type of `operand.field`. Of an optional's value it is optional, too."""
        whole = self._types.solved(operand)
        is_optional = whole.name == OPTIONAL
        inner = whole.params[0] if is_optional else whole
        found: Type = DYN
        if inner.kind == "map":
            found = inner.params[1]
        elif inner.kind == "object" and inner.fields is not None:
            found = inner.fields.get(field, self._types) or self._wrong(node, f"undefined field '{field}'")
        elif inner.kind == "param":
            self._fits(DYN, inner)
        elif inner.kind not in ("dyn", "error"):
            self._wrong(node, f"type '{self._said(inner)}' does not support field selection")
        return self._types.optional_of(found) if is_optional or optional else found

    def _call(self, node: Call, scope: Scope) -> Type:
        if node.function == "_?._":
            field = node.arguments[1]
            return self._field(node, self.of(node.arguments[0], scope), field.text if isinstance(field, Const) else "", optional=True)
        given = [self.of(each, scope) for each in node.arguments]
        if node.function == "dyn" and node.number in self._inserted:
            return given[0]
        if node.function == "_mapped":
            return self._mapped(node)
        if node.function in _BOTH:
            fits = [self._fits(type_, BOOL) for type_ in given]
            for each, type_, right in zip(node.arguments, given, fits, strict=True):
                if not right:
                    self._wrong(each, f"expected type 'bool' but found '{self._said(type_)}'")
            return BOOL if all(fits) else ERROR
        if node.function in _ELSEWHERE:
            return self._wrong(node, f"undeclared reference to '{_ELSEWHERE[node.function]}' (in container '')")
        overloads = declared().get(NAMES.get(node.function, node.function))
        return self._resolved(node, given, overloads) if overloads is not None else self._unsure()

    def _mapped(self, node: Call) -> Type:
        """Return the type of a `transformMap`, which rewrite.py made a list of pairs: of keys and values as they were written."""
        for part in tree.walk(node.arguments[0]):
            if isinstance(part, Literal) and part.number in self._inserted and len(part.parts) == 2:
                key, value = (self._found[tree.below(each)[0].number] for each in part.parts)
                return self._types.map_of(self._types.solved(key), self._types.solved(value))
        return self._unsure()

    def _resolved(self, node: Call, given: list[Type], overloads: Sequence[Overload]) -> Type:
        result: Type | None = None
        for overload in overloads:
            if overload.method != node.method or len(overload.takes) != len(given):
                continue
            unknowns = {name: self._types.unknown() for name in overload.unknowns}
            takes = [self._types.instance(each, unknowns) for each in overload.takes]
            if not self._types.assignable(given, takes):
                continue
            gives = self._types.solved(self._types.instance(overload.gives, unknowns))
            result = gives if result is None or result is gives else DYN
        if result is not None:
            return result
        said = [self._said(each) for each in given]
        signature = f"{said[0]}.({', '.join(said[1:])})" if node.method else f"({', '.join(said)})"
        return self._wrong(node, f"found no matching overload for '{NAMES.get(node.function, node.function)}' applied to '{signature}'")

    def _literal(self, node: Literal, scope: Scope) -> Type:
        if node.name:
            for part in node.parts:
                self.of(part, scope)
            return self._unsure()
        if not node.is_map:
            return self._types.list_of(self._joined(self._item_types(node, scope)))
        keys, values = [], []
        for index in range(0, len(node.parts), 2):
            keys.append((node.parts[index], self.of(node.parts[index], scope)))
            value = node.parts[index + 1]
            found = self.of(value, scope)
            values.append((value, self._unwrapped(value, found) if index // 2 in node.optional else found))
        return self._types.map_of(self._joined(iter(keys)), self._joined(iter(values)))

    def _item_types(self, node: Literal, scope: Scope) -> Iterator[tuple[Node, Type]]:
        for index, part in enumerate(node.parts):
            found = self.of(part, scope)
            yield part, self._unwrapped(part, found) if index in node.optional else found

    def _unwrapped(self, node: Node, type_: Type) -> Type:
        whole = self._types.solved(type_)
        if whole.name == OPTIONAL:
            return whole.params[0]
        if whole.kind != "dyn":
            self._wrong(node, f"expected type 'optional_type({self._said(whole)})' but found '{self._said(whole)}'")
        return whole

    def _joined(self, parts: Iterator[tuple[Node, Type]]) -> Type:
        """Return the one type of all items, keys or values of a literal."""
        whole: Type | None = None
        for _, found in parts:
            if whole is None:
                whole = found
            elif self._fits(whole, found):
                whole = whole if self._types.is_as_general(whole, found) else found
            else:
                whole = DYN  # which `literals` refuses, if need be
        return whole if whole is not None else self._types.unknown()

    def _loop(self, node: Comprehension, scope: Scope) -> Type:
        over, total = self._types.solved(self.of(node.over, scope)), self.of(node.begin, scope)
        first, second = self._items(node, over)
        outer = {**scope, node.total: total}
        loop = {**outer, **dict(zip(node.variables, (first,) if len(node.variables) == 1 else (second, first), strict=True))}
        if len(node.variables) == 2 and over.kind == "map":
            loop |= {node.variables[0]: over.params[0], node.variables[1]: over.params[1]}
        self._asserted(node.go_on, self.of(node.go_on, loop), BOOL)
        self._asserted(node.step, self.of(node.step, loop), total)
        return self._types.solved(self.of(node.result, outer))

    def _items(self, node: Comprehension, over: Type) -> tuple[Type, Type]:
        """Return the types of the item, or a map's key, and of a list's index."""
        if over.kind in ("list", "map"):
            return over.params[0], INT
        if over.kind in ("dyn", "error", "param"):
            self._fits(DYN, over)
            return DYN, DYN
        why = f"expression of type '{self._said(over)}' cannot be range of a comprehension (must be list, map, or dynamic)"
        return self._wrong(node.over, why), ERROR

    def _asserted(self, node: Node, found: Type, wanted: Type) -> None:
        if not self._fits(wanted, found):
            self._wrong(node, f"expected type '{self._said(wanted)}' but found '{self._said(found)}'")

    # -- literals

    def literals(self, expression: Node) -> None:
        """Check that the parts of every literal have exactly one type, which the types alone do not say: `[1, dyn('a')]`. What is formatted is exempt."""
        if self.problems:
            return
        waiting: list[Node] = [expression]
        while waiting:
            node = waiting.pop()
            if isinstance(node, Call) and node.function == "format":
                continue
            waiting += tree.below(node)
            if isinstance(node, Literal) and not node.name and node.number not in self._inserted:
                step = 2 if node.is_map else 1
                for offset in range(step):
                    self._same(node.parts[offset::step], node.optional if offset == step - 1 else frozenset())

    def _same(self, parts: tuple[Node, ...], optional: frozenset[int]) -> None:
        first: Type | None = None
        for index, part in enumerate(parts):
            found = self._types.solved(self._found[part.number], dyn=True)
            if index in optional and found.name == OPTIONAL:
                found = found.params[0]
            if first is None:
                first = found
            elif found is not first:
                self._wrong(part, f"expected type '{first}' but found '{found}'")
                return


_READERS: Mapping[type, Callable[..., Type]] = {
    Const: _Checker._const, Ident: _Checker._ident, Select: _Checker._select, Call: _Checker._call, Literal: _Checker._literal,
    Comprehension: _Checker._loop,
}  # fmt: skip


def pattern_problem(expression: Node) -> str:
    """Return what is wrong with a written-out pattern of `find` or `findAll`, which Kubernetes' functions compile when the rule is made ready."""
    for node in tree.walk(expression):
        if isinstance(node, Call) and node.function in ("find", "findAll") and node.method and len(node.arguments) > 1:
            argument = _written(node.arguments[1])
            if argument is not None and (problem := _pattern_error(argument.text)):
                return problem
    return ""


def _written(node: Node) -> Const | None:
    """Return the text that is written out here, perhaps as `dyn` by rewrite.py."""
    while isinstance(node, Call) and node.function == "dyn":
        node = node.arguments[0]
    return node if isinstance(node, Const) and node.type == "string" else None


def literal_problems(expression: Node) -> Iterator[Problem]:
    """Yield the written-out patterns, durations and times that are none. They are told when the expression is compiled, not when it is evaluated."""
    for node in tree.walk(expression):
        if not isinstance(node, Call) or node.function not in _LITERALS or len(node.arguments) <= node.method:
            continue
        argument = _written(node.arguments[int(node.method)])
        if argument is not None and not _LITERALS[node.function](argument.text):
            yield Problem(argument.number, f"invalid {node.function} argument")


def _pattern_error(text: str) -> str:
    from labctl.resources.custom.schema import compiled

    try:
        compiled(text)
    except ValueError as error:
        return str(error)
    return ""


_DURATION = re.compile(r"[+-]?(?:0|(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:ns|us|µs|μs|ms|s|m|h))+)")
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{1,2}:[0-9]{2}:[0-9]{2}(?:[.,][0-9]+)?(?:Z|[+-][0-9]{2}:[0-9]{2})")
_LITERALS: Mapping[str, Callable[[str], bool]] = {
    "matches": lambda text: not _pattern_error(text),
    "duration": lambda text: _DURATION.fullmatch(text) is not None,
    "timestamp": lambda text: _TIME.fullmatch(text) is not None,
}
