"""The Runtime on a real machine: crun makes containers, conmon keeps them, the kernel and the disk are the memory.

A container's start: overlay over the image's layers, OCI configuration, conmon (which runs `crun create`), `crun start`. Its end: conmon writes the
exit code and ends itself; a pidfd on conmon tells us. What lies where is told in records.py.
"""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import itertools
import os
import signal as signals
import time
from typing import AsyncIterator, Callable, Mapping, Sequence, Set

from .. import linux, trees
from ..addresses import Range
from ..cgroups import CPU_PERIOD_US, Cgroups
from ..processes import run
from . import conmon, limits, oci, processes, sandbox, userns
from . import mounts as binds
from .execs import as_killable, process_file
from .exits import ProcessWatches
from .interface import (
    BadMount,
    Container,
    ContainerSpec,
    Limits,
    Mount,
    NoSuchContainer,
    Pod,
    Ran,
    RuntimeFailure,
    Sandbox,
    SandboxSpec,
    StartRefused,
    State,
)
from .records import Records, container_id, read_int, read_json, write_json

KILL_TIMEOUT_S = 5.0
YOUNG_S = 3.0


class CrunRuntime:
    """`root` on a disk that can carry overlays, `run_dir` for crun's own state. `source`: the node's address towards its pods."""

    def __init__(self, root: str, run_dir: str, addresses: Range, cgroups: Cgroups, *, source: str = "", mtu: int = 1500) -> None:
        self.records = Records(root)
        self.crun_root = os.path.join(run_dir, "crun")
        self._addresses, self._cgroups, self._source, self._mtu = addresses, cgroups, source, mtu
        self._watches = ProcessWatches()
        self._execs = itertools.count()
        self._ended: "asyncio.Queue[str]" = asyncio.Queue()
        self._promised: Set[str] = set()  # addresses that were given to pods whose opening has not ended
        self._promised_users: Set[int] = set()  # the same of the first of their users
        with open("/proc/self/status", encoding="ascii") as file:
            self._held = oci.held_capabilities(file.read())
        with open("/proc/self/oom_score_adj", encoding="ascii") as file:  # only who may raise priorities may go below its own
            self._least_oom = -1000 if "CAP_SYS_RESOURCE" in self._held else int(file.read())

    # -- reading

    def pods(self, uid: str = "") -> Mapping[str, Pod]:
        found = {each: self.records.pod(each) for each in ([uid] if uid else self.records.uids())}
        return {each: pod for each, pod in found.items() if pod.sandbox or pod.containers or os.path.isdir(self.records.pod_dir(each))}

    async def exits(self) -> AsyncIterator[str]:
        for pod in self.pods().values():
            for container in pod.running():
                self._watch(container)
        while True:
            yield await self._ended.get()

    def _watch(self, container: Container) -> None:
        """Watch a container's conmon, which ends when the exit code is written. If conmon was killed, watch the container's own process."""
        bundle = self.records.bundle(container.pod_uid, container.name, container.attempt)
        pid = read_int(os.path.join(bundle, "conmon.pid"))

        def gone() -> None:
            now = self.records.container(container.pod_uid, container.name, container.attempt)
            if now is None or now.state is State.EXITED or not self._watches.add(container.id, now.pid, gone):
                self._note_oom(container, bundle)
                self._ended.put_nowait(container.pod_uid)

        if not self._watches.add(container.id, pid, gone):
            gone()

    def _note_oom(self, container: Container, bundle: str) -> None:
        """Note whether the kernel killed for memory, from the cgroup's own count: conmon's event may come too late when a process dies quickly."""
        if os.path.isdir(bundle) and self._cgroups.oom_kills(self._cgroup(container)):
            with open(os.path.join(bundle, "oom"), "w"):
                pass

    # -- pods

    async def open(self, spec: SandboxSpec) -> Sandbox:
        there = self.records.sandbox(spec.uid)
        if there and there.ready and self._namespaces_held(spec):
            return there
        folder = self.records.pod_dir(spec.uid)
        address, first_user = "" if spec.host_network else self._address(), self._first_user() if spec.own_users else 0
        self._promised.add(address)
        self._promised_users.add(first_user)
        try:
            own = (spec.host_network, spec.host_pid, spec.host_ipc, spec.share_pid, first_user)
            shown = Sandbox(spec.uid, spec.namespace, spec.name, address, time.time(), *own)
            veth = self._veth(spec.uid, shown.created_s)
            await self._blocking(self._make, spec, folder, address, veth, first_user)
            write_json(os.path.join(folder, "sandbox.json"), {**dataclasses.asdict(shown), "veth": veth})
            return shown
        finally:
            self._promised.discard(address)
            self._promised_users.discard(first_user)

    def _make(self, spec: SandboxSpec, folder: str, address: str, veth: str, first_user: int) -> None:
        try:
            os.makedirs(os.path.join(folder, "shm"), exist_ok=True)
            linux.unmount(os.path.join(folder, "shm"))
            linux.mount(
                "shm", os.path.join(folder, "shm"), "tmpfs", linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC, "mode=1777,size=65536k"
            )
            wire = sandbox.Wire(address, veth, self._mtu, self._source) if address else None
            kinds = sandbox.namespace_kinds(spec.host_network, spec.host_ipc)
            sandbox.make(os.path.join(folder, "ns"), kinds, spec.hostname, wire, first_user)
            bounds = Limits(spec.cpu_shares, spec.cpu_quota_us, spec.memory_limit_bytes)
            self._cgroups.open(spec.uid, bounds, spec.pids_max)
            if spec.share_pid:
                processes.hold(os.path.join(folder, "ns"), lambda pid: self._cgroups.adopt(spec.uid, pid))
        except OSError as error:
            raise RuntimeFailure(f"making the pod's namespaces: {error}") from error

    def _namespaces_held(self, spec: SandboxSpec) -> bool:
        folder = os.path.join(self.records.pod_dir(spec.uid), "ns")
        kinds = [*sandbox.namespace_kinds(spec.host_network, spec.host_ipc), *(["user"] if spec.own_users else [])]
        return all(_is_namespace(os.path.join(folder, kind)) for kind in kinds) and (not spec.share_pid or processes.held(folder))

    def _address(self) -> str:
        opened = [self.records.sandbox(uid) for uid in self.records.uids()]
        taken = {each.address for each in opened if each and each.ready}
        return self._addresses.give(taken | self._promised)

    def _first_user(self) -> int:
        opened = [self.records.sandbox(uid) for uid in self.records.uids()]
        return userns.free_range({each.first_user for each in opened if each and each.ready} | self._promised_users)

    @staticmethod
    def _veth(uid: str, created_s: float) -> str:
        """Never the same twice: the kernel takes its time to forget a name."""
        return "pod" + hashlib.sha256(f"{uid}{created_s}".encode()).hexdigest()[:10]

    async def close(self, uid: str, *, keep_records: bool = False) -> None:
        pod = self.records.pod(uid)
        await asyncio.gather(*(self._end(container) for container in pod.containers))
        folder = self.records.pod_dir(uid)
        veth = (read_json(os.path.join(folder, "sandbox.json")) or {}).get("veth", "")
        await self._blocking(self._unmake, uid, folder, veth)
        if keep_records:  # what nobody can use any more goes at once
            await self._remove(*(os.path.join(folder, each) for each in ("volumes", "volumes-ready", "certificates")))
        if keep_records and pod.sandbox:
            write_json(os.path.join(folder, "sandbox.json"), {**dataclasses.asdict(pod.sandbox), "ready": False})
        elif not keep_records:
            await self._remove(folder)

    def _unmake(self, uid: str, folder: str, veth: str) -> None:
        processes.release(os.path.join(folder, "ns"))
        sandbox.unmake(os.path.join(folder, "ns"), veth)
        linux.unmount_below(folder)  # shm, volumes in memory, what a killed agent left
        self._cgroups.close(uid)

    # -- containers

    async def start(self, spec: ContainerSpec) -> Container:
        there = self.records.container(spec.pod_uid, spec.name, spec.attempt)
        if there and there.state is not State.CREATED:
            return there
        held = self.records.sandbox(spec.pod_uid)
        if not (held and held.ready):
            raise RuntimeFailure(f"pod {spec.pod_uid} is not open")
        identity = container_id(spec.pod_uid, spec.name, spec.attempt)
        bundle = self.records.bundle(spec.pod_uid, spec.name, spec.attempt)
        if os.path.isdir(bundle):
            await self._blocking(self._end_half_started, identity, self._cgroup(spec))
            await self._discard(identity, bundle)
        try:
            self._prepare(spec, held, bundle)
            pid = await conmon.create(spec, identity, bundle, self.crun_root, own_users=bool(held.first_user))
            started = await conmon.crun(self.crun_root, "start", identity)
            if started.status != 0:
                raise StartRefused(conmon.one_line(started.output.decode(errors="replace")) or f"crun start failed with {started.status}")
        except StartRefused as refused:
            if gone := binds.removed_meanwhile(spec, bundle):
                await self._discard(identity, bundle)
                raise BadMount(binds.sub_path_failure(spec.name, gone, "was removed while the container started")) from refused
            await self._keep_refused(identity, bundle, str(refused))
            raise
        except (OSError, RuntimeFailure, asyncio.TimeoutError) as error:
            await self._discard(identity, bundle)
            raise (
                error if isinstance(error, RuntimeFailure) else RuntimeFailure(f"starting the container: {error or 'deadline'}")
            ) from error
        write_json(os.path.join(bundle, "started"), {"pid": pid, "ticks": linux.start_ticks(pid), "at": time.time()})
        container = self.records.container(spec.pod_uid, spec.name, spec.attempt)
        assert container is not None
        self._watch(container)
        return container

    def _end_half_started(self, identity: str, cgroup: str) -> None:
        """End conmon and crun of an agent that was killed in the middle of a start. They would go on making the container beside its successor."""
        until = time.monotonic() + KILL_TIMEOUT_S
        while time.monotonic() < until:
            left = {*linux.processes_with(identity.encode()), *self._cgroups.processes(cgroup)}
            if not left:
                return
            for pid in left:
                _kill(pid)
            time.sleep(0.005)

    async def _keep_refused(self, identity: str, bundle: str, message: str) -> None:
        """Record the attempt as ended before it began, and remove all else of it."""
        write_json(os.path.join(bundle, "refused"), {"message": message, "at": time.time()})
        self._watches.drop(identity)
        await self._release(identity, bundle)

    def _prepare(self, spec: ContainerSpec, held: Sandbox, bundle: str) -> None:
        for name in ("rootfs", "upper", "work", "exits"):
            os.makedirs(os.path.join(bundle, name), exist_ok=True)
        os.chmod(os.path.join(bundle, "upper"), 0o755)
        os.chown(os.path.join(bundle, "upper"), held.first_user, held.first_user)
        if spec.log_path:
            os.makedirs(os.path.dirname(spec.log_path), exist_ok=True)
        binds.check_propagation(spec.mounts)
        pod = self.records.pod_dir(spec.pod_uid)
        users = os.path.join(pod, "ns", "user") if held.first_user else ""
        binds.overlay(spec.layers, bundle, users)
        namespaces = {
            **({"user": users} if users else {}),
            **processes.namespace_of(spec, held, self.records),
            "mount": "",
            "cgroup": "",
            **{kind: os.path.join(pod, "ns", kind) for kind in sandbox.namespace_kinds(held.host_network, held.host_ipc)},
        }
        shm = "/dev/shm" if held.host_ipc else os.path.join(pod, "shm")
        mounts = binds.pinned((*spec.mounts, Mount(shm, "/dev/shm")), spec.name, bundle, users)
        mounts.insert(0, mounts.pop())  # the pod's own may lie on it
        shared = dataclasses.replace(spec, mounts=tuple(mounts))
        write_json(
            os.path.join(bundle, "config.json"),
            oci.configuration(
                self._within_machine(shared), namespaces=namespaces, cgroup=self._cgroup(spec), held=self._held, first_user=held.first_user
            ),
        )
        write_json(os.path.join(bundle, "container.json"), {**dataclasses.asdict(spec), "created_s": time.time()})

    def _within_machine(self, spec: ContainerSpec) -> ContainerSpec:
        """Lower a limit that is larger than the machine's, and ask for no more protection than this machine's root may give.

        cgroup v1 refuses a CPU quota above the parent group's, and the parent's holds anyway.
        """
        quota_us = self._cgroups.quota_within(spec.cpu_quota_us, CPU_PERIOD_US)
        return dataclasses.replace(spec, cpu_quota_us=quota_us, oom_score_adj=max(self._least_oom, spec.oom_score_adj))

    def _cgroup(self, spec: "ContainerSpec | Container") -> str:
        return f"{self._cgroups.pod(spec.pod_uid)}/{spec.name}-{spec.attempt}"

    async def resize(self, uid: str, pod: Limits, containers: Mapping[str, Limits]) -> None:
        await self._blocking(limits.resize, self.records, self._cgroups, self._cgroup, uid, pod, containers)

    async def signal(self, container_id: str, number: int) -> None:
        container, _ = self.records.find(container_id)
        if container and container.pid:
            await _wait_for_handler(container, number)
            self._signal(container, number)

    def _signal(self, container: Container, number: int) -> None:
        """Through a pidfd, so that a pid which was given to somebody else is never hit."""
        try:
            descriptor = os.pidfd_open(container.pid)
        except OSError:
            return
        try:
            now = self.records.container(container.pod_uid, container.name, container.attempt)
            if now and now.state is State.RUNNING:
                signals.pidfd_send_signal(descriptor, number)
        except ProcessLookupError:
            pass
        finally:
            os.close(descriptor)

    async def run(self, container_id: str, argv: Sequence[str], *, timeout_s: float) -> Ran:
        container, bundle = self.records.find(container_id)
        if container is None or container.state is not State.RUNNING:
            raise NoSuchContainer(f"container {container_id[:12]} does not run")
        pid_file = os.path.join(bundle, f"exec-{next(self._execs)}.pid")
        process = process_file(bundle, argv)
        words = ["exec", "--pid-file", pid_file, "--process", f"/proc/self/fd/{process}", container_id]
        try:
            argv = as_killable(bundle, conmon.crun_argv(self.crun_root, *words))
            finished = await run(argv, timeout_s=timeout_s, env=conmon.environment(), pass_fds=[process])
            if finished.status is None:
                _kill(read_int(pid_file))  # crun is dead, what it started is not
            return Ran(-1 if finished.status is None else finished.status, finished.output)
        finally:
            os.close(process)
            if os.path.exists(pid_file):
                os.unlink(pid_file)

    async def remove(self, container_id: str) -> None:
        container, bundle = self.records.find(container_id)
        if container:
            await self._end(container)
            await self._discard(container_id, bundle)

    async def _end(self, container: Container) -> None:
        """Kill a container, wait until its exit code is on the disk, and remove its mounts and its cgroup. Its record stays."""
        bundle = self.records.bundle(container.pod_uid, container.name, container.attempt)
        if container.state is not State.EXITED:
            self._signal(container, signals.SIGKILL)
            await self._wait_until_dead(container)
        held = self.records.sandbox(container.pod_uid)
        if held and (held.host_pid or held.share_pid):  # its first process took no other with it
            for pid in self._cgroups.processes(self._cgroup(container)):
                _kill(pid)
        await self._release(container.id, bundle)

    async def _wait_until_dead(self, container: Container) -> None:
        """Returns when the container does not run any more, or when it should have ended long ago."""
        until = time.monotonic() + KILL_TIMEOUT_S
        wait_s = 0.002
        while time.monotonic() < until:
            now = self.records.container(container.pod_uid, container.name, container.attempt)
            if now is None or now.state is not State.RUNNING:
                return
            await asyncio.sleep(wait_s)
            wait_s = min(0.05, wait_s * 2)

    async def _release(self, identity: str, bundle: str) -> None:
        """Remove the crun state, the mounts and the files of a dead container. If they are gone already this costs nothing."""
        if os.path.isdir(os.path.join(self.crun_root, identity)):
            await conmon.crun(self.crun_root, "delete", "--force", identity)
        if os.path.isdir(os.path.join(bundle, "rootfs")):
            linux.unmount_below(bundle)
            await self._remove(*(os.path.join(bundle, each) for each in ("upper", "work", "rootfs", "layers")))

    async def _discard(self, identity: str, bundle: str) -> None:
        self._watches.drop(identity)
        await self._release(identity, bundle)
        await self._remove(bundle)

    async def _remove(self, *paths: str) -> None:
        """Remove folders. What is still mounted below them is unmounted first, else the removal would go on inside of a volume."""
        for path in paths:
            linux.unmount_below(path)
        await trees.remove_trees(*paths)

    @staticmethod
    async def _blocking(work: Callable[..., None], *arguments: object) -> None:
        await asyncio.get_running_loop().run_in_executor(None, work, *arguments)

    def forget_watches(self) -> None:
        self._watches.clear()


async def _wait_for_handler(container: Container, number: int) -> None:
    """Wait until a young container handles this signal: the first process of a pid namespace loses every signal it has no handler for."""
    while number != signals.SIGKILL and 0 <= time.time() - container.started_s < YOUNG_S and not linux.catches(container.pid, number):
        await asyncio.sleep(0.02)


def _kill(pid: int) -> None:
    try:
        if pid > 0:
            os.kill(pid, signals.SIGKILL)
    except ProcessLookupError:
        pass


def _is_namespace(path: str) -> bool:
    try:
        return os.stat(path).st_dev != os.stat(os.path.dirname(path)).st_dev
    except OSError:
        return False
