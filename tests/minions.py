"""Small real minions: network namespaces wired as a lab's machines and pods are, each with the real helper. Needs root; leaves nothing behind.

    lab (bridge, 10.245.1.1) ── minion-1 (.11) ── pods 10.246.1.x, routed veths, gateway 169.254.1.1
                             └─ minion-2 (.12) ── pods 10.246.2.x

Sockets are made by threads that entered a namespace, so a client or server costs no process.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import itertools
import json
import os
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from labctl.errors import CommandFailed, Unreachable
from labctl.machines import zipapp

T = TypeVar("T")
CLONE_NEWNET = 0x40000000
GATEWAY, MAC = "169.254.1.1", "02:00:00:00:00:01"
_libc = ctypes.CDLL(None, use_errno=True)
_numbers = itertools.count()


def ip(*lines: str) -> None:
    subprocess.run(["ip", "-batch", "-"], input="\n".join(lines) + "\n", text=True, check=True, capture_output=True)


class Namespace:
    """One network namespace."""

    def __init__(self, role: str) -> None:
        self.name = f"lt{os.getpid() % 100_000}-{next(_numbers)}{role}"
        ip(f"netns add {self.name}")
        self.batch("link set lo up")

    def batch(self, *lines: str) -> None:
        subprocess.run(["ip", "-n", self.name, "-batch", "-"], input="\n".join(lines) + "\n", text=True, check=True, capture_output=True)

    def run(self, *argv: str, stdin: str = "", check: bool = True) -> str:
        done = subprocess.run(["ip", "netns", "exec", self.name, *argv], input=stdin, text=True, check=False, capture_output=True)
        assert not check or done.returncode == 0, done.stderr
        return done.stdout

    def within(self, do: Callable[[], T]) -> T:
        """Do it in a thread of this namespace."""
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(self._entered, do).result()

    def _entered(self, do: Callable[[], T]) -> T:
        with open(f"/run/netns/{self.name}") as file:
            assert _libc.setns(file.fileno(), CLONE_NEWNET) == 0
        return do()

    def delete(self) -> None:
        ip(f"netns delete {self.name}")

    # -- clients -----------------------------------------------------------------------------------------------------------------------

    def tcp(self, address: str, port: int, timeout_s: float = 2.0) -> tuple[str, str]:
        """(who answered, whom it saw). Raises OSError."""

        def ask() -> tuple[str, str]:
            with socket.create_connection((address, port), timeout=timeout_s) as connection:
                who, _, saw = connection.recv(200).decode().partition(" ")
                return who, saw

        return self.within(ask)

    def udp(self, address: str, port: int, source_port: int = 0, timeout_s: float = 1.0) -> tuple[str, str]:
        def ask() -> tuple[str, str]:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                one.settimeout(timeout_s)
                one.bind(("", source_port))
                one.connect((address, port))
                one.send(b"?")
                who, _, saw = one.recv(200).decode().partition(" ")
                return who, saw

        return self.within(ask)


class Server:
    """TCP and UDP on one port of a namespace: says its own name and whom it sees."""

    def __init__(self, namespace: Namespace, name: str, port: int = 8080) -> None:
        self._tcp, self._udp = namespace.within(
            lambda: (socket.create_server(("", port), backlog=100), socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        )
        self._name = name
        self.holds = False  # TCP connections stay open after the answer
        self._held: list[socket.socket] = []
        namespace.within(lambda: self._udp.bind(("", port)))
        self._threads = [threading.Thread(target=target, daemon=True) for target in (self._serve_tcp, self._serve_udp)]
        for thread in self._threads:
            thread.start()

    def _serve_tcp(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, peer = self._tcp.accept()
                connection.sendall(f"{self._name} {peer[0]}".encode())
                if self.holds:
                    self._held.append(connection)
                else:
                    connection.close()

    def _serve_udp(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                _, peer = self._udp.recvfrom(100)
                if peer is None:  # shut down
                    return
                self._udp.sendto(f"{self._name} {peer[0]}".encode(), peer)

    def close(self) -> None:
        self._tcp.shutdown(socket.SHUT_RDWR)
        for one in (self._tcp, self._udp):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        for one in self._held:
            one.close()
        for thread in self._threads:
            thread.join(2)


class Pod(Namespace):
    def __init__(self, minion: Namespace, address: str) -> None:
        super().__init__("p")
        self.address = address
        link = f"v{self.name[2:]}"[:15]
        minion.batch(f"link add {link} type veth peer name eth0 netns {self.name}")
        minion.batch(f"link set {link} address {MAC}", f"link set {link} up", f"route add {address}/32 dev {link}")
        self.batch(f"address add {address}/32 dev eth0", "link set eth0 up", f"route add {GATEWAY} dev eth0")
        self.batch(f"neigh add {GATEWAY} lladdr {MAC} dev eth0 nud permanent", f"route add default via {GATEWAY} dev eth0")
        self.server = Server(self, address)

    def delete(self) -> None:
        self.server.close()
        super().delete()


class Helper:
    """The real helper, as the master's SSH process would keep it: frames over pipes."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, tell: Callable[[str, str, Any], None]) -> None:
        self.name, self.process, self._tell = name, process, tell
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._ids = itertools.count(1)
        self._lock = asyncio.Lock()
        self._reader = asyncio.create_task(self._read())

    async def call(self, method: str, params: Any) -> Any:
        async with self._lock:
            id_ = next(self._ids)
            answer = self._answers[id_] = asyncio.get_running_loop().create_future()
            body = json.dumps({"id": id_, "method": method, "params": params}).encode()
            assert self.process.stdin
            self.process.stdin.write(len(body).to_bytes(4, "big") + body)
            said = await answer
        if "error" in said:
            raise CommandFailed(self.name, ["helper", method], 1, said["error"])
        return said["result"]

    async def _read(self) -> None:
        assert self.process.stdout
        with contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                size = int.from_bytes(await self.process.stdout.readexactly(4), "big")
                said = json.loads(await self.process.stdout.readexactly(size))
                if "id" not in said:
                    self._tell(self.name, said["method"], said["params"])
                elif not (answer := self._answers.pop(said["id"])).done():  # who asked may have been cancelled
                    answer.set_result(said)

    async def close(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        await self.process.wait()
        await self._reader


class Minions:
    """The lab: the part of `Remote` that calls helpers, on real namespaces."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="labctl-minions-")
        self.program = Path(self._folder.name) / "agent.pyz"
        self.program.write_bytes(zipapp.build().data)
        self.lab = Namespace("lab")
        self.lab.batch("link add br0 type bridge", "address add 10.245.1.1/24 dev br0", "link set br0 up")
        self.nodes: dict[str, Namespace] = {}
        self.pods: dict[str, Pod] = {}
        self.helpers: dict[str, Helper] = {}
        self._machines: dict[str, asyncio.subprocess.Process] = {}  # each keeps its machine's namespaces
        self._listeners: list[Callable[[str, str, Any], None]] = []

    async def add(self, number: int) -> Namespace:
        name = f"minion-{number}"
        node = self.nodes[name] = Namespace("n")
        link = f"m{node.name[2:]}"[:15]
        self.lab.batch(f"link add {link} type veth peer name eth0 netns {node.name}", f"link set {link} master br0 up")
        node.batch(f"address add 10.245.1.{10 + number}/24 dev eth0", "link set eth0 up", "route add default via 10.245.1.1")
        await self.start_helper(name)
        return node

    async def start_helper(self, name: str) -> None:
        """In the machine's own mount namespace, with a /run of its own: a forwarder outlives a helper there."""
        if name not in self._machines:
            wait = "mount -t tmpfs none /run && echo ready && exec sleep 3600"
            argv = ["ip", "netns", "exec", self.nodes[name].name, "unshare", "-m", "sh", "-c", wait]
            self._machines[name] = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE)
            ready = self._machines[name].stdout
            assert ready and await ready.readline()
        inside = ["nsenter", "-t", str(self._machines[name].pid), "-m", "-n", "/usr/bin/python3", str(self.program), "helper"]
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(*inside, stdin=pipe, stdout=pipe, limit=64 << 20)
        self.helpers[name] = Helper(name, process, self.tell)

    async def restart_helper(self, name: str) -> None:
        """As after a lost connection."""
        helper = self.helpers.pop(name)
        self.tell(name, "lost", {})
        await helper.close()
        await self.start_helper(name)
        self.tell(name, "connected", {})

    def pod(self, address: str) -> Pod:
        """On the minion whose range the address is of."""
        pod = self.pods[address] = Pod(self.nodes[f"minion-{address.split('.')[2]}"], address)
        return pod

    def tell(self, name: str, method: str, params: Any) -> None:
        for listener in self._listeners:
            listener(name, method, params)

    def connected(self, name: str) -> bool:
        return name in self.helpers

    def listen(self, tell: Callable[[str, str, Any], None]) -> None:
        self._listeners.append(tell)

    async def call(self, name: str, method: str, params: Any, *, deadline_s: float = 30.0) -> Any:
        if name not in self.helpers:
            raise Unreachable(f"{name}: no connection")
        async with asyncio.timeout(deadline_s):
            return await self.helpers[name].call(method, params)

    async def close(self) -> None:
        """Everything goes, whatever of it fails to."""
        async with contextlib.AsyncExitStack() as undo:
            undo.callback(self._folder.cleanup)
            for namespace in (self.lab, *self.nodes.values(), *self.pods.values()):
                undo.callback(namespace.delete)
            for machine in self._machines.values():
                undo.push_async_callback(machine.wait)
                undo.callback(machine.kill)
            for helper in self.helpers.values():
                undo.push_async_callback(helper.close)
                undo.push_async_callback(_end_forwarder, helper)


async def _end_forwarder(helper: Helper) -> None:
    with contextlib.suppress(CommandFailed, TimeoutError):
        async with asyncio.timeout(5):
            await helper.call("forward", {"whole": True, "set": []})
