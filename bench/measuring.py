"""What `labctl measure`'s load program costs its machine at 1,000 requests a second, beside the same by asyncio's streams at the same time.

Server and program talk over loopback. The shares are of one core, user and system time together: the kernel's part of connections is in them.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import msgspec

from bench.figures import Report
from bench.lab import BenchError
from labctl.measure import program
from labctl.measure.reader import SourceReader
from labctl.measure.summary import percentile

RATE, SECONDS, ROUNDS = 1_000, 3, 4
_REQUEST = "GET / HTTP/1.1\r\nHost: bench\r\nConnection: %s\r\n\r\n"
_SERVER = """
import socket, sys, threading
ANSWER = b"HTTP/1.1 200 OK\\r\\nServer: nginx/1.22.1\\r\\nContent-Type: text/plain\\r\\nContent-Length: 6\\r\\n%s\\r\\nweb-1\\n"
listening = socket.create_server(("127.0.0.1", 0), backlog=1024)
print(listening.getsockname()[1], flush=True)
def keep(connection):
    while connection.recv(4096):
        connection.sendall(ANSWER % b"")
while True:
    connection, _ = listening.accept()
    if b"close" in connection.recv(4096):
        connection.sendall(ANSWER % b"Connection: close\\r\\n")
        connection.close()
    else:
        connection.sendall(ANSWER % b"")
        threading.Thread(target=keep, args=(connection,), daemon=True).start()
"""
_ASYNCIO = """
import asyncio, sys, time
port, rate, count = map(int, sys.argv[1:])
async def one():
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\\r\\nHost: bench\\r\\nConnection: close\\r\\n\\r\\n")
    await reader.read()
    writer.close()
async def main():
    begun, cpu, tasks = time.monotonic(), time.process_time(), set()
    for number in range(count):
        await asyncio.sleep(max(0, begun + number / rate - time.monotonic()))
        task = asyncio.create_task(one())
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    await asyncio.gather(*tasks)
    print((time.process_time() - cpu) / (time.monotonic() - begun))
asyncio.run(main())
"""


def measure(report: Report) -> None:
    with _server() as port:
        for _ in range(ROUNDS):  # by turns, as a host's speed changes
            share, late_s = _program(port, RATE, "close")
            report.add("measure-cpu", share * 100, "of one core; the wait for the next request alone costs 4 %")
            report.add("measure-late", late_s * 1e6)
            report.add("measure-cpu-kept", _program(port, RATE, "keep-alive")[0] * 100)
            report.add("measure-cpu-200", _program(port, 200, "close")[0] * 100)
            report.add("measure-cpu-asyncio", _asyncio(port) * 100)


@contextlib.contextmanager
def _server() -> Iterator[int]:
    process = subprocess.Popen([sys.executable, "-I", "-c", _SERVER], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.communicate()


def _program(port: int, rate: int, connection: str) -> tuple[float, float]:
    """Runs the load program as it runs on a minion. Returns its share of a core, and how late half of its requests began."""
    settings = {
        "protocol": "http", "address": "127.0.0.1", "port": port, "request": _REQUEST % connection, "keepalive": connection != "close",
        "rate": rate, "count": rate * SECONDS, "deadline_s": 5.0, "in_flight": 1000,
    }  # fmt: skip
    source = SourceReader(rate * SECONDS, lambda text, there_s: None)
    process = subprocess.Popen([sys.executable, *program.ARGV[1:]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
    assert process.stdin and process.stdout
    try:
        process.stdin.write(program.packed() + msgspec.json.encode(settings) + b"\n")
        _read(process.stdout.read, source, lambda: source.facts is not None)
        process.stdin.write(b"begin %.7f\n" % (time.monotonic() + 0.1))
        _read(process.stdout.read, source, lambda: source.ended)
    finally:
        process.kill()
        process.communicate()
    failed = [record for record in source.records if record.outcome != "ok"]
    if failed:
        raise BenchError(f"{len(failed)} of {len(source.records)} requests failed: {failed[0].outcome}")
    return source.state.cpu, percentile(sorted(record.started for record in source.records), 0.5) / 1e6


def _read(read: Callable[[int], bytes], source: SourceReader, done: Callable[[], bool]) -> None:
    while not done():
        data = read(1 << 16)
        if not data:
            raise BenchError("the load program ended")
        source.feed(data)


def _asyncio(port: int) -> float:
    argv = [sys.executable, "-I", "-c", _ASYNCIO, str(port), str(RATE), str(RATE * SECONDS)]
    return float(subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60).stdout)
