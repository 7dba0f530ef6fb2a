"""`agent clean`: every pod killed, every fault healed, every mount, namespace, control group, rule, route and file of the agent removed from this machine.

Run it twice: the same. With `--keep-images` the machine is as after a power cut: nothing runs, its disk stays. Who calls it: a provider, on machines
that it can't switch off or throw away. No agent and no helper run meanwhile.
"""

from __future__ import annotations

import asyncio
import os
import sys

from . import linux, relay, trees
from .addresses import Range
from .cgroups import Cgroups
from .faults import removal
from .helper.removal import remove
from .runtime.crun import CrunRuntime
from .settings import BadSettings, Settings, read


def clean(config: str, keep_images: bool = False) -> int:
    try:
        settings = read(config)
    except BadSettings:
        settings = Settings("", "", "", "", "")  # the usual places
    left = removal.remove(settings)  # before the pods, which they act on
    if os.path.isdir(settings.state_dir):
        asyncio.run(_close_all(settings, keep_records=keep_images))
        linux.unmount_below(settings.state_dir)
    Cgroups(settings.cgroup_root).remove()
    left += remove()
    relay.remove()
    gone = [settings.run_dir] if keep_images else [settings.state_dir, settings.run_dir, settings.pod_logs_dir]
    for path in gone:
        trees.remove_tree(path)
        if os.path.exists(path):
            left.append(f"{path} could not be removed")
    for line in left:
        print(f"agent: {line}", file=sys.stderr)
    return 1 if left else 0


async def _close_all(settings: Settings, keep_records: bool) -> None:
    runtime = CrunRuntime(settings.state_dir, settings.run_dir, Range(settings.state_dir), Cgroups(settings.cgroup_root))
    for uid in runtime.pods():
        await runtime.close(uid, keep_records=keep_records)
