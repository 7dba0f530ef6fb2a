"""What requests are sent to: a Service, or an address that belongs to the lab. An address elsewhere is refused, so no packet leaves the lab.

web   svc/web   web:http   web:8080   shop/web   svc/shop/web        a Service, and if it has several ports, one of them
http://10.247.0.5/path   https://web.shop.svc   tcp://minion-1:30080   udp://10.246.1.7:5353        an address of the lab
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec

from labctl import defaults
from labctl.errors import LabctlError, UsageError
from labctl.lab import machines
from labctl.measure.records import Protocol

if TYPE_CHECKING:
    from labctl.lab.folder import LabFolder

_SERVICE = re.compile(r"(?:(?:svc|service|services)/)?(?:([a-z0-9-]{1,63})/)?([a-z0-9-]{1,63})(?::([a-z0-9-]{1,63}))?\Z")
_KIND_ALONE = re.compile(r"(?:svc|service|services)/([a-z0-9-]{1,63}(?::[a-z0-9-]{1,63})?)\Z")
_NAME = re.compile(r"([a-z0-9-]{1,63})(?:\.([a-z0-9-]{1,63})(?:\.svc(?:\.[a-z0-9.-]{1,200})?)?)?\Z")
_DEFAULT_PORTS = {"http": 80, "https": 443}
_HTTPS = {"443", "8443", "6443", "https"}
_NOT_HTTP_PORTS = {
    21,
    22,
    25,
    53,
    110,
    143,
    389,
    1433,
    1521,
    1883,
    2049,
    2181,
    2379,
    2380,
    3306,
    5432,
    5671,
    5672,
    6379,
    9042,
    9092,
    11211,
    27017,
}
_NOT_HTTP = re.compile(r"(tcp|grpc|redis|mysql|mongo|postgres|pg|amqp|kafka|smtp|imap|ssh|ftp|ldap|dns|nfs|mqtt|memcache|etcd)")
_QUESTION = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x0akubernetes\x07default\x03svc\x07cluster\x05local\x00\x00\x01\x00\x01"
_PAYLOAD = "labctl\n"


class Target(msgspec.Struct, frozen=True):
    """Where requests go. `request` is what is sent, in latin-1; `node_port` is for sources outside of the lab's machines."""

    text: str  # for people: svc/web at http://10.247.0.5:80/
    protocol: Protocol
    address: str
    port: int
    request: str = ""
    server_name: str = ""
    node_port: int = 0


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What a person said about the target. `protocol` is empty where the port shall say it."""

    target: str
    namespace: str = "default"
    protocol: str = ""
    path: str = "/"
    keepalive: bool = False


def resolve(lab: LabFolder, asked: Asked) -> Target:
    """Returns where the requests go. Raises LabctlError or UsageError in one line."""
    if not re.fullmatch(r"/[!-~]{0,2000}", asked.path):
        raise UsageError(f"{asked.path[:100]!r} is no path", mend="write a path such as /healthz, without spaces")
    if "://" in asked.target:
        return _url(lab, asked)
    match = _KIND_ALONE.match(asked.target)
    name = match[1] if match else asked.target
    match = _SERVICE.match(name)
    if not match:
        raise UsageError(f"{asked.target[:100]!r} is no Service and no URL", mend="write web, svc/web, web:http or http://10.247.0.10")
    return _service(lab, asked, match[1] or asked.namespace, match[2], match[3] or "")


def _service(lab: LabFolder, asked: Asked, namespace: str, name: str, port: str) -> Target:
    service = lab.api.find(f"/api/v1/namespaces/{namespace}/services/{name}")
    if service is None:
        raise LabctlError(f"there is no Service {name} in namespace {namespace}", mend=f"labctl get services -n {namespace}")
    address = service["spec"].get("clusterIP", "")
    if address in ("", "None"):
        raise LabctlError(f"Service {name} has no virtual IP", mend="measure a pod's address: http://ADDRESS:PORT")
    chosen = _port(service["spec"]["ports"], name, port)
    protocol = asked.protocol or _protocol(chosen)
    if (protocol == "udp") != (chosen.get("protocol") == "UDP"):
        raise UsageError(f"port {chosen['port']} of Service {name} is {chosen.get('protocol', 'TCP')}, not {protocol}")
    host = f"{name}.{namespace}.svc"
    return _target(f"svc/{name}", protocol, address, chosen["port"], asked.path, host, asked.keepalive, chosen.get("nodePort", 0))


def _port(ports: Sequence[dict[str, Any]], name: str, wanted: str) -> dict[str, Any]:
    if not wanted and len(ports) == 1:
        return ports[0]
    found = [port for port in ports if wanted and wanted in (port.get("name"), str(port["port"]))]
    if found:
        return found[0]
    known = ", ".join(f"{name}:{port.get('name') or port['port']}" for port in ports)
    raise UsageError(f"Service {name} has {f'no port {wanted}' if wanted else 'several ports'}", mend=f"write {known}")


def _protocol(port: dict[str, Any]) -> str:
    """Returns what is probably spoken at a Service's port: its appProtocol says it, else its name, else its number."""
    if port.get("protocol") == "UDP":
        return "udp"
    words = {str(port.get("appProtocol", "")).lower(), port.get("name", ""), str(port["port"]), str(port.get("targetPort", ""))}
    if any(word in _HTTPS or word.startswith("https") for word in words):
        return "https"
    if any(word.startswith("http") for word in words):
        return "http"
    return "tcp" if port["port"] in _NOT_HTTP_PORTS or any(_NOT_HTTP.match(word) for word in words) else "http"


def _url(lab: LabFolder, asked: Asked) -> Target:
    try:
        parts = urlsplit(asked.target)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise UsageError(f"{asked.target[:100]!r} is no URL: {error}") from None
    protocol = parts.scheme
    if protocol not in ("http", "https", "tcp", "udp") or not host or "@" in parts.netloc:
        raise UsageError(
            f"{asked.target[:100]!r} can't be measured", mend="write http://, https://, tcp:// or udp://, then an address of the lab"
        )
    port = port or _DEFAULT_PORTS.get(protocol, 0)
    if not port:
        raise UsageError(f"{asked.target[:100]!r} names no port", mend=f"write {protocol}://{host}:PORT")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "") if parts.path or parts.query else asked.path
    if not re.fullmatch(r"/[!-~]{0,2000}", path):
        raise UsageError(f"{asked.target[:100]!r} has no proper path")
    return _target("", protocol, _address(lab, host, asked.namespace), port, path, parts.netloc, asked.keepalive, 0)


def _address(lab: LabFolder, host: str, namespace: str) -> str:
    """Returns the address of the lab that a URL names. Raises LabctlError if it is none of the lab's."""
    if host == "localhost":
        return "127.0.0.1"
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return _named(lab, host, namespace)
    if address.version == 4 and any(address in network for network in _lab_networks(lab)):
        return host
    raise LabctlError(
        f"{host} is no address of this lab, and labs send nothing outside", mend="measure a Service, a pod, a machine or 127.0.0.1"
    )


def _named(lab: LabFolder, host: str, namespace: str) -> str:
    for machine in machines.list_machines(lab):
        if machine["metadata"]["name"] == host:
            return machine["status"].get("address") or machine["spec"].get("address", "")
    match = _NAME.match(host)
    if match:
        service = lab.api.find(f"/api/v1/namespaces/{match[2] or namespace}/services/{match[1]}")
        if service and service["spec"].get("clusterIP") not in (None, "", "None"):
            return service["spec"]["clusterIP"]
    raise LabctlError(f"{host[:100]} is no Service and no machine of this lab, and labs send nothing outside")


def _lab_networks(lab: LabFolder) -> Iterator[ipaddress.IPv4Network]:
    """Yields the loopback, the Services' range, each machine's address and each machine's pods: where a packet stays in the lab."""
    yield ipaddress.IPv4Network("127.0.0.0/8")
    yield ipaddress.IPv4Network(lab.settings["addresses.services"])
    if balanced := _balanced(lab):
        yield balanced
    for machine in machines.list_machines(lab):
        if address := machine["status"].get("address") or machine["spec"].get("address"):
            yield ipaddress.IPv4Network(address)
    for node in lab.api.get("/api/v1/nodes")["items"]:
        if pods := node["spec"].get("podCIDR"):
            yield ipaddress.IPv4Network(pods)


def _balanced(lab: LabFolder) -> ipaddress.IPv4Network | None:
    """Return the addresses of load balancers. They are in the machines' network, where the host reaches them too."""
    settings = lab.settings
    found = defaults.load_balancer_range(settings["addresses.load_balancers"], settings["addresses.machines"], settings["provider"])
    return ipaddress.IPv4Network(found) if found else None


def is_balanced(lab: LabFolder, address: str) -> bool:
    balanced = _balanced(lab)
    return balanced is not None and ipaddress.IPv4Address(address) in balanced


def _target(name: str, protocol: str, address: str, port: int, path: str, host: str, keepalive: bool, node_port: int) -> Target:
    place = f"{protocol}://{address}:{port}{path if protocol.startswith('http') else ''}"
    text = f"{name} at {place}" if name else place
    request = ""
    if protocol == "udp":
        request = _QUESTION.decode("latin-1") if port == 53 else _PAYLOAD
    elif protocol != "tcp":
        stay = "keep-alive" if keepalive else "close"
        request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: labctl-measure\r\nAccept: */*\r\nConnection: {stay}\r\n\r\n"
    server_name = host.rpartition("@")[2].split(":")[0] if protocol == "https" else ""
    return Target(text, protocol, address, port, request, server_name, node_port)  # type: ignore[arg-type]
