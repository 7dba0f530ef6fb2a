"""A fake container runtime for the agent. It keeps the contract of the real one (tests/contract/test_runtime.py), without root and without
processes.

`FakeMachine` is the machine. `FakeRuntime` is what an agent uses; like the real one it remembers nothing, so it may be thrown away and made
again. It
knows the programs `sleep`, `true`, `false` and `hog` (killed for using too much memory if there is a limit).
"""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import signal
from collections.abc import AsyncIterator, Callable, Mapping, Sequence

from labctl.agent.addresses import next_address
from labctl.agent.runtime.interface import (
    Container,
    ContainerSpec,
    Limits,
    NoSuchContainer,
    Pod,
    Ran,
    RuntimeFailure,
    Sandbox,
    SandboxSpec,
    StartRefused,
    State,
)
from labctl.agent.runtime.userns import free_range

_KILLED = 137
_ENDS_NOTHING = (signal.SIGSTOP, signal.SIGCONT)
_ENDS_WITH = {"true": 0, "false": 1}


class FakeMachine:
    """The machine. `wall` is its clock; `runs` are the commands that were run inside containers, for tests to read."""

    def __init__(self, cidr: str = "10.246.1.0/24", wall: Callable[[], float] = lambda: 0.0) -> None:
        self.cidr = cidr
        self.wall = wall
        self.last_address = ""
        self.sandboxes: dict[str, Sandbox] = {}
        self.containers: dict[str, Container] = {}
        self.specs: dict[str, ContainerSpec] = {}
        self.used: dict[str, int] = {}  # bytes of memory in use, by container id
        self.runs: list[tuple[str, tuple[str, ...]]] = []
        self.hearers: list[asyncio.Queue[str]] = []

    def finish(self, container_id: str, code: int, *, oom: bool = False) -> None:
        """End a container's first process."""
        container = self.containers[container_id]
        if container.state is State.EXITED:
            return
        ended = dataclasses.replace(container, state=State.EXITED, exit_code=code, oom_killed=oom, finished_s=self.wall())
        self.containers[container_id] = ended
        for hearer in self.hearers:
            hearer.put_nowait(container.pod_uid)


class FakeRuntime:
    def __init__(self, machine: FakeMachine) -> None:
        self.machine = machine

    def pods(self, uid: str = "") -> Mapping[str, Pod]:
        machine = self.machine
        known = sorted({*machine.sandboxes, *(each.pod_uid for each in machine.containers.values())})
        return {each: self._pod(each) for each in known if uid in ("", each)}

    def _pod(self, uid: str) -> Pod:
        mine = [each for each in self.machine.containers.values() if each.pod_uid == uid]
        return Pod(uid, self.machine.sandboxes.get(uid), tuple(sorted(mine, key=lambda each: (each.name, each.attempt))))

    async def open(self, spec: SandboxSpec) -> Sandbox:
        machine = self.machine
        there = machine.sandboxes.get(spec.uid)
        if there and there.ready:
            return there
        address = ""
        if not spec.host_network:
            taken = {each.address for each in machine.sandboxes.values() if each.ready}
            address = machine.last_address = next_address(machine.cidr, machine.last_address, taken)
        users = free_range({each.first_user for each in machine.sandboxes.values() if each.ready}) if spec.own_users else 0
        own = (spec.host_network, spec.host_pid, spec.host_ipc, spec.share_pid, users)
        opened = Sandbox(spec.uid, spec.namespace, spec.name, address, machine.wall(), *own)
        machine.sandboxes[spec.uid] = opened
        return opened

    async def close(self, uid: str, *, keep_records: bool = False) -> None:
        machine = self.machine
        for container in self._pod(uid).containers:
            machine.finish(container.id, _KILLED)
            if not keep_records:
                del machine.containers[container.id]
        there = machine.sandboxes.pop(uid, None)
        if there and keep_records:
            machine.sandboxes[uid] = dataclasses.replace(there, ready=False)

    async def start(self, spec: ContainerSpec) -> Container:
        machine = self.machine
        identity = hashlib.sha256(f"{spec.pod_uid}/{spec.name}/{spec.attempt}".encode()).hexdigest()
        if identity in machine.containers:
            return machine.containers[identity]
        held = machine.sandboxes.get(spec.pod_uid)
        if held is None or not held.ready:
            raise RuntimeFailure(f"pod {spec.pod_uid} is not open")
        target = self._pod(spec.pod_uid).latest(spec.sees_processes_of) if spec.sees_processes_of else None
        if spec.sees_processes_of and (target is None or target.state is not State.RUNNING):
            raise RuntimeFailure(f"unable to find target container {spec.sees_processes_of}")
        program = spec.argv[0]
        if program not in (*_ENDS_WITH, "sleep", "hog"):
            message = f"executable file `{program}` not found in $PATH: No such file or directory"
            machine.containers[identity] = dataclasses.replace(
                _begun(identity, spec, machine.wall()),
                state=State.EXITED,
                started_s=0.0,
                finished_s=machine.wall(),
                exit_code=128,
                start_error=message,
            )
            raise StartRefused(message)
        machine.specs[identity] = spec
        machine.containers[identity] = _begun(identity, spec, machine.wall())
        if program in _ENDS_WITH:
            machine.finish(identity, _ENDS_WITH[program])
        elif program == "hog" and spec.memory_limit_bytes:
            machine.finish(identity, _KILLED, oom=True)
        return machine.containers[identity]

    async def resize(self, uid: str, pod: Limits, containers: Mapping[str, Limits]) -> None:
        for identity, limits in containers.items():
            there = self.machine.containers.get(identity)
            if there is None or there.state is not State.RUNNING:
                raise NoSuchContainer(f"container {identity[:12]} does not run")
            if limits.memory_limit_bytes and self.machine.used.get(identity, 0) > limits.memory_limit_bytes:
                used = self.machine.used[identity]
                words = f"attempting to set container memory limit ({limits.memory_limit_bytes}) below current usage ({used})"
                raise RuntimeFailure(f"{words}: {there.name}")
            self.machine.containers[identity] = dataclasses.replace(there, limits=limits)

    async def signal(self, container_id: str, number: int) -> None:
        if container_id in self.machine.containers and number not in _ENDS_NOTHING:
            self.machine.finish(container_id, 128 + number)

    async def run(self, container_id: str, argv: Sequence[str], *, timeout_s: float) -> Ran:
        container = self.machine.containers.get(container_id)
        if container is None or container.state is not State.RUNNING:
            raise NoSuchContainer(f"container {container_id[:12]} does not run")
        self.machine.runs.append((container.name, tuple(argv)))
        if argv[0] == "sleep":
            return Ran(-1, b"")
        return Ran(_ENDS_WITH.get(argv[0], 1), b"")

    async def remove(self, container_id: str) -> None:
        if container_id in self.machine.containers:
            self.machine.finish(container_id, _KILLED)
            del self.machine.containers[container_id]

    async def exits(self) -> AsyncIterator[str]:
        queue: asyncio.Queue[str] = asyncio.Queue()
        self.machine.hearers.append(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            self.machine.hearers.remove(queue)


def _begun(identity: str, spec: ContainerSpec, now_s: float) -> Container:
    return Container(
        identity,
        spec.pod_uid,
        spec.name,
        spec.attempt,
        spec.image,
        spec.image_id,
        State.RUNNING,
        created_s=now_s,
        started_s=now_s,
        pid=1,
        log_path=spec.log_path,
        stop_signal=spec.stop_signal,
        delay_s=spec.delay_s,
        message_path=spec.message_path,
        limits=Limits(spec.cpu_shares, spec.cpu_quota_us, spec.memory_limit_bytes),
        user=(spec.uid, spec.gid, spec.groups),
    )
