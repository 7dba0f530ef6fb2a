"""SSH to minions, seen from the master's loop: plain values in, plain values out. All of paramiko runs in one child process.

Who calls it: `machines` (push, facts), `network` and `proxy` (call: the helper on the control channel), `api` (open: exec, attach, logs, port-forward; dial: proxy).
What it never does: know an object; let one machine's delay delay another's; retry a call whose effect is unknown.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import msgspec


class Target(msgspec.Struct, frozen=True):
    """How to reach a machine's sshd. `host_key` is pinned: another key is HostKeyMismatch, never asked about."""

    name: str
    address: str
    port: int
    user: str
    key_path: str
    host_key: str
    generation: str = ""  # boot id: a connection of another generation is closed
    sudo: bool = False


class Result(msgspec.Struct, frozen=True):
    status: int
    stdout: bytes
    stderr: bytes


class Terminal(msgspec.Struct, frozen=True):
    term: str = "xterm"
    columns: int = 80
    rows: int = 24


class Stream(Protocol):
    """One channel. Bounded both ways: a slow reader slows the writer, never the connection."""

    def read(self) -> AsyncIterator[tuple[int, bytes]]:
        """Yield (1, stdout bytes) and (2, stderr bytes) until both have ended."""

    async def write(self, data: bytes) -> None: ...
    async def end_input(self) -> None: ...
    async def resize(self, columns: int, rows: int) -> None: ...
    async def status(self) -> int:
        """Wait for the exit status and return it; 0 for a dialled connection."""

    async def close(self) -> None:
        """End the command (its input and output are closed); what is left unread is dropped."""


class Remote(Protocol):
    async def connect(self, target: Target) -> None:
        """Remember the target and open its control connection, once; later calls reconnect by themselves. Raises Unreachable, HostKeyMismatch."""

    async def forget(self, name: str) -> None:
        """Close everything to that machine; calls under way fail with Unreachable."""

    def connected(self, name: str) -> bool: ...

    async def run(self, name: str, argv: Sequence[str], *, stdin: bytes = b"", deadline_s: float = 30.0, check: bool = True) -> Result:
        """Run one command through Fabric on the control connection; argv is quoted, never a shell line. Raises CommandFailed if `check`."""

    async def put(self, name: str, path: str, data: bytes, *, mode: int = 0o644, deadline_s: float = 60.0) -> None:
        """Write a file whole: a temporary name beside it, fsync, rename."""

    async def call(self, name: str, method: str, params: Any, *, deadline_s: float = 30.0) -> Any:
        """Send one request to the helper, which is kept open on the control channel (`agent helper`): 4-byte big-endian length, then JSON.

        A request is {"id", "method", "params"}, an answer {"id", "result"} or {"id", "error"}. There is one at a time per machine, in order.
        Raises Unreachable, Deadline, CommandFailed (the helper refused or failed).
        """

    async def open(self, name: str, argv: Sequence[str], *, terminal: Terminal | None = None) -> Stream:
        """Start a command with its streams, on a connection for streams (at most 8 channels each). For exec, attach, logs and port-forward."""

    async def dial(self, name: str, host: str, port: int) -> Stream:
        """Return a TCP connection made by the minion's sshd (direct-tcpip), for the API's proxy."""

    def listen(self, tell: Callable[[str, str, Any], None]) -> None:
        """Add a listener: `tell(machine, method, params)` is called on the loop, for what helpers say unasked and for what the SSH process itself saw.

        A helper can say one thing: "digest" {rules, routes, forwarder, dns}, when somebody else changed what it keeps. The SSH process says "connected"
        {generation, took_s}, "lost" {generation, reason} and "helper" {state: "ended"}; no helper can say these.
        """

    def reset_helper(self, name: str) -> None:
        """Let the next call start a new helper, because the helper's program has changed."""

    async def close(self) -> None: ...


@runtime_checkable
class OwnProcess(Protocol):
    """A Remote whose SSH is a process of its own."""

    @property
    def pid(self) -> int:
        """Return the process id, or 0 while there is none."""
