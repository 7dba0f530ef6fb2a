"""Kubernetes' named formats in CEL: `format.dns1123Label().validate(text)` is an optional list of what is wrong with the text.

The library can't be given an optional, so `validate` and `format.named` return a list of one or none, and rewrite.py takes an optional out of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from labctl.resources import names
from labctl.resources.cel.addresses import parse_url
from labctl.resources.custom import formats
from labctl.resources.labels import key_errors, value_errors

_FORMAT = "kubernetes.NamedFormat"
MOST_TEXT = 1 << 20

Check = Callable[[str], Sequence[str]]


def _prefix(check: Check) -> Check:
    """Returns the rule for the beginning of a name, which may end with a dash."""
    return lambda text: check(text[:-2] + "a" if len(text) > 1 and text.endswith("-") else text)


def _holds(format_: str, why: str) -> Check:
    return lambda text: [] if formats.holds(format_, text) else [why]


def _uri(text: str) -> list[str]:
    try:
        parse_url(text)
    except ValueError as error:
        return [str(error).removeprefix("URL parse error during conversion from string: ")]
    return []


CHECKS: Mapping[str, Check] = {
    "dns1123Label": names.label,
    "dns1123Subdomain": names.subdomain,
    "dns1035Label": names.label_1035,
    "qualifiedName": key_errors,
    "dns1123LabelPrefix": _prefix(names.label),
    "dns1123SubdomainPrefix": _prefix(names.subdomain),
    "dns1035LabelPrefix": _prefix(names.label_1035),
    "labelValue": value_errors,
    "uri": _uri,
    "uuid": _holds("uuid", "does not match the UUID format"),
    "byte": _holds("byte", "invalid base64"),
    "date": _holds("date", "invalid date"),
    "datetime": _holds("datetime", "invalid datetime"),
}


def _validate(format_: Mapping[str, str], text: str) -> list[list[str]]:
    if _FORMAT not in format_:
        raise ValueError("no such overload")
    if len(text) > MOST_TEXT:
        raise ValueError("text is too long to be validated")
    errors = list(CHECKS[format_[_FORMAT]](text))
    return [errors] if errors else []


Row = tuple[str, tuple[str, ...], str, Callable[..., Any], bool]


def table() -> Iterator[Row]:
    """Yields a row for each function: name, types of the parameters, type of the result, function, whether it is a method."""
    for name in CHECKS:
        yield f"format.{name}", (), "opaque", lambda name=name: {_FORMAT: name}, False
    yield "format.named", ("string",), "opaques", lambda name: [{_FORMAT: name}] if name in CHECKS else [], False
    yield "validate", ("opaque", "string"), "errors", _validate, True
