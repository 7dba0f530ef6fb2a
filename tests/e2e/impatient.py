"""The impatient person: commands of labctl in any order, each perhaps cut short by a signal, to itself or to the master.

One seed makes one row of commands, moments and signals. `test_impatient.py` plays it, and looks at what `labctl status` says after each.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from tests.e2e.cluster import Cluster, crowded

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL)
DEADLINE_S = 150.0
STATUS_S = 8.0
TRUTH_S = 12.0
"""Within which what status says of machines is what they are: the master looks at them at its start, and hears of each change."""


class Turn(NamedTuple):
    """A command, and what cuts it short: nothing, or a signal after a while to the command, its whole group (as Ctrl-C), or the master."""

    words: tuple[str, ...]
    whom: str = ""
    signal: int = 0
    after_s: float = 0.0

    def __str__(self) -> str:
        cut = f" | {signal.Signals(self.signal).name} to the {self.whom} after {self.after_s:.2f} s" if self.whom else ""
        return f"labctl {' '.join(self.words)}{cut}"


def turns(chance: random.Random, snapshot: str):
    """Turns without end."""
    commands: list[tuple[int, tuple[str, ...]]] = [
        (6, ("up",)),
        (4, ("up", "--minions", "2")),
        (2, ("up", "--minions", "1")),
        (2, ("up", "--minions", "3")),
        (3, ("halt",)),
        (2, ("halt", "minion-1")),
        (2, ("destroy", "minion-1", "--yes")),
        (2, ("destroy", "minion-2", "--yes")),
        (2, ("destroy", "minion-3", "--yes")),
        (1, ("destroy", "--yes")),
        (2, ("ssh", "minion-1", "--", "sleep", "1")),
        (1, ("fault", "power-off", "minion-1")),
        (1, ("fault", "reset", "minion-2")),
        (1, ("fault", "pause", "minion-1")),
        (1, ("fault", "pause", "minion-2", "--for", "2s", "--wait")),
        (1, ("fault", "resume", "minion-1")),
        (1, ("fault", "cut", "minion-1")),
        (1, ("fault", "restore", "minion-1")),
        (1, ("fault", "kill-process", "master")),
        (1, ("fault", "fill-disk", "minion-1", "-p", "size=20Mi")),
        (1, ("fault", "list")),
        (1, ("fault", "heal", "--all")),
        (2, ("snapshot", "save", snapshot)),
        (2, ("up", "--from", snapshot)),
        (1, ("snapshot", "restore", snapshot)),
        (1, ("snapshot", "delete", snapshot)),
        (1, ("snapshot", "list")),
        (1, ("get", "pods", "-A")),
        (1, ("why", "node/minion-1")),
        (1, ("dash", "--no-browser")),
        (1, ("export", "exported")),
        (1, ("token-keys", "--rotate")),
        (1, ("doctor",)),
    ]
    weights, words = [weight for weight, _ in commands], [each for _, each in commands]
    while True:
        chosen = chance.choices(words, weights)[0]
        whom = chance.choices(("", "command", "group", "master"), (4, 3, 3, 2))[0]
        yield Turn(chosen, whom, chance.choice(SIGNALS) if whom else 0, chance.choice((chance.uniform(0, 0.3), chance.uniform(0.2, 4.0))))


class Person:
    """Plays turns on a lab."""

    def __init__(self, lab: Cluster) -> None:
        self.lab = lab
        self.identities: set[str] = set()

    def play(self, turn: Turn) -> str:
        """Return what the command said. It ends within its deadline, whatever cut it short; raises AssertionError for a traceback."""
        argv = [sys.executable, "-m", "labctl", *turn.words]
        process = subprocess.Popen(
            argv, cwd=self.lab.folder, env=self.lab.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, start_new_session=True, preexec_fn=_signals_as_in_a_terminal,
        )  # fmt: skip
        self._cut(turn, process)
        try:
            out, err = process.communicate(timeout=DEADLINE_S * crowded())
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            out, err = process.communicate()
            raise AssertionError(f"{turn} did not end; it said {err[-500:]}") from None
        self._remember()
        ours = "/labctl/" in err  # before Python has come to our first line, nobody can be quiet
        assert not ("Traceback" in err and ours), f"{turn}: {err[-2000:]}"
        return f"{process.returncode} {(err or out).strip().splitlines()[-1:]}"

    def _cut(self, turn: Turn, process: subprocess.Popen) -> None:
        if not turn.whom:
            return
        try:
            process.wait(turn.after_s)
        except subprocess.TimeoutExpired:
            pass
        try:
            if turn.whom == "master":
                if pid := next(iter(self.masters()), 0):
                    os.kill(pid, turn.signal)
            elif process.poll() is None:
                (os.killpg if turn.whom == "group" else os.kill)(process.pid, turn.signal)
        except ProcessLookupError:
            pass

    def _remember(self) -> None:
        try:
            self.identities.add(json.loads((self.lab.folder / ".labctl" / "lab.json").read_text())["id"])
        except (OSError, ValueError):
            pass

    # -- the truth

    def masters(self) -> list[int]:
        """Processes that are this lab's master; those that only wait for a word are not told from it."""
        return [pid for pid, line in _processes() if f"labctl.master\0--lab\0{self.lab.folder}/.labctl\0" in line]

    def on(self) -> set[str]:
        """The machines of which something runs."""
        found = set()
        for _, cgroup in _groups():
            for identity in self.identities:
                found |= set(re.findall(rf"{identity}[^\n]*?/(minion-\d+)", cgroup))
        return found

    def check_status(self) -> str:
        """`labctl status` answers in time, in one clear line if it can't, and soon what it says is so."""
        deadline = time.monotonic() + TRUTH_S * crowded()
        while True:
            said, wrong = self._look()
            if not wrong:
                return said
            assert time.monotonic() < deadline, f"status says what is not so: {wrong}\n{said}"
            time.sleep(0.1)

    def _look(self) -> tuple[str, str]:
        began = time.monotonic()
        done = self.lab.labctl("status", "-o", "json", check=False, timeout_s=3 * STATUS_S)
        took_s = time.monotonic() - began
        assert took_s < STATUS_S * crowded(), f"status took {took_s:.1f} s: {done.stderr}"
        if done.returncode:
            lines = done.stderr.strip().splitlines()
            assert done.returncode == 1 and len(lines) == 1 and lines[0].startswith("labctl: "), (done.returncode, done.stdout, done.stderr)
            there = (self.lab.folder / ".labctl" / "lab.json").exists()
            return lines[0], "there is a lab" if there == ("there is no lab" in lines[0]) and not (
                there and "does not answer" in lines[0]
            ) else ""
        told = json.loads(done.stdout)
        short = f"{told['master'].get('pid', 'no master')} " + " ".join(f"{m['name']}:{m['power']}:{m['phase']}" for m in told["machines"])
        return short, self._wrong(told)

    def _wrong(self, told: dict) -> str:
        master, masters = told["master"], self.masters()
        if master["running"] != bool(masters) or (master["running"] and master["pid"] not in masters):
            return f"master {master}, but {masters} run"
        if not master["running"]:
            return ""
        shown = {machine["name"] for machine in told["machines"] if machine["power"] in ("On", "Paused")}
        on = self.on()
        return f"{shown} are on, but {on} are" if shown != on else ""

    def left(self) -> list[str]:
        """What is there of this lab, or of one that was in this folder before."""
        names = [*self.identities, str(self.lab.folder)]
        found = [f"process {pid}: {line}" for pid, line in _processes() if any(name in line for name in names)]
        found += [f"process {pid} in {group}" for pid, group in _groups() if any(name in group for name in names)]
        found += [line for line in Path("/proc/self/mounts").read_text().splitlines() if any(name in line for name in names)]
        found += [
            f"{top}/{each}" for top, folders, _ in os.walk("/sys/fs/cgroup") for each in folders if any(name in each for name in names)
        ]
        state = Path(self.lab.environment["LABCTL_STATE_HOME"])
        found += [str(path) for path in state.glob("*") if path.name in self.identities]
        found += [str(path) for path in self.lab.folder.glob(".labctl*")]
        return found


def _signals_as_in_a_terminal() -> None:
    for number in SIGNALS[:3]:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _processes():
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if line := (process / "cmdline").read_bytes().decode(errors="replace"):
                yield int(process.name), line
        except OSError:
            continue


def _groups():
    for process in Path("/proc").glob("[0-9]*"):
        try:
            yield int(process.name), (process / "cgroup").read_text()
        except OSError:
            continue
