"""`agent forwarder --socket PATH` serves Services in userspace mode: iptables sends VIP:port to a local port, and this process picks a pod.

The helper starts it in a session of its own, so that connections outlive the master and its SSH connection. The helper tells it what to serve, in
frames of JSON over the Unix socket. It ends when the helper says so, or when a helper of another version connects, which then starts a new one.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import resource
import sys
from typing import Any, Dict, List, Tuple, Union

from .tcp import TcpPort
from .udp import UdpPort

Port = Union[TcpPort, UdpPort]
Place = Tuple[str, str, int]  # protocol, address, port


class Forwarder:
    """The ports that are served. `program` is the path of the agent's zipapp, `path` that of the Unix socket that helpers connect to."""

    def __init__(self, program: str, path: str) -> None:
        self._program = program
        self._path = path
        self._ports: Dict[str, Tuple[Place, Port]] = {}
        self.ended = asyncio.Event()

    async def answer(self, request: Dict[str, Any]) -> Dict[str, Any]:
        """Do what a helper asks for (see helper/userspace.py). `failed` in the answer names the ports that can't listen, and why."""
        if request.get("end") or request.get("program", self._program) != self._program:
            self.ended.set()
            with contextlib.suppress(OSError):
                os.unlink(self._path)  # before the answer, so that whoever connects next finds the successor
            return {"otherProgram": not request.get("end"), "ports": 0, "failed": {}}
        wanted = {port["id"]: port for port in request.get("set", ())}
        gone = set(self._ports) - set(wanted) if request.get("whole") else set(request.get("remove", ()))
        for one in gone & set(self._ports):
            await self._ports.pop(one)[1].close()
        failed = {one: error for one, port in wanted.items() if (error := await self._set(one, port))}
        return {"ports": len(self._ports), "failed": failed, "otherProgram": False}

    async def _set(self, one: str, wanted: Dict[str, Any]) -> str:
        """Serve one port. Return an empty text, or why it can't listen there."""
        place = (wanted["protocol"], wanted["address"], wanted["port"])
        there, port = self._ports.get(one, (None, None))
        if port is None or there != place:
            if port is not None:
                await self._ports.pop(one)[1].close()
            port = UdpPort(*place[1:]) if place[0] == "UDP" else TcpPort(*place[1:])
            try:
                await port.open()
            except OSError as error:
                return str(error)
            self._ports[one] = (place, port)
        for gone in port.balance.set([(address, number) for address, number in wanted["backends"]], wanted["affinityS"]):
            port.drop(gone)
        return ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one helper until it disconnects."""
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            while not self.ended.is_set():
                size = int.from_bytes(await reader.readexactly(4), "big")
                body = json.dumps(await self.answer(json.loads(await reader.readexactly(size)))).encode()
                writer.write(len(body).to_bytes(4, "big") + body)
                await writer.drain()
        writer.close()


async def run(path: str, program: str) -> None:
    """Run until a helper says to end. The socket is made under another name and renamed, so whoever connects finds it listening."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # a Service port is a socket, a connection two
    forwarder = Forwarder(program, path)
    fresh = f"{path}.{os.getpid()}"
    server = await asyncio.start_unix_server(forwarder.serve, fresh)
    os.chmod(fresh, 0o600)
    os.replace(fresh, path)
    await forwarder.ended.wait()
    server.close()
    await asyncio.sleep(0.1)  # the last answer is on its way


def main(argv: List[str]) -> int:
    parser = argparse.ArgumentParser(prog="agent forwarder")
    parser.add_argument("--socket", required=True)
    asyncio.run(run(parser.parse_args(argv).socket, os.path.realpath(sys.argv[0])))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
