"""The machine's VXLAN device, with the hardware and outer addresses of its peers as the master sends them. The device learns nothing itself.

Who calls it: network.py.
"""

from __future__ import annotations

import json
from typing import Any, Dict, List, Optional, Sequence

from . import check, commands, overlay

DEVICE = "labctl-vxlan"


class Tunnel:
    """This machine's VXLAN device. One object lives as long as the helper, and notices when somebody changes the device."""

    def __init__(self) -> None:
        self._watch = overlay.Watch()

    def program(self, plan: Optional[Dict[str, Any]], own: str, link: str) -> int:
        """Bring the device to the plan, or remove it if the plan is None. Return the number of changes. Raises Refused, Failed.

        `plan` is what `overlay.checked` takes, with a "vni".
        """
        if plan is None:
            self._watch.end()
            return _remove()
        wanted = {**overlay.checked(plan), "vni": check.number(plan["vni"], 1, (1 << 24) - 1)}
        self._watch.listen()
        changed = _device(wanted, own, link) + _forwarding(wanted["peers"]) + overlay.neighbours(DEVICE, wanted["peers"])
        self._watch.settle([DEVICE])
        return changed

    def lost(self) -> bool:
        """Return True once when somebody changed the device."""
        return self._watch.touched()


def _remove() -> int:
    if not overlay.index(DEVICE):
        return 0
    commands.run(["ip", "link", "delete", DEVICE])
    return 1


def _device(wanted: Dict[str, Any], own: str, link: str) -> int:
    """Make the device, or make it anew if it differs in what can't be changed. Return the number of changes."""
    there = overlay.described(DEVICE)
    data = there.get("linkinfo", {}).get("info_data", {})
    seen = [data.get(key) for key in ("id", "port", "local", "link", "learning")]
    lines: List[str] = []
    if there and seen != [wanted["vni"], wanted["port"], own, link, False]:
        lines.append(f"link delete {DEVICE}")
        there = {}
    if not there:
        kind = f"vxlan id {wanted['vni']} dev {link} local {own} dstport {wanted['port']} nolearning"
        lines.append(f"link add {DEVICE} address {wanted['mac']} mtu {wanted['mtu']} type {kind}")
    elif (there.get("address"), there.get("mtu")) != (wanted["mac"], wanted["mtu"]):
        lines.append(f"link set {DEVICE} address {wanted['mac']} mtu {wanted['mtu']}")
    return overlay.batch("ip", lines + overlay.raised(DEVICE, there, wanted["inner"]))


def _forwarding(peers: Sequence[Dict[str, str]]) -> int:
    """Write the forwarding entries, which say behind which minion each hardware address is. Return the number of changes."""
    shown = json.loads(commands.run(["bridge", "-j", "fdb", "show", "dev", DEVICE]) or b"[]")
    there: overlay.Pairs = {(entry["mac"], entry.get("dst", "")) for entry in shown}
    own: overlay.Pairs = {(peer["mac"], peer["address"]) for peer in peers}
    lines = [f"fdb del {mac} dev {DEVICE} self" + (f" dst {address}" if address else "") for mac, address in sorted(there - own)]
    lines += [f"fdb replace {mac} dev {DEVICE} dst {address} self permanent" for mac, address in sorted(own - there)]
    return overlay.batch("bridge", lines)
