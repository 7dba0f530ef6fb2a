"""This module makes apimachinery's field.Errors, which say what is wrong with a field in a real server's words. There is one function for each type of error.

Values are printed as Go prints them there: strings quoted, numbers bare, maps and lists as JSON.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from labctl.resources.kind import FieldError

MOST_SHOWN = 10_000
"""Characters of a value that an error shows. A hundred errors about one text of 3 MB would be an answer of 600 MB."""


def shown(value: Any) -> str:
    text = msgspec.json.encode(value)
    return text.decode() if len(text) <= MOST_SHOWN else text[:MOST_SHOWN].decode(errors="ignore") + "..."


def required(path: str, why: str = "") -> FieldError:
    return FieldError(path, "FieldValueRequired", f"Required value: {why}" if why else "Required value")


def invalid(path: str, value: Any, why: str) -> FieldError:
    return FieldError(path, "FieldValueInvalid", f"Invalid value: {shown(value)}: {why}")


def not_supported(path: str, value: Any, supported: Iterable[str]) -> FieldError:
    values = ", ".join(shown(v) for v in sorted(supported))
    return FieldError(path, "FieldValueNotSupported", f"Unsupported value: {shown(value)}: supported values: {values}")


def forbidden(path: str, why: str) -> FieldError:
    return FieldError(path, "FieldValueForbidden", f"Forbidden: {why}")


def duplicate(path: str, value: Any) -> FieldError:
    return FieldError(path, "FieldValueDuplicate", f"Duplicate value: {shown(value)}")


def not_found(path: str, value: Any) -> FieldError:
    return FieldError(path, "FieldValueNotFound", f"Not found: {shown(value)}")


def too_long(path: str, limit: int) -> FieldError:
    return FieldError(path, "FieldValueTooLong", f"Too long: may not be more than {limit} bytes")


def too_many(path: str, count: int, limit: int) -> FieldError:
    return FieldError(path, "FieldValueTooMany", f"Too many: {count}: must have at most {limit} items")


def not_negative(path: str, holder: Mapping[str, Any], *names: str) -> Iterator[FieldError]:
    """Yields an error for each of these numbers of the holder that is below 0."""
    for name in names:
        if (holder.get(name) or 0) < 0:
            yield invalid(f"{path}.{name}", holder[name], "must be greater than or equal to 0")
