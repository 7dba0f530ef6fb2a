"""One running source: the load program's process (through SSH, nsenter or directly), what it said, and its clock."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time

import msgspec

from labctl.lab.measuring.sources import SourcePlan
from labctl.measure import program
from labctl.measure.clocks import ClockComparison
from labctl.measure.reader import BadLine, SourceReader

_CHUNK_BYTES = 1 << 16
_MAX_ERRORS_BYTES = 4096


class RunningSource:
    """Its owner calls `take` when the process has said something. Nothing here blocks."""

    def __init__(self, plan: SourcePlan, settings: dict, count: int) -> None:
        self.plan = plan
        self.reader = SourceReader(count, self._clock_answered)
        self.clock = ClockComparison()
        self.trouble = ""
        self.over = False  # nothing more will come
        self.heard_s = time.monotonic()
        self.begin_there_s = 0.0
        self.told = 0  # records that ticks have counted
        self._asked: dict[str, float] = {}
        self._questions = 0
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(plan.argv, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True, bufsize=0)
        assert self._process.stdout and self._process.stderr
        for stream in (self._process.stdout, self._process.stderr):
            os.set_blocking(stream.fileno(), False)
        self.fd = self._process.stdout.fileno()
        said = {**settings, "address": plan.address, "port": plan.port, "namespace": plan.namespace}
        self._say(program.packed() + msgspec.json.encode(said) + b"\n")  # a pipe takes 64 KiB at once

    @property
    def ready(self) -> bool:
        return self.reader.facts is not None

    def compare_at_all(self) -> None:
        """Finds out whether the source has a clock of its own: not if it shares our kernel and our time namespace."""
        assert self.reader.facts
        self.clock.same = self.plan.our_kernel and os.readlink("/proc/self/ns/time") == self.reader.facts.time

    def ask_clock(self) -> None:
        if self.clock.same:
            return
        self._questions += 1
        self._asked = {str(self._questions): time.monotonic()}
        self._say(b"clock %d\n" % self._questions)

    def _clock_answered(self, text: str, there_s: float) -> None:
        asked_s = self._asked.pop(text, None)
        if asked_s is not None:
            self.clock.add(asked_s, there_s, time.monotonic())

    @property
    def clock_answered(self) -> bool:
        return not self._asked

    def begin(self, at_s: float) -> None:
        """Tells the source to intend its first request at `at_s` of our clock."""
        self.begin_there_s = round(at_s - self.clock.offset_s(at_s), 7)
        self._say(b"begin %.7f\n" % self.begin_there_s)

    def stop(self) -> None:
        self._say(b"stop\n")

    def take(self) -> None:
        """Reads what the process said since."""
        assert self._process.stdout
        try:
            data = self._process.stdout.read(_CHUNK_BYTES)
        except BlockingIOError:
            data = None
        if data is None:
            return
        self.heard_s = time.monotonic()
        try:
            self.reader.feed(data)
        except BadLine as error:
            self.lose(f"it said what no load program says: {error}")
            return
        if self.reader.refusal:
            self.lose(self.reader.refusal)
        elif self.reader.ended:
            self.close()
        elif not data:
            self.lose(f"its connection ended: {self._errors() or 'without a word'}")

    def lose(self, why: str, *, instead: bool = False) -> None:
        """Gives the source up. What was said first is why, unless this is known better."""
        self.trouble = why if instead or not self.trouble else self.trouble
        self.close()

    def close(self) -> None:
        """Ends the process; on the machine, the program ends with its standard input."""
        if self.over:
            return
        self.over = True
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            assert stream
            with contextlib.suppress(OSError):
                stream.close()
        self._process.wait()

    def _say(self, data: bytes) -> None:
        assert self._process.stdin
        if not self.over:
            with contextlib.suppress(OSError):  # it ended: reading tells
                self._process.stdin.write(data)

    def _errors(self) -> str:
        assert self._process.stderr
        try:
            said = self._process.stderr.read(_MAX_ERRORS_BYTES) or b""
        except OSError:
            said = b""
        lines = [line for line in said.decode("utf-8", "replace").splitlines() if line.strip()]
        return "".join(each for each in lines[-1] if each.isprintable())[-300:] if lines else ""
