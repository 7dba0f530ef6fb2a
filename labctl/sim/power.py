"""What the machines room and the provider would write of hollow machines: their objects, and what is known of their power."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from labctl.resources.client import Client
from labctl.resources.kinds.labctl_internal_v1.machine import MAX_NUMBER
from labctl.resources.plurals import MACHINES
from labctl.sim.hollow import HollowNode


async def make_machines(client: Client, names: Sequence[str]) -> None:
    """Makes a Machine object for each name. Numbers above MAX_NUMBER begin again: no address follows from them here."""
    for number, name in enumerate(names):
        spec = {"provider": "hollow", "number": number % MAX_NUMBER + 1, "power": "On"}
        await client.create(MACHINES, {"metadata": {"name": name}, "spec": spec})


async def tell(client: Client, node: HollowNode, power: str, reason: str, again_s: float = 0.5) -> int:
    """Writes what the provider knows of this boot, and returns the revision; 0 if the machine has another boot meanwhile.

    It is repeated until it is written, because the real machines room reads the state again and again.
    """
    boot = node.boot_id
    event = {"power": power, "bootID": boot, "reason": reason, "intended": False}
    status = {"power": power, "bootID": boot, "lastEvent": event}
    while node.boot_id == boot:
        try:
            written = await client.patch(MACHINES, node.name, {"status": status}, "status")
            return int(written.metadata.revision)
        except Exception:  # the store fails at present
            await asyncio.sleep(again_s)
    return 0
