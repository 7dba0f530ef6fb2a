"""`flow.py serve POD PORT` answers, `flow.py ask POD ADDRESS PORT` measures; POD is a pod's uid, whose network is entered, or - for the minion itself.

A line on `ask`'s input is one measurement. It prints megabytes a second of one TCP stream, the median of a round trip of one byte, and that of a
connection with one round trip, both in microseconds.
"""

import ctypes
import socket
import statistics
import sys
import threading
import time

STREAM_S, TRIPS, CONNECTS = 1.5, 400, 60
BULK, TRIP = b"b", b"t"


def enter(pod):
    if pod != "-":
        libc = ctypes.CDLL(None, use_errno=True)
        with open(f"/var/lib/labctl/agent/pods/{pod}/ns/net") as namespace:
            if libc.setns(namespace.fileno(), 0x40000000):
                raise OSError(ctypes.get_errno(), "setns")


def serve(port):
    listening = socket.create_server(("", port), backlog=128)
    print("begun", flush=True)
    threading.Thread(target=accept, args=(listening,), daemon=True).start()
    sys.stdin.read()


def accept(listening):
    while True:
        connection = listening.accept()[0]
        threading.Thread(target=answer, args=(connection,), daemon=True).start()


def answer(connection):
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    kind, got, buffer = connection.recv(1), 0, bytearray(1 << 20)
    while size := connection.recv_into(buffer):
        got += size
        if kind == TRIP:
            connection.sendall(buffer[:size])
    if kind == BULK:
        connection.sendall(b"%d" % got)
    connection.close()


def connect(place, kind):
    connection = socket.create_connection(place, timeout=10)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.sendall(kind)
    return connection


def stream(place):
    """Counted when the other side has all of it."""
    data, begun = bytes(1 << 18), time.monotonic()
    with connect(place, BULK) as connection:
        while time.monotonic() - begun < STREAM_S:
            connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        return int(connection.recv(100)) / (time.monotonic() - begun) / 1e6


def trip(connection):
    begun = time.monotonic()
    connection.sendall(b"x")
    connection.recv(1)
    return (time.monotonic() - begun) * 1e6


def trips(place):
    with connect(place, TRIP) as connection:
        return statistics.median(trip(connection) for _ in range(TRIPS))


def connects(place):
    def once():
        begun = time.monotonic()
        with connect(place, TRIP) as connection:
            trip(connection)
        return (time.monotonic() - begun) * 1e6

    return statistics.median(once() for _ in range(CONNECTS))


mode, pod, *rest = sys.argv[1:]
enter(pod)
if mode == "serve":
    serve(int(rest[0]))
else:
    place = (rest[0], int(rest[1]))
    print("begun", flush=True)
    for _line in sys.stdin:
        print(stream(place), trips(place), connects(place), flush=True)
