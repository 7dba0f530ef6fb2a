"""The load program as it runs on a minion, against servers of our own on loopback: every request that was intended has exactly one record, whatever happens to it."""

import contextlib
import os
import queue
import random
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import msgspec
import pytest

from labctl.measure import program, reader
from labctl.measure.clocks import ClockComparison
from labctl.measure.load import engine, streams
from labctl.measure.reader import BadLine, SourceReader

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n%s\r\nweb-1\n"
CLOSE = ANSWER % b"Connection: close\r\n"


class Server:
    """Answers each connection by `serve(connection, number)` in a thread of its own; keeps what it does not close."""

    def __init__(self, serve, backlog: int = 128) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=backlog)
        self.port = self._socket.getsockname()[1]
        self.connections: list[socket.socket] = []
        self._serve = serve
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                self.connections.append(connection)
                threading.Thread(target=self._one, args=(connection, len(self.connections)), daemon=True).start()

    def _one(self, connection: socket.socket, number: int) -> None:
        with contextlib.suppress(OSError):
            self._serve(connection, number)

    def close(self) -> None:
        self._socket.close()
        for connection in self.connections:
            connection.close()


@pytest.fixture
def server():
    made: list[Server] = []

    def make(serve) -> Server:
        made.append(Server(serve))
        return made[-1]

    yield make
    for each in made:
        each.close()


class Program:
    """The load program as a process, read as labctl reads it."""

    def __init__(self, port: int, python: str = sys.executable, **settings) -> None:
        self.settings = {
            "protocol": "http", "address": "127.0.0.1", "port": port, "request": "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
            "keepalive": False, "rate": 200.0, "count": 40, "deadline_s": 5.0, "in_flight": 1000, **settings,
        }  # fmt: skip
        self.reader = SourceReader(self.settings["count"], lambda text, there_s: self.clocks.append((text, there_s)))
        self.clocks: list[tuple[str, float]] = []
        self.process = subprocess.Popen([python, *program.ARGV[1:]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        self.say(program.packed() + msgspec.json.encode(self.settings) + b"\n")
        self.until(lambda: self.reader.facts or self.reader.refusal)

    def say(self, data: bytes) -> None:
        self.process.stdin.write(data)

    def until(self, done, timeout_s: float = 30.0) -> None:
        deadline = time.monotonic() + timeout_s
        while not done():
            assert time.monotonic() < deadline
            if select.select([self.process.stdout], [], [], 0.2)[0]:
                data = os.read(self.process.stdout.fileno(), 1 << 16)
                assert data or done(), "it ended"
                self.reader.feed(data)

    def begin(self) -> None:
        self.begin_s = round(time.monotonic() + 0.02, 7)
        self.say(b"begin %.7f\n" % self.begin_s)

    def requests(self) -> list[reader.Request]:
        """Begins, waits for the end, and returns every request."""
        self.begin()
        return self.rest()

    def rest(self) -> list[reader.Request]:
        self.until(lambda: self.reader.ended)
        numbers = sorted(record.number for record in self.reader.records)
        assert numbers == list(range(len(numbers)))
        return list(
            reader.requests("m", self.reader, self.begin_s, self.settings["rate"], ClockComparison(same=True), lambda who, at_s: who)
        )


@pytest.fixture
def load():
    made: list[Program] = []

    def make(port: int, **settings) -> Program:
        made.append(Program(port, **settings))
        return made[-1]

    yield make
    for each in made:
        each.process.stdin.close()
        each.process.stdout.close()
        assert each.process.wait(10) == 0


def outcomes(requests) -> set[str]:
    return {request.outcome for request in requests}


def answer(connection: socket.socket, _number: int) -> None:
    connection.recv(4096)
    connection.sendall(CLOSE)
    connection.close()


def test_answers_are_recorded_with_their_phases_and_who_gave_them(server, load):
    requests = load(server(answer).port).requests()
    assert len(requests) == 40 and outcomes(requests) == {"ok"}
    for request in requests:
        assert request.intended_s <= request.started_s <= request.connected_s <= request.first_byte_s <= request.ended_s
        assert (request.status, request.answered_by) == (200, "web-1")
    intended = [request.intended_s for request in requests]
    assert intended == pytest.approx([intended[0] + number / 200 for number in range(40)], abs=1e-5)


def test_nobody_listens(load):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert outcomes(load(port).requests()) == {"refused"}


def test_a_reset_and_an_end_without_an_answer(server, load):
    def reset(connection: socket.socket, _number: int) -> None:
        connection.recv(4096)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        connection.close()

    def leave(connection: socket.socket, _number: int) -> None:
        connection.recv(4096)
        connection.close()

    assert outcomes(load(server(reset).port).requests()) == {"reset"}
    assert outcomes(load(server(leave).port).requests()) == {"reset"}


@pytest.mark.parametrize(
    "said, outcome, status",
    [
        (b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", "bad-status", 503),
        (b"HTTP/1.1 204 None\r\n\r\n", "ok", 204),
        (b"HTTP/1.1 200 OK\r\n\r\nto the end", "ok", 200),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly a part", "bad-answer", 0),
        (b"HTTP/1.1 200 OK\r\nContent-Le", "bad-answer", 0),
        (b"220 mail.example ESMTP\r\n\r\n", "bad-answer", 0),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", "ok", 200),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel", "bad-answer", 0),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n", "bad-answer", 0),
        (b"HTTP/1.1 200 " + b"x" * 100_000, "bad-answer", 0),
    ],
)
def test_what_counts_as_an_answer(server, load, said, outcome, status):
    def say(connection: socket.socket, _number: int) -> None:
        connection.recv(4096)
        for piece in (said[:20], said[20:]):  # an answer may come in any pieces
            connection.sendall(piece)
        connection.shutdown(socket.SHUT_WR)
        connection.recv(1)

    requests = load(server(say).port, count=5, rate=100.0).requests()
    assert {(request.outcome, request.status) for request in requests} == {(outcome, status)}


def test_a_server_that_says_nothing_is_a_timeout_after_the_deadline(server, load):
    silent = server(lambda connection, _number: None)
    requests = load(silent.port, count=20, deadline_s=0.3).requests()
    assert outcomes(requests) == {"timeout"}
    assert all(0.3 <= request.ended_s - request.started_s < 3 and request.connected_s and not request.first_byte_s for request in requests)


def test_a_stall_does_not_hide_the_requests_that_were_due_meanwhile(server, load):
    """Coordinated omission: a client that waits for its answer would send one request during the stall."""
    free = threading.Event()

    def stall(connection: socket.socket, number: int) -> None:
        connection.recv(4096)
        if number >= 10:
            assert free.wait(20)
        connection.sendall(CLOSE)
        connection.close()

    running = load(server(stall).port, count=100)
    threading.Timer(0.4, free.set).start()
    requests = running.requests()
    slow = [request for request in requests if request.ended_s - request.intended_s > 0.1]
    assert outcomes(requests) == {"ok"} and len(requests) == 100 and len(slow) > 30


def test_what_can_not_be_sent_is_unsent_and_not_forgotten(server, load):
    silent = server(lambda connection, _number: None)
    requests = load(silent.port, count=60, in_flight=10, deadline_s=1.5).requests()
    assert len(requests) == 60 and outcomes(requests) == {"timeout", "unsent"}
    assert [request.outcome for request in requests].count("timeout") == 10
    assert all(request.ended_s and not request.started_s for request in requests if request.outcome == "unsent")
    assert all(b"connected_s" not in msgspec.json.encode(request) for request in requests if request.outcome == "unsent")


def test_a_program_that_stood_still_reports_what_was_due_meanwhile_as_unsent(server, load):
    running = load(server(answer).port, count=400)
    running.begin()
    running.until(lambda: len(running.reader.records) > 20)
    running.process.send_signal(signal.SIGSTOP)
    begun = time.monotonic()
    threading.Timer(1.5, running.process.send_signal, [signal.SIGCONT]).start()
    requests = running.rest()
    lasted = time.monotonic() - begun
    unsent = sum(request.outcome == "unsent" for request in requests)
    assert len(requests) == 400 and outcomes(requests) == {"ok", "unsent"} and 50 < unsent < lasted * 200
    assert not reader.summarized("m", running.reader, 0.0, ClockComparison(same=True), "").kept_up


def test_what_was_answered_while_the_program_stood_still_is_no_timeout(server, monkeypatch):
    """A busy host: after it began a request the program is not given the processor for longer than that may take. The answer waits in its socket."""
    read_end, write_end = os.pipe()
    answering = server(answer)
    settings = engine.Settings({
        "protocol": "http", "address": "127.0.0.1", "port": answering.port, "request": "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        "keepalive": False, "rate": 200.0, "count": 1, "deadline_s": 5.0, "in_flight": 10,
    })  # fmt: skip
    told = Told()
    running = engine.Engine(settings, streams.Input(read_end), told)
    running.command(f"begin {time.monotonic():.7f}", 0.0)
    stood_still_s = 0.0
    monkeypatch.setattr(engine, "clock", lambda: time.monotonic() + stood_still_s)
    begin = running.begin_due

    def begin_and_stand_still() -> None:
        nonlocal stood_still_s
        begin()
        if running.links and not stood_still_s:
            assert select.select(list(running.links), [], [], 20)[0], "the answer is there"
            stood_still_s = 10.0

    monkeypatch.setattr(running, "begin_due", begin_and_stand_still)
    running.run()
    os.close(read_end)
    os.close(write_end)
    assert [line.split()[6] for line in told.lines if line.startswith("r ")] == ["o"] and stood_still_s


def test_an_answer_that_waited_for_the_program_counts_from_when_it_came(server, load):
    """At high rates nobody is woken for an answer: the kernel notes when it came, also while the program is not given the processor."""

    def later(connection: socket.socket, _number: int) -> None:
        connection.recv(4096)
        time.sleep(0.05)
        connection.sendall(CLOSE)
        connection.close()

    running = load(server(later).port, count=1000, rate=1000.0)
    running.begin()
    running.until(lambda: len(running.reader.records) > 20)
    running.process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, running.process.pid, os.WSTOPPED)
    stopped_s = time.monotonic()
    time.sleep(0.8)
    continued_s = time.monotonic()
    running.process.send_signal(signal.SIGCONT)
    meanwhile = [request for request in running.rest() if stopped_s < request.ended_s < continued_s]
    assert meanwhile and outcomes(meanwhile) == {"ok"}


class Told:
    """The program's output, kept."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def flush(self) -> None:
        """Nobody reads along."""

    close = flush


def keep(connection: socket.socket, _number: int) -> None:
    while connection.recv(4096):
        connection.sendall(ANSWER % b"")


@pytest.mark.parametrize("rate", [200.0, 1000.0])
def test_kept_connections_are_used_again(server, load, rate):
    keeping = server(keep)
    requests = load(keeping.port, keepalive=True, count=400, rate=rate).requests()
    assert outcomes(requests) == {"ok"} and len(keeping.connections) < 200


def test_a_kept_connection_that_the_server_closes_costs_no_request(server, load):
    """A server may close what idles while the next request is on its way (RFC 9110, 9.2.2)."""

    def once(connection: socket.socket, _number: int) -> None:
        connection.recv(4096)
        connection.sendall(ANSWER % b"")
        connection.recv(4096)  # and ends with the next request unanswered
        connection.close()

    requests = load(server(once).port, keepalive=True, count=50, rate=100.0).requests()
    assert outcomes(requests) == {"ok"}


def test_connecting_alone(server, load):
    requests = load(server(lambda connection, _number: None).port, protocol="tcp", request="").requests()
    assert outcomes(requests) == {"ok"} and all(request.connected_s for request in requests)


@pytest.mark.parametrize("rate", [200.0, 1000.0])
@pytest.mark.parametrize("keepalive", [False, True])
def test_datagrams(load, keepalive, rate):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as echo:
        echo.bind(("127.0.0.1", 0))

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    data, sender = echo.recvfrom(4096)
                    if data == b"end":
                        return
                    echo.sendto(data, sender)

        thread = threading.Thread(target=serve)
        thread.start()
        requests = load(echo.getsockname()[1], protocol="udp", request="hello", keepalive=keepalive, rate=rate).requests()
        echo.sendto(b"end", echo.getsockname())
        thread.join()
        port = echo.getsockname()[1]
    assert outcomes(requests) == {"ok"}
    assert outcomes(load(port, protocol="udp", request="hello", keepalive=keepalive, rate=rate).requests()) == {"refused"}


@pytest.mark.parametrize("keepalive", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_whatever_a_server_does_every_request_has_one_record(server, load, seed, keepalive):
    """`rest` compares the numbers of the records with those that were intended; the reader refuses a second record, and times that run backwards."""
    draw = random.Random(seed)
    deeds = ("answer", "keep", "half", "reset", "silent", "noise", "slow", "two answers", "close")

    def misbehave(connection: socket.socket, _number: int) -> None:
        while connection.recv(4096):
            deed = draw.choice(deeds)
            time.sleep(draw.random() * 0.05 if deed == "slow" else 0)
            said = {
                "half": CLOSE[:30],
                "noise": draw.randbytes(200),
                "two answers": ANSWER * 2 % (b"", b""),
                "keep": ANSWER % b"",
                "slow": ANSWER % b"",
            }
            connection.sendall(said.get(deed, CLOSE if deed == "answer" else b""))
            if deed == "reset":
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            if deed not in ("keep", "slow", "silent", "two answers"):
                connection.close()
                return

    requests = load(
        server(misbehave).port, count=200, rate=400.0 if seed < 2 else 1000.0, deadline_s=0.5, in_flight=60, keepalive=keepalive
    ).requests()
    assert len(requests) == 200 and {"ok", "bad-answer", "timeout"} <= outcomes(requests)


def test_stop_before_the_beginning_sends_nothing(server, load):
    running = load(server(answer).port)
    running.begin_s = time.monotonic() + 60
    running.say(b"begin %.7f\nstop\n" % running.begin_s)
    assert running.rest() == []


def test_stop_ends_it_in_order_and_every_request_begun_has_its_record(server, load):
    running = load(server(answer).port, count=100_000)
    running.begin()
    running.until(lambda: len(running.reader.records) >= 50)
    running.say(b"stop\n")
    requests = running.rest()
    assert 50 <= len(requests) < 10_000 and outcomes(requests) == {"ok"}


def test_the_clock_is_told_at_any_time(server, load):
    running = load(server(answer).port)
    before = time.monotonic()
    running.say(b"clock 7\n")
    running.until(lambda: running.clocks)
    [(text, there_s)] = running.clocks
    assert text == "7" and before <= there_s <= time.monotonic()
    running.requests()


def test_it_ends_with_its_standard_input(server):
    running = Program(server(answer).port, count=100_000)
    running.begin()
    running.until(lambda: len(running.reader.records) >= 5)
    running.process.stdin.close()
    assert running.process.wait(5) == 0
    running.process.stdout.close()


def test_records_come_while_it_runs(server, load):
    """A machine that loses its power takes at most the last moment with it."""
    running = load(server(answer).port, count=100_000)
    running.begin()
    lag: queue.SimpleQueue[float] = queue.SimpleQueue()
    for _ in range(10):
        seen = len(running.reader.records)
        running.until(lambda: len(running.reader.records) > seen)
        newest = max(record.number / 200 + record.ended / 1e6 for record in running.reader.records)
        lag.put(time.monotonic() - running.begin_s - newest)
    lags = sorted(lag.get() for _ in range(10))
    assert lags[5] < 0.2
    running.say(b"stop\n")
    running.rest()


@pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")
def test_a_pods_network_that_is_not_there_is_refused_in_one_line(load, tmp_path: Path):
    running = load(1, namespace=str(tmp_path / "gone"))
    assert running.reader.refusal.startswith("the pod's network is not there: ")


@pytest.mark.parametrize(
    "line",
    [
        b"z what\n", b"r 1 2 3\n", b"r -1 0 0 0 0 o 200 0\n", b"r 0 5 4 3 2 o 200 0\n", b"r 0 0 0 0 1 q 200 0\n", b"r 0 0 0 0 1 o 200 9\n",
        b"r 0 0 0 0 1 o 200 0\nr 0 0 0 0 1 o 200 0\n", b"r 40 0 0 0 1 o 200 0\n", b"r 0 0 0 0 99999999999999 o 200 0\n", b"w 5 name\n", b"w 1 ../../x\n",
        b"\xff\xfe\n", b"h {}\n", b"s []\n", b"c 1 nan\n", b"c 1 1e300\n", b"x" * 20_000, b"e " + b"[" * 5000 + b"\n",
    ],
)  # fmt: skip
def test_a_machine_that_says_something_else_is_not_believed(line):
    source = SourceReader(40, lambda text, there_s: None)
    with pytest.raises(BadLine):
        source.feed(line)
