"""The lab's network as text for `ip -batch`: one bridge in the lab's network namespace, one veth pair per machine. Standard library only.

    lab's namespace:  lab0 (bridge, 10.245.1.1/24) ── m1-3fa9c2 ══ eth0 of minion-1 (10.245.1.11/24, default via .1)

A link's name is new at every boot: the kernel removes a namespace's devices some time after its last process, and
until then the old name is taken. Hardware addresses are fixed per machine, or everybody's ARP entries would be stale after a reboot.
Pod and service routes are the network room's.
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
"""Per network namespace, so no other machine and no host sees them."""


def hardware_address(address: str) -> str:
    """A locally administered one that follows from the IP address."""
    return "02:00:" + ":".join(f"{byte:02x}" for byte in ipaddress.IPv4Address(address).packed)


def link_name(number: int, boot_id: str) -> str:
    """At most 15 characters, different at every boot."""
    return f"{link_prefix(number)}{boot_id[:6]}"


def link_prefix(number: int) -> str:
    return f"m{number}-"


def lab_lines(gateway: str, prefix_length: int, mtu: int) -> list[str]:
    """The bridge, with the master's address."""
    return [
        "link set lo up",
        f"link add {BRIDGE} address {hardware_address(gateway)} mtu {mtu} type bridge forward_delay 0 stp_state 0 mcast_snooping 0",
        f"link set {BRIDGE} addrgenmode none up",
        f"address add {gateway}/{prefix_length} dev {BRIDGE}",
    ]


def link_lines(link: str, address: str, mtu: int, namespace: str) -> list[str]:
    """The pair, said in the lab's namespace; `namespace` is a path."""
    return [
        f"link add {link} mtu {mtu} type veth peer name eth0 mtu {mtu} address {hardware_address(address)} netns {namespace}",
        f"link set {link} addrgenmode none master {BRIDGE} up",
    ]


def machine_lines(address: str, prefix_length: int, gateway: str) -> list[str]:
    """The machine's end, said in its own namespace."""
    return [
        "link set lo up",
        f"address add {address}/{prefix_length} dev eth0",
        "link set eth0 addrgenmode none up",
        f"route add default via {gateway}",
    ]


def ip(lines: Sequence[str], *, pass_fds: Sequence[int] = (), prefix: Sequence[str] = (), force: bool = False) -> None:
    """Run one `ip -batch` here, or through `prefix` (nsenter ...); OSError with what it said if it failed."""
    argv = [*prefix, "ip", *(["-force"] if force else []), "-batch", "-"]
    done = subprocess.run(argv, input="\n".join(lines) + "\n", text=True, capture_output=True, pass_fds=pass_fds)
    if done.returncode and not force:
        raise OSError(f"ip: {done.stderr.strip()}")
