"""Decodes what a user sent, strictly, with a real API server's words.

decode() is called once for every create, update and apply; decode_patched() for what a patch made of an object. Bytes become a dict in which
only fields of the kind remain, without nulls, with quantities and times in their stored form. Unknown and duplicate fields are an error
(fieldValidation Strict), warnings (Warn), or dropped silently (Ignore); a wrong type is always an error. Nothing here knows a rule of
meaning (that is each kind's `validate`) or a default (defaults.py).

Two ways through, measured on a pod of 1.8 KB. quick.py's msgspec Structs, made from the schema at run time, take 15 us to a checked dict, 22 us
with the look for duplicates; they can't say what is wrong in Kubernetes' words, nor bring a value into its stored form, so whatever they refuse goes through
the exact walk below: 60 us in all. jsonschema-rs says yes in 7 us, but on a dict (8 us more) that still holds nulls and unstored forms, knows no duplicates,
and needs another pass for words; it was left out.
"""

from __future__ import annotations

import binascii
import json
from base64 import b64decode
from typing import Any, NoReturn

import msgspec

from labctl.errors import ApiError
from labctl.resources import quantities
from labctl.resources.kind import Kind, Object
from labctl.resources.schema import golang, quick, times
from labctl.resources.schema.definitions import Schema, Type

_MAX_STRICT_ERRORS = 100  # as many as the real server collects
_INT_RANGE = {"int32": 2**31, "int64": 2**63}
_SCHEME = "pkg/api/legacyscheme/scheme.go:30"


def decode(schema: Schema, kind: Kind, body: bytes | Object, field_validation: str = "Strict") -> tuple[Object, list[str]]:
    """The object a body means, and warnings. ApiError 400 BadRequest for what is no such object; the body, if a dict, is left alone."""
    raw = body if isinstance(body, bytes) else msgspec.json.encode(body)
    type_ = schema.type_of(kind.group, kind.version, kind.kind)
    obj = quick.decode(schema, type_, raw)
    if obj is not None and (raw is not body or not _may_repeat(obj, raw)):
        _check_type_meta(kind, obj, raw)
        return obj, []
    return _decode_exactly(type_, kind, raw, field_validation)


def _decode_exactly(type_: Type, kind: Kind, raw: bytes, field_validation: str) -> tuple[Object, list[str]]:
    obj = _parse(kind, raw)
    api_version, name = _check_type_meta(kind, obj, raw)
    said = f'{name} in version "{api_version.rpartition("/")[2]}" cannot be handled as a {kind.kind}'
    repeats = _may_repeat(obj, raw)
    findings = check(type_, obj)
    if findings.error:
        raise ApiError(400, "BadRequest", f"{said}: {findings.error}")
    if repeats:
        findings.strict.extend(_duplicates(raw))
    if findings.strict and field_validation == "Strict":
        raise ApiError(400, "BadRequest", f"{said}: {strict_error(findings.strict)}")
    return obj, findings.strict if field_validation == "Warn" else []


def decode_patched(schema: Schema, kind: Kind, obj: Object, shown: str, field_validation: str = "Strict") -> list[str]:
    """Decodes in place what a patch made of an object; answers warnings. ApiError 422 Invalid about field `patch`, whose value is `shown`."""
    findings = check(schema.type_of(kind.group, kind.version, kind.kind), obj)
    if findings.error:
        raise invalid_patch(shown, findings.error)
    if findings.strict and field_validation == "Strict":
        raise invalid_patch(shown, strict_error(findings.strict))
    return findings.strict if field_validation == "Warn" else []


def invalid_patch(shown: str, why: str) -> ApiError:
    """What a real server says when a patch's result is no such object."""
    message = f'Invalid value: "{_go_escaped(shown)}": {why}'
    causes = [{"reason": "FieldValueInvalid", "message": message, "field": "patch"}]
    return ApiError(422, "Invalid", f' "" is invalid: patch: {message}', details={"causes": causes})


def strict_error(messages: list[str]) -> str:
    return f"strict decoding error: {', '.join(messages)}"


class Findings:
    """What check() found: `error`, the one that decides; `strict`, unknown fields."""

    __slots__ = ("error", "strict")

    def __init__(self) -> None:
        self.error = ""
        self.strict: list[str] = []


def check(type_: Type, obj: Object) -> Findings:
    """Brings `obj` into its stored form in place: unknown fields and nulls dropped, quantities and times canonical."""
    findings = Findings()
    if type_.shape == "struct":
        walk = _Walk(findings)
        try:
            walk.struct(type_, obj)
        except _Refused as refused:
            findings.error = str(refused)
    return findings


class _Refused(Exception):
    """A type's own decoder refused its text: this ends decoding, as it does in the real server."""


class _Walk:
    """One pass over one object. `path` holds field names (str), list indices (int) and map keys (1-tuples) on the way down."""

    def __init__(self, findings: Findings) -> None:
        self.findings = findings
        self.path: list[str | int | tuple[str]] = []
        self.owners: list[str] = []

    def struct(self, type_: Type, obj: Object) -> None:
        fields, path = type_.fields, self.path
        dropped = None
        self.owners.append(type_.short_name)
        for key, value in obj.items():
            field = fields.get(key)
            if field is not None and type(value) is field.plain:
                continue
            if field is None or value is None:
                if field is None:
                    self._unknown(key)
                dropped = [key] if dropped is None else [*dropped, key]
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
        """A string or boolean that is none."""
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

    def any(self, _type: Type, value: Any) -> Any:
        return value

    def _unknown(self, key: str) -> None:
        if len(self.findings.strict) < _MAX_STRICT_ERRORS:
            self.findings.strict.append(f'unknown field "{_strict_path([*self.path, key])}"')

    def _mismatch(self, type_: Type, value: Any, instead: Any, literal: str = "") -> Any:
        """Notes a wrong type (the first one decides) and goes on with a value of the right one."""
        field = next((part for part in reversed(self.path) if isinstance(part, str)), "")
        is_field = bool(self.path) and isinstance(self.path[-1], str)
        wanted = golang.type_name(type_, self.owners[-1] if is_field else "", field)
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
    """What Go puts where a list or map holds null."""
    if type_.shape == "list":
        return []
    if type_.shape in ("struct", "map"):
        return {}
    return {"boolean": False, "int32": 0, "int64": 0, "number": 0, "quantity": "0", "int-or-string": 0}.get(type_.shape, "")


def _literal(value: Any) -> str:
    """A quantity as it stood in the JSON: Kubernetes reads numbers and strings alike."""
    return value if isinstance(value, str) else json.dumps(value)


def _first_illegal(text: str) -> int:
    legal = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/\r\n"
    found = next((index for index, char in enumerate(text) if char not in legal), len(text))
    return found if found < len(text) else len(text) // 4 * 4


def _strict_path(path: list[Any]) -> str:
    """`spec.containers[0].foo`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{part[0] if isinstance(part, tuple) else part}"
    return text[1:]


def _go_escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


# ---- the body as JSON


def _parse(kind: Kind, raw: bytes) -> Object:
    """The body's object; of a field that stands twice the last one won, as with Kubernetes."""
    try:
        obj = msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        why = golang.syntax_error(raw) or str(error)
        _unrecognized(kind, raw, f"couldn't get version/kind; json parse error: {why}")
    if type(obj) is not dict:
        wanted = 'struct { APIVersion string "json:\\"apiVersion,omitempty\\""; Kind string "json:\\"kind,omitempty\\"" }'
        why = f"json: cannot unmarshal {golang.value_name(obj)} into Go value of type {wanted}"
        _unrecognized(kind, raw, f"couldn't get version/kind; json parse error: {why}")
    return obj


def _may_repeat(obj: Object, raw: bytes) -> bool:
    """Whether a field may stand twice in the body: the one that lost took its quotes with it."""
    return msgspec.json.encode(obj).count(b'"') != raw.count(b'"')


def _check_type_meta(kind: Kind, obj: Object, raw: bytes) -> tuple[str, str]:
    """The apiVersion and kind of the body, which must be this kind's; absent ones are filled in, as the URL says them."""
    for key in ("apiVersion", "kind"):
        if not isinstance(obj.get(key), (str, type(None))):
            why = f"json: cannot unmarshal {golang.value_name(obj[key])} into Go struct field .{key} of type string"
            _unrecognized(kind, raw, f"couldn't get version/kind; json parse error: {why}")
    api_version, name = obj.get("apiVersion") or kind.api_version, obj.get("kind") or kind.kind
    if api_version.count("/") > 1:
        _unrecognized(kind, raw, f"unexpected GroupVersion string: {api_version}")
    if (api_version, name) != (kind.api_version, kind.kind):
        why = f'no kind "{name}" is registered for version "{api_version}" in scheme "{_SCHEME}"'
        raise ApiError(400, "BadRequest", f'{name} in version "{api_version.rpartition("/")[2]}" cannot be handled as a {kind.kind}: {why}')
    obj["apiVersion"], obj["kind"] = api_version, name
    return api_version, name


def _unrecognized(kind: Kind, raw: bytes, why: str) -> NoReturn:
    raise ApiError(400, "BadRequest", f"the object provided is unrecognized (must be of type {kind.kind}): {why} ({_summary(raw)})")


def _summary(raw: bytes, limit: int = 30) -> str:
    """The beginning of a body as the real server shows it: text if it looks like JSON, else hexadecimal."""
    if not raw:
        return "<empty>"
    shown, more = raw[:limit], " ..." if len(raw) > limit else ""
    return (shown.decode(errors="replace") if raw[:1] == b"{" else shown.hex()) + more


class _Repeated(dict[str, Any]):
    """A JSON object in which `again` stood more than once."""

    again: tuple[str, ...] = ()


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    obj = dict(pairs)
    if len(obj) == len(pairs):
        return obj
    repeated = _Repeated(obj)
    seen: set[str] = set()
    repeated.again = tuple(dict.fromkeys(key for key, _ in pairs if key in seen or seen.add(key)))  # type: ignore[func-returns-value]
    return repeated


def _duplicates(raw: bytes) -> list[str]:
    """`duplicate field "spec.x"` for each field that stands twice."""
    messages: list[str] = []

    def look(value: Any, path: list[Any]) -> None:
        if isinstance(value, _Repeated):
            messages.extend(f'duplicate field "{_strict_path([*path, key])}"' for key in value.again)
        if isinstance(value, dict):
            for key, child in value.items():
                look(child, [*path, key])
        elif isinstance(value, list):
            for index, child in enumerate(value):
                look(child, [*path, index])

    look(json.loads(raw, object_pairs_hook=_pairs), [])
    return messages[:_MAX_STRICT_ERRORS]
