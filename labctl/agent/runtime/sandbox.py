"""A pod's own namespaces and its wire: network, IPC and UTS namespaces held by bind mounts (no pause process), one routed veth.

    pod: eth0 ADDRESS/32, default via 169.254.1.1 (a neighbour for good)  <- veth ->  node: ADDRESS/32 dev VETH (a neighbour for good)

Everything happens in a thread that lives for a few milliseconds: `unshare` moves only the calling thread, and the bind mounts keep what it made.
"""

from __future__ import annotations

import contextlib
import os
import socket
from dataclasses import dataclass
from typing import Callable, List, Optional, Sequence

from .. import linux
from ..netlink import Netlink, has_address
from . import userns

GATEWAY, GATEWAY_MAC = "169.254.1.1", "ee:ee:ee:ee:ee:ee"
# What a pod of its own network may do without being root, as containerd 2 lets it: bind any port, and ping. A pod's own sysctls come after these.
_UNPRIVILEGED = (("ip_unprivileged_port_start", "0"), ("ping_group_range", "0 2147483647"))
_KINDS = {"net": linux.CLONE_NEWNET, "ipc": linux.CLONE_NEWIPC, "uts": linux.CLONE_NEWUTS}


@dataclass(frozen=True)
class Wire:
    """`veth` is the node's end; `source` the node's own address towards the pod ("" leaves it to the kernel)."""

    address: str
    veth: str
    mtu: int = 1500
    source: str = ""


def mac_of(address: str) -> str:
    """Return a fixed MAC for an address, so that no neighbour table is ever stale."""
    return "0a:58:" + ":".join(f"{byte:02x}" for byte in socket.inet_aton(address))


def namespace_kinds(host_network: bool, host_ipc: bool = False) -> List[str]:
    """Return the kinds of namespaces that a pod has for itself, beside its processes' namespace."""
    return [*([] if host_network else ["net"]), *([] if host_ipc else ["ipc"]), *([] if host_network else ["uts"])]


def make(folder: str, kinds: Sequence[str], hostname: str, wire: Optional[Wire], first_user: int = 0) -> None:
    """Make the namespaces at FOLDER/KIND, of users of their own from `first_user` on if that is not 0. It blocks for a few milliseconds. Raises OSError."""
    os.makedirs(folder, exist_ok=True)
    with Netlink() as node:  # of the machine's own namespace: made before the thread leaves it

        def work() -> None:
            if first_user:
                _enter_of_own_users(folder, kinds, first_user)
            else:
                _enter_new(folder, kinds)
            _furnish(kinds, hostname)
            if wire:
                _connect(node, os.path.join(folder, "net"), wire)

        linux.in_own_thread("sandbox", work)
        if wire:
            _route(node, wire)


def _enter_new(folder: str, kinds: Sequence[str]) -> None:
    """Move this thread into new namespaces, and hold them."""
    flags = 0
    for kind in kinds:
        flags |= _KINDS[kind]
    linux.unshare(flags)
    for kind in kinds:
        userns.hold(f"/proc/thread-self/ns/{kind}", os.path.join(folder, kind))


def _enter_of_own_users(folder: str, kinds: Sequence[str], first_user: int) -> None:
    """The same for namespaces that belong to users of their own. This thread's own user stays the machine's root."""
    userns.make(folder, kinds, first_user)
    for kind in kinds:
        namespace = os.open(os.path.join(folder, kind), os.O_RDONLY | os.O_CLOEXEC)
        try:
            linux.enter(namespace, _KINDS[kind])
        finally:
            os.close(namespace)


def _furnish(kinds: Sequence[str], hostname: str) -> None:
    """Give this thread's namespaces what they are born without."""
    if "uts" in kinds:
        socket.sethostname(hostname)
    if "net" in kinds:
        for name, value in _UNPRIVILEGED:
            _set(f"ipv4/{name}", value)


def _connect(node: Netlink, namespace: str, wire: Wire) -> None:
    """Inside the pod's namespace, except for the pair itself, which is born on the node."""
    there = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _quietly(lambda: node.delete(wire.veth))
        node.add_veth(wire.veth, GATEWAY_MAC, "eth0", mac_of(wire.address), there, wire.mtu)
    finally:
        os.close(there)
    with Netlink() as pod:
        pod.up("lo")
        pod.add_address("eth0", wire.address, 32)
        pod.up("eth0")
        pod.add_neighbour("eth0", GATEWAY, GATEWAY_MAC)
        pod.add_route("eth0", "0.0.0.0", 0, gateway=GATEWAY, source=wire.address)


def _route(node: Netlink, wire: Wire) -> None:
    _distrust(wire.veth)
    node.up(wire.veth)
    node.add_neighbour(wire.veth, wire.address, mac_of(wire.address))
    node.add_route(wire.veth, wire.address, 32, source=wire.source if has_address(wire.source) else "")


def _distrust(veth: str) -> None:
    """Believe nothing that comes out of the pod but packets with its own address, before the first of them can come.

    Pods have no IPv6. On this device the machine has none either: else it would take router advertisements from the pod, and with them its default
    route (CVE-2020-10749). A packet whose sender's address is not reached by this device is dropped (RFC 3704).
    """
    _set(f"ipv6/conf/{veth}/disable_ipv6", "1")
    _set(f"ipv4/conf/{veth}/rp_filter", "1")


def _set(name: str, value: str) -> None:
    """Write a sysctl of this thread's network. A kernel that does not have it, as one without IPv6, is no error."""
    with contextlib.suppress(FileNotFoundError), open(f"/proc/sys/net/{name}", "w", encoding="ascii") as file:
        file.write(value)


def unmake(folder: str, veth: str) -> None:
    """Take the wire down at once, then let the namespaces go. What is gone already is no error."""
    if veth:
        with Netlink() as node:
            _quietly(lambda: node.delete(veth))
    for kind in (*_KINDS, "pid", "user"):
        linux.unmount(os.path.join(folder, kind))


def _quietly(call: Callable[[], None]) -> None:
    with contextlib.suppress(OSError):
        call()
