"""`agent clean`: every pod killed, every mount, namespace, control group and file of labctl's agent removed from this machine. Run it twice: the same."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys

from . import linux
from .addresses import Range
from .cgroups import Cgroups
from .runtime.crun import CrunRuntime
from .settings import BadSettings, Settings, read


def clean(config: str) -> int:
    try:
        settings = read(config)
    except BadSettings:
        settings = Settings("", "", "", "", "")  # the usual places
    if os.path.isdir(settings.state_dir):
        asyncio.run(_close_all(settings))
        for target in linux.mounts_below(settings.state_dir):
            linux.unmount(target)
    for path in (settings.state_dir, settings.run_dir, settings.pod_logs_dir):
        shutil.rmtree(path, ignore_errors=True)
    left = [path for path in (settings.state_dir, settings.run_dir) if os.path.exists(path)]
    for path in left:
        print(f"agent: {path} could not be removed", file=sys.stderr)
    return 1 if left else 0


async def _close_all(settings: Settings) -> None:
    runtime = CrunRuntime(settings.state_dir, settings.run_dir, Range(settings.state_dir), Cgroups(settings.cgroup_root))
    for uid in runtime.pods():
        await runtime.close(uid)
