"""Nodes that run one pod whose containers can be broken: a simulated one, and the agent on a fake runtime or on crun. A story is the same on each."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from labctl.agent.events import Recorder
from labctl.agent.images import Image, ImageFailure
from labctl.agent.runtime.interface import Container
from labctl.agent.settings import Settings
from labctl.agent.tools import Tools
from labctl.agent.worker import PodWorker
from labctl.sim.clock import run
from labctl.sim.runtime import FakeMachine, FakeRuntime
from labctl.sim.settings import HollowSettings
from labctl.sim.world import World
from tests.agent.fakeapi import FakeApi

PATH = "/api/v1/namespaces/default/pods/web"
MISSING = "nothing:1"
_WAITS = "until read code 2>/dev/null </tmp/end; do sleep 0.02; done; exit $code"  # it may be there, and say nothing yet
Story = Callable[[Any], Awaitable[None]]


class Looks:
    """What a story sees of its pod. Each status that differs from the last is kept, so a story may ask what was shown on the way."""

    deadline_s = 10.0
    look_s = 0.002

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []

    def status(self) -> dict[str, Any]:
        """Return the pod's status as the API has it; {} while there is none."""
        raise NotImplementedError

    def of(self, name: str = "c") -> dict[str, Any]:
        """Return the status of a container."""
        return next((each for each in self.status().get("containerStatuses", ()) if each["name"] == name), {})

    def condition(self, type_: str) -> dict[str, Any]:
        return next((each for each in self.status().get("conditions", ()) if each["type"] == type_), {})

    @property
    def ready(self) -> bool:
        return self.condition("Ready").get("status") == "True"

    async def until(self, holds: Callable[[], object], why: str = "") -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + self.deadline_s
        while True:
            if not self.seen or self.seen[-1] != self.status():
                self.seen.append(self.status())
            if holds():
                return
            assert loop.time() < end, f"{why or 'it did not come true'}: {self.status()}"
            await asyncio.sleep(self.look_s)

    async def goes_on(self) -> None:
        """Wait for a while in which something would be noticed that is to be noticed."""
        end = asyncio.get_running_loop().time() + 20 * self.look_s
        await self.until(lambda: asyncio.get_running_loop().time() > end)


def _spec(policy: str, argv: list[str], names: tuple[str, ...], more: dict[str, Any]) -> dict[str, Any]:
    containers = [{"name": name, "image": "tiny:1", "command": argv, **more} for name in names]
    return {"restartPolicy": policy, "terminationGracePeriodSeconds": 0, "containers": containers}


class SimulatedNode(Looks):
    """A hollow node of a simulated lab, in virtual time."""

    first_s, reset_s = 10.0, 600.0
    deadline_s, look_s = 1000.0, 0.05
    breaks = frozenset(("kill", "end", "pause"))

    @classmethod
    def play(cls, _folder: Path, story: Story) -> None:
        async def live() -> None:
            node = cls()
            node.world = World(1, HollowSettings(start_s=(0.1, 0.1), stop_s=(0.1, 0.1), container_statuses=True))
            await node.world.start(1)
            await story(node)
            assert not node.world.wrong
            await node.world.stop()

        run(live())

    world: World

    async def begin(self, policy: str = "Always", names: tuple[str, ...] = ("c",), argv: str = "", **more: Any) -> None:
        spec = {**_spec(policy, ["sleep"], names, more), "nodeName": "minion-1"}
        await self.world.client.create("pods", {"metadata": {"name": "web", "namespace": "default"}, "spec": spec})

    def status(self) -> dict[str, Any]:
        return (self.world.client.raw("pods", "default/web") or {}).get("status", {})

    @property
    def title(self) -> str:
        return f"web_default({self.world.client.get('pods', 'default/web').metadata.uid})"

    def _there(self) -> tuple[Any, str]:
        return self.world.fleet.nodes["minion-1"].containers, self.world.client.get("pods", "default/web").metadata.uid

    async def end(self, code: int, name: str = "c") -> None:
        containers, uid = self._there()
        containers.end(uid, name, code)

    async def kill(self, name: str = "c") -> None:
        containers, uid = self._there()
        containers.kill(uid, name)

    async def pause(self, name: str = "c") -> None:
        containers, uid = self._there()
        containers.stop(uid, name)


class FakeImages:
    """Every image is there but MISSING."""

    def __init__(self, layer: str) -> None:
        self._layer = layer

    def local(self, name: str) -> Image | None:
        return None if name == MISSING else Image(name, "sha256:1", (self._layer,))

    async def ensure(self, name: str, _policy: str) -> Image:
        if found := self.local(name):
            return found
        raise ImageFailure("ErrImagePull", "no such image")


class AgentNode(Looks):
    """The agent's worker for the pod, on a runtime, with an API in memory."""

    first_s, reset_s = 0.4, 60.0
    breaks = frozenset(("kill", "end", "pause", "oom", "start", "image"))
    title = "web_default(u1)"
    programs = {"waits": ["sleep", "1000"], "hog": ["hog"], "absent": ["/bin/absent"]}

    def __init__(self, folder: Path, runtime: Any, layer: str) -> None:
        super().__init__()
        self.runtime, self.api = runtime, FakeApi()
        times = {"start_retry_s": 0.05, "backoff_first_s": self.first_s, "backoff_reset_s": self.reset_s, "image_backoff_first_s": 0.05}
        settings = Settings("minion-1", "", "", "", "", state_dir=str(folder), pod_logs_dir=str(folder / "logs"), drain_s=0.05, **times)
        self._events = Recorder(self.api, "minion-1")
        self._tools = Tools(settings, self.api, runtime, FakeImages(layer), self._events, lambda _text: None, "10.245.1.11")
        self._gone = asyncio.Event()
        self._tasks: list[asyncio.Future[None]] = []

    @classmethod
    def play(cls, folder: Path, story: Story) -> None:
        async def live() -> None:
            node = cls.made(folder)
            try:
                await story(node)
            finally:
                await node.stop()

        asyncio.run(live())

    @classmethod
    def made(cls, folder: Path) -> AgentNode:
        return cls(folder, FakeRuntime(FakeMachine(wall=time.time)), "/layer")

    async def begin(self, policy: str = "Always", names: tuple[str, ...] = ("c",), argv: str = "waits", **more: Any) -> None:
        pod = {"metadata": {"name": "web", "namespace": "default", "uid": "u1"}, "spec": _spec(policy, self.programs[argv], names, more)}
        self._worker = PodWorker(self._tools, self.api.put(PATH, {**pod, "status": {}}), self._gone.set)
        self._tasks = [asyncio.ensure_future(each) for each in (self._worker.run(), self._events.run(), self._wake())]

    async def _wake(self) -> None:
        async for _ in self.runtime.exits():
            self._worker.wake()

    async def stop(self) -> None:
        if self._tasks:
            self._worker.gone()
            await asyncio.wait_for(self._gone.wait(), 20)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def status(self) -> dict[str, Any]:
        return self.api.objects[PATH]["status"]

    def container(self, name: str) -> Container:
        return self.runtime.pods("u1")["u1"].latest(name)

    async def end(self, code: int, name: str = "c") -> None:
        self.runtime.machine.finish(self.container(name).id, code)

    async def kill(self, name: str = "c") -> None:
        await self.runtime.signal(self.container(name).id, signal.SIGKILL)

    async def pause(self, name: str = "c") -> None:
        await self.runtime.signal(self.container(name).id, signal.SIGSTOP)


class CrunNode(AgentNode):
    """The agent on crun and conmon, inside a throwaway machine (tests/agent/room.py)."""

    first_s, reset_s = 1.0, 60.0
    deadline_s = 30.0
    programs = {"waits": ["sh", "-c", _WAITS], "hog": ["sh", "-c", "x=a; while :; do x=$x$x; done"], "absent": ["/bin/absent"]}

    @classmethod
    def made(cls, folder: Path) -> AgentNode:
        from labctl.agent.addresses import Range
        from labctl.agent.cgroups import Cgroups
        from labctl.agent.runtime.crun import CrunRuntime
        from tests.agent import tiny

        layer = Path("/var/lib/layer")
        if not layer.exists():
            tiny.make(layer)
        addresses = Range("/var/lib")
        addresses.set("10.246.1.0/24")
        return cls(folder, CrunRuntime("/var/lib/agent", "/run/labctl", addresses, Cgroups()), str(layer))

    async def stop(self) -> None:
        await super().stop()
        self.runtime.forget_watches()

    async def end(self, code: int, name: str = "c") -> None:
        await self.runtime.run(self.container(name).id, ["sh", "-c", f"echo {code} >/tmp/end"], timeout_s=10)
