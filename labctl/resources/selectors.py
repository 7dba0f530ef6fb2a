"""Selectors choose objects by labels (`app=web,tier in (front,back),!old`) or by fields (`spec.nodeName=minion-1`).

A selector is parsed once into a value with a quick `matches`, which lists, watches, controllers and the scheduler call for every object.
Parsing is Kubernetes' own grammar with its own errors, as ValueErrors. Nothing here reads an object.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import msgspec

from labctl.resources import labels
from labctl.resources.cached import cached_if_short

Labels = Mapping[str, str]

_BINARY_OPERATORS = ("in", "notin", "=", "==", "!=", "gt", "lt")
_OPERATORS = {"=": "in", "==": "in", "!=": "notin", "in": "in", "notin": "notin", ">": "gt", "<": "lt"}
_TOKEN = re.compile(r"\s*(==|!=|[=!(),<>]|[^\s=!(),<>]+)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Requirement:
    """One term of a label selector. `operator` is in, notin, exists, absent, gt or lt; `spelled` is the operator as the query wrote it (`=`, `in`, ...)."""

    key: str
    operator: str
    values: frozenset[str] = frozenset()
    spelled: str = ""

    def matches(self, of: Labels) -> bool:
        value = of.get(self.key)
        match self.operator:
            case "in":
                return value in self.values
            case "notin":
                return value not in self.values
            case "exists":
                return value is not None
            case "absent":
                return value is None
            case _:
                return self._compares(value)

    def _compares(self, value: str | None) -> bool:
        if value is None or not re.fullmatch(r"[-+]?\d{1,18}", value, re.ASCII):
            return False
        bound = int(next(iter(self.values)))
        return int(value) > bound if self.operator == "gt" else int(value) < bound

    def __str__(self) -> str:
        if self.operator in ("exists", "absent"):
            return ("!" if self.operator == "absent" else "") + self.key
        values = ",".join(sorted(self.values))
        if self.spelled in ("in", "notin"):
            return f"{self.key} {self.spelled} ({values})"
        return f"{self.key}{self.spelled}{values}"


def _compile(requirements: Sequence[Requirement]) -> Callable[[Labels], bool]:
    """Returns the function `matches`. Selectors with nothing but `=`, which is nearly all of them, get a quicker one."""
    if any(requirement.operator != "in" or len(requirement.values) != 1 for requirement in requirements):
        return lambda of: all(requirement.matches(of) for requirement in requirements)
    wanted = [(requirement.key, next(iter(requirement.values))) for requirement in requirements]
    if len(wanted) == 1:
        [(key, value)] = wanted
        return lambda of: of.get(key) == value
    pairs = dict(wanted).items()
    return (lambda of: pairs <= of.items()) if len(pairs) == len(wanted) else lambda of: all(of.get(key) == value for key, value in wanted)


@dataclass(frozen=True)
class Selector:
    """A label selector. All requirements must hold; without any it selects everything."""

    requirements: tuple[Requirement, ...] = ()
    matches: Callable[[Labels], bool] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "matches", _compile(self.requirements))

    @property
    def everything(self) -> bool:
        return not self.requirements

    def exact(self, key: str) -> str | None:
        """Returns the value that the label must have, if the selector allows only one: then an index can be used."""
        for requirement in self.requirements:
            if requirement.key == key and requirement.operator == "in" and len(requirement.values) == 1:
                return next(iter(requirement.values))
        return None

    def __str__(self) -> str:
        return ",".join(map(str, self.requirements))


EVERYTHING = Selector()
NOTHING = Selector((Requirement("", "in"),))  # what an absent LabelSelector means


def from_labels(wanted: Labels) -> Selector:
    """Returns the selector of a ReplicationController or Service: all these labels must be equal. An empty map selects everything, so check that before."""
    return Selector(tuple(Requirement(key, "in", frozenset((value,)), "=") for key, value in sorted(wanted.items())))


@lru_cache(maxsize=4096)
def _from_pairs(pairs: tuple[tuple[str, str], ...]) -> Selector:
    return from_labels(dict(pairs))


def of_pairs(wanted: Labels) -> Selector:
    """Do the same as `from_labels`, and cache the result."""
    return _from_pairs(tuple(wanted.items()))


@cached_if_short(4096)
def of_json(selector: bytes) -> Selector:
    """Returns the selector for the JSON of a metav1.LabelSelector, and caches it."""
    return from_object(msgspec.json.decode(selector))


def from_object(selector: Mapping[str, Any] | None) -> Selector:
    """Returns the selector for a metav1.LabelSelector (matchLabels and matchExpressions). None selects nothing, an empty one everything."""
    if selector is None:
        return NOTHING
    requirements = list(from_labels(selector.get("matchLabels") or {}).requirements)
    for expression in selector.get("matchExpressions") or ():
        requirements.append(_from_expression(expression))
    return Selector(tuple(sorted(requirements, key=lambda requirement: requirement.key)))


def _from_expression(expression: Mapping[str, Any]) -> Requirement:
    key, values = expression.get("key", ""), frozenset(expression.get("values") or ())
    match expression.get("operator"):
        case "In" | "NotIn" as operator:
            if not values:
                raise ValueError("values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty")
            return Requirement(key, operator.lower(), values, operator.lower())
        case "Exists" | "DoesNotExist" as operator:
            if values:
                raise ValueError(f"values: Invalid value: {_go_list(values)}: values set must be empty for exists and does not exist")
            return Requirement(key, "exists" if operator == "Exists" else "absent")
        case operator:
            raise ValueError(f'"{operator}" is not a valid label selector operator')


@cached_if_short(1024)
def parse(text: str) -> Selector:
    """Parses a label selector of a query. Raises ValueError in Kubernetes' words."""
    return Selector(tuple(sorted(_Parser(text).selector(), key=lambda requirement: requirement.key)))


class _Parser:
    """Parses the tokens by recursive descent, as Kubernetes does. An empty token is the end."""

    def __init__(self, text: str) -> None:
        self.tokens = [match[1] for match in _TOKEN.finditer(text)] + [""]
        self.at = 0

    def look(self) -> str:
        return self.tokens[min(self.at, len(self.tokens) - 1)]

    def take(self) -> str:
        token = self.look()
        self.at += 1
        return token

    def selector(self) -> Iterator[Requirement]:
        while (token := self.look()) != "":
            if not _is_word(token) and token != "!":
                raise ValueError(f"found '{token}', expected: !, identifier, or 'end of string'")
            try:
                requirement = self.requirement()
            except ValueError as error:
                raise ValueError(f"unable to parse requirement: {error}") from None
            yield requirement
            token = self.take()
            if token == "":
                return
            if token != ",":
                raise ValueError(f"found '{token}', expected: ',' or 'end of string'")
            if not _is_word(self.look()) and self.look() != "!":
                raise ValueError(f"found '{self.look()}', expected: identifier after ','")

    def requirement(self) -> Requirement:
        absent = self.look() == "!"
        if absent:
            self.take()
        key = self.take()
        if not _is_word(key):
            raise ValueError(f"found '{key}', expected: identifier")
        if errors := labels.key_errors(key):
            raise ValueError(f'<nil>: Invalid value: "{key}": {"; ".join(errors)}')
        if self.look() in ("", ","):
            return Requirement(key, "absent" if absent else "exists")
        if absent:
            return Requirement(key, "absent")
        spelled = self.take()
        operator = _OPERATORS.get(spelled)
        if operator is None:
            raise ValueError(f"found '{spelled}', expected: {', '.join(_BINARY_OPERATORS)}")
        values = self.values() if spelled in ("in", "notin") else self.exact_value()
        _check_values(key, operator, values)
        return Requirement(key, operator, frozenset(values), spelled)

    def exact_value(self) -> list[str]:
        if self.look() in ("", ","):
            return [""]
        value = self.take()
        if not _is_word(value):
            raise ValueError(f"found '{value}', expected: identifier")
        return [value]

    def values(self) -> list[str]:
        """Parses `(a,b,)`. Nothing between two commas is the empty value."""
        if (token := self.take()) != "(":
            raise ValueError(f"found '{token}' expected: '('")
        values: list[str] = []
        expects_value = True
        while (token := self.take()) != ")":
            if token == ",":
                if expects_value:
                    values.append("")
                expects_value = True
            elif _is_word(token):
                values.append(token)
                expects_value = False
                if self.look() not in (",", ")"):
                    raise ValueError(f"found '{self.look()}', expected: ',' or ')'")
            else:
                ending = "or" if values else "')' or"
                raise ValueError(f"found '{token}', expected: ',', {ending} identifier")
        return [*values, ""] if expects_value else values


def _is_word(token: str) -> bool:
    return token != "" and token[0] not in "=!(),<>"


def _check_values(key: str, operator: str, values: Sequence[str]) -> None:
    errors = []
    for index, value in enumerate(sorted(set(values))):
        if operator in ("gt", "lt") and not re.fullmatch(r"[-+]?\d{1,18}", value, re.ASCII):
            errors.append(f"values[{index}]: Invalid value: \"{value}\": for 'Gt', 'Lt' operators, the value must be an integer")
        if wrong := labels.value_errors(value):
            errors.append(f'values[{index}][{key}]: Invalid value: "{value}": {"; ".join(wrong)}')
    if errors:
        raise ValueError(errors[0] if len(errors) == 1 else f"[{', '.join(errors)}]")


def _go_list(values: Collection[str]) -> str:
    return "[" + ",".join(f'"{value}"' for value in sorted(values)) + "]"


# ---- fields


@dataclass(frozen=True, slots=True)
class FieldTerm:
    field: str
    value: str
    negated: bool = False


@dataclass(frozen=True, slots=True)
class FieldSelector:
    """A field selector. `matches` takes the values of the selectable fields; a missing one counts as empty."""

    terms: tuple[FieldTerm, ...] = ()

    @property
    def everything(self) -> bool:
        return not self.terms

    def matches(self, values: Mapping[str, str]) -> bool:
        return all((values.get(term.field, "") == term.value) != term.negated for term in self.terms)

    def exact(self, field: str) -> str | None:
        """Returns the value that the field must have, if the selector allows only one: then an index can be used."""
        return next((term.value for term in self.terms if term.field == field and not term.negated), None)

    def __str__(self) -> str:
        return ",".join(f"{term.field}{'!=' if term.negated else '='}{_escape(term.value)}" for term in self.terms)


META_FIELDS = ("metadata.name", "metadata.namespace")
_FIELD_TERM = re.compile(r"(.*?)(!=|==|=)(.*)", re.DOTALL)


@cached_if_short(1024)
def parse_fields(text: str, supported: tuple[str, ...] | None = META_FIELDS) -> FieldSelector:
    """Parses a field selector of a query. Raises ValueError in Kubernetes' words, also for a field by which the kind can't be selected. None supports all."""
    terms = []
    for part in sorted(re.findall(r"(?:\\.|[^,\\])+", text, re.DOTALL)):
        match = _FIELD_TERM.match(part)
        if match is None:
            raise ValueError(f"invalid selector: '{text}'; can't understand '{part}'")
        name, value = match[1], _unescape(match[3])
        if supported is not None and name not in supported:
            raise ValueError(_unsupported(name, supported))
        terms.append(FieldTerm(name, value, negated=match[2] == "!="))
    return FieldSelector(tuple(terms))


def _unsupported(name: str, supported: Collection[str]) -> str:
    if set(supported) <= set(META_FIELDS):
        return f'"{name}" is not a known field selector: only "metadata.name", "metadata.namespace"'
    return f"field label not supported: {name}"


def _unescape(value: str) -> str:
    if bad := re.search(r"\\([^\\,=])|(?<!\\)(=)", re.sub(r"\\[\\,=]", "", value)):
        if bad[2]:
            raise ValueError(f"invalid field selector: unescaped character in value: {ord(bad[2])}")
        raise ValueError(f"invalid field selector: invalid escape sequence: \\{bad[1]}")
    return re.sub(r"\\([\\,=])", r"\1", value)


def _escape(value: str) -> str:
    return re.sub(r"([\\,=])", r"\\\1", value)
