"""Checks everything that the master sends before it is used: addresses, names, rules for iptables, sysctls.

Each function returns the checked value or raises Refused. Nothing becomes part of a command line unchecked, whatever a Service was named.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Any, Iterable

RULE_BYTES_MAX = 32 << 20
_BUILT_IN = "PREROUTING|INPUT|FORWARD|OUTPUT|POSTROUTING"
_CHAIN = r"LABCTL-[A-Z0-9-]{1,21}"
_WORDS = r"[-A-Za-z0-9 !/:.,_>=\"]*"
_LINES = re.compile(
    r"\*(?:nat|filter)|COMMIT|"
    rf":{_CHAIN} - \[0:0\]|-X {_CHAIN}|"
    rf"-[AD] {_CHAIN} {_WORDS}|"
    rf"-[ID] (?:{_BUILT_IN}) {_WORDS}-j {_CHAIN}"
)
_HARDWARE = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_NAME = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_./:]{0,300}[A-Za-z0-9])?")
_SYSCTL = re.compile(
    r"net\.ipv4\.(?:ip_forward|conf\.(?:all|default|LINK)\.(?:rp_filter|forwarding|send_redirects|route_localnet|arp_ignore|arp_announce|proxy_arp))"
)


class Refused(ValueError):
    """The request is not one that labctl's master sends."""


def address(value: Any) -> str:
    try:
        return str(ipaddress.IPv4Address(value))
    except ValueError:
        raise Refused(f"{value!r} is no IPv4 address") from None


def network(value: Any) -> str:
    try:
        return str(ipaddress.IPv4Network(value))
    except ValueError:
        raise Refused(f"{value!r} is no IPv4 network") from None


def hardware_address(value: Any) -> str:
    if not isinstance(value, str) or not _HARDWARE.fullmatch(value):
        raise Refused(f"{value!r} is no hardware address")
    return value


def port(value: Any) -> int:
    return number(value, 1, 65535)


def number(value: Any, least: int, most: int) -> int:
    if type(value) is not int or not least <= value <= most:
        raise Refused(f"{value!r} is not between {least} and {most}")
    return value


def name(value: Any) -> str:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise Refused(f"{value!r} is no name")
    return value


def one_of(value: Any, allowed: Iterable[str]) -> str:
    if value not in allowed:
        raise Refused(f"{value!r} is none of {', '.join(allowed)}")
    return str(value)


def sysctl(key: Any, value: Any, device: str) -> tuple:
    """Return the path below /proc/sys and the text to write. Only sysctls of this machine's network namespace; `LINK` in a key stands for `device`."""
    if not isinstance(key, str) or not _SYSCTL.fullmatch(key):
        raise Refused(f"{key!r} is not for the master to set")
    parts = [device if part == "LINK" else part for part in key.split(".")]
    return "/proc/sys/" + "/".join(parts), str(number(value, 0, 2))


def rules(text: Any) -> bytes:
    """Return input for iptables-restore. It may change only labctl's chains and the jumps to them."""
    if not isinstance(text, str) or len(text) > RULE_BYTES_MAX:
        raise Refused("rules are one text of a bounded size")
    for line in text.split("\n"):
        if line and not _LINES.fullmatch(line):
            raise Refused(f"no rule of labctl's: {line[:200]!r}")
    return text.encode("ascii")
