"""The SSH process: `python -m labctl.remote.worker FD`, started by child.py with one end of a socket pair.

Its main thread reads what the master asks and hands it on; it never waits for a machine. Each machine has a Control (a thread) and its streams.
A mistake about one message or in one thread is told to the master (wire.Mistake) and costs nothing else.
The first message lets it enter the lab's network namespace as a whole, before any other thread is there. It ends when the master does: its socket closes.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any

from labctl.errors import RemoteError, Unreachable
from labctl.remote import wire
from labctl.remote.channels import ChannelStream
from labctl.remote.control import Control

RECEIVE_BYTES = 256 << 10
CLONE_NEWNET = 0x40000000
M_ARENA_MAX = -8  # malloc.h
M_MMAP_THRESHOLD = -3


class Worker:
    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._sending = threading.Lock()
        self._controls: dict[str, Any] = {}
        self._streams: dict[int, Any] = {}
        self._handlers: dict[type, Callable[[Any], None]] = {
            wire.Configure: self._configure,
            wire.Connect: self._connect,
            wire.Forget: self._forget,
            wire.Run: lambda m: self._ask(m, lambda control: control.run(m)),
            wire.Call: lambda m: self._ask(m, lambda control: control.call(m)),
            wire.ResetHelper: self._reset_helper,
            wire.Open: self._open,
            wire.Dial: self._open,
            wire.Input: lambda m: self._stream(m, lambda stream: stream.input(m.data)),
            wire.EndInput: lambda m: self._stream(m, lambda stream: stream.end_input()),
            wire.Resize: lambda m: self._stream(m, lambda stream: stream.resize(m.columns, m.rows)),
            wire.Credit: lambda m: self._stream(m, lambda stream: stream.credit(m.size)),
            wire.Close: lambda m: self._stream(m, lambda stream: stream.close()),
        }

    def serve(self) -> None:
        """Serve until the master closes its end."""
        frames = wire.Frames(wire.FromMaster)
        while data := self._socket.recv(RECEIVE_BYTES):
            for message in frames.feed(data):
                try:
                    self._handlers[type(message)](message)
                except Exception as error:  # our mistake, about one message: all other machines' must be served
                    self._mistaken(message, error)

    def _mistaken(self, message: Any, error: Exception) -> None:
        self.mistake(type(message).__name__, error)
        if isinstance(message, wire.Connect | wire.Run | wire.Call | wire.Open | wire.Dial):
            self.send(wire.failure(message.id, error))

    def mistake(self, where: str, error: BaseException) -> None:
        """Tell the master of an error that nobody expected; its traceback goes to the master's log."""
        traceback.print_exception(error)
        self.send(wire.Mistake(where, wire.printable(f"{type(error).__name__}: {error}", 500)))

    def send(self, message: wire.Message) -> None:
        """Send from any thread; waits while the master does not read."""
        data = wire.frame(message)
        with self._sending:
            try:
                self._socket.sendall(data)
            except OSError:
                os._exit(0)  # the master is gone

    def _configure(self, message: wire.Configure) -> None:
        if message.network_namespace:
            try:
                enter_network_namespace(message.network_namespace)
            except OSError:  # no machine could be reached: the master starts another process
                traceback.print_exc()
                os._exit(1)
        self._settings = message.settings

    def _connect(self, message: wire.Connect) -> None:
        name = message.target.name
        control = self._controls.get(name)
        if control and control.target != message.target:
            _in_a_thread(control.close)
            control = None
        if not control:
            control = self._controls[name] = Control(message.target, self._settings, self.send, self.mistake)
        control.connect(message.id)

    def _forget(self, message: wire.Forget) -> None:
        control = self._controls.pop(message.name, None)
        if control:
            _in_a_thread(control.close)

    def _reset_helper(self, message: wire.ResetHelper) -> None:
        if control := self._controls.get(message.name):
            control.reset_helper()

    def _ask(self, message: Any, ask: Callable[[Any], None]) -> None:
        control = self._controls.get(message.name)
        if control:
            ask(control)
        else:
            self.send(_unknown(message.id, message.name))

    def _open(self, message: wire.Open | wire.Dial) -> None:
        control = self._controls.get(message.name)
        if not control:
            self.send(_unknown(message.id, message.name))
            return
        stream = ChannelStream(message, control.channels, self._settings, self.send, self.mistake)
        self._streams[message.id] = stream
        stream.start(lambda: self._streams.pop(message.id, None))

    def _stream(self, message: Any, tell: Callable[[Any], None]) -> None:
        stream = self._streams.get(message.id)
        if stream:  # else it has just ended, and the master hears of that
            tell(stream)


def _in_a_thread(work: Callable[[], None]) -> None:
    """Run in a thread what may wait for a machine."""
    threading.Thread(target=work, daemon=True).start()


def _unknown(id_: int, name: str) -> wire.Failure:
    error: RemoteError = Unreachable(f"{name}: no such machine is known to the SSH process")
    return wire.failure(id_, error)


def enter_network_namespace(path: str) -> None:
    """Call setns(2), because Python 3.11 has no os.setns. The calling thread moves, and threads started later begin there."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if libc.setns(descriptor, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"entering the network namespace {path}: {os.strerror(ctypes.get_errno())}")
    finally:
        os.close(descriptor)


def _save_memory() -> None:
    """Limit glibc's heaps. Otherwise each thread has a half-empty one of its own, and keeps what an agent's upload used."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        mallopt(M_ARENA_MAX, 2)
        mallopt(M_MMAP_THRESHOLD, 128 << 10)  # as it begins; else it grows with every large block that is freed
    threading.stack_size(512 << 10)


def main(arguments: list[str]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the master, which closes the socket
    _save_memory()
    worker = Worker(socket.socket(fileno=int(arguments[0])))
    threading.excepthook = lambda told: worker.mistake(told.thread.name if told.thread else "a thread", told.exc_value or told.exc_type())
    worker.serve()
    os._exit(0)  # threads that wait for machines end with the process


if __name__ == "__main__":
    main(sys.argv[1:])
