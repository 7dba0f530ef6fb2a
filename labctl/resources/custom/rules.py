"""A schema's `x-kubernetes-validations`: rules in CEL about a value, and about what it was before.

A rule stands at some value of the schema and sees it as `self`; one that also reads `oldSelf` is a transition rule and is asked only when there is an old
value (unless `optionalOldSelf`). Rules are compiled once for each definition, when its first object is written, and asked only about objects that are
right otherwise. An old value that has not changed is not judged again, so that a new rule is no trouble for those who change something else (KEP-4008).
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec

from labctl.resources import fields
from labctl.resources.cel.expressions import CompileError, Environment, EvaluationError, Expression
from labctl.resources.cel.tree import names, walk
from labctl.resources.cel.types import Type, Types
from labctl.resources.custom.correlate import ABSENT, in_order_of, items_before
from labctl.resources.custom.schema import Node, escaped
from labctl.resources.custom.values import native
from labctl.resources.kind import FieldError

BUDGET_S = 1.0
"""How long all rules about one object may take; a rule that is estimated to be dear is refused with its definition (schemarules.py)."""

_LINE = re.compile(r"<input>:(\d+):")
NO_TYPE = "unable to convert structural schema to CEL declarations"
"""What a real server says of a rule about a value of which its schema says nothing."""
_OPTIONAL = "cel.bind(oldSelf, dyn(oldSelves.size() == 0 ? optional.none() : optional.of(oldSelves[0])),\n"
_ORDERS = re.compile(r"\[|\b(?:indexOf|lastIndexOf|join|isSorted|first|last|slice|reverse|transform\w+)\b|,\s*\w+\s*,")
"""A rule with these may look at an item's place, so it sees lists in the order that they have; two variables of a loop are one."""
_OLD = re.compile(r"\boldSelf\b")
_FIELD = re.compile(r"""\.([A-Za-z_][A-Za-z0-9_]*)|\[['"]([^'"]+)['"]\]""")


class Rule(msgspec.Struct, frozen=True):
    """One rule, compiled."""

    rule: Expression
    said: Mapping[str, Any]
    message: Expression | None
    reads_old: bool
    optional: bool
    orders: bool  # whether it may look at the order of a list's items

    @property
    def transition(self) -> bool:
        """Whether it is asked only if there is an old value."""
        return self.reads_old and not self.optional


def compile_rule(node: Node, said: Mapping[str, Any]) -> Rule:
    """Compile a rule that is stored, whatever the types of its values. Raises CompileError."""
    text, message, optional = said.get("rule", ""), said.get("messageExpression"), bool(said.get("optionalOldSelf"))
    rule = compile_stored(text, "bool", optional=optional)
    says = compile_stored(message, "string", optional=optional) if message else None
    return Rule(rule, said, says, reads_old(rule, optional=optional), optional, _ORDERS.search(text) is not None)


def compile_stored(text: str, wanted: str, *, optional: bool) -> Expression:
    """Compile a rule, or its message, that was accepted before. Raises CompileError."""
    try:
        return _compiled(text, wanted, optional)
    except CompileError:
        loosely = _environment(optional).compile_loosely(_bound(text, optional))
        if loosely is None:
            raise
        return loosely


def compile_checked(type_: TypeMaker, text: str, wanted: str, *, optional: bool) -> Expression:
    """Compile a rule, or its message, that somebody writes: it must fit the types of the schema, too. Raises CompileError."""
    refused: CompileError | None = None
    try:
        found = _compiled(text, wanted, optional)
    except CompileError as error:
        loosely = _environment(optional).compile_loosely(_bound(text, optional))
        if loosely is None:
            raise
        found, refused = loosely, error
    types = Types()
    seen = type_(types)
    if seen is None:
        raise refused or CompileError(NO_TYPE)
    variables = {"self": seen, "oldSelves": types.list_of(seen)} if optional else {"self": seen, "oldSelf": seen}
    if problem := found.mistyped(types, variables, wanted, len(_OPTIONAL) if optional else 0):
        raise CompileError(_line_before(problem) if optional else problem)
    return found


TypeMaker = Callable[[Types], Type | None]
"""Makes the type of `self`; None if the schema does not say what it is."""


def reads_old(rule: Expression, *, optional: bool) -> bool:
    """Tell whether a rule reads `oldSelf`: not a field or a text that is called so."""
    if not _OLD.search(rule.text[len(_OPTIONAL) if optional else 0 :]):
        return False
    return sum(names(node, "oldSelf") for node in walk(rule.tree)) > int(optional)  # what binds the variable has it once


def _compiled(text: str, wanted: str, optional: bool) -> Expression:
    try:
        return _environment(optional).compile(_bound(text, optional), wanted)
    except CompileError as error:
        if not optional:
            raise
        raise CompileError(_line_before(str(error))) from None


def _bound(text: str, optional: bool) -> str:
    return f"{_OPTIONAL}{text}\n)" if optional else text


def _environment(optional: bool) -> Environment:
    return Environment({"self": "dyn", "oldSelves": "list(dyn)"} if optional else {"self": "dyn", "oldSelf": "dyn"})


def _line_before(said: str) -> str:
    """Return an error about an expression with a line before it with the places that its author knows."""
    return _LINE.sub(lambda found: f"<input>:{int(found[1]) - 1}:", said)


def violations(node: Node, value: Any, old: Any, now_s: Callable[[], float] = time.monotonic) -> list[FieldError]:
    """Return the rules that an object violates. `old` is the object before, or ABSENT."""
    judge = _Judge(now_s, now_s() + BUDGET_S)
    return list(judge.below(node, value, old, ""))


class _Judge:
    """One look at one object. It ends when its time is up."""

    def __init__(self, now_s: Callable[[], float], until_s: float) -> None:
        self._now_s = now_s
        self._until_s = until_s
        self._spent = False

    def below(self, node: Node, value: Any, old: Any, path: str, *, same: bool = False) -> Iterator[FieldError]:
        """Look at a value and what it holds. `same`: it is in something that is as it was, though nobody knows which old value was its own."""
        if not node.checks or value is None or self._spent:
            return
        same = same or (old is not ABSENT and old == value)
        if node.rules:
            yield from self._here(node, value, old, path, same=same)
        if isinstance(value, dict):
            for name, item in value.items():
                child = node.properties.get(name) or node.extra
                if child is not None and child.checks:
                    before = old.get(name, ABSENT) if isinstance(old, dict) else ABSENT
                    at = f"{path}.{name}" if path and name in node.properties else name if name in node.properties else f"{path}[{name}]"
                    yield from self.below(child, item, before, at, same=same)
        elif isinstance(value, list) and node.items is not None and node.items.checks:
            before_of = items_before(node, old)
            for number, item in enumerate(value):
                yield from self.below(node.items, item, before_of(item), f"{path}[{number}]", same=same)

    def _here(self, node: Node, value: Any, old: Any, path: str, *, same: bool) -> Iterator[FieldError]:
        if node.checked is None:
            node.checked = [compile_rule(node, said) for said in node.rules]
        seen, before = native(node, value), ABSENT if old is ABSENT or old is None else native(node, old)
        ordered = before if before is ABSENT or not node.keyed else native(node, in_order_of(node, value, old))
        for rule in node.checked:
            if (rule.transition and before is ABSENT) or (same and not rule.reads_old):
                continue
            if self._now_s() >= self._until_s:
                self._spent = True
                why = "validation failed due to running out of cost budget, no further validation rules will be run"
                yield fields.invalid(path or "<nil>", node.type, why)
                return
            yield from _asked(rule, node, seen, before if rule.orders else ordered, path)


def _asked(rule: Rule, node: Node, value: Any, old: Any, path: str) -> Iterator[FieldError]:
    variables = (
        {"self": value, "oldSelves": [] if old is ABSENT else [old]}
        if rule.optional
        else {"self": value, "oldSelf": None if old is ABSENT else old}
    )
    try:
        if rule.rule.value(variables):
            return
    except EvaluationError as error:
        yield fields.invalid(path or "<nil>", node.type, f"{error} evaluating rule: {_told(rule)}")
        return
    yield _refusal(rule, node, path, _message(rule, variables))


def _told(rule: Rule) -> str:
    """Return the rule's message for an error of its evaluation: what its author wrote, else the rule itself."""
    message: str = rule.said.get("message") or rule.said.get("rule", "")
    return message.strip()


def _message(rule: Rule, variables: Mapping[str, Any]) -> str:
    if rule.message is not None:
        try:
            said = str(rule.message.value(variables)).strip()
        except EvaluationError:
            said = ""  # a message that fails, is empty or has several lines is no message
        if said and "\n" not in said and len(said) <= 5120:
            return said
    return rule.said.get("message", "").strip() or f"failed rule: {rule.said.get('rule', '').strip()}"


def _refusal(rule: Rule, node: Node, path: str, message: str) -> FieldError:
    for name, quoted in _FIELD.findall(rule.said.get("fieldPath") or ""):
        path = (
            f"{path}[{quoted}]" if quoted and not _is_property(node, quoted) else f"{path}.{name or quoted}" if path else (name or quoted)
        )
    reason = rule.said.get("reason") or "FieldValueInvalid"
    path = path or "<nil>"
    if reason == "FieldValueForbidden":
        return fields.forbidden(path, message)
    if reason == "FieldValueRequired":
        return fields.required(path, message)
    if reason == "FieldValueDuplicate":
        return fields.duplicate(path, node.type)
    return fields.invalid(path, node.type, message)


def _is_property(node: Node, name: str) -> bool:
    return name in node.properties


def rule_names(node: Node) -> Mapping[str, str]:
    """Properties by the names that rules write."""
    return {escaped(name): name for name in node.properties}
