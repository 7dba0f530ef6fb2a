"""String formats that a custom kind's schema may ask for (those that Kubernetes knows). A format that is unknown is not checked."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from collections.abc import Callable, Mapping
from datetime import date, datetime
from urllib.parse import urlsplit

from labctl.resources import quantities
from labctl.resources.custom.schema import compiled

_UUID = r"[0-9a-f]{8}-?[0-9a-f]{4}-?%s[0-9a-f]{3}-?%s[0-9a-f]{3}-?[0-9a-f]{12}"
_ANY, _VARIANT = "[0-9a-f]", "[89ab]"
_LETTER = r"[a-zA-Z0-9\p{S}\p{L}]"
_HOST = rf"^(?:{_LETTER}-?{_LETTER}{{0,62}}|(?:{_LETTER}(?:[a-zA-Z0-9\p{{S}}\p{{L}}-]{{0,61}}{_LETTER})?\.)+[a-zA-Z\p{{L}}]{{2,63}})$"
_HEX = re.compile("[0-9A-Fa-f]+")
_MACS = (
    (":", 2, (6, 8, 20)),
    ("-", 2, (6, 8, 20)),
    (".", 4, (3, 4, 10)),
)  # what stands between groups of so many digits, and how many groups there are
_WORD = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_ADDRESS = rf"{_WORD}(?:\.{_WORD})*@{_WORD}(?:\.{_WORD})*"
_EMAIL = re.compile(rf"(?:[^<>@:;,\\\"()\[\]]*<{_ADDRESS}>|{_ADDRESS})")
_COLOUR = re.compile(r"#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})")
_RGB = re.compile(r"rgb\((?:\s*(?:\d{1,2}|1\d\d|2[0-4]\d|25[0-5])\s*[,)]){3}(?<=\))")
_DURATION = re.compile(r"[-+]?((\d+(\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h))+|[-+]?0")
_PART_OF_DURATION = re.compile(r"\d+\s*([A-Za-zµ]+)")
_UNITS = frozenset("ns nano us µs micro ms milli s sec m min h hr hour d day w week wk".split())
_BEGINNINGS = ("nano", "micro", "milli", "sec", "min", "hour", "day", "week")
_DATE_TIME = re.compile(r"\d{4}-\d{2}-\d{2}[Tt]\d{2}:\d{2}:\d{2}(\.\d+)?([Zz]|[+-]\d{2}:\d{2})")
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_CARD = re.compile(
    r"(?:4[0-9]{12}(?:[0-9]{3})?|5[1-5][0-9]{14}|6(?:011|5[0-9][0-9])[0-9]{12}|3[47][0-9]{13}|3(?:0[0-5]|[68][0-9])[0-9]{11}|(?:2131|1800|35\d{3})\d{11})"
)
_SUBDOMAIN = re.compile(r"(?=.{1,253}\Z)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")


def holds(format_: str, text: str) -> bool:
    """Tell whether the text has the format. Unknown formats hold for every text."""
    check = _CHECKS.get(format_) or _BY_PLAIN_NAME.get(format_.replace("-", ""))
    return True if check is None else check(text)


def is_known(format_: str) -> bool:
    """Tell whether Kubernetes checks texts of the format."""
    return format_.replace("-", "") in _BY_PLAIN_NAME


def _matching(pattern: re.Pattern[str]) -> Callable[[str], bool]:
    return lambda text: pattern.fullmatch(text) is not None


def _parsed(parse: Callable[[str], object]) -> Callable[[str], bool]:
    def check(text: str) -> bool:
        try:
            parse(text)
        except (ValueError, binascii.Error):
            return False
        return True

    return check


def _uuid(version: str, variant: str = _ANY) -> Callable[[str], bool]:
    return _matching(re.compile(_UUID % (version, variant), re.IGNORECASE))


def _address(text: str, mark: str) -> bool:
    """Tell whether the text is an IP address that is written with the mark: `::ffff:1.2.3.4` is one of both versions to Kubernetes."""
    return mark in text and "%" not in text and _parsed(ipaddress.ip_address)(text)


def _mac(text: str) -> bool:
    for mark, size, counts in _MACS:
        groups = text.split(mark)
        if len(groups) in counts and all(len(group) == size and _HEX.fullmatch(group) for group in groups):
            return True
    return False


def _hostname(text: str) -> bool:
    return len(text) <= 255 and all(len(part) <= 63 for part in text.split(".")) and bool(compiled(_HOST).search(text))


def _duration(text: str) -> bool:
    """Tell whether the text is a duration of Go's, or has a number with a unit anywhere: `2 weeks`."""
    if _DURATION.fullmatch(text):
        return True
    units = [unit.lower() for unit in _PART_OF_DURATION.findall(text)]
    return any(unit in _UNITS or unit.startswith(_BEGINNINGS) for unit in units)


def _uri(text: str) -> bool:
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return (bool(parts.scheme) or text.startswith("/")) and " " not in parts.netloc


def _date_time(text: str) -> bool:
    if not _DATE_TIME.fullmatch(text):
        return False
    return _parsed(lambda said: datetime.fromisoformat(said.upper().replace("Z", "+00:00")))(text)


def _card(text: str) -> bool:
    """Tell whether the digits of the text are a card's number: the last of them is made of the others (ISO/IEC 7812)."""
    digits = re.sub(r"[^0-9]", "", text)
    if not _CARD.fullmatch(digits):
        return False
    doubled = [int(digit) * 2 for digit in digits[-2::-2]]
    return (sum(map(int, digits[::-2])) + sum(each - 9 if each > 9 else each for each in doubled)) % 10 == 0


def _isbn10(text: str) -> bool:
    digits = re.sub(r"[\s-]", "", text)
    if not re.fullmatch(r"[0-9]{9}[0-9X]", digits):
        return False
    return sum(weight * (10 if digit == "X" else int(digit)) for weight, digit in enumerate(digits, 1)) % 11 == 0


def _isbn13(text: str) -> bool:
    digits = re.sub(r"[\s-]", "", text)
    if not re.fullmatch(r"[0-9]{13}", digits):
        return False
    return sum(int(digit) * (3 if place % 2 else 1) for place, digit in enumerate(digits)) % 10 == 0


_CHECKS: Mapping[str, Callable[[str], bool]] = {
    "bsonobjectid": _matching(re.compile(r"[0-9a-fA-F]{24}")),
    "byte": _parsed(lambda text: base64.b64decode(text, validate=True)),
    "cidr": _parsed(lambda text: ipaddress.ip_network(text, strict=False) if "/" in text and "%" not in text else int("")),
    "creditcard": _card,
    "date": _parsed(lambda text: date.fromisoformat(text) if len(text) == 10 else int("")),
    "date-time": _date_time,
    "datetime": _date_time,
    "duration": _duration,
    "email": _matching(_EMAIL),
    "hexcolor": _matching(_COLOUR),
    "hostname": _hostname,
    "ipv4": lambda text: _address(text, "."),
    "ipv6": lambda text: _address(text, ":"),
    "isbn": lambda text: _isbn10(text) or _isbn13(text),
    "isbn10": _isbn10,
    "isbn13": _isbn13,
    "k8s-long-name": _matching(_SUBDOMAIN),
    "k8s-short-name": _matching(_LABEL),
    "mac": _mac,
    "password": lambda _text: True,
    "quantity": _parsed(quantities.parse),
    "rgbcolor": _matching(_RGB),
    "ssn": _matching(re.compile(r"\d{3}[- ]\d{2}[- ]\d{4}", re.ASCII)),
    "uri": _uri,
    "uuid": _uuid(_ANY),
    "uuid3": _uuid("3"),
    "uuid4": _uuid("4", _VARIANT),
    "uuid5": _uuid("5", _VARIANT),
}
_BY_PLAIN_NAME = {name.replace("-", ""): check for name, check in _CHECKS.items()}
"""Kubernetes reads a format's name without its hyphens."""
