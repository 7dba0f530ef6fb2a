"""postStart and preStop: one action of a container's lifecycle, carried out."""

from __future__ import annotations

import asyncio
from typing import Any, Awaitable, Callable, Dict, Optional, Tuple

from .deadlines import wait_for
from .probes import Exec, http_get, port_of
from .wakeup import Wakeup

Object = Dict[str, Any]
LOOK_S = 1.0


async def unless(ends: Callable[[], bool], hook: Awaitable[str], wakeup: Wakeup) -> Optional[str]:
    """Return what the hook returns; None, and cancel it, as soon as its pod is to end. Whoever changes the pod wakes; its deadline is looked at each second."""
    running = asyncio.ensure_future(hook)
    running.add_done_callback(lambda _done: wakeup.wake())
    try:
        while not running.done():
            if ends():
                return None
            await wakeup.wait(LOOK_S)
        return running.result()
    finally:
        running.cancel()
        await asyncio.wait({running})


async def act(action: Object, container: Object, address: str, run: Exec, timeout_s: float) -> Tuple[bool, str]:
    """Did it go well, and if not, why. Never longer than the time given."""
    try:
        return await wait_for(_act(action, container, address, run, timeout_s), timeout_s)
    except asyncio.TimeoutError:
        return False, f"timed out after {timeout_s:g}s"


async def _act(action: Object, container: Object, address: str, run: Exec, timeout_s: float) -> Tuple[bool, str]:
    if action.get("exec"):
        command = action["exec"].get("command") or []
        ran = await run(command, timeout_s)
        if ran.status == 0:
            return True, ""
        return False, f"command '{' '.join(command)}' exited with {ran.status}: {ran.output.decode(errors='replace').strip()[:512]}"
    if action.get("httpGet"):
        return await http_get(action["httpGet"], container, address, timeout_s, "kube-lifecycle")
    if action.get("sleep"):
        await asyncio.sleep(action["sleep"].get("seconds") or 0)
        return True, ""
    if action.get("tcpSocket"):
        _, writer = await asyncio.open_connection(
            action["tcpSocket"].get("host") or address, port_of(action["tcpSocket"]["port"], container)
        )
        writer.close()
    return True, ""
