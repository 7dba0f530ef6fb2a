"""To a running container's own streams, through conmon's socket: packets that begin with 2 (stdout) or 3 (stderr); what we send is its standard input."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import socket
import struct
import sys
import termios

PACKET_BYTES = 32 * 1024 + 1


def attach(bundle: str, tty: bool, ends_with_input: bool) -> None:
    """Serve until the container closes its streams, or the client is gone; with `ends_with_input`, also until the client's standard input ends."""
    folder = os.open(bundle, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    channel = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    channel.connect(f"/proc/self/fd/{folder}/attach")  # the path itself may be longer than a socket's may be
    if tty:
        _follow_window(bundle)
    with channel, select.epoll() as epoll:
        epoll.register(channel, select.EPOLLIN)
        with contextlib.suppress(PermissionError):  # a file: nobody stops reading that
            epoll.register(1, 0)
        with contextlib.suppress(PermissionError):  # a file or nothing: it can't be waited for, and there is no person at it
            epoll.register(0, select.EPOLLIN)
        _pump(epoll, channel, ends_with_input)


def _pump(epoll: select.epoll, channel: socket.socket, ends_with_input: bool) -> None:
    outputs = {2: sys.stdout.buffer, 3: sys.stderr.buffer}
    while True:
        for descriptor, _ in epoll.poll():
            if descriptor == channel.fileno():
                packet = channel.recv(PACKET_BYTES)
                if not packet:
                    return
                output = outputs.get(packet[0])
                if output:
                    output.write(packet[1:])
                    output.flush()
            elif descriptor == 1:  # the client is gone, and a silent container would never tell
                return
            else:
                typed = os.read(0, PACKET_BYTES - 1)
                if typed:
                    channel.sendall(typed)
                elif ends_with_input:  # conmon still reads what was sent, though this end is closed
                    return
                else:
                    epoll.unregister(0)
                    channel.shutdown(socket.SHUT_WR)


def _follow_window(bundle: str) -> None:
    def tell(*_: object) -> None:
        try:
            rows, columns, _, _ = struct.unpack("HHHH", fcntl.ioctl(0, termios.TIOCGWINSZ, b"\0" * 8))
            with open(os.path.join(bundle, "ctl"), "w", encoding="ascii") as control:
                control.write(f"1 {rows} {columns}\n")
        except OSError:
            pass  # no terminal on this side

    signal.signal(signal.SIGWINCH, tell)
    tell()
