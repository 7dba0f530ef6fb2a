"""A command in a container's own terminal, for `kubectl exec -t`: crun makes the terminal and hands it over, this program carries its bytes and its size.

Left to itself, crun 1.8 sets the terminal's size when the command starts and never again. So crun sends the terminal's other end through a socket
(`--console-socket`), and each time that the window of our own standard input changes, the container's terminal gets its size.
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import os
import select
import selectors
import shutil
import signal
import socket
import subprocess
import tempfile
import termios
import tty
from typing import Callable, Iterator, Mapping, Sequence

CHUNK_BYTES = 32 * 1024
DRAIN_MOST_CHUNKS = 32  # of a command that has ended; what others still write into its terminal is nobody's any more

Command = Callable[[str], Sequence[str]]
"""The argv of crun, given the path of the console socket."""


def run(command: Command, environment: Mapping[str, str], folder: str, inherit: int) -> int:
    """Runs it until it ends; answers its exit status. `folder` is where the socket may lie, `inherit` a descriptor that crun reads."""
    with _console_socket(folder) as (path, listener):
        crun = subprocess.Popen(list(command(path)), env=dict(environment), stdin=subprocess.DEVNULL, pass_fds=(inherit,))
        terminal = _accepted(listener, crun)
    if terminal is not None:
        _follow_window(terminal)
        with _raw_input():
            _pump(terminal, crun)
    return crun.wait()


@contextlib.contextmanager
def _console_socket(folder: str) -> Iterator["tuple[str, socket.socket]"]:
    place = tempfile.mkdtemp(prefix="console-", dir=folder)
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            path = os.path.join(place, "s")
            listener.bind(path)
            listener.listen(1)
            yield path, listener
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _accepted(listener: socket.socket, crun: "subprocess.Popen[bytes]") -> "int | None":
    """Return the terminal's end that crun sends, or None if crun ended without sending it and has said why."""
    ended = os.pidfd_open(crun.pid)
    try:
        with selectors.DefaultSelector() as selector:
            selector.register(listener, selectors.EVENT_READ)
            selector.register(ended, selectors.EVENT_READ)
            ready = {key.fileobj for key, _ in selector.select()}
        if listener not in ready:
            return None
        connection, _ = listener.accept()
        with connection:
            descriptors = array.array("i")
            _, ancillary, _, _ = connection.recvmsg(4096, socket.CMSG_SPACE(descriptors.itemsize))
            for _level, _type, data in ancillary:
                descriptors.frombytes(data[: descriptors.itemsize])
            return descriptors[0] if descriptors else None
    finally:
        os.close(ended)


def _follow_window(terminal: int) -> None:
    def tell(*_: object) -> None:
        with contextlib.suppress(OSError):  # our own input is no terminal, or the container's is gone
            fcntl.ioctl(terminal, termios.TIOCSWINSZ, fcntl.ioctl(0, termios.TIOCGWINSZ, b"\0" * 8))

    signal.signal(signal.SIGWINCH, tell)
    tell()


@contextlib.contextmanager
def _raw_input() -> Iterator[None]:
    """Keys go to the container as they are typed: its own terminal makes lines and signals of them."""
    if not os.isatty(0):
        yield
        return
    before = termios.tcgetattr(0)
    tty.setraw(0, termios.TCSANOW)  # the default flushes: what was typed while the command was started would be lost
    try:
        yield
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)


def _pump(terminal: int, crun: "subprocess.Popen[bytes]") -> None:
    """Both ways until the command ends or its terminal is closed. Output goes on while input waits for a command that does not read it."""
    os.set_blocking(terminal, False)
    ended = os.pidfd_open(crun.pid)
    typed, listening = b"", _can_be_waited_for(0)
    while True:
        readers = [terminal, ended] + ([0] if listening and not typed else [])
        readable, writable, _ = select.select(readers, [terminal] if typed else [], [])
        if terminal in readable and not _say(terminal):
            return
        if ended in readable:
            _drain(terminal)
            return
        if 0 in readable:
            typed = os.read(0, CHUNK_BYTES)
            listening = bool(typed)
        if terminal in writable:
            with contextlib.suppress(BlockingIOError):
                typed = typed[os.write(terminal, typed) :]


def _can_be_waited_for(descriptor: int) -> bool:
    """False for a closed descriptor: there is nobody at it."""
    try:
        os.fstat(descriptor)
        return True
    except OSError:
        return False


def _say(terminal: int) -> bool:
    """Passes on what the command said. False at the end: reading a terminal that everybody has closed is an error."""
    try:
        data = os.read(terminal, CHUNK_BYTES)
    except BlockingIOError:
        return True
    except OSError:
        return False
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(1, rest) :]
    return bool(data)


def _drain(terminal: int) -> None:
    """Read what the command wrote before it ended."""
    for _ in range(DRAIN_MOST_CHUNKS):
        if not select.select([terminal], [], [], 0)[0] or not _say(terminal):
            return
