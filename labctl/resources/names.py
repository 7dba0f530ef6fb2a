"""This module checks names by apimachinery's rules, with its messages. (The rules of labels are in labels.py.)

Each rule returns a list of sentences, which is empty if the text is valid.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any

from labctl.resources import fields
from labctl.resources.addresses import is_ipv4, is_ordinary_ipv4
from labctl.resources.cached import cached_if_short
from labctl.resources.kind import FieldError
from labctl.resources.labels import key_errors, value_errors

_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = _LABEL + r"(\." + _LABEL + ")*"
_LABEL_1035 = r"[a-z]([-a-z0-9]*[a-z0-9])?"
_CONFIG_KEY = r"[-._a-zA-Z0-9]+"
_ENV_NAME = r"[-._a-zA-Z][-._a-zA-Z0-9]*"

ANNOTATIONS_MAX = 256 << 10
"""Bytes of all annotations of an object."""
_NUMBER = re.compile("[0-9]+", re.ASCII)

Rule = Callable[[str], Sequence[str]]


def _rule(pattern: str, limit: int, why: str, *examples: str) -> Rule:
    """Makes a rule from a regular expression. Its message has the form of validation.RegexError."""
    match = re.compile(pattern, re.ASCII).fullmatch
    shown = ",  or ".join(f"'{example}'" for example in examples)
    sentence = f"{why} (e.g. {shown}, regex used for validation is '{pattern}')"

    def check(text: str) -> list[str]:
        errors = [f"must be no more than {limit} bytes"] if limit and len(text.encode()) > limit else []
        return errors if match(text) else [*errors, sentence]

    return check


_label = _rule(
    _LABEL,
    63,
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character",
    "my-name",
    "123-abc",
)
subdomain = _rule(
    _SUBDOMAIN,
    253,
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', "
    "and must start and end with an alphanumeric character",
    "example.com",
)
_dotted = re.compile(_SUBDOMAIN, re.ASCII).fullmatch


def label(text: str) -> list[str]:
    """Checks a DNS label. What would be one but for its dots is told just that."""
    errors = list(_label(text))
    return [*errors[:-1], "must not contain dots"] if "." in text and _dotted(text) else errors


wildcard = _rule(
    r"\*\." + _SUBDOMAIN,
    253,
    "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, "
    "which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character",
    "*.example.com",
)
search_path = _rule(  # KEP-4427: search domains may have underscores
    _SUBDOMAIN.replace("a-z0-9", "a-z0-9_"),
    253,
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-', '_' or '.', "
    "and must start and end with an alphanumeric character or '_'",
    "example.com",
    "_sip._tcp.example.com",
)
label_1035 = _rule(
    _LABEL_1035,
    63,
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, "
    "and end with an alphanumeric character",
    "my-name",
    "abc-123",
)
_config_key = _rule(
    _CONFIG_KEY, 253, "a valid config key must consist of alphanumeric characters, '-', '_' or '.'", "key.name", "KEY_NAME", "key-name"
)
env_name = _rule(
    _ENV_NAME,
    0,
    "a valid environment variable name must consist of alphabetic characters, digits, '_', '-', or '.', and must not start with a digit",
    "my.env-name",
    "MY_ENV.NAME",
    "MyEnvName1",
)

http_header = _rule(r"[-A-Za-z0-9]+", 0, "a valid HTTP header must consist of alphanumeric characters or '-'", "X-Header-Name")


def path_segment(text: str) -> list[str]:
    """Checks that the text can be a segment of a URL's path."""
    return [f"may not be '{text}'"] if text in (".", "..") else path_segment_prefix(text)


def path_segment_prefix(text: str) -> list[str]:
    """Checks that the text can begin a segment of a URL's path."""
    return [f"may not contain '{char}'" for char in ("/", "%") if char in text]


def config_key(text: str) -> list[str]:
    """Checks a key of a ConfigMap or Secret, which may become a file's name."""
    errors = [*_config_key(text)]
    if text == ".":
        errors.append("must not be '.'")
    elif text == "..":
        errors.append("must not be '..'")
    elif text.startswith(".."):
        errors.append("must not start with '..'")
    return errors


def port_name(text: str) -> list[str]:
    """Checks an IANA service name such as `http` or `https-alt`."""
    errors = []
    if len(text) > 15:
        errors.append("must be no more than 15 bytes")
    if not re.fullmatch(r"[a-z0-9-]*", text):
        errors.append("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)")
    if not re.search(r"[a-z]", text):
        errors.append("must contain at least one letter (a-z)")
    if "--" in text:
        errors.append("must not contain consecutive hyphens")
    if text.startswith("-") or text.endswith("-"):
        errors.append("must not begin or end with a hyphen")
    return errors


def port(number: int) -> list[str]:
    return [] if 1 <= number <= 65535 else ["must be between 1 and 65535, inclusive"]


def address(text: str) -> list[str]:
    """Checks an IP address (KEP-4858). One with a zone (`fe80::1%eth0`) is none: after the percent sign Python takes any text, line breaks too."""
    try:
        parsed = None if "%" in text else ip_address(text)
    except ValueError:
        parsed = None
    if parsed is None:
        return ["must not have leading 0s"] if _zeros_alone(text) else ["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"]
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
        return ["must not be an IPv4-mapped IPv6 address"]
    return []


def _zeros_alone(text: str) -> bool:
    """Tells whether leading zeros are all that is wrong with an IPv4 address: some programs read them as octal numbers."""
    without = re.sub(r"(?<![0-9])0+(?=[0-9])", "", text, flags=re.ASCII)
    return without != text and is_ipv4(without)


def network(text: str) -> list[str]:
    """Checks a range of addresses, `10.9.8.0/24`: nothing may be set beyond the prefix, since programs disagree about what that means (KEP-4858)."""
    first, slash, bits = text.rpartition("/")
    wrong = address(first)
    if wrong == ["must not have leading 0s"]:
        return ["must not have leading 0s in IP or prefix length"]
    if wrong and "mapped" in wrong[0]:
        return ["must not have an IPv4-mapped IPv6 address"]
    try:
        parsed = None if wrong or not slash or not _NUMBER.fullmatch(bits) else ip_network(text, strict=False)
    except ValueError:
        parsed = None
    if parsed is None:
        return ["must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"]
    if bits != str(parsed.prefixlen):
        return ["must not have leading 0s in IP or prefix length"]
    return [] if parsed.network_address == ip_address(first) else ["must not have bits set beyond the prefix length"]


def outside_address(text: str) -> Sequence[str]:
    """Checks that packets from outside can have this address: it is not unspecified, loopback or link-local."""
    return () if is_ordinary_ipv4(text) else _outside_address(text)


@cached_if_short(1024)
def _outside_address(text: str) -> Sequence[str]:
    errors = address(text)
    if errors:
        return errors
    parsed = ip_address(text)
    if isinstance(parsed, IPv6Address) and int(parsed) >> 32 in (0, 0xFFFF) and not (parsed.is_unspecified or parsed.is_loopback):
        return [f"must not be an IPv4-mapped IPv6 address ({text})"]  # whoever connects to it connects to the IPv4 address, 127.0.0.1 too
    if parsed.is_unspecified:
        return [f"may not be unspecified ({text})"]
    for wrong, where in (
        (parsed.is_loopback, "loopback range (127.0.0.0/8, ::1/128)"),
        (parsed.is_link_local, "link-local range (169.254.0.0/16, fe80::/10)"),
        (parsed.is_multicast and str(parsed).startswith("224.0.0."), "link-local multicast range (224.0.0.0/24, ff02::/10)"),
    ):
        if wrong:
            return [f"may not be in the {where}"]
    return []


NAME_RULES: Mapping[str, Rule] = {"subdomain": subdomain, "label": label, "path": path_segment}


def checked(path: str, value: Any, rule: Callable[[Any], Sequence[str]]) -> Sequence[FieldError]:
    """Returns each sentence of a rule as an error of the field. Nearly always there is none."""
    wrong = rule(value)
    return [fields.invalid(path, value, why) for why in wrong] if wrong else ()


def labels(path: str, values: Mapping[str, str]) -> Iterator[FieldError]:
    for key, value in values.items():
        yield from checked(path, key, key_errors)
        yield from checked(path, value, value_errors)


def annotation_keys(path: str, values: Mapping[str, str]) -> Iterator[FieldError]:
    for key in values:
        yield from checked(path, key, lambda text: key_errors(text.lower()))
    if sum(len(key.encode()) + len(value.encode()) for key, value in values.items()) > ANNOTATIONS_MAX:
        yield fields.too_long(path, ANNOTATIONS_MAX)
