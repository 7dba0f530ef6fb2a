"""The DNS server on loopback: real sockets, a server beside it that plays the machine's own, clients that misbehave."""

import contextlib
import json
import os
import selectors
import socket
import subprocess
import sys
import threading
import time

import dnslib
import pytest

from labctl.agent.dns import main
from labctl.agent.dns.main import Control
from labctl.agent.dns.queues import queues_at
from labctl.agent.dns.server import Server, is_own_address
from labctl.agent.helper.companion import Companion

ROWS = {
    "default/web": [["A", "web.default.svc", "10.247.3.4"], ["PTR", "10.247.3.4", "web.default.svc"]],
    "default/db": [["A", "db.default.svc", f"10.246.1.{n}"] for n in range(200)],
    "default/out": [["CNAME", "out.default.svc", "www.example.com"]],
}


def question(name, type_="A"):
    return bytes(dnslib.DNSRecord.question(name, type_).pack())


def free_port():
    """One that is free for both protocols."""
    while True:
        with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            with contextlib.suppress(OSError):
                udp.bind(tcp.getsockname())
                return tcp.getsockname()[1]


class Upstream:
    """Another DNS server. `answer(record)` makes the reply; None: it says nothing."""

    def __init__(self):
        self.port = free_port()
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind(("127.0.0.1", self.port))
        self.tcp = socket.create_server(("127.0.0.1", self.port))
        self.asked, self.over_tcp = [], 0
        self.answer = self.usual
        for serve in (self.packets, self.connections):
            threading.Thread(target=serve, daemon=True).start()

    @staticmethod
    def usual(record):
        reply = record.reply()
        reply.add_answer(*dnslib.RR.fromZone(f"{record.q.qname} 60 A 192.0.2.80"))
        return bytes(reply.pack())

    def packets(self):
        with contextlib.suppress(OSError):
            while True:
                data, self.client = self.udp.recvfrom(4096)
                self.asked.append(dnslib.DNSRecord.parse(data))
                reply = self.answer(self.asked[-1])
                if reply is not None:
                    self.udp.sendto(reply, self.client)

    def connections(self):
        with contextlib.suppress(OSError):
            while True:
                connection = self.tcp.accept()[0]
                data = connection.recv(4096)
                self.over_tcp += 1
                reply = self.answer(dnslib.DNSRecord.parse(data[2:]))
                connection.sendall(len(reply).to_bytes(2, "big") + reply)

    def close(self):
        for each in (self.udp, self.tcp):
            each.close()


class Running:
    """A server in a thread, told as the helper tells it."""

    def __init__(self, folder, upstream):
        self.selector = selectors.DefaultSelector()
        self.server = Server(self.selector, lambda: "nameserver 10.247.0.10\nnameserver 127.0.0.1\n", upstream.port)
        self.control = Control(self.selector, f"{folder}/control.sock", "agent", self.server, f"{folder}/state.json")
        self.port = free_port()
        self.settings = {
            "address": "127.0.0.1", "port": self.port, "domain": "cluster.local", "server": "10.247.0.10",
            "ranges": ["10.247.0.0/16", "10.246.0.0/16"], "clients": ["10.246.0.0/16"],
        }  # fmt: skip
        self.stopped = False
        self.tell(whole=True, set=ROWS)
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while not self.stopped:
            self.server.turn(0.02)

    def tell(self, **request):
        return self.control.answer({"settings": self.settings, **request})

    def udp(self, data, timeout_s=5.0):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(timeout_s)
            client.sendto(data, ("127.0.0.1", self.port))
            return dnslib.DNSRecord.parse(client.recv(65535))

    def connect(self):
        client = socket.create_connection(("127.0.0.1", self.port), timeout=5)
        client.settimeout(5)
        return client

    def tcp(self, data):
        with self.connect() as client:
            client.sendall(len(data).to_bytes(2, "big") + data)
            return dnslib.DNSRecord.parse(received(client))

    def close(self):
        self.stopped = True
        self.thread.join(5)
        self.server.close()
        self.selector.close()


def received(client):
    stream = client.makefile("rb")
    return stream.read(int.from_bytes(stream.read(2), "big"))


@pytest.fixture
def upstream():
    made = Upstream()
    yield made
    made.close()


@pytest.fixture
def running(tmp_path, upstream):
    made = Running(tmp_path, upstream)
    yield made
    made.close()


def addresses(record):
    return [str(rr.rdata) for rr in record.rr if rr.rtype == 1]


def test_names_over_both_protocols(running, upstream):
    assert addresses(running.udp(question("web.default.svc.cluster.local"))) == ["10.247.3.4"]
    assert running.udp(question("db.default.svc.cluster.local")).header.tc
    assert len(addresses(running.tcp(question("db.default.svc.cluster.local")))) == 200
    assert running.udp(question("none.default.svc.cluster.local")).header.rcode == 3
    assert upstream.asked == []


def test_other_names_are_asked_of_the_machines_own_server(running, upstream):
    asked = question("Www.example.com")
    read = running.udp(asked)
    assert addresses(read) == ["192.0.2.80"] and read.header.id == int.from_bytes(asked[:2], "big")
    assert str(upstream.asked[0].q.qname) == "Www.example.com."
    assert addresses(running.tcp(question("www.example.com"))) == ["192.0.2.80"] and upstream.over_tcp == 1


def test_an_external_name_is_followed(running):
    read = running.udp(question("out.default.svc.cluster.local"))
    assert [(str(rr.rname), rr.rtype) for rr in read.rr] == [("out.default.svc.cluster.local.", 5), ("www.example.com.", 1)]
    assert str(read.rr[0].rdata) == "www.example.com." and addresses(read) == ["192.0.2.80"]
    assert running.udp(question("out.default.svc.cluster.local", "CNAME")).rr[0].rtype == 5


def test_an_answer_with_another_question_or_number_is_not_believed(running, upstream):
    def lies(record):
        for number, name in ((record.header.id ^ 1, str(record.q.qname)), (record.header.id, "bank.example.com")):
            reply = dnslib.DNSRecord(dnslib.DNSHeader(id=number, qr=1), q=dnslib.DNSQuestion(name))
            reply.add_answer(*dnslib.RR.fromZone(f"{name} 60 A 192.0.2.66"))
            upstream.udp.sendto(bytes(reply.pack()), upstream.client)
        return Upstream.usual(record)

    upstream.answer = lies
    assert addresses(running.udp(question("www.example.com"))) == ["192.0.2.80"]


def test_a_mistake_of_ours_costs_one_query_and_is_told(running):
    running.server.zone.find = None
    with pytest.raises(TimeoutError):
        running.udp(question("web.default.svc.cluster.local"), timeout_s=0.2)
    del running.server.zone.find
    assert addresses(running.udp(question("web.default.svc.cluster.local"))) == ["10.247.3.4"]
    assert "TypeError" in running.tell()["mistake"] and running.tell()["mistake"] == ""


def test_a_fault_lets_every_query_fail_or_vanish_until_it_is_healed(running):
    name = question("web.default.svc.cluster.local")
    assert running.control.answer({"program": "agent", "failing": None}) == {"failing": ""}
    running.control.answer({"program": "agent", "failing": "servfail"})
    for data in (name, question("www.example.com"), question("nobody.default.svc.cluster.local")):
        assert running.udp(data).header.rcode == running.tcp(data).header.rcode == 2
    running.tell(whole=True, set=ROWS)
    assert running.udp(name).header.rcode == 2, "what the master tells does not heal it"
    running.control.answer({"program": "agent", "failing": "drop"})
    with pytest.raises(TimeoutError):
        running.udp(name, timeout_s=0.2)
    with pytest.raises(ValueError, match="no way to fail"):
        running.control.answer({"program": "agent", "failing": "explode"})
    running.control.answer({"program": "agent", "failing": ""})
    assert addresses(running.udp(name)) == ["10.247.3.4"]


def test_a_server_that_is_silent_is_a_failure_after_a_while_and_holds_up_nobody(running, upstream):
    upstream.answer = lambda record: None
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as waiting:
        waiting.settimeout(10)
        began = time.monotonic()
        for _ in range(200):
            waiting.sendto(question("www.example.com"), ("127.0.0.1", running.port))
        crowded = dnslib.DNSRecord.parse(waiting.recv(4096))
        assert crowded.header.rcode == 2 and time.monotonic() - began < 1.5
        assert addresses(running.udp(question("web.default.svc.cluster.local"))) == ["10.247.3.4"]
        assert len(running.server._upstream._waiting) <= 64
        for _ in range(199):
            assert dnslib.DNSRecord.parse(waiting.recv(4096)).header.rcode == 2
    assert running.server._upstream._waiting == {} and running.server._upstream._of_client == {}


def test_without_a_server_of_the_machine_other_names_fail_at_once(running):
    running.server._resolver = lambda: "nameserver 10.247.0.10\n"
    running.settings = {**running.settings, "clients": ["10.246.0.0/15"]}
    running.tell()
    assert running.udp(question("www.example.com")).header.rcode == 2


def test_strangers_get_no_answer(running):
    running.server._networks, running.server._own = [], lambda address: False
    running.server._known.clear()
    with pytest.raises(TimeoutError):
        running.udp(question("web.default.svc.cluster.local"), timeout_s=0.2)
    with running.connect() as client:
        assert client.recv(1) == b""


def test_a_machine_with_several_links_asks_itself_from_any_of_them(running):
    """Where the query to the virtual IP is masqueraded, it comes from the first link's address, not from the one in the lab's network."""
    running.server._networks = []
    running.server._known.clear()
    assert running.udp(question("web.default.svc.cluster.local")).header.rcode == 0
    assert not is_own_address("192.0.2.7") and not is_own_address("255.255.255.255")


def test_a_clients_connections_are_bounded_and_idle_ones_end(running, monkeypatch):
    clients = [running.connect() for _ in range(17)]
    assert clients[-1].recv(1) == b""
    clients[0].sendall(b"\xff\xff")  # a query of 65,535 bytes
    assert clients[0].recv(1) == b""
    for each in running.server._tcp._connections:
        each.until = 0.0
    assert clients[1].recv(1) == b""
    for each in clients:
        each.close()
    assert addresses(running.tcp(question("web.default.svc.cluster.local"))) == ["10.247.3.4"]


def test_queries_come_in_pieces_and_in_one(running):
    query = question("web.default.svc.cluster.local")
    frame = len(query).to_bytes(2, "big") + query
    with running.connect() as client:
        client.sendall(frame[:5])
        client.sendall(frame[5:] + frame + frame[:1])
        stream = client.makefile("rb")
        for _ in range(2):
            assert addresses(dnslib.DNSRecord.parse(stream.read(int.from_bytes(stream.read(2), "big")))) == ["10.247.3.4"]


def test_a_client_that_reads_nothing_is_cut_off(running):
    query = question("db.default.svc.cluster.local")
    with running.connect() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        with pytest.raises(OSError):
            for _ in range(10_000):
                client.sendall((len(query).to_bytes(2, "big") + query) * 20)
    assert addresses(running.udp(question("web.default.svc.cluster.local"))) == ["10.247.3.4"]


def test_what_is_told_later_counts_at_once(running):
    assert running.tell(set={"default/new": [["A", "new.default.svc", "10.247.7.7"]]}, remove=["default/web"])["failed"] == {}
    assert addresses(running.udp(question("new.default.svc.cluster.local"))) == ["10.247.7.7"]
    assert running.udp(question("web.default.svc.cluster.local")).header.rcode == 3
    assert list(running.tell(set={"default/bad": [["A"]], "default/good": [["A", "good.default.svc", "10.247.7.8"]]})["failed"]) == [
        "default/bad"
    ]
    running.tell(whole=True, set={"default/only": [["A", "only.default.svc", "10.247.7.9"]]})
    assert running.udp(question("good.default.svc.cluster.local")).header.rcode == 3
    assert addresses(running.udp(question("only.default.svc.cluster.local"))) == ["10.247.7.9"]


# -- the process


@pytest.fixture
def process(tmp_path):
    """`start()` begins one in the folder and answers it; all are ended."""
    (tmp_path / "run").mkdir()
    started = []
    code = "import sys; from labctl.agent.dns import main; main.run(sys.argv[2], sys.argv[1], lambda: '')"

    def start(program="agent"):
        started.append(subprocess.Popen([sys.executable, "-c", code, str(tmp_path), program]))
        return started[-1]

    yield start
    for each in started:
        each.kill()
        each.wait()


def until(condition, deadline_s=10.0):
    deadline = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_successor_goes_on_and_only_one_runs(process, tmp_path):
    companion = Companion("DNS server", str(tmp_path) + main.SOCKET, lambda: process() and None)
    port = free_port()
    settings = {"address": "127.0.0.1", "port": port, "domain": "cluster.local", "server": "10.247.0.10", "ranges": [], "clients": []}
    assert companion.ask({"program": "agent", "settings": settings, "whole": True, "set": ROWS})["names"] > 2
    assert process().wait(10) == 0  # the lock is taken
    state = tmp_path / main.STATE.lstrip("/")
    until(state.exists)
    assert json.loads(state.read_text())["set"] == ROWS
    pid = companion._connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 4)
    os.kill(int.from_bytes(pid, sys.byteorder), 9)
    until(companion.lost)
    process()
    until(lambda: addresses_of(port) == ["10.247.3.4"])


def test_a_fault_outlives_the_server_that_has_it_and_can_be_healed_while_none_runs(process, tmp_path):
    def ask(request):
        assert companion.ask({"program": "agent", **request}) is not None

    companion = Companion("DNS server", str(tmp_path) + main.SOCKET, lambda: process() and None)
    port, state = free_port(), str(tmp_path) + main.STATE
    settings = {"address": "127.0.0.1", "port": port, "domain": "cluster.local", "server": "10.247.0.10", "ranges": [], "clients": []}
    ask({"settings": settings, "whole": True, "set": ROWS})
    ask({"failing": "drop"})
    for heal in (False, True):
        pid = companion._connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 4)
        os.kill(int.from_bytes(pid, sys.byteorder), 9)
        until(companion.lost)
        if heal:
            main.forget_failing(state)
        process()
        until(lambda: companion.ask({"program": "agent", "failing": None}, start=False))
        assert addresses_of(port) == (["10.247.3.4"] if heal else [])


def test_a_server_of_another_version_gives_way(process, tmp_path):
    process("older")
    until(lambda: os.path.exists(str(tmp_path) + main.SOCKET))
    companion = Companion("DNS server", str(tmp_path) + main.SOCKET, lambda: process("newer") and None)
    port = free_port()
    settings = {"address": "127.0.0.1", "port": port, "domain": "cluster.local", "server": "10.247.0.10", "ranges": [], "clients": []}
    assert companion.ask({"program": "newer", "settings": settings, "whole": True, "set": ROWS})["failed"] == {}
    assert addresses_of(port) == ["10.247.3.4"]


def addresses_of(port):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(0.5)
        client.connect(("127.0.0.1", port))
        try:
            client.send(question("web.default.svc.cluster.local"))
            return addresses(dnslib.DNSRecord.parse(client.recv(4096)))
        except OSError:
            return []


@pytest.mark.parametrize("frame", [b"\0\0\0\2[]", b"\0\0\0\1{", b"\xff\xff\xff\xff", b'\0\0\0\x0e{"settings":1}'])
def test_what_is_no_request_harms_no_other(running, tmp_path, frame):
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(5)
        client.connect(str(tmp_path / "control.sock"))
        client.sendall(frame)
        said = client.recv(300)
        assert said == b"" if frame[0] == 255 else b"error" in said
    assert addresses(running.udp(question("web.default.svc.cluster.local"))) == ["10.247.3.4"]


def waiting(queues):
    """Whose packets wait, by address."""
    found = {}
    for each in queues:
        with contextlib.suppress(BlockingIOError):
            while True:
                address = each.recvfrom(100)[1][0]
                found[address] = found.get(address, 0) + 1
    return found


def test_who_floods_from_any_port_fills_no_queue_but_its_own():
    place = ("127.0.0.1", free_port())
    queues = queues_at(place)
    try:
        for _ in range(40):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as flood:
                flood.bind(("127.0.0.2", 0))
                for _ in range(500):
                    flood.sendto(b"flood", place)
        for number in range(3, 10):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                client.bind((f"127.0.0.{number}", 0))
                client.sendto(b"once", place)
        found = waiting(queues)
        assert found.pop("127.0.0.2") < 20_000, "the flood was more than a queue holds"
        assert found == {f"127.0.0.{number}": 1 for number in range(3, 10)}
    finally:
        for each in queues:
            each.close()


def test_no_second_server_listens_at_a_port(running, tmp_path, upstream):
    second = Server(running.selector, lambda: "", upstream.port)
    with pytest.raises(OSError, match="in use"):
        second.use(running.server.zone, ("127.0.0.1", running.port), [])
    assert addresses(running.udp(question("web.default.svc.cluster.local"))) == ["10.247.3.4"]
