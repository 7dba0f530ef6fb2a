"""What the agent asks of a machine that runs containers: nine calls, no Kubernetes object among them.

Who calls it: pod workers (open, start, signal, run, remove, close), the pod manager (pods, exits).
What flows: a SandboxSpec makes a pod's shared namespaces and its address, a ContainerSpec one attempt of one container in it.
What it promises: every answer is read from the machine, never from memory, so an agent that was killed learns the same from `pods()` as the one
that was not. `open`, `close`, `start` and `remove` are idempotent: what is half done is finished or cleared by the next call.
What it never does: restart, decide, or know why.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import AsyncIterator, Mapping, Optional, Protocol, Sequence, Tuple


class RuntimeFailure(Exception):
    """The machine could not do it; the message is for people, one line."""


class NoSuchContainer(RuntimeFailure):
    """There is no such container, or it does not run."""


class BadMount(RuntimeFailure):
    """What a container asks to be mounted is not there, or lies outside of its volume. Nothing was started."""


class StartRefused(RuntimeFailure):
    """The machine refused to run this container as asked, e.g. its program does not exist. The attempt counts as ended: its record says why."""


@dataclass(frozen=True)
class Limits:
    """What a container, or a whole pod, may use."""

    cpu_shares: int = 2
    cpu_quota_us: int = 0  # per 100 ms; 0: no limit
    memory_limit_bytes: int = 0  # 0: no limit


@dataclass(frozen=True)
class SandboxSpec:
    """What a pod's containers share. Shares, limit and quota (0: none) are the whole pod's."""

    uid: str
    namespace: str
    name: str
    hostname: str
    host_network: bool = False
    cpu_shares: int = 2
    memory_limit_bytes: int = 0
    cpu_quota_us: int = 0
    host_pid: bool = False  # containers see the machine's processes
    host_ipc: bool = False
    share_pid: bool = False  # one namespace of processes for all containers
    pids_max: int = 0  # processes and threads of all containers together; 0: no bound
    own_users: bool = False  # its containers' users are none of the machine's


@dataclass(frozen=True)
class Sandbox:
    uid: str
    namespace: str
    name: str
    address: str  # "" with host_network, and once it is closed
    created_s: float  # wall clock
    host_network: bool = False
    host_pid: bool = False
    host_ipc: bool = False
    share_pid: bool = False
    first_user: int = 0  # of the machine's 65,536 users that are the pod's own; 0: its users are the machine's
    ready: bool = True  # False: closed or never finished; containers can't be started in it


PRIVATE, SLAVE, SHARED = "private", "slave", "shared"
"""Of what is mounted below a mount later: neither the machine nor the container sees the other's; the container sees the machine's; each sees the other's."""


@dataclass(frozen=True)
class Mount:
    source: str
    target: str
    read_only: bool = False
    recursive: bool = False  # what is mounted below it is read-only, too
    kind: str = "bind"  # or a file system's name, e.g. tmpfs
    options: Tuple[str, ...] = ()
    below: str = ""  # show only this path below the source (subPath); it is made if it is missing, and never leads out of the source
    propagation: str = PRIVATE


@dataclass(frozen=True)
class ContainerSpec:
    """One attempt. `layers` are unpacked folders, lowest first; argv and env are final."""

    pod_uid: str
    name: str
    attempt: int
    image: str
    image_id: str
    layers: Tuple[str, ...]
    argv: Tuple[str, ...]
    env: Tuple[str, ...] = ()
    cwd: str = "/"
    uid: int = 0
    gid: int = 0
    groups: Tuple[int, ...] = ()
    capabilities: Tuple[str, ...] = ()
    no_new_privileges: bool = False
    seccomp: str = ""  # "RuntimeDefault": the profile of seccomp.py; else every system call is allowed
    privileged: bool = False  # nothing of /proc and /sys is hidden or read-only
    read_only_root: bool = False
    sysctls: Tuple[Tuple[str, str], ...] = ()  # of the pod's own namespaces: the runtime writes whatever it is told
    mounts: Tuple[Mount, ...] = ()
    cpu_shares: int = 2
    cpu_quota_us: int = 0  # per 100 ms; 0: no limit
    memory_limit_bytes: int = 0  # 0: no limit
    log_path: str = ""
    stdin: bool = False
    stdin_once: bool = False
    tty: bool = False
    stop_signal: str = "SIGTERM"
    delay_s: float = 0.0  # the back-off that was kept before this attempt; the next one grows from it
    sees_processes_of: str = ""  # a running container of the pod whose processes this one sees, too
    message_path: str = ""  # file (on the machine) whose content is the container's last words
    oom_score_adj: int = 0  # how soon the kernel kills it when the machine's memory runs out, from -1000 (never) to 1000 (first)


class State(str, enum.Enum):
    CREATED = "created"  # made, never started: an agent died in between
    RUNNING = "running"
    EXITED = "exited"


@dataclass(frozen=True)
class Container:
    id: str
    pod_uid: str
    name: str
    attempt: int
    image: str
    image_id: str
    state: State
    created_s: float
    started_s: float = 0.0
    finished_s: float = 0.0
    exit_code: int = 0
    oom_killed: bool = False
    lost: bool = False  # it ended, and nobody saw how
    start_error: str = ""  # why it could never be started; its exit code is 128 then
    earlier_boot: bool = False  # it ran before this machine's present boot: only the API still knows of it
    again: bool = False  # it begins again whatever its policy, because all containers of its pod do
    pid: int = 0
    log_path: str = ""
    stop_signal: str = "SIGTERM"
    delay_s: float = 0.0
    message_path: str = ""
    limits: Limits = Limits()  # that hold now
    user: Tuple[int, int, Tuple[int, ...]] = (0, 0, ())  # uid, gid and the other groups of its first process


@dataclass(frozen=True)
class Pod:
    """What the machine holds of one pod. `containers`: every attempt kept, by name, oldest first."""

    uid: str
    sandbox: Optional[Sandbox] = None
    containers: Tuple[Container, ...] = ()

    def latest(self, name: str) -> Optional[Container]:
        found = [each for each in self.containers if each.name == name]
        return found[-1] if found else None

    def running(self) -> Tuple[Container, ...]:
        return tuple(each for each in self.containers if each.state is not State.EXITED)


@dataclass(frozen=True)
class Ran:
    """How a command inside a container ended. `status` -1: it took longer than it may and was killed."""

    status: int
    output: bytes


class Runtime(Protocol):
    def pods(self, uid: str = "") -> Mapping[str, Pod]:
        """Return every pod on the machine by uid (or just the one), whatever state it is in."""

    async def open(self, spec: SandboxSpec) -> Sandbox:
        """Make the pod's namespaces and wire its address. An open sandbox is answered as it is: same address, same users.

        No two open pods have a user in common, if they have their own.
        """

    async def close(self, uid: str, *, keep_records: bool = False) -> None:
        """Kill what still runs in the pod and give back its address, mounts and cgroups. With `keep_records`, how its containers ended stays readable."""

    async def start(self, spec: ContainerSpec) -> Container:
        """Start one attempt. It is running (or has already exited) on return. An attempt that exists is answered as it is.

        Raises StartRefused if it can't run as asked: the attempt is kept as one that ended. Raises BadMount, or RuntimeFailure if the machine failed
        (as where it can't tell a container of its mounts): nothing is kept.
        """

    async def resize(self, uid: str, pod: Limits, containers: Mapping[str, Limits]) -> None:
        """Change what an open pod and its running containers (by id) may use, while they run. Repeating it changes nothing.

        Raises NoSuchContainer, or RuntimeFailure if the machine refuses, as a memory limit below what is in use. What was changed before stays changed.
        """

    async def signal(self, container_id: str, number: int) -> None:
        """Signal the container's first process. One that has exited is no error."""

    async def run(self, container_id: str, argv: Sequence[str], *, timeout_s: float) -> Ran:
        """Run a command inside the running container, in its cgroup. Raises NoSuchContainer."""

    async def remove(self, container_id: str) -> None:
        """Forget a container, killing it if it runs. Unknown ids are no error."""

    def exits(self) -> AsyncIterator[str]:
        """Yield the uid of a pod each time one of its containers ends, also one that an earlier agent started. It is a hint: look at `pods()`."""
