"""The lab's network as text for `ip -batch`: one bridge in the lab's network namespace, one veth pair per machine. Only the standard
library is used.

    lab's namespace:  lab0 (bridge, 10.245.1.1/24) ── m1-3fa9c2 ══ eth0 of minion-1 (10.245.1.11/24, default via .1)

A link has a new name at every boot, because the kernel removes a namespace's devices some time after its last process, and
until then the old name is taken. Hardware addresses are fixed per machine; otherwise ARP entries of others would be wrong after a reboot.
The network room makes routes for pods and services.
"""

from __future__ import annotations

import ipaddress
import subprocess
from collections.abc import Sequence

BRIDGE = "lab0"

FORWARDING = (
    ("net/ipv4/ip_forward", "1"),
    ("net/ipv4/conf/all/rp_filter", "0"),
    ("net/ipv4/conf/default/rp_filter", "0"),
)
"""Sysctls of the network namespace, so they change nothing on the host or another machine."""


def hardware_address(address: str) -> str:
    """Return a locally administered address that follows from the IP address."""
    return "02:00:" + ":".join(f"{byte:02x}" for byte in ipaddress.IPv4Address(address).packed)


def link_name(number: int, boot_id: str) -> str:
    """Return a name of at most 15 characters that differs at every boot."""
    return f"{link_prefix(number)}{boot_id[:6]}"


def link_prefix(number: int) -> str:
    return f"m{number}-"


def lab_lines(gateway: str, prefix_length: int, mtu: int) -> list[str]:
    """Return the lines that make the bridge, with the master's address."""
    return [
        "link set lo up",
        f"link add {BRIDGE} address {hardware_address(gateway)} mtu {mtu} type bridge forward_delay 0 stp_state 0 mcast_snooping 0",
        f"link set {BRIDGE} addrgenmode none up",
        f"address add {gateway}/{prefix_length} dev {BRIDGE}",
    ]


def link_lines(link: str, address: str, mtu: int, namespace: str) -> list[str]:
    """Return the lines that make the pair, to be run in the lab's namespace. `namespace` is the path of the machine's."""
    return [
        f"link add {link} mtu {mtu} type veth peer name eth0 mtu {mtu} address {hardware_address(address)} netns {namespace}",
        f"link set {link} addrgenmode none master {BRIDGE} up",
    ]


def machine_lines(address: str, prefix_length: int, gateway: str) -> list[str]:
    """Return the lines for the machine's end, to be run in its own namespace."""
    return [
        "link set lo up",
        f"address add {address}/{prefix_length} dev eth0",
        "link set eth0 addrgenmode none up",
        f"route add default via {gateway}",
    ]


def ip(lines: Sequence[str], *, pass_fds: Sequence[int] = (), prefix: Sequence[str] = (), force: bool = False) -> None:
    """Run one `ip -batch` here, or through `prefix` (nsenter ...). If it fails, OSError has its output."""
    argv = [*prefix, "ip", *(["-force"] if force else []), "-batch", "-"]
    done = subprocess.run(argv, input="\n".join(lines) + "\n", text=True, capture_output=True, pass_fds=pass_fds)
    if done.returncode and not force:
        raise OSError(f"ip: {done.stderr.strip()}")
