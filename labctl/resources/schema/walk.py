"""The exact walk goes through a decoded body, brings what fits the kind into its stored form, and reports what does not in Kubernetes' words.

validate.py calls check() for bodies that the quick decoder refuses, and for results of patches. Unknown fields and nulls are dropped, quantities and times
become what is stored, the first wrong type decides the error, and a type's own decoder (quantity, time) that refuses ends it at once: as in Go.
"""

from __future__ import annotations

import binascii
import json
from base64 import b64decode
from typing import Any

from labctl.resources import quantities
from labctl.resources.kind import Object
from labctl.resources.schema import golang, times
from labctl.resources.schema.definitions import Type

MAX_STRICT_ERRORS = 100  # a real server collects as many
_STRINGS = Type("list", item=Type("string", plain=str))
_INT_RANGE = {"int32": 2**31, "int64": 2**63}


class Findings:
    """The results of check(): `error` is the first wrong type, which makes the body invalid; `strict` are the unknown fields.

    `unrestored` is the error in the words for a strategic patch's result, where they differ: it is no JSON that is decoded then."""

    __slots__ = ("error", "strict", "unrestored")

    def __init__(self) -> None:
        self.error = self.unrestored = ""
        self.strict: list[str] = []


def check(type_: Type, obj: Object) -> Findings:
    """Brings `obj` into its stored form, in place: it drops unknown fields and nulls, and makes quantities and times canonical."""
    findings = Findings()
    if type_.shape == "struct":
        walk = _Walk(findings)
        try:
            walk.struct(type_, obj)
        except _Refused as refused:
            findings.error = str(refused)
    return findings


class _Refused(Exception):
    """The decoder of a quantity or time refused its text. This ends the decoding, as in a real server."""


class _Walk:
    """One pass over one object. `path` holds field names (str), list indices (int) and map keys (1-tuples) on the way down."""

    def __init__(self, findings: Findings) -> None:
        self.findings = findings
        self.path: list[str | int | tuple[str]] = []
        self.owners: list[str] = []

    def struct(self, type_: Type, obj: Object) -> None:
        fields, path = type_.fields, self.path
        dropped: list[str] | None = None
        self.owners.append(type_.short_name)
        for key, value in obj.items():
            field = fields.get(key)
            if (field is None and type_.open) or (field is not None and type(value) is field.plain):
                continue
            if field is None or value is None:
                if field is None:
                    self._unknown(key)
                if dropped is None:
                    dropped = []
                dropped.append(key)
                continue
            path.append(key)
            changed = _CHECKS[field.shape](self, field, value)
            if changed is not value:
                obj[key] = changed
            path.pop()
        self.owners.pop()
        for key in dropped or ():
            del obj[key]

    def object(self, type_: Type, value: Any) -> Any:
        if type(value) is not dict:
            return self._mismatch(type_, value, {})
        self.struct(type_, value)
        return value

    def map(self, type_: Type, value: Any) -> Any:
        if type(value) is not dict:
            return self._mismatch(type_, value, {})
        item = type_.item
        assert item is not None
        for key, entry in value.items():
            if type(entry) is not item.plain:
                self.path.append((key,))
                value[key] = _zero(item) if entry is None else _CHECKS[item.shape](self, item, entry)
                self.path.pop()
        return value

    def list(self, type_: Type, value: Any) -> Any:
        if type(value) is not list:
            return self._mismatch(type_, value, [])
        item = type_.item
        assert item is not None
        for index, entry in enumerate(value):
            if type(entry) is not item.plain:
                self.path.append(index)
                value[index] = _zero(item) if entry is None else _CHECKS[item.shape](self, item, entry)
                self.path.pop()
        return value

    def plain(self, type_: Type, value: Any) -> Any:
        """Reports a value that should be a string or boolean and is not."""
        return value if type(value) is type_.plain else self._mismatch(type_, value, _zero(type_))

    def integer(self, type_: Type, value: Any) -> Any:
        limit = _INT_RANGE[type_.shape]
        if type(value) is int and -limit <= value < limit:
            return value
        literal = f" {value}" if isinstance(value, (int, float)) and not isinstance(value, bool) else ""
        return self._mismatch(type_, value, 0, literal=literal)

    def number(self, type_: Type, value: Any) -> Any:
        return value if type(value) in (int, float) else self._mismatch(type_, value, 0)

    def quantity(self, type_: Type, value: Any) -> Any:
        try:
            return quantities.canonical(_literal(value))
        except ValueError as error:
            raise _Refused(str(error)) from None

    def int_or_string(self, type_: Type, value: Any) -> Any:
        if type(value) is str or (type(value) is int and -(2**31) <= value < 2**31):
            return value
        literal = f" {value}" if isinstance(value, (int, float)) and not isinstance(value, bool) else ""
        raise _Refused(self._mismatch_words(golang.value_name(value) + literal, "int32"))

    def time(self, type_: Type, value: Any) -> Any:
        if type(value) is not str:
            raise _Refused(self._mismatch_words(golang.value_name(value), "string"))
        try:
            return times.canonical(value, type_.shape)
        except ValueError as error:
            raise _Refused(str(error)) from None

    def bytes(self, type_: Type, value: Any) -> Any:
        if type(value) is not str:
            return self._mismatch(type_, value, "")
        try:
            b64decode(value.replace("\n", "").replace("\r", ""), validate=True)
        except (binascii.Error, ValueError):
            self._error(f"illegal base64 data at input byte {_first_illegal(value)}")
        return value

    def any(self, type_: Type, value: Any) -> Any:
        return self._or_schema(type_, value) if type_.or_schema else value

    def _or_schema(self, type_: Type, value: Any) -> Any:
        """Looks through a JSON schema, or through what may stand in its place. Like Kubernetes, it drops unknown fields in there without a word."""
        assert type_.item is not None
        strict = list(self.findings.strict)
        if type(value) is dict:
            self.struct(type_.item, value)
        elif type(value) is list and type_.or_schema == "array":
            self.list(Type("list", item=type_.item), value)
        elif type(value) is list and type_.or_schema == "strings":
            self.list(_STRINGS, value)
        elif type_.or_schema == "bool":
            if type(value) is not bool:
                self._error("boolean or JSON schema expected")
                return False
        else:
            return {}  # Go's decoder leaves the field empty
        self.findings.strict = strict
        return value

    def _unknown(self, key: str) -> None:
        if len(self.findings.strict) < MAX_STRICT_ERRORS:
            self.findings.strict.append(f'unknown field "{strict_path([*self.path, key])}"')

    def _mismatch(self, type_: Type, value: Any, instead: Any, literal: str = "") -> Any:
        """Reports a wrong type (only the first is kept) and returns a value of the right type, so that the walk can go on."""
        field = next((part for part in reversed(self.path) if isinstance(part, str)), "")
        is_field = bool(self.path) and isinstance(self.path[-1], str)
        wanted = golang.type_name(type_, self.owners[-1] if is_field else "", field)
        if not self.findings.error and not (literal and type(value) is int):  # one that is too large is no other type
            self.findings.unrestored = golang.unrestored(type_, value, wanted)
        self._error(self._mismatch_words(golang.value_name(value) + literal, wanted))
        return instead

    def _mismatch_words(self, found: str, wanted: str) -> str:
        fields = ".".join(part for part in self.path if isinstance(part, str))
        return f"json: cannot unmarshal {found} into Go struct field {self.owners[-1]}.{fields} of type {wanted}"

    def _error(self, message: str) -> None:
        self.findings.error = self.findings.error or message


_CHECKS: dict[str, Any] = {
    "struct": _Walk.object,
    "map": _Walk.map,
    "list": _Walk.list,
    "string": _Walk.plain,
    "boolean": _Walk.plain,
    "int32": _Walk.integer,
    "int64": _Walk.integer,
    "number": _Walk.number,
    "quantity": _Walk.quantity,
    "int-or-string": _Walk.int_or_string,
    "time": _Walk.time,
    "micro-time": _Walk.time,
    "bytes": _Walk.bytes,
    "any": _Walk.any,
}


def _zero(type_: Type) -> Any:
    """Returns the value that Go has for a null in a list or map."""
    if type_.shape == "list":
        return []
    if type_.shape in ("struct", "map"):
        return {}
    return {"boolean": False, "int32": 0, "int64": 0, "number": 0, "quantity": "0", "int-or-string": 0}.get(type_.shape, "")


def _literal(value: Any) -> str:
    """Returns a quantity as it was written in the JSON, as a number or a string: Kubernetes accepts both."""
    return value if isinstance(value, str) else json.dumps(value)


def _first_illegal(text: str) -> int:
    legal = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/\r\n"
    found = next((index for index, char in enumerate(text) if char not in legal), len(text))
    return found if found < len(text) else len(text) // 4 * 4


def strict_path(path: list[Any]) -> str:
    """Formats a path as errors show it: `spec.containers[0].foo`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{part[0] if isinstance(part, tuple) else part}"
    return text.removeprefix(".")
