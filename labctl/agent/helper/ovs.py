"""The machine's Open vSwitch: one bridge, a port to each other minion, and flows that say which hardware address is behind which port.

    obr0 (this machine's own port, with an address)  --  flows  --  labctl-v2 ... labctl-vN, a VXLAN tunnel each

Who calls it: network.py. Where the kernel has Open vSwitch's datapath (virtual machines), it forwards the packets, and the tunnels are Open vSwitch's
own. Where it has none (a namespace machine on such a host), ovs-vswitchd forwards in user space: `obr0` is then a tap device, and the tunnels are devices
of the kernel, because Open vSwitch's own would need the machine's link as a port. The daemons outlive this helper. If one ends, it is started again.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import signal
import socket
import struct
import time
from typing import Any, Dict, List, Optional, Sequence, Tuple

from . import check, commands, overlay

BRIDGE = "obr0"
PORT_PREFIX = "labctl-v"
RUN, DATABASE, LOGS = "/run/openvswitch", "/etc/openvswitch/conf.db", "/var/log/openvswitch"
SCHEMA = "/usr/share/openvswitch/vswitch.ovsschema"
DAEMONS = ("ovsdb-server", "ovs-vswitchd")
START_S = 20.0
_VSCTL = ("ovs-vsctl", "--timeout=10")
_SIOCETHTOOL, _ETHTOOL_SGRO = 0x8946, 0x2C


class Switch:
    """This machine's switch. One object lives as long as the helper, and notices when somebody changes the switch or a daemon ends."""

    def __init__(self) -> None:
        self._watch = overlay.Watch()
        self._daemons: Tuple[int, ...] = ()

    def program(self, plan: Optional[Dict[str, Any]], own: str, link: str) -> int:
        """Bring the switch to the plan, or remove it if the plan is None. Return the number of changes. Raises Refused, Failed.

        `plan` is what `overlay.checked` takes, with a "number" for this machine and for each peer.
        """
        self._daemons = ()
        if plan is None:
            self._watch.end()
            return remove()
        wanted = checked(plan)
        kernel = _kernel_datapath()
        self._watch.listen()
        links = 0 if kernel else _links(wanted, own, link)
        changed = links + _daemons() + _bridge(wanted, own, kernel)
        changed += overlay.batch("ip", overlay.raised(BRIDGE, overlay.described(BRIDGE), wanted["inner"]))
        changed += overlay.neighbours(BRIDGE, wanted["peers"])
        self._watch.settle([BRIDGE, *(() if kernel else wanted["ports"])])
        self._daemons = running()
        return changed

    def lost(self) -> bool:
        """Return True once when somebody changed a device, or a daemon ended."""
        if self._watch.touched():
            return True
        if not self._daemons or self._daemons == running():
            return False
        self._daemons = ()
        return True


def running() -> Tuple[int, ...]:
    """Return the daemons' process ids, with 0 for one that does not run."""
    return tuple(_pid(name) for name in DAEMONS)


def remove() -> int:
    """Remove our bridge and tunnels, and end the daemons unless somebody else has a bridge. Return the number of changes."""
    if not overlay.index(BRIDGE) and not _our_links():
        return 0
    if all(running()):
        commands.run([*_VSCTL, "--if-exists", "del-br", BRIDGE])
        if not commands.run([*_VSCTL, "list-br"]).strip():
            _end()
    return 1 + overlay.batch("ip", [f"link delete {name}" for name in _our_links()])


def _end() -> None:
    for pid in filter(None, reversed(running())):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)


def checked(plan: Dict[str, Any]) -> Dict[str, Any]:
    """Check a plan, and add to each peer the port and key of its tunnel. Raises Refused."""
    wanted = overlay.checked(plan)
    own = check.number(plan["number"], 1, 4094)
    wanted["peers"] = [_peer(told, own) for told in plan["peers"]]
    wanted["ports"] = {peer["port"]: peer for peer in wanted["peers"]}
    return wanted


def _peer(told: Dict[str, Any], own: int) -> Dict[str, Any]:
    """Return a checked peer. Its `key` is the number of a VXLAN network that only these two minions use, so a packet's tunnel is never in doubt."""
    number = check.number(told["number"], 1, 4094)
    low, high = sorted((own, number))
    return {**overlay.peer(told), "number": number, "port": f"{PORT_PREFIX}{number}", "key": low << 12 | high}


# -- the kernel's tunnels, for a switch in user space


def _links(wanted: Dict[str, Any], own: str, link: str) -> int:
    lines = []
    there = _our_links()
    for name in there:
        if name not in wanted["ports"] or there[name] != _tunnel(wanted["ports"][name], wanted, own):
            lines.append(f"link delete {name}")
    gone = {line.rpartition(" ")[2] for line in lines}
    missing = [name for name in wanted["ports"] if name not in there or name in gone]
    for name in missing:
        key, remote, _, port, mtu = _tunnel(wanted["ports"][name], wanted, own)
        lines.append(f"link add {name} mtu {mtu} type vxlan id {key} dev {link} local {own} remote {remote} dstport {port} nolearning")
        lines.append(f"link set {name} addrgenmode none up")
    done = overlay.batch("ip", lines)
    for name in missing:
        _never_join_packets(name)
    return done


def _tunnel(peer: Dict[str, Any], wanted: Dict[str, Any], own: str) -> Tuple[Any, ...]:
    return peer["key"], peer["address"], own, wanted["port"], wanted["mtu"]


def _our_links() -> Dict[str, Tuple[Any, ...]]:
    shown = json.loads(commands.run(["ip", "-j", "-d", "link", "show", "type", "vxlan"]) or b"[]")
    found = {}
    for link in shown:
        if link and str(link["ifname"]).startswith(PORT_PREFIX) and link["ifname"][len(PORT_PREFIX) :].isdigit():
            data = link["linkinfo"].get("info_data", {})
            found[str(link["ifname"])] = (data.get("id"), data.get("remote"), data.get("local"), data.get("port"), link["mtu"])
    return found


def _never_join_packets(device: str) -> None:
    """Switch off generic receive offload, because a switch in user space can't split packets that the kernel has joined."""
    value = ctypes.create_string_buffer(struct.pack("=II", _ETHTOOL_SGRO, 0))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as anywhere:
        fcntl.ioctl(anywhere, _SIOCETHTOOL, struct.pack("@16sP16x", device.encode(), ctypes.addressof(value)))


# -- the daemons


def _daemons() -> int:
    """Start the daemons that do not run. Return 1 if any had to be started, else 0."""
    if all(running()):
        return 0
    _start()
    deadline = time.monotonic() + START_S
    while not all(running()):
        if time.monotonic() > deadline:
            raise commands.Failed(f"Open vSwitch did not start; {LOGS} may say why")
        time.sleep(0.02)
    return 1


def _start() -> None:
    """Start them without systemd: it works everywhere and runs four programs instead of fifty. Their pid files are where systemd's units have them."""
    for folder in (RUN, LOGS, os.path.dirname(DATABASE)):
        os.makedirs(folder, exist_ok=True)
    background = ("--detach", "--no-chdir", "--pidfile", "--log-file")
    if not _pid("ovsdb-server"):
        if not os.path.exists(DATABASE):
            commands.run(["ovsdb-tool", "create", DATABASE, SCHEMA])
        commands.run(["ovsdb-server", DATABASE, f"--remote=punix:{RUN}/db.sock", *background])
        commands.run([*_VSCTL, "--no-wait", "init"])
        few = ("other_config:n-handler-threads=1", "other_config:n-revalidator-threads=1")
        commands.run([*_VSCTL, "--no-wait", "set", "Open_vSwitch", ".", *few])
    if not _pid("ovs-vswitchd"):
        commands.run(["ovs-vswitchd", f"unix:{RUN}/db.sock", *background])


def _pid(name: str) -> int:
    try:
        with open(f"{RUN}/{name}.pid") as file:
            pid = int(file.read())
        with open(f"/proc/{pid}/comm") as file:
            return pid if file.read().strip() == name else 0
    except (OSError, ValueError):
        return 0


def _kernel_datapath() -> bool:
    if not os.path.isdir("/sys/module/openvswitch"):
        commands.attempt(["modprobe", "openvswitch"])
    return os.path.isdir("/sys/module/openvswitch")


# -- the bridge


def _bridge(wanted: Dict[str, Any], own: str, kernel: bool) -> int:
    """Set all ports in one transaction of the database, and all flows in one of the switch. Return how many ports changed."""
    before = commands.run([*_VSCTL, "--if-exists", "list-ports", BRIDGE], check=False).decode().split()
    words = ["--may-exist", "add-br", BRIDGE, "--", "set", "Bridge", BRIDGE]
    words += [f"datapath_type={'system' if kernel else 'netdev'}", "fail_mode=secure", f"other_config:hwaddr={wanted['mac']}"]
    words += ["--", "set", "Interface", BRIDGE, f"mtu_request={wanted['mtu']}"]
    for name in set(before) - set(wanted["ports"]):
        words += ["--", "del-port", BRIDGE, name]
    for name, peer in wanted["ports"].items():
        words += ["--", "--may-exist", "add-port", BRIDGE, name, "--", "set", "Interface", name, f"ofport_request={peer['number']}"]
        if kernel:
            options = {"remote_ip": peer["address"], "local_ip": own, "key": peer["key"], "dst_port": wanted["port"]}
            words += ["type=vxlan", *(f"options:{key}={value}" for key, value in options.items())]
    commands.run([*_VSCTL, *words])
    commands.run(["ovs-ofctl", "replace-flows", BRIDGE, "-"], "\n".join([*flows(wanted), ""]).encode())
    return len(set(before) ^ set(wanted["ports"]))


def flows(wanted: Dict[str, Any]) -> List[str]:
    """Return the flows. The switch learns nothing and floods nothing; a packet for an unknown address is dropped."""
    to_us = f"priority=10,dl_dst={wanted['mac']},actions=LOCAL"
    peers: Sequence[Dict[str, Any]] = wanted["peers"]
    return [to_us] + [f"priority=10,in_port=LOCAL,dl_dst={peer['mac']},actions=output:{peer['number']}" for peer in peers]
