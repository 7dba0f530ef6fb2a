from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from labctl import assets
from labctl.errors import ProviderError
from labctl.providers.namespace.box import Box
from labctl.providers.settings import NamespaceSettings
from tests.namespaces import needs_root

SETTINGS = NamespaceSettings()


def test_what_goes_in_decides_where_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = Box(tmp_path, SETTINGS).path()
    assert path == Box(tmp_path, dataclasses.replace(SETTINGS, mtu_bytes=9000)).path()
    assert path != Box(tmp_path, dataclasses.replace(SETTINGS, suite="trixie")).path()
    changed = tmp_path / "provision"
    shutil.copytree(assets.provision(""), changed)
    with open(changed / "packages", "a") as file:
        file.write("vim-tiny\n")
    monkeypatch.setattr(assets, "provision", lambda name: changed / name)
    assert path != Box(tmp_path, SETTINGS).path()


def test_one_that_is_there_is_answered_without_a_word(tmp_path: Path) -> None:
    box = Box(tmp_path, SETTINGS)
    box.path().mkdir(parents=True)
    said: list[str] = []
    assert box.get(said.append) == box.path()
    assert said == []


@pytest.mark.root
@needs_root
def test_a_build_that_fails_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    box = Box(tmp_path, dataclasses.replace(SETTINGS, mirror="file:///nowhere"))
    with pytest.raises(ProviderError, match="building the root file system failed: .*nowhere"):
        box.get(lambda line: None)
    assert [path.name for path in (tmp_path / "rootfs").iterdir()] == [".lock"]


@pytest.mark.root
@pytest.mark.slow
@needs_root
def test_a_build_that_is_killed_takes_its_processes_along(tmp_path: Path) -> None:
    program = "import sys; from pathlib import Path; from labctl.providers.namespace.box import Box; from labctl.providers.settings import NamespaceSettings"
    program += "; Box(Path(sys.argv[1]), NamespaceSettings()).get(lambda line: print(line, flush=True))"
    process = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    for line in process.stdout:
        if "downloading packages" in line:
            break
    process.send_signal(signal.SIGKILL)
    process.communicate()
    deadline = time.monotonic() + 10
    while _mentions(str(tmp_path)):
        assert time.monotonic() < deadline, _mentions(str(tmp_path))
        time.sleep(0.02)
    assert not Box(tmp_path, SETTINGS).path().exists()
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()


def _mentions(word: str) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if word.encode() in path.read_bytes() and int(path.parent.name) != os.getpid():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found
