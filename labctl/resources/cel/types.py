"""The types of CEL as its checker sees them: dyn, int, list(string), a kind's object, and the unknowns that it solves for (`A` in `(A, A) bool`).

The rules of which type may stand for which are those of cel-go, whose answers Kubernetes' users know. Types are values: equal ones are one object, made once
for each checker (Types), so that comparing them takes no time however deep they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from labctl.errors import LabctlError

MOST_STEPS = 100_000
"""Steps of comparing types in one expression: maps that hold each other twice, again and again, make types of any size."""
_LONGEST = 500

_SIMPLE = ("dyn", "error", "null", "bool", "int", "uint", "double", "string", "bytes", "timestamp", "duration", "type")
_NULLABLE = frozenset({"object", "opaque", "null", "timestamp", "duration"})
OPTIONAL = "optional_type"


class TooManySteps(LabctlError):
    """The types of an expression are too large to be compared."""


class Type:
    """One type. `kind` is a word of _SIMPLE, or list, map, object, opaque, type, param; `name` that of an object, an opaque type or an unknown."""

    __slots__ = ("fields", "kind", "name", "open", "params")

    def __init__(self, kind: str, name: str = "", params: tuple[Type, ...] = (), fields: Fields | None = None) -> None:
        self.kind, self.name, self.params, self.fields = kind, name, params, fields
        self.open: bool = kind == "param" or any(each.open for each in params)  # whether an unknown is in it

    def __str__(self) -> str:
        said = self._said(_LONGEST)
        return said if len(said) <= _LONGEST else said[:_LONGEST] + "..."

    def _said(self, room: int) -> str:
        if not self.params:
            return self.name or self.kind
        parts = []
        for each in self.params:
            parts.append(each._said(room) if room > 0 else "...")
            room -= len(parts[-1])
        return f"{self.name or self.kind}({', '.join(parts)})"


class Fields(Protocol):
    """The fields of an object's type."""

    def get(self, name: str, types: Types) -> Type | None:
        """Return the type of a field by the name that expressions write, or None."""


class Types:
    """All types of one expression, and what is known of its unknowns."""

    def __init__(self) -> None:
        self._made: dict[tuple[object, ...], Type] = {}
        self._solved: dict[str, Type] = {}
        self._trail: list[tuple[str, Type | None]] = []
        self._compared: dict[tuple[int, int], bool] = {}
        self._unknowns = 0
        self._steps = 0

    # -- making

    def make(self, kind: str, name: str = "", *params: Type) -> Type:
        key = (kind, name, *map(id, params))
        found = self._made.get(key)
        if found is None:
            found = self._made[key] = Type(kind, name, params)
        return found

    def simple(self, kind: str) -> Type:
        return _BY_NAME[kind]

    def list_of(self, item: Type) -> Type:
        return self.make("list", "", item)

    def map_of(self, key: Type, value: Type) -> Type:
        return self.make("map", "", key, value)

    def optional_of(self, value: Type) -> Type:
        return self.make("opaque", OPTIONAL, value)

    def type_of(self, type_: Type) -> Type:
        return self.make("type", "", type_)

    def object(self, name: str, make: Callable[[], Fields]) -> Type:
        found = self._made.get(("object", name))
        if found is None:
            found = self._made["object", name] = Type("object", name, (), make())
        return found

    def unknown(self) -> Type:
        self._unknowns += 1
        return self.make("param", f"_var{self._unknowns - 1}")

    def instance(self, type_: Type, unknowns: Mapping[str, Type]) -> Type:
        """Return a declared type with the unknowns of one call in the place of its own; it has no others."""
        if not type_.open:
            return (
                type_ if not type_.params else self.make(type_.kind, type_.name, *(self.instance(each, unknowns) for each in type_.params))
            )
        if type_.kind == "param":
            return unknowns[type_.name]
        return self.make(type_.kind, type_.name, *(self.instance(each, unknowns) for each in type_.params))

    # -- solving

    def assignable(self, given: list[Type], wanted: list[Type]) -> bool:
        """Tell whether values of the given types may stand where the wanted types are. What that says of unknowns is remembered if they all may."""
        mark = len(self._trail)
        if len(given) == len(wanted) and all(map(self._fits, given, wanted)):
            return True
        while len(self._trail) > mark:
            name, before = self._trail.pop()
            if before is None:
                del self._solved[name]
            else:
                self._solved[name] = before
        return False

    def solved(self, type_: Type, *, dyn: bool = False) -> Type:
        """Return a type with what is known in the place of its unknowns. `dyn`: of what is still unknown, dyn."""
        if not type_.open:
            return type_
        self._step()
        if type_.kind == "param":
            found = self._solved.get(type_.name)
            return self.solved(found, dyn=dyn) if found is not None else DYN if dyn else type_
        return self.make(type_.kind, type_.name, *(self.solved(each, dyn=dyn) for each in type_.params))

    def _step(self) -> None:
        self._steps += 1
        if self._steps > MOST_STEPS:
            raise TooManySteps("the types of this expression are too large")

    def _fits(self, given: Type, wanted: Type) -> bool:
        if given is wanted:
            return True
        self._step()
        if wanted.kind == "param":
            fits, known = self._stands_for(given, wanted)
            if fits or known:
                return fits
        if given.kind == "param":
            return self._stands_for(wanted, given)[0]
        if given.kind in _ANY or wanted.kind in _ANY:
            return True
        if given.kind == "null":
            return wanted.kind in _NULLABLE
        if given.kind != wanted.kind:
            return False
        if given.kind == "type":
            return True
        return self._parts_fit(given, wanted)

    def _parts_fit(self, given: Type, wanted: Type) -> bool:
        if given.name != wanted.name or len(given.params) != len(wanted.params):
            return False
        if given.open or wanted.open:
            return all(map(self._fits, given.params, wanted.params))
        known = self._compared.get((id(given), id(wanted)))
        if known is None:
            known = self._compared[id(given), id(wanted)] = all(map(self._fits, given.params, wanted.params))
        return known

    def _stands_for(self, given: Type, unknown: Type) -> tuple[bool, bool]:
        """Tell whether the unknown may be this type, and whether it was known what it is."""
        if given is unknown:
            return True, True
        before = self._solved.get(unknown.name)
        if before is None:
            fits = not self._occurs(unknown, given)
            if fits:
                self._solve(unknown, given)
            return fits, False
        if given is before:
            return True, True
        if not self._fits(given, before):
            return False, True
        general = given if self.is_as_general(given, before) else before
        if not self._occurs(unknown, general):
            self._solve(unknown, general)
        return True, True

    def _solve(self, unknown: Type, type_: Type) -> None:
        self._trail.append((unknown.name, self._solved.get(unknown.name)))
        self._solved[unknown.name] = type_

    def _occurs(self, unknown: Type, within: Type) -> bool:
        if unknown is within:
            return True
        if not within.open:
            return False
        self._step()
        if within.kind == "param":
            found = self._solved.get(within.name)
            return found is not None and self._occurs(unknown, found)
        return any(self._occurs(unknown, each) for each in within.params)

    def is_as_general(self, one: Type, other: Type) -> bool:
        """Tell whether one type says no more than another that it fits."""
        if one is other or one.kind in ("dyn", "param"):
            return True
        self._step()
        if other.kind in ("dyn", "param") or one.kind != other.kind:
            return False
        if one.kind == "type":
            return True
        same = one.name == other.name and len(one.params) == len(other.params)
        return same and all(map(self.is_as_general, one.params, other.params))


_ANY = frozenset({"dyn", "error"})
_BY_NAME: Mapping[str, Type] = {kind: Type(kind, "!error!" if kind == "error" else "") for kind in _SIMPLE}
DYN, ERROR, NULL, BOOL, INT, STRING = (_BY_NAME[kind] for kind in ("dyn", "error", "null", "bool", "int", "string"))
