"""What is wrong with the rules of a schema, said when its definition is written: they must compile, read fields that are there, and be cheap enough."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property, partial
from typing import Any

from labctl.resources import fields
from labctl.resources.cel.estimate import MOST_SIZE, Made, UndefinedField, estimate
from labctl.resources.cel.expressions import CompileError, Expression
from labctl.resources.cel.shapes import Shape
from labctl.resources.cel.types import Types
from labctl.resources.custom import fieldpaths
from labctl.resources.custom.decltypes import declared_type
from labctl.resources.custom.rules import NO_TYPE, compile_checked, compile_stored, reads_old
from labctl.resources.custom.schema import Node, escaped
from labctl.resources.kind import FieldError

MOST_OF_A_RULE = 10_000_000
MOST_OF_ALL = 100_000_000
MOST_TEXT = 200_000
"""Characters of all rules of a schema: compiling that many takes seconds, and each master that starts compiles them anew."""

_WANTED = {"rule": "bool", "messageExpression": "string"}
_MOST_TOLD = 4  # of the dearest rules
_BREAK = re.compile(r"[\n\r]")
_HINT = "(try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)"
_REASONS = ("FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired")
_KNOWN_TEXTS = {"date": 12, "date-time": 32, "duration": 32}
_SMALLEST = {"string": 2, "object": 2, "array": 2, "boolean": 4, "date": 12, "date-time": 21, "duration": 3}
"""Characters of the smallest value of a type or a format in JSON; 1 of all others."""


def _smallest(node: Node) -> int:
    """Return the characters of the smallest value in JSON. What has a default may be left out."""
    needed = [(name, node.properties[name]) for name in node.required if name in node.properties and not node.properties[name].has_default]
    return _SMALLEST.get(node.format, _SMALLEST.get(node.type, 1)) + sum(len(name) + _smallest(child) + 4 for name, child in needed)


def _entries(node: Node, within: int = MOST_SIZE - 2) -> int:
    """Return how many items of a list, or entries of a map, fit into a request."""
    below = node.items or node.extra
    if below is None:
        return within // 2
    return within // (_smallest(below) + (1 if node.items is not None else 6))


class SchemaShape:
    """A schema's node as estimate.py wants to see it. At the root, and in an embedded resource, the head of every object may be read."""

    def __init__(self, node: Node, *, embedded: bool = False) -> None:
        self._node = node
        self._embedded = embedded or node.embedded
        self._is_object = node.type == "object" or bool(node.properties)

    @property
    def most(self) -> int:
        node = self._node
        if node.type == "array":
            return node.max_items if node.max_items is not None else _entries(node)
        if self._is_object:
            return 0 if node.extra is None else node.max_properties if node.max_properties is not None else _entries(node)
        if node.type == "string" or node.int_or_string or not node.type:
            return self._most_text()
        return 0  # two numbers are compared in no time

    def _most_text(self) -> int:
        node = self._node
        if node.max_length is not None:
            return node.max_length if node.format == "byte" else node.max_length * 4
        if node.enum:
            return max((len(each) for each in node.enum if isinstance(each, str)), default=0)
        return _KNOWN_TEXTS.get(node.format, MOST_SIZE - 2)

    @property
    def fields(self) -> Mapping[str, Shape] | None:
        node = self._node
        if not self._is_object or node.extra is not None or (node.keep and not node.properties):
            return None
        known: dict[str, Shape] = {escaped(name): SchemaShape(child) for name, child in node.properties.items()}
        return known | _head() if self._embedded else known

    @property
    def item(self) -> Shape | None:
        below = self._node.items or self._node.extra
        return SchemaShape(below) if below is not None else None

    @property
    def key(self) -> Shape | None:
        return SchemaShape(_KEY) if self._is_object else None


_KEY = Node({"type": "string", "maxLength": 0})  # Kubernetes counts no characters of keys
_NAME = {"type": "string", "maxLength": 253}
_NAMED = Node(_NAME)
_METADATA = Node({"type": "object", "properties": {"name": _NAME, "generateName": _NAME}})


def _head() -> dict[str, Shape]:
    return {"apiVersion": SchemaShape(_NAMED), "kind": SchemaShape(_NAMED), "metadata": SchemaShape(_METADATA)}


def rule_problems(path: str, schema: Mapping[str, Any], before: Iterable[Mapping[str, Any]] = ()) -> list[FieldError]:
    """Return what is wrong with the rules of a structural schema. `before` are the schemas that the definition had: a rule that did not fit one of those
    was accepted by an earlier labctl, and is no reason to refuse what else is changed now."""
    node = Node(schema)
    if (characters := _characters(node)) > MOST_TEXT:
        return [fields.forbidden(path, f"x-kubernetes-validations of a schema may have {MOST_TEXT} characters, these have {characters}")]
    look = _Look(before)
    found = list(look.at(path, node, 1, root=True))
    if look.total > MOST_OF_ALL:
        told = "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema"
        found += [fields.forbidden(rule, told) for _, rule in sorted(look.dearest, key=lambda each: -each[0])[:_MOST_TOLD]]
        why = f"x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema exceeds budget by factor of {_factor(look.total / MOST_OF_ALL)} {_HINT}"
        found.append(fields.forbidden(path, why))
    return found


def _characters(node: Node) -> int:
    if not node.checks:
        return 0
    own = sum(len(str(said.get(name) or "")) for said in node.rules for name in ("rule", "messageExpression"))
    return own + sum(map(_characters, node.under()))


def _misfits(node: Node, *, root: bool = False) -> Iterator[str]:
    if not node.checks:
        return
    for said in node.rules:
        for field, wanted in _WANTED.items():
            text = str(said.get(field) or "")
            try:
                if text:
                    optional = bool(said.get("optionalOldSelf"))
                    compile_stored(text, wanted, optional=optional)
                    compile_checked(partial(declared_type, node=node, root=root), text, wanted, optional=optional)
            except CompileError:
                yield text
    for child in node.under():
        yield from _misfits(child)


class _Look:
    def __init__(self, before: Iterable[Mapping[str, Any]]) -> None:
        self._before = before
        self.total = 0.0
        self.dearest: list[tuple[float, str]] = []

    def at(self, path: str, node: Node, times: int | None, lost: str = "", *, root: bool = False) -> Iterator[FieldError]:
        """Yield what is wrong at this node. `times` is how often a value of this node may be in one object; None where a list or map that it
        is in has no bound: then as often as fits into a request. `lost`: the first node above below which no old value can be found."""
        if not node.checks:
            return
        often = times if times is not None else MOST_SIZE // (_smallest(node) + 1)
        seen = (
            not node.rules
            or declared_type(Types(), node, root=root) is not None
            or all(said.get("rule") in self._misfits for said in node.rules)
        )
        if not seen:
            why = f"Internal error: internal error: failed to construct type information for x-kubernetes-validations rules: {NO_TYPE}"
            yield FieldError(f"{path}.x-kubernetes-validations", "InternalError", why)
        for number, said in enumerate(node.rules if seen else ()):
            yield from self._rule(f"{path}.x-kubernetes-validations[{number}]", node, said, often, lost, root)
        inside = lost or (path if node.map_type == "atomic" else "")
        for name, child in node.properties.items():
            yield from self.at(f"{path}.properties[{name}]", child, times, inside)
        if node.extra is not None:
            yield from self.at(f"{path}.additionalProperties", node.extra, _product(times, node.max_properties), lost)
        if node.items is not None:
            inside = lost or (path if node.list_type != "map" else "")
            yield from self.at(f"{path}.items", node.items, _product(times, node.max_items), inside)

    def _rule(self, path: str, node: Node, said: Mapping[str, Any], times: int, lost: str, root: bool) -> Iterator[FieldError]:
        yield from _said(path, said)
        yield from fieldpaths.of_rule(f"{path}.fieldPath", said.get("fieldPath") or "", node)
        if not str(said.get("rule") or "").strip():
            return
        rule = self._compiled(f"{path}.rule", node, said, "rule", root)
        if isinstance(rule, FieldError):
            yield rule
            return
        old = reads_old(rule, optional=bool(said.get("optionalOldSelf")))
        if old and lost:
            yield fields.invalid(
                f"{path}.rule", said["rule"], f"oldSelf cannot be used on the uncorrelatable portion of the schema within {lost}"
            )
        elif not old and said.get("optionalOldSelf") is not None:
            yield fields.invalid(f"{path}.optionalOldSelf", said["optionalOldSelf"], "may not be set if oldSelf is not used in rule")
        yield from self._cost(f"{path}.rule", rule, node, times, root)
        if str(said.get("messageExpression") or "").strip():
            message = self._compiled(f"{path}.messageExpression", node, said, "messageExpression", root)
            if isinstance(message, FieldError):
                yield message
                return
            yield from self._cost(f"{path}.messageExpression", message, node, times, root)

    def _compiled(self, path: str, node: Node, said: Mapping[str, Any], field: str, root: bool) -> Expression | FieldError:
        """Return a rule or its message, or what is wrong with it."""
        text, wanted, optional = said[field], _WANTED[field], bool(said.get("optionalOldSelf"))
        try:
            return compile_checked(partial(declared_type, node=node, root=root), text, wanted, optional=optional)
        except CompileError as error:
            if text in self._misfits:
                return compile_stored(text, wanted, optional=optional)
            why = str(error)
            if field != "rule":
                why = f"messageExpression {why}" if "compilation failed" in why else "messageExpression must evaluate to a string"
            return FieldError(path, "FieldValueInvalid", f"Invalid value: {_go(said)}: {why}")

    @cached_property
    def _misfits(self) -> frozenset[str]:
        """The expressions that are stored but do not fit the types of the schema that they are stored with."""
        return frozenset(text for schema in self._before for text in _misfits(Node(schema), root=True))

    def _cost(self, path: str, expression: Expression, node: Node, times: int, root: bool) -> Iterator[FieldError]:
        shape = SchemaShape(node, embedded=root)
        try:
            cost = estimate(expression.tree, {"self": shape, "oldSelf": shape, "oldSelves": Made(1, shape)}).cost * times
        except UndefinedField:
            return  # a stored rule that always fails costs nothing
        self.total += cost
        if cost >= MOST_OF_ALL / 100:
            self.dearest.append((cost, path))
        if cost > MOST_OF_A_RULE:
            what = "messageExpression" if path.endswith("messageExpression") else "rule"
            yield fields.forbidden(path, f"estimated {what} cost exceeds budget by factor of {_factor(cost / MOST_OF_A_RULE)} {_HINT}")


def _product(times: int | None, bound: int | None) -> int | None:
    return None if times is None or bound is None else times * bound


def _factor(times: float) -> str:
    return "more than 100x" if times > 100 else f"{times:.1f}x" if times >= 1.5 else f"{times:f}x"


def _said(path: str, said: Mapping[str, Any]) -> Iterator[FieldError]:
    """Yield what is wrong with a rule apart from its CEL."""
    message = said.get("message") or ""
    if not str(said.get("rule") or "").strip():
        yield fields.required(f"{path}.rule", "rule is not specified")
    elif message and not message.strip():
        yield fields.invalid(f"{path}.message", message, "message must be non-empty if specified")
    elif _BREAK.search(message.strip()):
        yield fields.invalid(f"{path}.message", message, "message must not contain line breaks")
    elif _BREAK.search(str(said["rule"]).strip()) and not message:
        yield fields.required(f"{path}.message", "message must be specified if rule contains line breaks")
    if said.get("messageExpression") and not said["messageExpression"].strip():
        yield fields.required(f"{path}.messageExpression", "messageExpression must be non-empty if specified")
    if said.get("reason") and said["reason"] not in _REASONS:
        yield fields.not_supported(f"{path}.reason", said["reason"], _REASONS)


def _go(said: Mapping[str, Any]) -> str:
    """Return a rule as Go prints it in a real server's messages."""
    names = {"Rule": "rule", "Message": "message", "MessageExpression": "messageExpression"}
    texts = ", ".join(f"{name}:{fields.shown(said.get(key) or '')}" for name, key in names.items())
    return (
        f"apiextensions.ValidationRule{{{texts}, Reason:(*apiextensions.FieldValueErrorReason)(nil), "
        f"FieldPath:{fields.shown(said.get('fieldPath') or '')}, OptionalOldSelf:(*bool)(nil)}}"
    )
