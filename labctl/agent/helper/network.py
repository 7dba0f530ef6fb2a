"""The machine's part of the lab's network: routes, forwarding, and masquerade for packets that leave the pods' network.

Who calls it: methods.py, each time with the whole plan of a network plug-in. Our routes carry a protocol number, so those that are no longer in the plan
are found and removed, and no other route is changed. A second call with the same plan changes nothing.
"""

from __future__ import annotations

import ipaddress
import json
import sys
from typing import Any, Dict, List, Tuple

from . import bird, check, commands, ovs, vxlan
from .iptables import Iptables

PROTOCOL = "246"  # of our routes, in `ip route show proto 246`
DEVICES = (vxlan.DEVICE, ovs.BRIDGE)  # of our own making
ROUTES_MAX = 2000
_HOOKS = {"-A FORWARD -j LABCTL-FORWARD": "filter", "-A INPUT -j LABCTL-INPUT": "filter", "-A POSTROUTING -j LABCTL-NETWORK": "nat"}
Route = Tuple[str, str, str, str]  # to, via, device, source


class Network:
    """This machine's part of the network. One object lives as long as the helper, and notices when somebody changes what it made."""

    def __init__(self) -> None:
        self._wanted: List[Route] = []
        self._tunnel = vxlan.Tunnel()
        self._switch = ovs.Switch()
        self._bird = bird.Bird()

    def program(self, plan: Dict[str, Any], iptables: Iptables) -> dict:
        """Bring the machine to the plan. Returns {"device": the interface to the lab's network, "changed": how many changes}. Raises Refused, Failed.

        `plan`: {"address", "routes": [{"to", "via", "device"?} | {"to", "link": true}], "sysctls", "masquerade": {"source", "outside"},
        "accept": [range], "closed": [{"protocol", "number"}], "tunnel": see vxlan.py, "switch": see ovs.py, "bird": see bird.py}. Devices come first, because routes use them.
        """
        own = check.address(plan["address"])
        device = _device(own)
        wanted = [_route(route, own, device) for route in _bounded(plan.get("routes", []))]
        changed = _sysctls(plan.get("sysctls", {}), device)
        changed += self._tunnel.program(plan.get("tunnel"), own, device)
        changed += self._switch.program(plan.get("switch"), own, device)
        changed += _routes(wanted) + _rules(plan, iptables) + self._bird.program(plan.get("bird"))
        self._wanted = wanted
        return {"device": device, "changed": changed}

    def lost(self) -> bool:
        """Return True once when a route is gone (deleted by hand, or with its interface), or a device or daemon of ours has changed. It is cheap."""
        return any([self._route_lost(), self._tunnel.lost(), self._switch.lost(), self._bird.lost()])

    def _route_lost(self) -> bool:
        if not self._wanted:
            return False
        with open("/proc/net/route") as file:
            there = {tuple(line.split()[1:3] + line.split()[7:8]) for line in file}
        gone = any(_entry(to, via) not in there for to, via, _, _ in self._wanted)
        if gone:
            self._wanted = []
        return gone


def _entry(to: str, via: str) -> Tuple[str, str, str]:
    """Return destination, gateway and mask as /proc/net/route writes them."""
    network = ipaddress.IPv4Network(to)
    return _hexadecimal(network.network_address), _hexadecimal(ipaddress.IPv4Address(via or 0)), _hexadecimal(network.netmask)


def _hexadecimal(address: ipaddress.IPv4Address) -> str:
    return f"{int.from_bytes(address.packed, sys.byteorder):08X}"


def _bounded(routes: Any) -> List[Dict[str, Any]]:
    if not isinstance(routes, list) or len(routes) > ROUTES_MAX:
        raise check.Refused("routes are a bounded list")
    return routes


def _device(address: str) -> str:
    """Return the interface that has this address. Raises Refused if there is none."""
    for link in json.loads(commands.run(["ip", "-j", "-4", "address", "show"])):
        if any(info.get("local") == address for info in link.get("addr_info", ())):
            return str(link["ifname"])
    raise check.Refused(f"no interface of this machine has the address {address}")


def _route(route: Dict[str, Any], own: str, device: str) -> Route:
    if route.get("link"):
        return check.network(route["to"]), "", device, own
    if route.get("device"):
        device = check.one_of(route["device"], DEVICES)
    return check.network(route["to"]), check.address(route["via"]), device, ""


def _routes(wanted: List[Route]) -> int:
    found = json.loads(commands.run(["ip", "-j", "-4", "route", "show", "proto", PROTOCOL]) or b"[]")
    there = [(_full(r["dst"]), r.get("gateway", ""), r.get("dev", ""), r.get("prefsrc", "")) for r in found]
    batch = [f"route del {to} proto {PROTOCOL}" for to in {r[0] for r in there} - {r[0] for r in wanted}]
    for to, via, device, source in wanted:
        if (to, via, device, source) not in there:
            way = f"via {via}" if via else f"scope link src {source}"
            onlink = " onlink" if device in DEVICES else ""
            batch.append(f"route replace {to} {way} dev {device} proto {PROTOCOL}{onlink}")
    if batch:
        commands.run(["ip", "-batch", "-"], "\n".join([*batch, ""]).encode())
    return len(batch)


def _full(destination: str) -> str:
    return destination if "/" in destination else f"{destination}/32"


def _sysctls(wanted: Dict[str, Any], device: str) -> int:
    changed = 0
    for path, value in [check.sysctl(key, value, device) for key, value in wanted.items()]:
        with open(path, "r+") as file:
            if file.read().strip() != value:
                file.seek(0)
                file.write(value)
                changed += 1
    return changed


def _rules(plan: Dict[str, Any], iptables: Iptables) -> int:
    """Rewrite our chains. The one that accepts comes last in FORWARD, because what the proxy rejects must be rejected before.

    The one for packets to this machine comes first in INPUT, before anything that lets pods in.
    """
    chains = {"filter": [":LABCTL-FORWARD - [0:0]", ":LABCTL-INPUT - [0:0]"], "nat": [":LABCTL-NETWORK - [0:0]"]}
    ranges = [check.network(each) for each in plan.get("accept", ())]
    for port in _bounded(plan.get("closed", [])):
        words = f"-p {check.one_of(port['protocol'], ('tcp', 'udp'))} -m {port['protocol']} --dport {check.port(port['number'])} -j DROP"
        for pods in ranges:
            chains["filter"] += [f"-A LABCTL-FORWARD -s {pods} ! -d {pods} {words}", f"-A LABCTL-INPUT -s {pods} {words}"]
    for pods in ranges:
        chains["filter"] += [f"-A LABCTL-FORWARD -s {pods} -j ACCEPT", f"-A LABCTL-FORWARD -d {pods} -j ACCEPT"]
    if plan.get("masquerade"):
        source, outside = check.network(plan["masquerade"]["source"]), check.network(plan["masquerade"]["outside"])
        chains["nat"].append(f"-A LABCTL-NETWORK -s {source} ! -d {outside} -j MASQUERADE")
    ours = ("LABCTL-FORWARD", "LABCTL-INPUT", "LABCTL-NETWORK")
    had = {line for line in iptables.read().splitlines() if any(chain in line for chain in ours)}
    if had == {*chains["filter"], *chains["nat"], *_HOOKS}:
        return 0
    for hook, table in _HOOKS.items():
        if hook not in had:
            chains[table].append(hook.replace("-A INPUT", "-I INPUT"))
    with iptables.ours():
        iptables.restore("\n".join([*("\n".join([f"*{table}", *lines, "COMMIT"]) for table, lines in chains.items()), ""]))
    return 1
