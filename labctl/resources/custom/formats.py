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

_UUID = r"[0-9a-f]{8}-?[0-9a-f]{4}-?%s[0-9a-f]{3}-?[0-9a-f]{4}-?[0-9a-f]{12}"
_HOST = re.compile(r"(?=.{1,253}\Z)[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?(\.[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?)*\.?")
_MAC = re.compile(r"([0-9A-Fa-f]{2}[:-]){5}[0-9A-Fa-f]{2}|([0-9A-Fa-f]{4}\.){2}[0-9A-Fa-f]{4}")
_EMAIL = re.compile(r"[^@\s]{1,64}@[^@\s]{1,255}")
_COLOUR = re.compile(r"#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})")
_RGB = re.compile(r"rgb\((\s*\d{1,3}\s*,){2}\s*\d{1,3}\s*\)")
_DURATION = re.compile(
    r"[-+]?(\d+(\.\d*)?|\.\d+)\s*(ns|us|µs|ms|s|m|h|d|w|hours?|minutes?|seconds?|days?|weeks?)((\d+(\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h))*|0"
)
_DATE_TIME = re.compile(r"\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}:\d{2}(\.\d+)?([Zz]|[+-]\d{2}:\d{2})")
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_SUBDOMAIN = re.compile(r"(?=.{1,253}\Z)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")


def holds(format_: str, text: str) -> bool:
    """Tell whether the text has the format. Unknown formats hold for every text."""
    check = _CHECKS.get(format_)
    return True if check is None else check(text)


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


def _uuid(version: str) -> Callable[[str], bool]:
    return _matching(re.compile(_UUID % version, re.IGNORECASE))


def _uri(text: str) -> bool:
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return bool(parts.scheme) or text.startswith("/")


def _date_time(text: str) -> bool:
    if not _DATE_TIME.fullmatch(text):
        return False
    return _parsed(lambda said: datetime.fromisoformat(said.upper().replace("Z", "+00:00").replace(" ", "T")))(text)


_CHECKS: Mapping[str, Callable[[str], bool]] = {
    "bsonobjectid": _matching(re.compile(r"[0-9a-fA-F]{24}")),
    "byte": _parsed(lambda text: base64.b64decode(text, validate=True)),
    "cidr": _parsed(lambda text: ipaddress.ip_network(text, strict=False) if "/" in text else int("")),
    "date": _parsed(lambda text: date.fromisoformat(text) if len(text) == 10 else int("")),
    "date-time": _date_time,
    "datetime": _date_time,
    "duration": _matching(_DURATION),
    "email": _matching(_EMAIL),
    "hexcolor": _matching(_COLOUR),
    "hostname": _matching(_HOST),
    "ipv4": _parsed(ipaddress.IPv4Address),
    "ipv6": _parsed(ipaddress.IPv6Address),
    "isbn": _matching(re.compile(r"[0-9-]{9,17}[0-9xX]")),
    "k8s-long-name": _matching(_SUBDOMAIN),
    "k8s-short-name": _matching(_LABEL),
    "mac": _matching(_MAC),
    "quantity": _parsed(quantities.parse),
    "rgbcolor": _matching(_RGB),
    "uri": _uri,
    "uuid": _uuid("[0-9a-f]"),
    "uuid3": _uuid("3"),
    "uuid4": _uuid("4"),
    "uuid5": _uuid("5"),
}
