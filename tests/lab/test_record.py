"""A lab's record that is damaged, somebody else's or made to harm is one line, and nothing is started or removed because of it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from labctl.errors import LabctlError
from labctl.lab import Lab


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the record of a lab without machines, whose state is in a folder of its own."""
    state = tmp_path / "state/lab-0123abcd"
    state.mkdir(parents=True)
    (state / "store.db").write_text("the lab's")
    write(tmp_path / "lab", id="lab-0123abcd", state=str(state), cache=str(tmp_path / "cache"), kept={})
    return tmp_path / "lab"


def write(folder: Path, /, **record: object) -> None:
    (folder / ".labctl").mkdir(parents=True, exist_ok=True)
    (folder / ".labctl/lab.json").write_text(json.dumps(record))


def lab_in(folder: Path, **environment: str) -> Lab:
    return Lab(folder, environment={"PATH": os.environ["PATH"], "HOME": str(folder), **environment})


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "[]",
        "{",
        "[" * 100_000,
        '{"a":' * 100_000,
        "\udcff",
        '{"id": "lab-1", "state": "x", "cache": "y", "kept": {"provider": ["x"]}}',
    ]
    + [json.dumps({"id": each, "state": "x", "cache": "y", "kept": {}}) for each in ("", "../x", "lab-/", "lab-1\n", "lab-" + "x" * 300, 5)]
    + [json.dumps({"id": "lab-1", "state": "a\0b", "cache": "y", "kept": {}}), '"' + "x" * (2 << 20) + '"'],
)
def test_what_is_no_record_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / ".labctl").mkdir()
    (tmp_path / ".labctl/lab.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(LabctlError, match="lab.json is damaged: ") as raised:
        _ = lab_in(tmp_path).record
    assert len(str(raised.value)) < 1000


def test_only_a_folder_of_the_labs_own_is_removed(tmp_path: Path, folder: Path) -> None:
    """A record in a folder that came from elsewhere would have any folder removed, by root."""
    precious = tmp_path / "precious"
    (precious / "store").mkdir(parents=True)
    (precious / "file").write_text("mine")
    write(folder, id="lab-0123abcd", state=str(precious), cache=str(tmp_path / "cache"), kept={})
    with pytest.raises(LabctlError, match="which is no folder of lab lab-0123abcd"):
        lab_in(folder).destroy()
    assert (precious / "file").read_text() == "mine"
    write(folder, id="lab-0123abcd", state=str(tmp_path / "state/lab-0123abcd"), cache=str(tmp_path / "cache"), kept={})
    lab_in(folder).destroy()
    assert not (tmp_path / "state/lab-0123abcd").exists() and not (folder / ".labctl").exists()


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="gives files to another user")


@pytest.mark.root
@needs_root
@pytest.mark.parametrize("name", [".labctl", ".labctl/lab.json", ".labctl/ssh_config", ".labctl/kubeconfig", ".labctl/ssh"])
def test_a_lab_of_another_user_is_not_used(folder: Path, name: str) -> None:
    """Whoever may write above the folder in which a command is given could have it start programs (as CVE-2022-24765 with git)."""
    (folder / ".labctl/ssh").mkdir()
    (folder / ".labctl/ssh_config").touch()
    (folder / ".labctl/kubeconfig").touch()
    os.chown(folder / name, 4321, 4321)
    with pytest.raises(LabctlError, match=r"belongs to another user \(uid 4321\)"):
        _ = lab_in(folder).record
    with pytest.raises(LabctlError, match="belongs to another user"):
        _ = lab_in(folder, SUDO_UID="5432").kubeconfig
    assert lab_in(folder, SUDO_UID="4321").record["id"] == "lab-0123abcd", "with sudo it is whoever gave the command"


@pytest.mark.root
@needs_root
def test_a_command_below_another_users_folder_says_so(folder: Path) -> None:
    below = folder / "a/b"
    below.mkdir(parents=True)
    os.chown(folder / ".labctl", 4321, 4321)
    for words in (["status"], ["get", "pods"], ["ssh", "minion-1"], ["destroy", "--yes"], ["halt"]):
        done = subprocess.run(
            [sys.executable, "-m", "labctl", *words], cwd=below, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL
        )
        assert done.returncode in (1, 2) and "belongs to another user" in done.stderr, (words, done.stderr)
        assert len(done.stderr.strip().splitlines()) == 1


def test_a_copy_of_a_lab_is_none(tmp_path: Path, folder: Path) -> None:
    """Its machines and state are the other's: whoever removed the copy would remove them."""
    record = json.loads((folder / ".labctl/lab.json").read_text())
    write(folder, **record, folder=str(folder))
    copy = shutil.copytree(folder, tmp_path / "copy")
    with pytest.raises(LabctlError, match="copy/.labctl is a copy: lab lab-0123abcd with its machines is that of .*/lab: work there"):
        lab_in(copy).destroy()
    assert (tmp_path / "state/lab-0123abcd/store.db").exists()
    (tmp_path / "name").symlink_to(folder)
    assert lab_in(tmp_path / "name").moved_from == lab_in(folder).moved_from == ""


@pytest.mark.parametrize("left", ["nothing", "an empty folder", "another lab", "no record"])
def test_a_lab_that_was_moved_is_the_same_lab(tmp_path: Path, folder: Path, left: str) -> None:
    record = json.loads((folder / ".labctl/lab.json").read_text())
    write(folder, **record, folder=str(folder))
    moved = folder.rename(tmp_path / "moved")
    if left != "nothing":
        (folder / ".labctl").mkdir(parents=True)
    if left == "another lab":
        write(folder, **{**record, "id": "lab-89abcdef"})
    if left == "no record":
        os.mkfifo(folder / ".labctl/lab.json")
    assert lab_in(moved).moved_from == str(folder)
    with pytest.raises(LabctlError, match="this lab was in .*/lab when its ssh_config was written: labctl up"):
        lab_in(moved).ssh("minion-1")
    lab_in(moved).save()
    assert lab_in(moved).moved_from == ""


@pytest.mark.parametrize("name", ["a\nb", "a:b", "${HOME}", "\udcff", "\x1b[2J"])
def test_no_lab_is_made_where_ssh_and_kubectl_could_not_name_its_files(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(LabctlError, match="no lab can be made in ") as raised:
        lab_in(tmp_path / name).up()
    assert str(raised.value).isprintable() and not list((tmp_path / name).iterdir())


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_a_record_that_is_no_file_is_not_waited_for(tmp_path: Path, make: Callable[[Path], None]) -> None:
    (tmp_path / ".labctl").mkdir()
    make(tmp_path / ".labctl/lab.json")
    with pytest.raises(LabctlError, match="lab.json is no file"):
        _ = lab_in(tmp_path).record


@pytest.mark.parametrize("make", [lambda path: path.write_text(""), lambda path: path.symlink_to("/nowhere/x")])
def test_where_no_folder_can_be_made_it_is_one_line(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / ".labctl")
    with pytest.raises(LabctlError, match=r"the folder .*/\.labctl can't be made: File exists"):
        lab_in(tmp_path).up()
