"""Waiting for a boot: what hangs is started again, what is slow is left alone, and Vagrant's failure is the boot's."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from labctl.errors import ProviderError
from labctl.providers.protocol import MachineSpec, Power
from labctl.providers.settings import VagrantSettings
from labctl.providers.vagrant import boot, shell
from labctl.providers.vagrant.machine import VagrantMachine

SPEC = MachineSpec("minion-1", 1, 1 << 30, 1.0, "127.0.0.1", 24, "key")


class Host:
    """A hypervisor with one domain; its machine answers after so many resets."""

    def __init__(self, answers_after_resets: int = 0, power: Power = Power.ON) -> None:
        self.resets = 0
        self._answers_after = answers_after_resets
        self._power = power

    def domain(self, name: str) -> Any:
        return object()

    def power(self, _domain: Any) -> Power:
        return self._power

    def run(self, _domain: Any) -> str:
        return "run-1"

    def reset(self, _domain: Any) -> None:
        self.resets += 1

    def who(self) -> shell.BootAnswer | None:
        return shell.BootAnswer("boot-a", "amd64") if self.resets >= self._answers_after else None


@pytest.fixture(autouse=True)
def sshd(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Something that greets as an sshd does, on a port of its own."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.sendall(b"SSH-2.0-test\r\n")

        threading.Thread(target=serve, daemon=True).start()
        monkeypatch.setattr(shell, "PORT", server.getsockname()[1])
        yield


def waiting(host: Host, folder: Path, said: list[str], **settings: float) -> boot.Wait:
    chosen = VagrantSettings(**{"watchdog_s": 0.3, "boot_deadline_s": 10.0, **settings})  # type: ignore[arg-type]
    return boot.Wait(VagrantMachine(folder / "minion-1"), SPEC, host, chosen, host.who, said.append)  # type: ignore[arg-type]


def test_a_machine_that_answers_is_known_by_its_boot_and_run(tmp_path: Path) -> None:
    found = waiting(Host(), tmp_path, []).until_up(None, to_its_end=False)
    assert (found.boot_id, found.run, found.arch) == ("boot-a", "run-1", "amd64")


def test_one_that_says_nothing_is_started_again_with_twice_the_patience(tmp_path: Path) -> None:
    host, said = Host(answers_after_resets=2), []
    assert waiting(host, tmp_path, said).until_up(None, to_its_end=False).boot_id == "boot-a"
    assert host.resets == 2
    assert said[0] == "minion-1 boots" and "is started again" in said[1]


def test_one_whose_kernel_has_spoken_is_slow_and_left_alone(tmp_path: Path) -> None:
    host = Host(answers_after_resets=1)
    (tmp_path / "minion-1").mkdir()
    (tmp_path / "minion-1" / "console.log").write_bytes(b"labctl: boot boot-a\r\n")
    with pytest.raises(ProviderError, match="does not answer on 127.0.0.1"):
        waiting(host, tmp_path, [], boot_deadline_s=1.0).until_up(None, to_its_end=False)
    assert host.resets == 0


def test_vagrants_failure_is_the_boots(tmp_path: Path) -> None:
    failed: Future[None] = Future()
    failed.set_exception(ProviderError("its box is missing", mend="labctl box build"))
    with pytest.raises(ProviderError, match="its box is missing"):
        waiting(Host(power=Power.OFF), tmp_path, []).until_up(failed, to_its_end=False)


def test_a_machine_that_vagrant_still_prepares_is_waited_for(tmp_path: Path) -> None:
    making: Future[None] = Future()
    threading.Timer(0.5, making.set_result, [None]).start()
    waiting(Host(), tmp_path, []).until_up(making, to_its_end=True)
    assert making.done()
    assert (
        waiting(Host(), tmp_path, []).until_up(Future(), to_its_end=False).boot_id == "boot-a"
    )  # one of our own box is up when it answers
