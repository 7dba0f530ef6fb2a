"""Addresses of load balancers that this machine answers in the lab's network, and the health check ports of their Services.

Who calls it: methods.py, with all that this machine is to have. An address lies on the interface to the lab's network, so that the kernel answers who
asks for it; a gratuitous ARP (RFC 5227) tells those who remember another machine, at once and then every 5 s. Addresses of the range that are not wanted
any more are removed, also those that an earlier helper left.
"""

from __future__ import annotations

import http.server
import ipaddress
import json
import socket
import struct
import threading
import time
from typing import Any, Dict, List, Optional, Tuple

from ..netlink import has_address
from . import check, commands

ADDRESSES_MAX = 256
PORTS_MAX = 200
TELL_AGAIN_S = 5.0
_BROADCAST = b"\xff" * 6
_ETHERNET_ARP, _ARP_REQUEST, _ARP_REPLY = 0x0806, 1, 2


class Announced:
    """The load balancers' addresses and health check ports of this machine. One object lives as long as the helper."""

    def __init__(self) -> None:
        self._device = ""
        self._addresses: List[str] = []
        self._told_at = 0.0
        self._health: Dict[int, "_HealthPort"] = {}

    def serve(self, params: Dict[str, Any]) -> dict:
        """Make this machine answer exactly the addresses and health check ports in `params`.

        `params`: {"address": this machine's own, "range": the balancers' network, "addresses": [...], "health": [{"port", "service", "local"}]}.
        Returns {"added", "removed": addresses, "trouble": one sentence for each port that could not be opened}. Raises Refused and Failed.
        """
        own, wanted = check.address(params["address"]), [check.address(each) for each in _bounded(params["addresses"], ADDRESSES_MAX)]
        reach = ipaddress.IPv4Network(check.network(params["range"]))
        if any(ipaddress.IPv4Address(each) not in reach for each in wanted):
            raise check.Refused(f"an address that is not of {reach}")
        self._device, there = _find(own, reach)
        batch = [f"address del {each}/32 dev {self._device}" for each in there if each not in wanted]
        added = [each for each in wanted if each not in there]
        batch += [f"address add {each}/32 dev {self._device}" for each in added]
        if batch:
            commands.run(["ip", "-batch", "-"], "\n".join([*batch, ""]).encode())
        self._addresses = wanted
        self._tell()
        trouble = self._serve_health([_health(each) for each in _bounded(params.get("health", []), PORTS_MAX)])
        return {"added": added, "removed": [each for each in there if each not in wanted], "trouble": trouble}

    def lost(self) -> bool:
        """Return True once when somebody removed an address of ours. It is cheap, and it also repeats the announcement every TELL_AGAIN_S."""
        if not self._addresses:
            return False
        if any(not has_address(each) for each in self._addresses):
            self._addresses = []
            return True
        if time.monotonic() - self._told_at > TELL_AGAIN_S:
            self._tell()
        return False

    def _tell(self) -> None:
        self._told_at = time.monotonic()
        if self._addresses:
            tell(self._device, self._addresses)

    def _serve_health(self, wanted: List[Tuple[int, str, int]]) -> List[str]:
        ports = {port for port, _, _ in wanted}
        for port in [port for port in self._health if port not in ports]:
            self._health.pop(port).close()
        trouble = []
        for port, service, local in wanted:
            try:
                if port not in self._health:
                    self._health[port] = _HealthPort(port)
                self._health[port].say(service, local)
            except OSError as error:
                trouble.append(f"the health check port {port} of {service} can't be served: {error.strerror}")
        return trouble


def _bounded(values: Any, most: int) -> List[Any]:
    if not isinstance(values, list) or len(values) > most:
        raise check.Refused("a list is too long")
    return values


def _health(value: Dict[str, Any]) -> Tuple[int, str, int]:
    return check.port(value["port"]), check.name(value["service"]), check.number(value["local"], 0, 1 << 20)


def _find(own: str, reach: ipaddress.IPv4Network) -> Tuple[str, List[str]]:
    """Return the interface that has this machine's own address, and the addresses of the range that it has. Raises Refused if there is none."""
    for link in json.loads(commands.run(["ip", "-j", "-4", "address", "show"])):
        held = [info for info in link.get("addr_info", ()) if info.get("local")]
        if any(info["local"] == own for info in held):
            ours = [info["local"] for info in held if info.get("prefixlen") == 32 and info["local"] != own]
            return str(link["ifname"]), [each for each in ours if ipaddress.IPv4Address(each) in reach]
    raise check.Refused(f"no interface of this machine has the address {own}")


def tell(device: str, addresses: List[str]) -> None:
    """Send a gratuitous ARP request and a reply for each address, because some systems accept only one of them. If the interface is down, nothing is sent."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as link:
        try:
            link.bind((device, _ETHERNET_ARP))
            hardware = link.getsockname()[4]
            for address in addresses:
                for operation in (_ARP_REQUEST, _ARP_REPLY):
                    link.send(packet(hardware, address, operation))
        except OSError:
            return


def packet(hardware: bytes, address: str, operation: int) -> bytes:
    """Return an ARP packet that says which hardware address `address` has."""
    ip = socket.inet_aton(address)
    head = _BROADCAST + hardware + struct.pack("!H", _ETHERNET_ARP)
    return head + struct.pack("!HHBBH", 1, 0x0800, 6, 4, operation) + hardware + ip + _BROADCAST + ip


class _HealthPort:
    """A thread that answers on one port how many ready endpoints of a Service this machine has, in the form that kube-proxy uses."""

    def __init__(self, port: int) -> None:
        self.said: Tuple[str, int] = ("", 0)
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            timeout = 5

            def do_GET(self) -> None:
                service, local = outer.said
                namespace, _, name = service.partition("/")
                told = {"service": {"namespace": namespace, "name": name}, "localEndpoints": local, "serviceProxyHealthy": True}
                body = json.dumps(told).encode()
                self.send_response(200 if local else 503)
                self.send_header("Content-Type", "application/json")
                self.send_header("X-Content-Type-Options", "nosniff")
                self.send_header("X-Load-Balancing-Endpoint-Weight", str(local))
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                return

        self._server = http.server.HTTPServer(("", port), Handler)
        self._thread: Optional[threading.Thread] = threading.Thread(target=self._server.serve_forever, name=f"health-{port}", daemon=True)
        self._thread.start()

    def say(self, service: str, local: int) -> None:
        """Answer from now on that `service` (namespace/name) has `local` endpoints here."""
        self.said = (service, local)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
