"""`exec`, `attach`, `logs` and `forward`: run over SSH by the master, for `kubectl exec|attach|logs|port-forward`. They read the machine; the agent need not run.

Standard input and output are the container's; `logs` writes what the container said on either to its output, in the order it was said. What goes wrong
here goes to standard error with status 125 (this tool), 126 (can't be run) or 127 (not found).
"""

from __future__ import annotations

import argparse
import os
import sys
import time

from . import settings as settings_
from .runtime.interface import Container, State
from .runtime.records import Records, read_json
from .times import parse

FAILED, NOT_RUNNABLE, NOT_FOUND = 125, 126, 127


class Failure(Exception):
    def __init__(self, message: str, status: int = FAILED) -> None:
        super().__init__(message)
        self.status = status


def stream(arguments: argparse.Namespace) -> int:
    try:
        config = settings_.read(arguments.config) if os.path.exists(arguments.config) else settings_.Settings("", "", "", "", "")
        return {"exec": _exec, "attach": _attach, "logs": _logs, "forward": _forward}[arguments.command](arguments, config)
    except Failure as failure:
        print(failure, file=sys.stderr)
        return failure.status
    except settings_.BadSettings as error:
        print(error, file=sys.stderr)
        return FAILED


def _container(config: settings_.Settings, pod: str, name: str) -> Container:
    _must_be_uid(pod)
    found = Records(config.state_dir).pod(pod).latest(name)
    if found is None:
        raise Failure(f"container {name} not found in pod {pod}")
    return found


def _must_be_uid(pod: str) -> None:
    if not pod.replace("-", "").isalnum():
        raise Failure(f"{pod!r} is no pod uid")


def _running(config: settings_.Settings, arguments: argparse.Namespace) -> Container:
    container = _container(config, arguments.pod, arguments.container)
    if container.state is not State.RUNNING:
        raise Failure(f"container {container.name} is not running")
    return container


def _exec(arguments: argparse.Namespace, config: settings_.Settings) -> int:
    from .runtime.conmon import crun_argv, environment
    from .runtime.execs import be_killable, process_file

    argv = arguments.argv[1:] if arguments.argv[:1] == ["--"] else arguments.argv
    if not argv:
        raise Failure("you must specify at least one command for the container")
    container = _running(config, arguments)
    _must_be_runnable(container, argv[0])
    bundle = Records(config.state_dir).bundle(container.pod_uid, container.name, container.attempt)
    process = process_file(bundle, argv, arguments.tty)
    os.set_inheritable(process, True)

    def command(*options: str) -> "list[str]":
        root = os.path.join(config.run_dir, "crun")
        return crun_argv(root, "exec", "--process", f"/proc/self/fd/{process}", *options, container.id)

    be_killable(bundle)
    sys.stdout.flush()
    if not arguments.tty:
        os.execve(command()[0], command(), environment())
    from . import terminal

    return terminal.run(lambda path: command("--console-socket", path), environment(), config.run_dir, process)


def _must_be_runnable(container: Container, program: str) -> None:
    """Check that the program exists. For crun a missing program is an exit status like any other; container tools answer 127."""
    root = f"/proc/{container.pid}/root"
    if "/" in program:
        candidates = [program]
    else:
        path = _environment(container.pid).get("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        candidates = [f"{folder}/{program}" for folder in path.split(":") if folder]
    for each in candidates:
        if not each.startswith("/"):
            return  # relative to the working directory: crun knows better
        if _exists_inside(root, each):
            return
    where = f"stat {program}: no such file or directory" if "/" in program else "executable file not found in $PATH"
    raise Failure(f'OCI runtime exec failed: exec failed: unable to start container process: exec: "{program}": {where}', NOT_FOUND)


def _exists_inside(root: str, path: str) -> bool:
    """Tell whether the path exists for a process with that root folder. Links are followed as the container would."""
    at, todo, followed = root, list(reversed(path.split("/"))), 0
    while todo:
        part = todo.pop()
        if part in ("", "."):
            continue
        if part == "..":
            at = at if at == root else os.path.dirname(at)
            continue
        at = f"{at}/{part}"
        if os.path.islink(at) and followed < 40:
            followed += 1
            link = os.readlink(at)
            at = root if link.startswith("/") else os.path.dirname(at)
            todo += reversed(link.split("/"))
    return os.path.exists(at)


def _environment(pid: int) -> "dict[str, str]":
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return dict(each.decode(errors="replace").partition("=")[::2] for each in file.read().split(b"\0") if each)
    except OSError:
        return {}


def _attach(arguments: argparse.Namespace, config: settings_.Settings) -> int:
    from .attach import attach

    container = _running(config, arguments)
    bundle = Records(config.state_dir).bundle(container.pod_uid, container.name, container.attempt)
    attach(bundle, arguments.tty, _keeps_input_open(bundle))
    return 0


def _keeps_input_open(bundle: str) -> bool:
    """Tell whether the container's standard input stays open for later clients. Then an attachment has nothing to wait for when its client's ends.

    So it is in containerd: only with `stdinOnce` does a client read on to the container's end.
    """
    asked = read_json(os.path.join(bundle, "container.json")) or {}
    return bool(asked.get("stdin")) and not asked.get("stdin_once")


def _forward(arguments: argparse.Namespace, config: settings_.Settings) -> int:
    from .forward import Refused, forward

    _must_be_uid(arguments.pod)
    try:
        forward(config.state_dir, arguments.pod, arguments.port)
    except Refused as refused:
        raise Failure(str(refused)) from refused
    return 0


def _logs(arguments: argparse.Namespace, config: settings_.Settings) -> int:
    from .logs import LogRequest, read
    from .readers import wait_while_read

    records = Records(config.state_dir)
    container = _container(config, arguments.pod, arguments.container)
    if arguments.previous:
        ended = [each for each in records.pod(arguments.pod).containers if each.name == container.name and each.attempt < container.attempt]
        if not ended:
            raise Failure(f'previous terminated container "{container.name}" in pod "{arguments.pod}" not found')
        container = ended[-1]

    def alive() -> bool:
        now = records.container(container.pod_uid, container.name, container.attempt)
        return now is not None and now.state is State.RUNNING

    request = LogRequest(arguments.tail, _since(arguments), arguments.timestamps, arguments.follow, arguments.limit_bytes)
    output = sys.stdout.buffer

    def sleep(seconds: float) -> None:
        """Waits for more log; what is there goes out first. A silent container's log must end with its reader, too."""
        output.flush()
        wait_while_read(seconds)

    for piece in read(container.log_path, request, alive, sleep):
        output.write(piece)
    output.flush()
    return 0


def _since(arguments: argparse.Namespace) -> float:
    if arguments.since_seconds is not None:
        return time.time() - arguments.since_seconds
    try:
        return parse(arguments.since_time)
    except ValueError:
        raise Failure(f"--since-time {arguments.since_time!r} is no RFC 3339 time") from None
