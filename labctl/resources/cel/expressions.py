"""Compiles and evaluates CEL: a thin layer over the library, with Kubernetes' functions and errors of our own tree.

An environment knows the names and types of an expression's variables. An expression is compiled once and evaluated with plain values, in microseconds.
The library stops an evaluation after 10,000 steps of loops, and its regular expressions take linear time. It holds Python's lock while it evaluates, so
who evaluates what others wrote bounds its cost before (estimate.py).
It is imported when the first expression is compiled.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache, cached_property
from typing import Any

from labctl.errors import LabctlError
from labctl.resources.cel import tree as trees
from labctl.resources.cel.checker import NAMES, Problem, check, literal_problems, pattern_problem
from labctl.resources.cel.functions import functions
from labctl.resources.cel.rewrite import Rewritten, computed_keys, rewritten
from labctl.resources.cel.types import Type, Types

MOST_CHARACTERS = 100_000
"""A longer expression is not compiled; one of this length takes 0.3 s."""

MOST_COMPUTED_KEYS = 12
"""An expression may have so many maps whose keys it computes: a map of maps of maps has a type that doubles with each, and the library writes it all down."""

MOST_COMPARISONS = 16
"""An expression may compare integers with doubles so often, each of which costs it a further compilation."""

MOST_PROBLEMS = 20
"""As many places of one expression are named that are wrong."""

_CHECKED_TEXTS = re.compile(r"\b(?:matches|duration|timestamp)\b")

_MIXED = re.compile(
    r"<input>:(\d+):(\d+): found no matching overload for '_[<>]=?_' applied to '\((?:int|uint|double), (?:int|uint|double)\)'"
)
_NUMBERS = re.compile(r"\b(?:int|double)\b")
_EXTENSIONS = ("two-var-comprehensions", "bindings", "sets", "optional", "math", "strings", "lists")
_CODE = re.compile(r"\s*\[[A-Z_]+\]\s*\Z")
_PLACE = re.compile(r"<input>:(\d+):(\d+): ([^\n]*)(\n \| [^\n]*\n \| \.*\^)?")
_OURS = re.compile("(?<=')_(?:indexOf|lastIndexOf|string|range)(?=')")  # names of rewrite.py
_KIND = re.compile(r"\A[A-Z_]+: ")
_WORDS = {
    "Key not found in map : ": "no such key: ",
    "No matching overloads found": "no such overload",
    "Iteration budget exceeded": "operation cancelled: actual cost limit exceeded",
    "String to Duration conversion failed": "type conversion error from 'string' to 'google.protobuf.Duration'",
    "String to Timestamp conversion failed": "type conversion error from 'string' to 'google.protobuf.Timestamp'",
    "Type conversion error from 'string' to 'bool'": "type conversion error from 'string' to 'bool'",
    "divide by zero": "division by zero",
}
_CONVERTED = re.compile(r"\Acannot convert string to (\w+)\Z")
_INDEX = re.compile(r"\AIndex error: index=(-?\d+) size=\d+\Z")


class CompileError(LabctlError):
    """An expression that is none; its text begins with `ERROR: <input>:1:5:` or says which type is wanted."""


class EvaluationError(LabctlError):
    """An expression that has no value for these variables."""


class Environment:
    """Names and types of variables; a type is a word of TYPES, or `list(...)` and `map(string,...)` of one. `messages`: see rewrite.py."""

    _messages: frozenset[str] = frozenset()

    _loose: Mapping[str, str] = {}

    def __init__(self, variables: Mapping[str, str], messages: frozenset[str] = frozenset()) -> None:
        self._env = _environment(tuple(sorted(variables.items())))
        self._messages = messages
        loose = {name: _NUMBERS.sub("dyn", said) for name, said in variables.items()}
        self._loose = loose if loose != dict(variables) else {}

    def compile(self, text: str, wanted: str = "bool") -> Expression:
        """Raises CompileError. `wanted`: the type that the value must have; empty: any."""
        if len(text) > MOST_CHARACTERS:
            raise CompileError(f"an expression may have {MOST_CHARACTERS} characters, this one has {len(text)}")
        if text.count("{") > MOST_COMPUTED_KEYS and computed_keys(text) > MOST_COMPUTED_KEYS:
            raise CompileError(f"an expression may have {MOST_COMPUTED_KEYS} maps with computed keys")
        source = rewritten(text, self._messages)
        try:
            compiled = self._env.compile(source.text)
        except (RuntimeError, ValueError) as error:
            found = self._with_numbers_apart(text, source, str(error))
            if found is None:
                raise CompileError(f"compilation failed: {_placed(_said(str(error)), text, source)}") from None
            source, compiled = found
        found = compiled.return_type().name().lower()
        if wanted and found not in (wanted, "dyn"):
            raise CompileError(f"cel expression must evaluate to a {wanted}")
        return Expression(text, source, compiled, wanted)

    def compile_loosely(self, text: str) -> Expression | None:
        """Compile an expression whose literals fit no function, or no type, for the library. What is wrong with it is for Expression.mistyped to say. None
        if even so it can't be compiled."""
        if text.count("{") > MOST_COMPUTED_KEYS:
            return None
        source = rewritten(text, self._messages).literals_apart()
        try:
            return Expression(text, source, self._env.compile(source.text), "")
        except (RuntimeError, ValueError):
            return None

    def _with_numbers_apart(self, text: str, source: Rewritten, said: str) -> tuple[Rewritten, Any] | None:
        """Compile an expression that compares an integer with a double, which Kubernetes' CEL may do and the library's checker knows nothing of:
        literal numbers become `dyn` first, then variables. None if that is not what is wrong with it."""
        env: Any = self._env
        for _ in range(MOST_COMPARISONS):
            if not (wrong := _MIXED.search(said)):
                return None
            line, column = int(wrong[1]), int(wrong[2])
            apart = source.numbers_apart(source.origin(sum(len(each) + 1 for each in source.text.split("\n")[: line - 1]) + column - 1))
            if apart is not None:
                source = apart
            elif env is self._env and self._loose:
                env = _environment(tuple(sorted(self._loose.items())))
            else:
                return None
            try:
                return source, env.compile(source.text)
            except (RuntimeError, ValueError) as error:
                said = str(error)
        return None


class Expression:
    """A compiled expression."""

    def __init__(self, text: str, source: Rewritten, compiled: Any, wanted: str) -> None:
        self.text = text
        self._source = source
        self._compiled = compiled
        self._wanted = wanted

    @cached_property
    def tree(self) -> trees.Node:
        return trees.tree(self._compiled.serialize())

    def _inserted(self, head: int) -> frozenset[int]:
        """Return the numbers of the parts that the expression's author did not write: rewrite.py did, or they are among the first characters."""
        if not self._source.edits and not head:
            return frozenset()
        places = trees.positions(self._compiled.serialize())
        return frozenset(number for number, offset in places.items() if offset < head or self._source.is_inserted(offset))

    def mistyped(self, types: Types, variables: Mapping[str, Type], wanted: str, head: int = 0) -> str:
        """Return why the expression does not fit the types of its variables, as a CompileError says it; empty if it does. `wanted`: see compile; `head`: so
        many characters at the beginning are not its author's."""
        found = check(self.tree, types, variables, self._inserted(head))
        problems = found.problems
        if not problems and found.sure and _CHECKED_TEXTS.search(self.text):
            problems = list(literal_problems(self.tree))
        if problems:
            return f"compilation failed: {self._told(problems)}"
        if found.type.kind != wanted and (found.sure or found.type.kind not in ("dyn", "error")):
            return f"cel expression must evaluate to a {wanted}"
        problem = pattern_problem(self.tree) if found.sure and "find" in self.text else ""
        return f"program instantiation failed: {problem}" if problem else ""

    def _told(self, problems: Sequence[Problem]) -> str:
        """Return problems as a compiler prints them: in the order of their places, with the lines where they are."""
        places, lines = trees.positions(self._compiled.serialize()), self.text.split("\n")
        placed = sorted({(*_line_and_column(self.text, self._source.origin(places.get(each.number, 0))), each.said) for each in problems})
        told = (
            f"ERROR: <input>:{line}:{at}: {said}\n | {lines[line - 1]}\n | {'.' * (at - 1)}^" for line, at, said in placed[:MOST_PROBLEMS]
        )
        return "\n".join(told)

    @property
    def type(self) -> str:
        """The type of its value, as the compiler knows it: int, dyn, list, ..."""
        name: str = self._compiled.return_type().name().lower()
        return name

    def names(self) -> set[str]:
        """Return the variables that it reads, and those of its own loops."""
        return {node.name for node in trees.walk(self.tree) if isinstance(node, trees.Ident)}

    def value(self, variables: Mapping[str, Any]) -> Any:
        """Return its value as plain Python. Raises EvaluationError."""
        try:
            found = self._compiled.eval(data=variables)
            name = found.type().name()
            value = found.plain_value()
        except (RuntimeError, TypeError, ValueError, OverflowError) as error:
            raise EvaluationError(_said(str(error))) from None
        if name == "ERROR":
            raise EvaluationError(_said(str(value)))
        if self._wanted and name.lower() != self._wanted:
            raise EvaluationError(f"cel expression evaluated to {name.lower()} instead of {self._wanted}")
        return value


def _said(text: str) -> str:
    """Return an error of the library in Kubernetes' form: without its code, and in Kubernetes' words where they are known."""
    said = _CODE.sub("", _KIND.sub("", text)).removesuffix(" ")
    said = _INDEX.sub(r"index out of bounds: \1", _CONVERTED.sub(r"type conversion error from 'string' to '\1'", said))
    for theirs, ours in _WORDS.items():
        if said.startswith(theirs):
            said = ours + said.removeprefix(theirs).strip('"') if theirs.endswith(": ") else ours
    return said


def _line_and_column(text: str, at: int) -> tuple[int, int]:
    before = text[:at]
    return before.count("\n") + 1, at - (before.rfind("\n") + 1) + 1


def _placed(said: str, text: str, source: Rewritten) -> str:
    """Return the library's error with the places and lines of the text as it was written."""
    if source.text == text:
        return said
    lines = source.text.split("\n")

    def place(found: re.Match[str]) -> str:
        row, column = int(found[1]) - 1, int(found[2]) - 1
        line, at = _line_and_column(text, source.origin(sum(len(each) + 1 for each in lines[:row]) + column))
        shown = f"\n | {text.split(chr(10))[line - 1]}\n | {'.' * (at - 1)}^" if found[4] else ""
        return f"<input>:{line}:{at}: {_OURS.sub(lambda name: NAMES[name[0]], found[3])}{shown}"

    return _PLACE.sub(place, said)


@cache
def _types() -> Mapping[str, Any]:
    from cel_expr_python import cel

    kinds = cel.Type
    opaque = kinds.Map(kinds.STRING, kinds.DYN)
    return {
        "dyn": kinds.DYN, "bool": kinds.BOOL, "int": kinds.INT, "double": kinds.DOUBLE, "string": kinds.STRING, "bytes": kinds.BYTES,
        "timestamp": kinds.TIMESTAMP, "duration": kinds.DURATION, "list": kinds.List(kinds.DYN), "strings": kinds.List(kinds.STRING),
        "map": opaque, "any map": kinds.Map(kinds.DYN, kinds.DYN), "opaque": opaque, "opaques": kinds.List(opaque), "errors": kinds.List(kinds.List(kinds.STRING)),
    }  # fmt: skip


def _type(said: str) -> Any:
    from cel_expr_python import cel

    if said.startswith("list("):
        return cel.Type.List(_type(said[5:-1]))
    if said.startswith("map(string,"):
        return cel.Type.Map(cel.Type.STRING, _type(said[11:-1]))
    return _types()[said]


@cache
def _declared() -> list[Any]:
    """Return the declarations of Kubernetes' functions for the library."""
    from cel_expr_python import cel

    overloads: dict[str, list[Any]] = {}
    for number, each in enumerate(functions()):
        overload = cel.Overload(
            f"{each.name}_{number}",
            return_type=_types()[each.gives],
            parameters=[_types()[name] for name in each.takes],
            is_member=each.method,
            impl=each.call,
        )
        overloads.setdefault(each.name, []).append(overload)
    return [cel.FunctionDecl(name, said) for name, said in overloads.items()]


_kept: dict[tuple[tuple[str, str], ...], Any] = {}


def _environment(variables: tuple[tuple[str, str], ...]) -> Any:
    """Return the library's environment. Recent ones are kept, because making one takes milliseconds."""
    found = _kept.pop(variables, None)
    if found is None:
        found = new_environment(dict(variables))
    _kept[variables] = found
    while len(_kept) > 64:
        del _kept[next(iter(_kept))]
    return found


def new_environment(variables: Mapping[str, str], messages: Mapping[str, str] = {}, pool: Any = None) -> Any:
    """Make an environment of the library. `messages` are variables of a protobuf message in the pool, with the message's name."""
    from cel_expr_python import cel

    extensions = "".join(f"- name: {name}\n" for name in _EXTENSIONS)
    config = cel.NewEnvConfigFromYaml(f"name: kubernetes\nextensions:\n{extensions}")
    types = {name: _type(said) for name, said in variables.items()} | {name: cel.Type(message) for name, message in messages.items()}
    described = {"descriptor_pool": pool} if pool is not None else {}
    return cel.NewEnv(config=config, variables=types, functions=_declared(), **described)
