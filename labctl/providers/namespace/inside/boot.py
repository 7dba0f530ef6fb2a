"""`boot` becomes one machine: pid 1 in namespaces of its own, below the lab's init, then tini, a shell that keeps sshd running, and sshd.

    this process (joins the lab's network, makes the link, later waits for sshd's banner)
      └─ a process in the lab's pid namespace (joins the machine's cgroup, unshares the rest)
           └─ the machine's init (root file system, capabilities, exec)

If a step fails, it prints one line on standard error and exits with 1. If one of the processes is killed, the others end or complete by
themselves: only the init holds `alive`, and the operation's lock is inherited until the init executes tini.
"""

from __future__ import annotations

import os
import resource
import socket
import sys
import time

from labctl.providers import locks
from labctl.providers.namespace import network
from labctl.providers.namespace.inside import filter, kernel, plan, rootfs

_OF_ITS_OWN = kernel.CLONE_NEWPID | kernel.CLONE_NEWNS | kernel.CLONE_NEWUTS | kernel.CLONE_NEWIPC | kernel.CLONE_NEWCGROUP
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_RESUME = "/opt/labctl/agent-resume"
_OPEN_FILES = 65_536  # pods inherit the limit, and a login's 1024 is too low for them
_KEEP_SSHD = """
fast=0
while :; do
    began=$(date +%s)
    /usr/sbin/sshd -D -e
    status=$?
    if [ $(($(date +%s) - began)) -ge 2 ]; then fast=0; else fast=$((fast + 1)); fi
    [ "$fast" -lt 5 ] || exit "$status"
    sleep 0.1
done
"""
"""Starts sshd again whenever it ends, however it was killed. If it can't be started (it ends at once five times), the machine ends."""
_INIT = [
    "/usr/bin/tini",
    "--",
    "/bin/sh",
    "-c",
    _KEEP_SSHD,
    plan.SSHD_KEEPER,
]  # tini does not close inherited descriptors, so it still holds `alive`


def main(arguments: list[str]) -> int:
    kernel.close_all_on_exec()
    with open(arguments[0]) as file:
        boot = plan.load_boot(file.read())
    try:
        _boot(boot)
    except OSError as error:
        print(error, file=sys.stderr)  # noqa: T201 - a program of its own: standard error is how it answers
        return 1
    return 0


def _boot(boot: plan.BootPlan) -> None:
    lab_pids = os.open(f"/proc/{boot.lab_init}/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    lab_net = os.open(f"/proc/{boot.lab_init}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    _make_link(boot, lab_net)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _below_the_lab(boot, lab_pids, writing)
    os.close(writing)
    kernel.setns(lab_net, kernel.CLONE_NEWNET)
    with os.fdopen(reading) as pipe:
        failure = pipe.read()  # the pipe ends when the init executes tini, or dies
    os.waitpid(child, 0)
    if failure:
        raise OSError(failure)
    _wait_for_banner(boot)


def _make_link(boot: plan.BootPlan, lab_net: int) -> None:
    """Link this process's network to the lab's bridge. On return, this process is in the machine's new network namespace."""
    kernel.unshare(kernel.CLONE_NEWNET)
    own_net = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    kernel.setns(lab_net, kernel.CLONE_NEWNET)
    network.ip(network.link_lines(boot.link, boot.address, boot.mtu, f"/proc/self/fd/{own_net}"), pass_fds=[own_net])
    kernel.setns(own_net, kernel.CLONE_NEWNET)
    os.close(own_net)
    network.ip(network.machine_lines(boot.address, boot.prefix_length, boot.gateway))
    for name, value in network.FORWARDING:
        _write(f"/proc/sys/{name}", value)


def _below_the_lab(boot: plan.BootPlan, lab_pids: int, writing: int) -> None:
    """Start the machine's init from a process in the lab's pid namespace, because only such a process can make a pid namespace below it."""
    try:
        kernel.setns(lab_pids, kernel.CLONE_NEWPID)
        child = os.fork()
        if child:
            os.waitpid(child, 0)
            os._exit(0)
        _write_all(boot.cgroup.join, "0")
        kernel.unshare(_OF_ITS_OWN)
        _write_all(boot.cgroup.init, "0")
        for path, value in boot.cgroup.after:
            _write(path, value)
        if os.fork():
            os._exit(0)
        _become_init(boot)
    except BaseException as error:
        os.write(writing, f"{boot.name}: {error}".encode())
        os._exit(1)


def _become_init(boot: plan.BootPlan) -> None:
    os.setsid()
    if locks.hold(f"{boot.folder}/alive") is None:
        raise OSError("another init of this machine is alive")
    socket.sethostname(boot.name)
    console = os.open(f"{boot.folder}/console.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    rootfs.enter(boot)
    quiet = os.open("/dev/null", os.O_RDONLY)
    for fd, source in enumerate((quiet, console, console)):
        os.dup2(source, fd)
    rootfs.drop_capabilities()
    filter.refuse_host_calls(boot.cgroup.refused)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, _OPEN_FILES)), hard))
    environment = {"PATH": _PATH, "container": "labctl"}
    if boot.resume and os.access(_RESUME, os.X_OK):
        _start_aside([_RESUME], environment)
    os.execve(_INIT[0], _INIT, environment)


def _start_aside(argv: list[str], environment: dict[str, str]) -> None:
    """Start a program as the init's child, with no descriptor but the standard ones, so that it does not hold `alive`."""
    if os.fork() == 0:
        try:
            os.setsid()
            os.closerange(3, _OPEN_FILES)
            os.execve(argv[0], argv, environment)
        finally:
            os._exit(127)


def _wait_for_banner(boot: plan.BootPlan) -> None:
    deadline = time.monotonic() + boot.deadline_s
    while time.monotonic() < deadline:
        try:
            with socket.create_connection((boot.address, 22), timeout=2) as connection:
                if connection.recv(8).startswith(b"SSH-"):
                    return
        except OSError:
            pass
        if not locks.holder(f"{boot.folder}/alive"):
            raise OSError(f"{boot.name}: its init ended before sshd answered; see {boot.folder}/console.log")
        time.sleep(0.003)
    raise OSError(f"{boot.name}: sshd did not answer within {boot.deadline_s:g} s; see {boot.folder}/console.log")


def _write_all(paths: list[str], value: str) -> None:
    for path in paths:
        _write(path, value)


def _write(path: str, value: str) -> None:
    with open(path, "w") as file:
        file.write(value)
