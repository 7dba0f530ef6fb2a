"""What the device of every overlay network needs: an address, the addresses of its peers, and a check that nobody changed it.

Who uses it: vxlan.py and ovs.py. Neighbours are written by us; ARP is never used. What exists is read first and only the difference is written, so packets
on their way are not disturbed. A deleted device or entry is noticed, because the kernel reports every change of its neighbour tables.
"""

from __future__ import annotations

import json
import socket
import struct
from typing import Any, Dict, List, Optional, Sequence, Set, Tuple

from . import check, commands

PEERS_MAX = 1000
_NEIGHBOUR_GROUP = 4  # RTMGRP_NEIGH: ARP entries and forwarding entries alike
_NEIGHBOUR_KINDS = (28, 29)  # RTM_NEWNEIGH, RTM_DELNEIGH
_FAMILIES = (socket.AF_INET, 7)  # 7: AF_BRIDGE, the forwarding entries
Pairs = Set[Tuple[str, str]]


class Watch:
    """Notices changes of devices by others. Call `listen` before we change them, `settle` after, then ask `touched`."""

    def __init__(self) -> None:
        self._indices: Dict[str, int] = {}
        self._news: Optional[socket.socket] = None

    def listen(self) -> None:
        self._indices = {}
        if self._news is None:
            self._news = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, 0)
            self._news.bind((0, _NEIGHBOUR_GROUP))

    def settle(self, devices: Sequence[str]) -> None:
        self._heard()  # these are our own changes
        self._indices = {device: index(device) for device in devices}

    def end(self) -> None:
        self._indices = {}
        if self._news is not None:
            self._news.close()
            self._news = None

    def touched(self) -> bool:
        """Return True once when a device is gone or was made anew, or when one of its entries changed."""
        if not self._indices:
            return False
        gone = any(index(device) != known for device, known in self._indices.items())
        if not gone and not self._heard():
            return False
        self._indices = {}
        return True

    def _heard(self) -> bool:
        """Tell whether an entry changed since the last call."""
        changed = False
        while self._news is not None:
            try:
                data = self._news.recv(1 << 16)
            except BlockingIOError:
                break
            except OSError:  # the socket's queue was full, so some changes are lost
                changed = True
                continue
            changed = changed or _speaks_of(data, set(self._indices.values()))
        return changed


def _speaks_of(data: bytes, indices: Set[int]) -> bool:
    at = 0
    while at + 28 <= len(data):
        length, kind = struct.unpack_from("=IH", data, at)
        family, device = struct.unpack_from("=BxxxI", data, at + 16)
        if kind in _NEIGHBOUR_KINDS and family in _FAMILIES and device in indices:
            return True
        at += max(length + (-length % 4), 16)
    return False


def index(device: str) -> int:
    """Return the kernel's number of a device, or 0 if there is none."""
    try:
        return socket.if_nametoindex(device)
    except OSError:
        return 0


def checked(plan: Dict[str, Any]) -> Dict[str, Any]:
    """Check a plan: {"port", "mtu", "inner", "mac", "peers": [{"address", "inner", "mac"}]}. Raises Refused."""
    peers = plan.get("peers", [])
    if not isinstance(peers, list) or len(peers) > PEERS_MAX:
        raise check.Refused("peers are a bounded list")
    return {
        "port": check.port(plan["port"]),
        "mtu": check.number(plan["mtu"], 576, 65_000),
        "inner": check.address(plan["inner"]),
        "mac": check.hardware_address(plan["mac"]),
        "peers": [peer(told) for told in peers],
    }


def peer(told: Dict[str, Any]) -> Dict[str, Any]:
    checked = {key: check.address(told[key]) for key in ("address", "inner")}
    return {**checked, "mac": check.hardware_address(told["mac"])}


def described(device: str) -> Dict[str, Any]:
    """Return what `ip` says about a device, with its addresses, or {} if there is none."""
    status, out, _ = commands.attempt(["ip", "-j", "-d", "address", "show", "dev", device])
    found = [link for link in json.loads(out or b"[]") if link] if status == 0 else []
    return dict(found[0]) if found else {}


def raised(device: str, there: Dict[str, Any], inner: str) -> List[str]:
    """Return the lines for `ip -batch` that are still needed to bring the device up with its address."""
    lines = [] if "UP" in there.get("flags", ()) else [f"link set {device} addrgenmode none up"]
    if inner not in {info.get("local") for info in there.get("addr_info", ())}:
        lines.append(f"address add {inner}/32 dev {device}")
    return lines


def neighbours(device: str, peers: Sequence[Dict[str, str]]) -> int:
    """Write permanent ARP entries for all peers. Return the number of changes."""
    shown = json.loads(commands.run(["ip", "-4", "-j", "neighbour", "show", "dev", device, "nud", "permanent"]) or b"[]")
    there: Pairs = {(entry["dst"], entry.get("lladdr", "")) for entry in shown}
    own: Pairs = {(peer["inner"], peer["mac"]) for peer in peers}
    lines = [f"neighbour del {inner} dev {device}" for inner in {pair[0] for pair in there} - {pair[0] for pair in own}]
    lines += [f"neighbour replace {inner} lladdr {mac} dev {device} nud permanent" for inner, mac in sorted(own - there)]
    return batch("ip", lines)


def batch(program: str, lines: List[str]) -> int:
    """Run all lines in one process of `program` (ip or bridge). Return how many there were."""
    if lines:
        commands.run([program, "-batch", "-"], "\n".join([*lines, ""]).encode())
    return len(lines)
