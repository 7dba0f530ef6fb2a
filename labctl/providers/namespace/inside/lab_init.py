"""`lab_init` becomes the lab's init: pid 1 of a pid namespace that contains those of all machines. `destroy` kills it.

The parent returns when the lab's network is ready; the child then only sleeps. It ignores SIGCHLD, which stays so across exec, so the
kernel reaps orphans that become its children. If the lab has an init already, it is left as it is. A kill at any step leaves
either no process or one that completes by itself.
"""

from __future__ import annotations

import os
import signal
import sys

from labctl.providers import locks
from labctl.providers.namespace import network
from labctl.providers.namespace.inside import kernel, plan


def main(arguments: list[str]) -> int:
    kernel.close_all_on_exec()
    lab = plan.load_lab(arguments[0])
    try:
        if lab.held >= 0:
            kernel.setns(lab.held, kernel.CLONE_NEWNET)
        kernel.unshare(kernel.CLONE_NEWPID | kernel.CLONE_NEWNS | (0 if lab.held >= 0 else kernel.CLONE_NEWNET))
    except OSError as error:
        print(error, file=sys.stderr)  # noqa: T201 - a program of its own: standard error is how it answers
        return 1
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.close(reading)
        _become_init(lab, writing)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        failure = pipe.read()
    if failure:
        print(failure, file=sys.stderr)  # noqa: T201
    return 1 if failure else 0


def _become_init(lab: plan.LabPlan, writing: int) -> None:
    try:
        os.setsid()
        for procs in lab.cgroup_join:
            _write(procs, "0")
        if locks.hold(lab.alive) is None:
            os._exit(0)
        kernel.mount("", "/", flags=kernel.MS_REC | kernel.MS_SLAVE)
        kernel.mount("proc", "/proc", "proc", kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC)
        if lab.held < 0:
            network.ip(network.lab_lines(lab.gateway, lab.prefix_length, lab.mtu))
            for name, value in network.FORWARDING:
                _write(f"/proc/sys/{name}", value)
        quiet = os.open("/dev/null", os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(quiet, fd)
        os.chdir("/")
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        os.execvpe("sleep", ["sleep", "infinity"], {"PATH": "/usr/bin:/bin"})
    except BaseException as error:
        os.write(writing, f"the lab's init: {error}".encode())
        os._exit(1)


def _write(path: str, value: str) -> None:
    with open(path, "w") as file:
        file.write(value)
