"""What a lab's machines share: an init that is the ancestor of all, and a network. It is found again by the lock that its init holds."""

from __future__ import annotations

import ipaddress
import os
import select
import signal
import subprocess
import weakref
from collections.abc import Callable
from pathlib import Path

from labctl.errors import ProviderError
from labctl.providers import locks
from labctl.providers.namespace import cgroup, network
from labctl.providers.namespace.cgroup import Cgroups
from labctl.providers.namespace.inside import command, kernel, plan
from labctl.providers.settings import NamespaceSettings


class LabInit:
    """The lab's init process and the network namespace it owns."""

    def __init__(self, state: Path, settings: NamespaceSettings, cgroups: Cgroups) -> None:
        self._state = state
        self._settings = settings
        self._cgroups = cgroups
        self._held = -1
        self._let_go: Callable[[], object] = _nothing
        interface = ipaddress.IPv4Network(settings.network)
        self.gateway = str(interface.network_address + 1)
        self.prefix_length = interface.prefixlen

    @property
    def alive(self) -> Path:
        return self._state / "locks" / "init"

    def pid(self) -> int:
        """Return the init's process id, or 0 if there is none."""
        return locks.holder(self.alive)

    def start(self) -> int:
        """Return the init's process id. If there is none, the init is started, with its network."""
        with locks.exclusive(self._state / "locks" / "lab") as lock:
            pid = self.pid()
            return pid or self._spawn(lock)

    def namespace(self) -> str:
        """Return a path of the lab's network namespace.

        It is valid for as long as this object exists, even if the init is killed and started again: sockets that listen there still work, and so does
        a process that
        entered it.
        """
        pid = self.start()
        if self._held < 0:
            self._held = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            self._let_go = weakref.finalize(self, os.close, self._held)  # a process may be the master of a lab, and later of another
        return f"/proc/{os.getpid()}/fd/{self._held}"

    def enter(self) -> int:
        """Put the calling thread into the lab's network namespace. Only a thread that does nothing else may call it."""
        self.namespace()
        kernel.setns(self._held, kernel.CLONE_NEWNET)
        return self._held

    def ip(self, *lines: str, force: bool = False) -> None:
        """Run `ip -batch` in the lab's network namespace. Without a lab, do nothing."""
        inside = self.inside()
        if inside:
            network.ip(lines, prefix=inside, force=force)

    def inside(self) -> list[str]:
        """Return the command that runs another one in the lab's network namespace; empty without a lab."""
        pid = self.pid()
        return ["nsenter", f"--net=/proc/{pid}/ns/net", "--"] if pid else []

    def links(self, number: int) -> list[str]:
        """Return the names of a machine's links on the lab's bridge, stale ones included."""
        pid = self.pid()
        if not pid:
            return []
        done = subprocess.run(
            ["nsenter", f"--net=/proc/{pid}/ns/net", "--", "ip", "-o", "link", "show", "master", network.BRIDGE],
            text=True,
            capture_output=True,
        )
        names = [line.split(": ")[1].split("@")[0] for line in done.stdout.splitlines()]
        return [name for name in names if name.startswith(network.link_prefix(number))]

    def destroy(self) -> None:
        """Kill the init. The kernel then ends every process below it and removes their mounts and networks."""
        with locks.exclusive(self._state / "locks" / "lab"):
            pid = self.pid()
            if pid:
                kill_and_wait(pid, self.alive, self._settings.kill_deadline_s)
            self._let_go()
            self._held = -1
            cgroup.kill(self._cgroups, cgroup.LAB_INIT)  # this also ends an init whose state folder was removed
            self._cgroups.remove_lab(self._settings.kill_deadline_s)
            self.alive.unlink(missing_ok=True)
            (self._state / "locks" / "lab").unlink(missing_ok=True)

    def _spawn(self, lock: int) -> int:
        cgroup.kill(self._cgroups, cgroup.LAB_INIT)
        lab = plan.LabPlan(
            alive=str(self.alive),
            gateway=self.gateway,
            prefix_length=self.prefix_length,
            mtu=self._settings.mtu_bytes,
            cgroup_join=self._cgroups.join_lab(),
            held=self._held,
        )
        run_inside("lab_init", plan.dump(lab), keep=[lock, *([self._held] if self._held >= 0 else [])])
        pid = self.pid()
        if not pid:
            raise ProviderError("the lab's init ended right after its start")
        return pid


def _nothing() -> None:
    """Let go of nothing."""


def run_inside(program: str, argument: str, keep: list[int]) -> None:
    """Run a program of `inside` to its end. If it fails, ProviderError has its last line.

    It inherits the operation's lock, so the operation lasts as long as anything that it started.
    """
    done = subprocess.run(
        command(program, argument),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        pass_fds=keep,
        start_new_session=True,
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"{program} ended with status {done.returncode}"]
        raise ProviderError(lines[-1])


def open_init(alive: Path) -> tuple[int, int] | None:
    """Return (pid, pidfd) of the process that lives at `alive`, or None.

    The descriptor belongs to that very process, never to a later one.
    """
    pid = locks.holder(alive)
    if not pid:
        return None
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    if locks.holder(alive) == pid and not ended(pidfd):
        return pid, pidfd
    os.close(pidfd)
    return None


def ended(pidfd: int, wait_s: float = 0.0) -> bool:
    """Tell whether that process has ended. The init of a pid namespace has ended only when everything in the namespace has."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(wait_s * 1000))


def kill_and_wait(pid: int, alive: Path, deadline_s: float) -> None:
    """Send SIGKILL to the init at `alive`, and wait until nothing below it is left."""
    found = open_init(alive)
    if not found:
        return
    pid, pidfd = found
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        if not ended(pidfd, deadline_s):
            raise ProviderError(f"process {pid} does not end {deadline_s:g} s after SIGKILL")
    finally:
        os.close(pidfd)
