"""The machine's VXLAN device, its peers' hardware addresses and where they are: all as the master says, nothing learnt.

Who calls it: network.py. What is there is read first and only the difference is done, so packets on the way are not disturbed. Whoever deletes the device
or one of its entries is noticed: the kernel tells of every change to its neighbour tables.
"""

from __future__ import annotations

import json
import socket
import struct
from typing import Any, Dict, List, Optional, Set, Tuple

from . import check, commands

DEVICE = "labctl-vxlan"
PEERS_MOST = 1000
_NEIGHBOUR_GROUP = 4  # RTMGRP_NEIGH: ARP entries and forwarding entries alike
_NEIGHBOUR_KINDS = (28, 29)  # RTM_NEWNEIGH, RTM_DELNEIGH
_FAMILIES = (socket.AF_INET, 7)  # 7: AF_BRIDGE, the forwarding entries
Pairs = Set[Tuple[str, str]]


class Tunnel:
    """Kept for as long as the helper runs, so that it can see whether the device is still as it was left."""

    def __init__(self) -> None:
        self._index = 0
        self._news: Optional[socket.socket] = None

    def program(self, plan: Optional[Dict[str, Any]], own: str, link: str) -> int:
        """{"vni", "port", "mtu", "inner", "mac", "peers": [{"address", "inner", "mac"}]}, or None: there is to be none. How many changes it took."""
        self._index = 0
        if plan is None:
            return self._remove()
        wanted = _checked(plan)
        self._listen()
        changed = _device(wanted, own, link) + _forwarding(wanted) + _neighbours(wanted)
        self._heard()  # of our own changes
        self._index = socket.if_nametoindex(DEVICE)
        return changed

    def lost(self) -> bool:
        """True once, when somebody touched the device."""
        if not self._index:
            return False
        gone = self._index != _index()
        if not gone and not self._heard():
            return False
        self._index = 0
        return True

    def _remove(self) -> int:
        if self._news is not None:
            self._news.close()
            self._news = None
        if not _index():
            return 0
        commands.run(["ip", "link", "delete", DEVICE])
        return 1

    def _listen(self) -> None:
        if self._news is None:
            self._news = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, 0)
            self._news.bind((0, _NEIGHBOUR_GROUP))

    def _heard(self) -> bool:
        """Whether an entry of the device changed since the last question."""
        changed = False
        while self._news is not None:
            try:
                data = self._news.recv(1 << 16)
            except BlockingIOError:
                break
            except OSError:  # more than it could keep for us
                changed = True
                continue
            changed = changed or _speaks_of(data, self._index)
        return changed


def _speaks_of(data: bytes, index: int) -> bool:
    at = 0
    while at + 28 <= len(data):
        length, kind = struct.unpack_from("=IH", data, at)
        family, device = struct.unpack_from("=BxxxI", data, at + 16)
        if kind in _NEIGHBOUR_KINDS and family in _FAMILIES and device == index:
            return True
        at += max(length + (-length % 4), 16)
    return False


def _index() -> int:
    try:
        return socket.if_nametoindex(DEVICE)
    except OSError:
        return 0


def _checked(plan: Dict[str, Any]) -> Dict[str, Any]:
    peers = plan.get("peers", [])
    if not isinstance(peers, list) or len(peers) > PEERS_MOST:
        raise check.Refused("peers are a bounded list")
    return {
        "vni": check.number(plan["vni"], 1, (1 << 24) - 1),
        "port": check.port(plan["port"]),
        "mtu": check.number(plan["mtu"], 576, 65_000),
        "inner": check.address(plan["inner"]),
        "mac": check.hardware_address(plan["mac"]),
        "forwarding": {(check.hardware_address(p["mac"]), check.address(p["address"])) for p in peers},
        "neighbours": {(check.address(p["inner"]), check.hardware_address(p["mac"])) for p in peers},
    }


def _device(wanted: Dict[str, Any], own: str, link: str) -> int:
    """Made, or made anew if it is another; what may change in place is changed."""
    there = _there()
    data = there.get("linkinfo", {}).get("info_data", {})
    same = (data.get("id"), data.get("port"), data.get("local"), data.get("link"), data.get("learning")) == (
        wanted["vni"], wanted["port"], own, link, False,
    )  # fmt: skip
    lines: List[str] = []
    if there and not same:
        lines.append(f"link delete {DEVICE}")
        there = {}
    if not there:
        kind = f"vxlan id {wanted['vni']} dev {link} local {own} dstport {wanted['port']} nolearning"
        lines.append(f"link add {DEVICE} address {wanted['mac']} mtu {wanted['mtu']} type {kind}")
    elif (there.get("address"), there.get("mtu")) != (wanted["mac"], wanted["mtu"]):
        lines.append(f"link set {DEVICE} address {wanted['mac']} mtu {wanted['mtu']}")
    if "UP" not in there.get("flags", ()):
        lines.append(f"link set {DEVICE} addrgenmode none up")
    if wanted["inner"] not in {info.get("local") for info in there.get("addr_info", ())}:
        lines.append(f"address add {wanted['inner']}/32 dev {DEVICE}")
    return _batch("ip", lines)


def _there() -> Dict[str, Any]:
    """What `ip` says of the device; {} if there is none."""
    status, out, _ = commands.attempt(["ip", "-j", "-d", "address", "show", "dev", DEVICE])
    found = [link for link in json.loads(out or b"[]") if link] if status == 0 else []
    return dict(found[0]) if found else {}


def _forwarding(wanted: Dict[str, Any]) -> int:
    shown = json.loads(commands.run(["bridge", "-j", "fdb", "show", "dev", DEVICE]) or b"[]")
    there = {(entry["mac"], entry.get("dst", "")) for entry in shown}
    own: Pairs = wanted["forwarding"]
    lines = [f"fdb del {mac} dev {DEVICE} self" + (f" dst {address}" if address else "") for mac, address in there - own]
    lines += [f"fdb replace {mac} dev {DEVICE} dst {address} self permanent" for mac, address in own - there]
    return _batch("bridge", lines)


def _neighbours(wanted: Dict[str, Any]) -> int:
    shown = json.loads(commands.run(["ip", "-4", "-j", "neighbour", "show", "dev", DEVICE, "nud", "permanent"]) or b"[]")
    there = {(entry["dst"], entry.get("lladdr", "")) for entry in shown}
    own: Pairs = wanted["neighbours"]
    lines = [f"neighbour del {inner} dev {DEVICE}" for inner in {pair[0] for pair in there} - {pair[0] for pair in own}]
    lines += [f"neighbour replace {inner} lladdr {mac} dev {DEVICE} nud permanent" for inner, mac in own - there]
    return _batch("ip", lines)


def _batch(program: str, lines: List[str]) -> int:
    if lines:
        commands.run([program, "-batch", "-"], "\n".join([*lines, ""]).encode())
    return len(lines)
