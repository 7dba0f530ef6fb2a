"""`agent forward`: the real program, into a network namespace that stands for a pod's; servers of the test's own listen there."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.minions import Namespace

UID = "11111111-2222-3333-4444-555555555555"
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")


class Pod:
    """What the agent's records say of a pod, and its network."""

    def __init__(self, folder: Path, network: Namespace | None) -> None:
        self.network = network
        self.config = folder / "agent.json"
        self.config.write_text(json.dumps({"url": "https://192.0.2.1:6443", "node": "minion-1", "stateDir": str(folder)}))
        pod = folder / "pods" / UID
        (pod / "ns").mkdir(parents=True)
        self.record(host_network=network is None)
        if network is not None:
            (pod / "ns" / "net").symlink_to(f"/run/netns/{network.name}")

    def record(self, **more: bool) -> None:
        said = {"uid": UID, "namespace": "default", "name": "web", "address": "10.246.1.2", "created_s": 1.0, **more}
        (self.config.parent / "pods" / UID / "sandbox.json").write_text(json.dumps(said))

    def listen(self, address: str, serve: Callable[[socket.socket], None]) -> int:
        """A server of one connection. Returns its port."""

        def made() -> socket.socket:
            return socket.create_server((address, 0), family=socket.AF_INET6 if ":" in address else socket.AF_INET)

        server = self.network.within(made) if self.network else made()

        def take() -> None:
            with server, server.accept()[0] as connection:
                connection.settimeout(20)
                serve(connection)

        threading.Thread(target=take, daemon=True).start()
        return int(server.getsockname()[1])

    def forward(self, port: int, pod: str = UID) -> subprocess.Popen[bytes]:
        argv = [sys.executable, "-m", "labctl.agent", "forward", "--config", str(self.config), "--pod", pod, str(port)]
        return subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.fixture
def pod(tmp_path: Path) -> Iterator[Pod]:
    network = Namespace("p")
    yield Pod(tmp_path, network)
    network.delete()


def echo(connection: socket.socket) -> None:
    """Sends back what came, after it ended: so the end of the input must have been passed on."""
    came = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    connection.sendall(came)


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0", "::1"])
def test_a_server_is_reached_wherever_it_listens(pod: Pod, address: str) -> None:
    port = pod.listen(address, echo)
    assert pod.forward(port).communicate(b"hello", timeout=20) == (b"hello", b"")


def test_the_server_sees_its_own_host(pod: Pod) -> None:
    port = pod.listen("0.0.0.0", lambda connection: connection.sendall(connection.getpeername()[0].encode()))
    assert pod.forward(port).communicate(timeout=20)[0] == b"127.0.0.1"


def test_a_pod_in_its_machines_network(tmp_path: Path) -> None:
    pod = Pod(tmp_path, None)
    port = pod.listen("127.0.0.1", echo)
    assert pod.forward(port).communicate(b"hello", timeout=20)[0] == b"hello"


def test_much_goes_both_ways_at_once(pod: Pod) -> None:
    """The server sends while it takes, so either direction has to wait for the other's reader."""
    sent = os.urandom(1 << 20) * 8

    def serve(connection: socket.socket) -> None:
        while data := connection.recv(1 << 16):
            connection.sendall(data)

    assert pod.forward(pod.listen("127.0.0.1", serve)).communicate(sent, timeout=60)[0] == sent


def test_the_connections_end_ends_it_while_the_client_still_holds_on(pod: Pod) -> None:
    process = pod.forward(pod.listen("127.0.0.1", lambda connection: connection.sendall(b"bye")))
    assert process.stdout is not None and process.stdin is not None and process.stderr is not None
    assert process.stdout.read() == b"bye"
    assert process.wait(20) == 0
    for pipe in (process.stdin, process.stdout, process.stderr):
        pipe.close()


def test_a_client_that_is_gone_ends_it_though_the_server_says_nothing(pod: Pod) -> None:
    closed = threading.Event()

    def serve(connection: socket.socket) -> None:
        connection.sendall(b"x")
        while connection.recv(100):
            pass
        closed.set()
        threading.Event().wait(20)  # the connection stays open on this side

    process = pod.forward(pod.listen("127.0.0.1", serve))
    assert process.stdout is not None and process.stdin is not None and process.stderr is not None
    assert process.stdout.read(1) == b"x"
    process.stdin.close()
    process.stdout.close()
    assert process.wait(15) == 0 and closed.wait(15)
    process.stderr.close()


@pytest.mark.parametrize("ready", [True, False])
def test_what_cannot_be_reached_is_said(pod: Pod, ready: bool) -> None:
    pod.record(ready=ready)
    process = pod.forward(1)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (125, b"")
    if ready:
        assert b"failed to connect to localhost:1 inside namespace" in err and b"dial tcp4 127.0.0.1:1: connect: connection refused" in err
    else:
        assert err == f"sandbox of pod {UID} is not running\n".encode()


def test_a_pods_name_is_no_path(pod: Pod) -> None:
    process = pod.forward(1, "../x")
    assert process.communicate(timeout=20) == (b"", b"'../x' is no pod uid\n") and process.returncode == 125
