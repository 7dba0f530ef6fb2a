"""The agent as one file."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from io import BytesIO
from pathlib import Path

import pytest

from labctl.machines import zipapp


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    (folder / "part").mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "part" / "__init__.py").write_text("")
    (folder / "part" / "late.py").write_text("WORD = 'first'\n")
    (folder / "__main__.py").write_text(
        "import sys\n\n\ndef main():\n    print('runs', flush=True)\n    sys.stdin.readline()\n    from .part.late import WORD\n    print(WORD, __file__)\n    return 3\n"
    )
    return folder


def install(folder: Path, agent: zipapp.Agent) -> Path:
    """As apply.sh does: the file, and a link to it."""
    (folder / agent.file).write_bytes(agent.data)
    link = folder / "agent"
    link.unlink(missing_ok=True)
    link.symlink_to(agent.file)
    return link


def start(link: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, str(link)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout and process.stdout.readline() == "runs\n"
    return process


def test_the_same_sources_make_the_same_bytes(source: Path) -> None:
    first = zipapp.build(source=source)
    for path in source.rglob("*.py"):
        os.utime(path, (1, 1))
    (source / "notes.txt").write_text("not packed")
    assert zipapp.build(source=source) == first
    (source / "part" / "late.py").write_text("WORD = 'second'\n")
    assert zipapp.build(source=source).file != first.file


def test_it_runs_from_a_link_and_keeps_its_file(source: Path, tmp_path: Path) -> None:
    """A new agent is pushed while an old one runs, which then imports more."""
    old = start(install(tmp_path, zipapp.build(source=source)))
    (source / "part" / "late.py").write_text("# longer than before\nWORD = 'second'\n")
    new = start(install(tmp_path, zipapp.build(source=source)))
    assert old.communicate("\n")[0].split()[0] == "first"
    assert new.communicate("\n")[0].split()[0] == "second"
    assert (old.returncode, new.returncode) == (3, 3)


def test_compiled_forms_are_used_and_can_be_done_without(source: Path, tmp_path: Path) -> None:
    agent = zipapp.build(source=source)
    with zipfile.ZipFile(BytesIO(agent.data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    for name in members:
        if name.endswith(".py"):
            assert members[f"{name}c"]
    (source / "part" / "late.py").unlink()
    of_another_python = {name: b"\0\0\r\n" + data[4:] if name.endswith("c") else data for name, data in members.items()}
    only_compiled = {name: b"raise SystemExit('compiled anew')" if name.endswith("late.py") else data for name, data in members.items()}
    for number, variant in enumerate((of_another_python, only_compiled)):
        path = tmp_path / f"variant-{number}"
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in variant.items():
                archive.writestr(name, data)
        assert start(path).communicate("\n")[0].startswith("first")


def test_what_was_packed_is_kept(source: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    first = zipapp.build(cache, source)
    kept = next(cache.iterdir())
    assert zipapp.build(cache, source) == first
    kept.write_bytes(first.data[: len(first.data) // 2])  # a full disk
    assert zipapp.build(cache, source) == first
    assert kept.read_bytes() == first.data
    for number in range(10):
        (source / "part" / "late.py").write_text(f"WORD = {number}\n")
        zipapp.build(cache, source)
    assert len(list(cache.iterdir())) == zipapp.KEPT


def test_labctls_own_agent_starts_outside_of_any_checkout(tmp_path: Path) -> None:
    agent = install(tmp_path, zipapp.build())
    result = subprocess.run([sys.executable, "-I", str(agent), "--help"], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "facts" in result.stdout
