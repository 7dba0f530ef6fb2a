"""A client on a minion that sends requests to a virtual IP all the time. At the end it reports how many failed, and the longest time
without an answer.

It sends one request at a time, each on a new connection, and at most 100 in a second. It ends when its standard input ends, or by itself
after a minute without an answer.
"""

from __future__ import annotations

import json
import subprocess
import time
from typing import TYPE_CHECKING

import msgspec

from labctl.errors import LabctlError
from labctl.lab.ssh import ssh_command

if TYPE_CHECKING:
    from labctl.lab.folder import LabFolder

_AFTER_S = 1.0
_END_S = 90.0

_CLIENT = r"""
import http.client, json, select, sys, time
address, total, failed, good, longest, errors = sys.argv[1], 0, 0, time.monotonic(), 0.0, []
print("asking", flush=True)
while not select.select([sys.stdin], [], [], 0.01)[0]:
    total += 1
    try:
        connection = http.client.HTTPConnection(address, 80, timeout=2)
        connection.request("GET", "/")
        answer = connection.getresponse()
        answer.read()
        connection.close()
        assert answer.status == 200, "status %d" % answer.status
        now = time.monotonic()
        longest, good = max(longest, now - good), now
    except Exception as error:
        failed += 1
        errors.append(repr(error)[:80])
    if time.monotonic() - good > 60:
        break
longest = max(longest, time.monotonic() - good)
print(json.dumps({"total": total, "failed": failed, "longest_ms": round(longest * 1000), "errors": errors[:5]}))
"""


class Outcome(msgspec.Struct, frozen=True):
    """The client's result. `longest_ms` is the longest time without a good answer; `errors` are the first few errors."""

    total: int
    failed: int
    longest_ms: int
    errors: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.total} requests, {self.failed} failed; the longest time without an answer: {self.longest_ms} ms"


class Load:
    """A running client: `with Load(lab, "minion-2", vip) as load: ...`; afterwards the result is in `load.outcome`."""

    def __init__(self, lab: LabFolder, minion: str, address: str) -> None:
        self._argv = ssh_command(lab, minion, ("python3", "-c", _CLIENT, address))
        self._minion = minion
        self._outcome: Outcome | None = None

    @property
    def outcome(self) -> Outcome:
        assert self._outcome, "the client is still asking"
        return self._outcome

    def __enter__(self) -> Load:
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(self._argv, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        assert self._process.stdout
        if self._process.stdout.readline().strip() != "asking":
            raise self._lost(self._end()[1])
        return self

    def __exit__(self, failure: type[BaseException] | None, *_: object) -> None:
        if failure:
            self._process.kill()
            self._process.communicate()
            return
        time.sleep(_AFTER_S)  # so that failures just after the last change are counted too
        out, errors = self._end()
        try:
            self._outcome = msgspec.convert(json.loads(out), Outcome)
        except (ValueError, msgspec.ValidationError):
            raise self._lost(errors) from None

    def _end(self) -> tuple[str, str]:
        try:
            return self._process.communicate("stop\n", timeout=_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.communicate()

    def _lost(self, errors: str) -> LabctlError:
        return LabctlError(f"the client on {self._minion} was lost: {errors.strip()[-300:] or 'it said nothing'}")
