"""The quick decoder uses msgspec Structs, made from the schema at run time. It accepts only bodies in which nothing is unusual.

validate.py asks here first. A body that fits the Structs has only known fields of the right types, no null, and quantities and times already in
their stored form; its dict comes straight from the Structs. A body that they refuse is decoded again by the exact walk (walk.py), which
alone decides whether it is valid and words the errors. So a refusal here only costs time.
"""

from __future__ import annotations

from threading import Lock
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from labctl.resources.encoding import NOT_JSON
from labctl.resources.schema.definitions import Type

# The forms that are stored unchanged. Other forms may be valid too; the exact walk knows them.
_SCALARS: dict[str, Any] = {
    "string": str,
    "boolean": bool,
    "int32": Annotated[int, Meta(ge=-(2**31), lt=2**31)],
    "int64": Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)],
    "number": int | float,
    "quantity": Annotated[str, Meta(pattern=r"^(0|[1-9][0-9]{0,2}(m|k|M|G|T|Ki|Mi|Gi|Ti)?)\Z")],
    "int-or-string": Annotated[int, Meta(ge=-(2**31), lt=2**31)] | str,
    "time": Annotated[str, Meta(pattern=r"^20[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]Z\Z")],
    "micro-time": Annotated[
        str, Meta(pattern=r"^20[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]\.[0-9]{6}Z\Z")
    ],
    "bytes": Annotated[str, Meta(pattern=r"^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?\Z")],
    "any": str | int | float | bool | list | dict,  # not null: the exact walk drops or fills it
}

_making = Lock()  # large bodies are decoded in a thread, and one thread must not use a Struct that another has made only in part


def decode(type_: Type, raw: bytes) -> Any:
    """Decodes a body into new JSON values; returns None if the exact walk has to decode it."""
    if type_.decoder is None:
        with _making:
            type_.decoder = msgspec.json.Decoder(_python_type(type_))
    try:
        return msgspec.to_builtins(type_.decoder.decode(raw))
    except NOT_JSON:
        return None


def _python_type(type_: Type) -> Any:
    if type_.shape == "list" and type_.item:
        return list[_python_type(type_.item)]  # type: ignore[misc]
    if type_.shape == "map" and type_.item:
        return dict[str, _python_type(type_.item)]  # type: ignore[misc]
    if type_.or_schema:
        return bool if type_.or_schema == "bool" else _NeverFits
    return _struct(type_) if type_.shape == "struct" else _SCALARS[type_.shape]


def _struct(type_: Type) -> Any:
    """Returns a Struct with these fields, all of which may be absent. If a type contains itself, only its first level is decoded here."""
    if type_.struct is None:
        type_.struct = _NeverFits
        # Fields get numbered names, because JSON names such as `continue` or `$ref` are not allowed in Python.
        fields = [
            (f"f{number}", _python_type(field) | msgspec.UnsetType, msgspec.UNSET) for number, field in enumerate(type_.fields.values())
        ]
        names = {f"f{number}": name for number, name in enumerate(type_.fields)}
        type_.struct = msgspec.defstruct(type_.short_name or "Inline", fields, rename=names, forbid_unknown_fields=True, gc=False)
    return type_.struct


class _NeverFits(msgspec.Struct, forbid_unknown_fields=True):
    """Replaces a type inside itself. No object with fields fits it, so the exact walk decodes such a body."""

    never: int
