"""This module names types and syntax errors as Kubernetes' decoder does, in Go's words, because people know them and search for them.

Only decoding (validate.py) uses it. Named string types matter in one place alone: `cannot unmarshal number into Go struct field
PodSpec.spec.restartPolicy of type v1.RestartPolicy`; the table has those of the fields that people write, the rest are `string`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from labctl.resources.schema.definitions import Type

_SCALARS: Mapping[str, str] = {
    "string": "string",
    "boolean": "bool",
    "int32": "int32",
    "int64": "int64",
    "number": "float64",
    "bytes": "[]uint8",
    "quantity": "resource.Quantity",
    "int-or-string": "intstr.IntOrString",
    "time": "v1.Time",
    "micro-time": "v1.MicroTime",
}
_NAMED: Mapping[tuple[str, str], str] = {
    ("PodSpec", "restartPolicy"): "v1.RestartPolicy",
    ("PodSpec", "dnsPolicy"): "v1.DNSPolicy",
    ("Container", "imagePullPolicy"): "v1.PullPolicy",
    ("Container", "terminationMessagePolicy"): "v1.TerminationMessagePolicy",
    ("ContainerPort", "protocol"): "v1.Protocol",
    ("HTTPGetAction", "scheme"): "v1.URIScheme",
    ("ServicePort", "protocol"): "v1.Protocol",
    ("ServiceSpec", "type"): "v1.ServiceType",
    ("ServiceSpec", "sessionAffinity"): "v1.ServiceAffinity",
    ("Toleration", "operator"): "v1.TolerationOperator",
    ("Toleration", "effect"): "v1.TaintEffect",
    ("Taint", "effect"): "v1.TaintEffect",
    ("EmptyDirVolumeSource", "medium"): "v1.StorageMedium",
    ("Secret", "type"): "v1.SecretType",
    ("ObjectMeta", "uid"): "types.UID",
    ("OwnerReference", "uid"): "types.UID",
    ("ResourceRequirements", "limits"): "v1.ResourceList",
    ("ResourceRequirements", "requests"): "v1.ResourceList",
    ("NodeStatus", "capacity"): "v1.ResourceList",
    ("NodeStatus", "allocatable"): "v1.ResourceList",
}
_KINDS: Mapping[type, str] = {str: "string", int: "int64", float: "float64", bool: "bool", list: "slice", dict: "map"}
# Python's json errors, as Go's decoder says them after `invalid character 'x' `.
_SYNTAX: Mapping[str, str] = {
    "Expecting value": "looking for beginning of value",
    "Expecting property name enclosed in double quotes": "looking for beginning of object key string",
    "Illegal trailing comma before end of object": "looking for beginning of object key string",
    "Illegal trailing comma before end of array": "looking for beginning of value",
    "Expecting ':' delimiter": "after object key",
    "Expecting ',' delimiter": "after object key:value pair",
    "Extra data": "after top-level value",
    "Invalid control character at": "in string literal",
    "Invalid \\escape": "in string escape code",
}


def type_name(type_: Type, owner: str = "", field: str = "") -> str:
    """Returns the Go type of a field: `[]v1.Container`, `map[string]string`, `int32`."""
    named = _NAMED.get((owner, field))
    if named:
        return named
    if type_.shape == "struct":
        return f"v1.{type_.short_name}"
    if type_.shape == "list" and type_.item:
        return f"[]{type_name(type_.item)}"
    if type_.shape == "map" and type_.item:
        return f"map[string]{type_name(type_.item)}"
    return _SCALARS.get(type_.shape, "interface {}")


def value_name(value: object) -> str:
    """Returns the name of a JSON value in Go's decoder: `string`, `number`, `array`, `object`, `bool`."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, (int, float)):
        return "number"
    if isinstance(value, str):
        return "string"
    if isinstance(value, list):
        return "array"
    return "object" if isinstance(value, dict) else "null"


def unrestored(type_: Type, value: object, wanted: str) -> str:
    """Returns what Kubernetes says of a value of another type in the result of a strategic patch. `wanted` is the Go type; empty: it says what its decoder says."""
    found = _KINDS.get(type(value), "")
    if type_.shape == "struct":
        return f"cannot restore struct from: {found}"
    if type_.shape == "map":
        return f"cannot restore map from {found}"
    if type_.shape in ("list", "bytes"):
        return f"cannot restore slice from {found}"
    if (found == "int64" and type_.shape == "string") or (found == "float64" and type_.shape in ("int32", "int64")):
        return f"cannot convert {found} to {wanted}"  # Go could convert these, and Kubernetes does not want it to
    return f"unrecognized type: {_SCALARS[type_.shape]}" if type_.shape in _SCALARS else ""


def shown(value: object) -> str:
    """Formats a JSON value as Go prints its maps and slices: `map[metadata:map[labels:a]]`."""
    if isinstance(value, dict):
        return f"map[{' '.join(f'{key}:{shown(value[key])}' for key in sorted(value))}]"
    if isinstance(value, list):
        return f"[{' '.join(map(shown, value))}]"
    if value is None or isinstance(value, bool):
        return {None: "<nil>", True: "true", False: "false"}[value]
    if isinstance(value, float) and float(short := f"{value:g}") == value:
        return short
    return str(value)


def syntax_error(body: bytes) -> str:
    """Returns Go's error for a body that is not JSON; empty if the body is valid."""
    try:
        text = body.decode()
        json.loads(
            text, parse_constant=_no_constant, parse_int=str, parse_float=str
        )  # numbers stay text, because a very long one takes long to convert
    except UnicodeDecodeError as error:
        return f"invalid character {chr(body[error.start])!r} looking for beginning of value"
    except RecursionError:
        return "exceeded max depth"
    except _NoConstant as error:
        return f"invalid character '{error.args[0][0]}' looking for beginning of value"
    except json.JSONDecodeError as error:
        if error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated string"):
            return "unexpected end of JSON input"
        return f"invalid character {quote(text[error.pos])} {_syntax_place(error, text)}"
    return ""


class _NoConstant(Exception):
    """The body contains NaN or Infinity, which Python accepts but JSON does not."""


def _no_constant(name: str) -> None:
    raise _NoConstant(name.lstrip("-"))


def _syntax_place(error: json.JSONDecodeError, text: str) -> str:
    place = _SYNTAX.get(error.msg, "looking for beginning of value")
    if error.msg == "Expecting ',' delimiter" and _inside_array(text[: error.pos]):
        return "after array element"
    return place


def _inside_array(before: str) -> bool:
    """True if the innermost open bracket at the end of this (valid) beginning of JSON is a `[`."""
    depth: list[str] = []
    in_string = escaped = False
    for char in before:
        if in_string:
            in_string = escaped or char != '"'
            escaped = char == "\\" and not escaped
        elif char == '"':
            in_string = True
        elif char in "[{":
            depth.append(char)
        elif char in "]}" and depth:
            depth.pop()
    return bool(depth) and depth[-1] == "["


def quote(char: str) -> str:
    """Quotes a character as Go does in a syntax error."""
    return {"'": r"'\''", '"': "'\"'", "\n": r"'\n'", "\t": r"'\t'", "\r": r"'\r'"}.get(char, f"'{char}'")
