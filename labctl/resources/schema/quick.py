"""The quick way through decoding: msgspec Structs made from the schema at run time, for bodies in which nothing is unusual.

validate.py asks here first. A body that fits the Structs has only known fields of the right types, no null, and quantities and times already in
their stored form; its dict comes straight from the Structs. Whatever they refuse is decoded again by validate.py's exact walk, which
alone decides and finds the words; so a refusal here costs time and means nothing else.
"""

from __future__ import annotations

from threading import Lock
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from labctl.resources.encoding import NOT_JSON
from labctl.resources.schema.definitions import Type

# Forms that are certainly stored as they are; others may be right too, the exact walk knows.
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
    "any": str | int | float | bool | list | dict,  # and not null, which the exact walk drops or fills
}

_making = Lock()  # large bodies are decoded in a thread; a Struct that is half made must not be found by another


def decode(type_: Type, raw: bytes) -> Any:
    """The body as new JSON values; None if the exact walk has to look."""
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
    return _struct(type_) if type_.shape == "struct" else _SCALARS[type_.shape]


def _struct(type_: Type) -> Any:
    """A Struct of exactly these fields, all of which may be absent. A type that holds itself is left to the exact walk below the first level."""
    if type_.struct is None:
        type_.struct = _NeverFits
        # Fields are numbered and renamed: JSON names such as `continue` or `$ref` are no Python names.
        fields = [
            (f"f{number}", _python_type(field) | msgspec.UnsetType, msgspec.UNSET) for number, field in enumerate(type_.fields.values())
        ]
        names = {f"f{number}": name for number, name in enumerate(type_.fields)}
        type_.struct = msgspec.defstruct(type_.short_name or "Inline", fields, rename=names, forbid_unknown_fields=True, gc=False)
    return type_.struct


class _NeverFits(msgspec.Struct, forbid_unknown_fields=True):
    """Stands in for a type inside itself: no object with fields fits."""

    never: int
