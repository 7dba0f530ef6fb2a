"""`agent run`: everything put together, and run until a signal ends it. Pods stay when it ends.

The order at a start: what boot is this (state of an older one is cleared); register the Node and keep its Lease; list and watch its pods.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import os
import signal
import sys
import time
from typing import Any, Awaitable, List

from . import claims, facts, forgotten, linux, relay
from .addresses import Range
from .boot import Boot
from .cgroups import Cgroups
from .client import Api
from .dns import keeper
from .events import Recorder
from .http import Http, client_context
from .images import Images
from .node import NodeKeeper, left_to_pods
from .ownusers import OwnUsers
from .peers import Heartbeats
from .pods import Pods
from .runtime import userns
from .runtime.crun import CrunRuntime
from .settings import Settings, api_port, boot_id, own_address
from .tools import Tools

TIDY_S = 20.0  # a collection takes a few milliseconds


def say(text: str) -> None:
    print(time.strftime("%Y-%m-%dT%H:%M:%SZ ", time.gmtime()) + text, file=sys.stderr, flush=True)


def run(settings: Settings) -> int:
    os.umask(0o022)
    linux.keep_memory_small()
    os.makedirs(settings.state_dir, mode=0o700, exist_ok=True)
    os.makedirs(settings.run_dir, mode=0o700, exist_ok=True)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_until_told(settings))
    return 0


async def _until_told(settings: Settings) -> None:
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    work: List["asyncio.Future[Any]"] = [asyncio.ensure_future(serve(settings)), asyncio.ensure_future(stopped.wait())]
    done, pending = await asyncio.wait(work, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
    for task in done:
        task.result()


async def serve(settings: Settings) -> None:
    """Run until cancelled. Tests call it with a machine and an API of their own."""
    context = client_context(settings.ca_file, settings.certificate_file, settings.key_file) if settings.url.startswith("https") else None
    api = Api(Http(settings.url, context))
    boot = Boot(settings.state_dir, boot_id(settings))
    address = own_address(settings)
    addresses = Range(settings.state_dir)
    cgroups = Cgroups(settings.cgroup_root)
    cgroups.bound_all(*left_to_pods(settings))
    linux.kill_me_last()
    runtime = CrunRuntime(settings.state_dir, settings.run_dir, addresses, cgroups, source=address, mtu=settings.pod_mtu)
    images = Images(settings.state_dir, api, f"linux/{facts.architecture()}")
    if not boot.same and not boot.same_kernel:  # a power cut took what was not on the disk yet
        images.forget_unflushed()
    events = Recorder(api, settings.node)
    heartbeats = Heartbeats(settings.node, address, api, say)
    own_users = OwnUsers(functools.partial(userns.possible, settings.state_dir))
    node = NodeKeeper(settings, boot.id, address, api, addresses.set, images.reported, say, heartbeats.report, own_users)
    memory_bytes = settings.memory_bytes or facts.memory_bytes()
    tools = Tools(settings, api, runtime, images, events, say, address, node.allocatable, memory_bytes, own_users=own_users)
    pods = Pods(tools, boot)
    disk = claims.Keeper(api, settings.node, settings.volumes_dir, say)
    say(f"node {settings.node} on {address}, boot {boot.id}, API {settings.url}")
    await _all(
        _register_then_keep(node),
        *([heartbeats.run()] if settings.peers else []),
        pods.run(),
        disk.run(),
        images.flush_fetched(),
        events.run(),
        _tidy_memory(),
        forgotten.run(runtime.crun_root, settings.housekeeping_s),
        *_relay(settings),
        keeper.run(say),
    )


def _relay(settings: Settings) -> List[Awaitable[Any]]:
    return [relay.run(settings.relay_address, api_port(settings), say)] if settings.relay_address else []


async def _register_then_keep(node: NodeKeeper) -> None:
    await node.register()
    await asyncio.gather(node.keep_lease(), node.learn(), node.keep_status(), node.watch())


async def _all(*work: Awaitable[Any]) -> None:
    """Run all until the first of them fails; then stop the others."""
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _tidy_memory() -> None:
    """Exclude what was imported from garbage collection, and return memory that a pull, or many starts at once, left to the kernel."""
    gc.collect()
    gc.freeze()
    while True:
        await asyncio.sleep(TIDY_S)
        gc.collect()
        linux.give_memory_back()
