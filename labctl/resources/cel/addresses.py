"""URLs, IP addresses and networks in CEL, as Kubernetes has them (`url`, `ip`, `cidr` and their methods)."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

_IP, _CIDR, _URL = "net.IP", "net.CIDR", "net.URL"
Value = Mapping[str, str]
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _ip(text: str) -> dict[str, str]:
    address = ipaddress.ip_address(text)
    if "%" in text or (isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped):
        raise ValueError(f"IP Address {text!r} parse error during conversion from string")
    return {_IP: str(address)}


def _cidr(text: str) -> dict[str, str]:
    if "/" not in text:
        raise ValueError(f"network address parse error during conversion from string: {text!r}")
    ipaddress.ip_network(text, strict=False)
    return {_CIDR: text}


def parse_url(text: str) -> dict[str, str]:
    """Returns the value of a URL. Raises ValueError."""
    parts = urlsplit(text)
    if not (parts.scheme and parts.netloc) and not text.startswith("/"):
        raise ValueError(f"URL parse error during conversion from string: parse {text[:100]!r}: invalid URI for request")
    _ = parts.port  # a port that is none is a ValueError
    return {_URL: text}


def _of(value: Value, type_: str) -> str:
    if type_ not in value:
        raise ValueError("no such overload")
    return value[type_]


def _address(value: Value) -> Address:
    return ipaddress.ip_address(_of(value, _IP))


def _network(value: Value) -> Network:
    return ipaddress.ip_network(_of(value, _CIDR), strict=False)


def _split(value: Value) -> Any:
    return urlsplit(_of(value, _URL))


def _holds(parse: Callable[[str], Any]) -> Callable[[str], bool]:
    def holds(text: str) -> bool:
        try:
            parse(text)
        except ValueError:
            return False
        return True

    return holds


def _contains_ip(network: Value, address: Value | str) -> bool:
    inside = ipaddress.ip_address(address) if isinstance(address, str) else _address(address)
    return inside in _network(network)


def _contains_cidr(network: Value, other: Value | str) -> bool:
    outer, inner = _network(network), ipaddress.ip_network(other, strict=False) if isinstance(other, str) else _network(other)
    return inner.version == outer.version and inner.subnet_of(outer)  # type: ignore[arg-type]  # of one family


def _prefix(network: Value) -> int:
    return _network(network).prefixlen


def _global_unicast(address: Address) -> bool:
    odd = address.is_multicast or address.is_unspecified or address.is_loopback or address.is_link_local
    return not odd and str(address) != "255.255.255.255"


Row = tuple[str, tuple[str, ...], str, Callable[..., Any], bool]


def table() -> Iterator[Row]:
    """Yield a row for each function: name, types of the parameters, type of the result, function, whether it is a method."""
    yield "ip", ("string",), "opaque", _ip, False
    yield "isIP", ("string",), "bool", _holds(_ip), False
    yield "ip.isCanonical", ("string",), "bool", lambda text: _ip(text)[_IP] == text, False
    yield "_string", ("opaque",), "string", lambda one: str(one[_CIDR] if _CIDR in one else _of(one, _IP)), False
    for type_ in ("string", "int", "bool"):  # of an address's parts
        yield "_string", (type_,), "string", lambda one: str(one).lower() if isinstance(one, bool) else str(one), False
    yield "family", ("opaque",), "int", lambda one: _address(one).version, True
    yield "isUnspecified", ("opaque",), "bool", lambda one: _address(one).is_unspecified, True
    yield "isLoopback", ("opaque",), "bool", lambda one: _address(one).is_loopback, True
    yield "isLinkLocalUnicast", ("opaque",), "bool", lambda one: _address(one).is_link_local, True
    yield "isLinkLocalMulticast", ("opaque",), "bool", _link_local_multicast, True
    yield "isGlobalUnicast", ("opaque",), "bool", lambda one: _global_unicast(_address(one)), True
    yield "cidr", ("string",), "opaque", _cidr, False
    yield "isCIDR", ("string",), "bool", _holds(_cidr), False
    for other in ("opaque", "string"):
        yield "containsIP", ("opaque", other), "bool", _contains_ip, True
        yield "containsCIDR", ("opaque", other), "bool", _contains_cidr, True
    yield "ip", ("opaque",), "opaque", lambda one: _ip(_of(one, _CIDR).partition("/")[0]), True
    yield "masked", ("opaque",), "opaque", lambda one: {_CIDR: str(_network(one))}, True
    yield "prefixLength", ("opaque",), "int", _prefix, True
    yield "url", ("string",), "opaque", parse_url, False
    yield "isURL", ("string",), "bool", _holds(parse_url), False
    yield "getScheme", ("opaque",), "string", lambda one: _split(one).scheme, True
    yield "getHost", ("opaque",), "string", lambda one: _split(one).netloc.rpartition("@")[2], True
    yield "getHostname", ("opaque",), "string", lambda one: _split(one).hostname or "", True
    yield "getPort", ("opaque",), "string", lambda one: str(_split(one).port or ""), True
    yield "getEscapedPath", ("opaque",), "string", lambda one: quote(_split(one).path, safe="/%:@!$&'()*+,;=~-._"), True
    yield "getQuery", ("opaque",), "map", lambda one: parse_qs(_split(one).query, keep_blank_values=True), True


def _link_local_multicast(value: Value) -> bool:
    address = _address(value)
    if isinstance(address, ipaddress.IPv4Address):
        return address in ipaddress.IPv4Network("224.0.0.0/24")
    return address.packed[0] == 0xFF and address.packed[1] & 0x0F == 0x02
