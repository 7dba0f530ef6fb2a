"""Commands that print what a container says end with their reader, also when the container says nothing."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

UID = "11111111-2222-3333-4444-555555555555"


class Machine:
    """The agent's records of one pod, whose container runs: it is this test's own process."""

    def __init__(self, folder: Path) -> None:
        self.config = folder / "agent.json"
        self.config.write_text(json.dumps({"url": "https://192.0.2.1:6443", "node": "minion-1", "stateDir": str(folder)}))
        self.bundle = folder / "pods" / UID / "containers" / "main" / "0"
        self.bundle.mkdir(parents=True)
        self.log = folder / "0.log"
        self.log.write_text("2026-01-02T15:04:05.123456789+00:00 stdout F first\n")
        asked = {
            "image": "x",
            "image_id": "x",
            "log_path": str(self.log),
            "stop_signal": "",
            "delay_s": 0.0,
            "message_path": "",
            "created_s": 1.0,
        }
        (self.bundle / "container.json").write_text(json.dumps(asked))
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        (self.bundle / "started").write_text(json.dumps({"pid": os.getpid(), "ticks": ticks, "at": 1.0}))
        self.conmon = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        folder_fd = os.open(self.bundle, os.O_RDONLY)
        self.conmon.bind(f"/proc/self/fd/{folder_fd}/attach")
        os.close(folder_fd)
        self.conmon.listen()

    def asks(self, **more: object) -> None:
        """Adds to what the container was made of."""
        record = self.bundle / "container.json"
        record.write_text(json.dumps({**json.loads(record.read_text()), **more}))

    def run(self, *command: str) -> subprocess.Popen[bytes]:
        argv = [
            sys.executable,
            "-m",
            "labctl.agent",
            command[0],
            "--config",
            str(self.config),
            "--pod",
            UID,
            "--container",
            "main",
            *command[1:],
        ]
        return subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    made = Machine(tmp_path)
    yield made
    made.conmon.close()


def test_a_followed_log_that_is_silent_ends_with_its_reader(machine: Machine) -> None:
    process = machine.run("logs", "--follow")
    assert process.stdout is not None and process.stdin is not None
    assert process.stdout.readline() == b"first\n"
    with machine.log.open("a") as log:
        log.write("2026-01-02T15:04:06.123456789+00:00 stdout F second\n")
    assert process.stdout.readline() == b"second\n", "until then it follows"
    process.stdout.close()
    assert process.wait(15) == 0
    process.stdin.close()


@pytest.mark.parametrize("ends_input", [True, False])
def test_an_attached_client_that_is_gone_ends_it(machine: Machine, ends_input: bool) -> None:
    process = machine.run("attach")
    assert process.stdout is not None and process.stdin is not None
    machine.conmon.settimeout(15)
    container, _ = machine.conmon.accept()
    with container:
        process.stdin.write(b"typed")
        process.stdin.flush()
        assert container.recv(100) == b"typed"
        if ends_input:
            process.stdin.close()
            assert container.recv(100) == b""
        container.send(b"\x02said")
        assert process.stdout.read(4) == b"said", "the end of the input alone ends nothing"
        process.stdout.close()
        assert process.wait(15) == 0
    process.stdin.close()


@pytest.mark.parametrize("once", [False, True])
def test_an_attachment_ends_with_its_input_where_the_containers_stays_open(machine: Machine, once: bool) -> None:
    """As in containerd: who attaches with `kubectl run -i --leave-stdin-open` has said it all, and the container goes on alone."""
    machine.asks(stdin=True, stdin_once=once)
    process = machine.run("attach")
    assert process.stdout is not None and process.stdin is not None
    machine.conmon.settimeout(15)
    container, _ = machine.conmon.accept()
    with container:
        container.settimeout(15)
        process.stdin.write(b"typed")
        process.stdin.close()
        assert container.recv(100) == b"typed"
        assert container.recv(100) == b""
        if not once:
            assert process.wait(15) == 0 and process.stdout.read() == b""
            return
        container.send(b"\x02said")
        assert process.stdout.read(4) == b"said"
    assert process.wait(15) == 0
