"""Files that people keep are written whole or not at all, whatever the disk does."""

import os
import stat
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from labctl.errors import LabctlError
from labctl.images import layout
from labctl.images.blobs import BlobStore
from labctl.measure import records
from labctl.paths import find_lab, read_file, remove_tree, write_whole
from tests.measure.test_records import measurement

PROGRAM = """
import resource, signal, sys
from pathlib import Path
from labctl.errors import LabctlError
from labctl.paths import find_lab, read_file, remove_tree, write_whole
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_whole(Path(sys.argv[1]), b"x" * 5000)
except LabctlError as error:
    print(error)
"""


@pytest.mark.parametrize("before", [b"the report of yesterday", None])
def test_without_room_what_was_there_stays(tmp_path, before):
    path = tmp_path / "report.html"
    if before is not None:
        path.write_bytes(before)
    done = subprocess.run([sys.executable, "-c", PROGRAM, path], capture_output=True, text=True, timeout=60, check=True)
    assert "report.html can't be written: File too large" in done.stdout
    assert {each.name: each.read_bytes() for each in tmp_path.iterdir()} == ({} if before is None else {"report.html": before})


def test_a_link_stays_one_and_what_is_no_file_is_written_to(tmp_path):
    (tmp_path / "link").symlink_to("file")
    write_whole(tmp_path / "link", b"1")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "file").read_bytes() == b"1"
    read, write = os.pipe()
    write_whole(tmp_path / f"../../../../../../../../proc/self/fd/{write}", b"piped")
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        assert pipe.read() == b"piped"


def test_whoever_writes_an_archive_or_a_measurement_replaces_no_device(tmp_path):
    """`labctl image save -f /dev/full` and `labctl measure --save /dev/stdout` put a file in the place of the device."""
    for name, write in (
        ("a.tar", lambda path: layout.write([], BlobStore(tmp_path / "blobs"), path)),
        ("m.jsonl", lambda path: records.write(measurement(), path)),
        ("m.jsonl.gz", lambda path: records.write(measurement(), path)),
    ):
        pipe = tmp_path / name
        os.mkfifo(pipe)
        with ThreadPoolExecutor(1) as reading:
            read = reading.submit(pipe.read_bytes)
            write(pipe)
            assert len(read.result(10)) > 100 and stat.S_ISFIFO(pipe.stat().st_mode)
        write(tmp_path / f"file-{name}")
        assert (tmp_path / f"file-{name}").stat().st_size > 100
        with pytest.raises(LabctlError, match="can't be written"):
            write(tmp_path / "absent" / name)
        with pytest.raises(LabctlError, match="can't be written"):
            write(tmp_path)
    assert not list(tmp_path.glob("*.new*"))


@pytest.mark.parametrize("path", ["absent/file", ".", "x" * 300])
def test_what_can_not_be_written_is_one_line(tmp_path, path):
    with pytest.raises(LabctlError, match="can't be written"):
        write_whole(tmp_path / path, b"1")


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="looks as another user")
def test_a_folder_that_nobody_may_look_into_is_no_lab_of_ours(tmp_path):
    """A command below it ended with a traceback."""
    (tmp_path / ".labctl").mkdir()
    (tmp_path / ".labctl/lab.json").write_text("{}")
    below = tmp_path / "a/b"
    below.mkdir(parents=True)
    assert find_lab(below) == tmp_path / ".labctl"
    tmp_path.chmod(0o700)
    os.seteuid(65534)
    try:
        assert find_lab(below) is None
    finally:
        os.seteuid(0)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files immutable")
def test_a_tree_that_its_author_made_immutable_is_removed():
    """Root on a namespace machine did, and the machine's files stayed on the host for ever."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:  # /tmp may be in memory, where no file is immutable
        immutable_tree_is_removed(Path(folder))


def immutable_tree_is_removed(tmp_path):
    kept = tmp_path / "kept"
    kept.write_text("of somebody else")
    below = tmp_path / "tree" / "a" / "b"
    below.mkdir(parents=True)
    (below / "file").touch()
    (below / "link").symlink_to(kept)
    try:
        subprocess.run(["chattr", "-R", "-f", "+i", tmp_path / "tree", kept], check=False)  # of a link it has nothing to set, and says so
        if not _is_immutable(kept):
            pytest.skip("this file system knows no such files")
        assert _is_immutable(below / "file")
        remove_tree(tmp_path / "tree")
        assert not (tmp_path / "tree").exists()
        assert _is_immutable(kept), "no link is followed"
    finally:
        subprocess.run(["chattr", "-R", "-f", "-i", tmp_path], check=False)


def test_a_tree_of_many_folders_goes_and_what_its_links_lead_to_stays(tmp_path):
    for name in ("kept", "too"):
        (tmp_path / "other" / name).mkdir(parents=True)
    tree = tmp_path / "tree"
    for number in range(40):
        for part in range(20):
            (tree / str(number) / str(part) / "deeper").mkdir(parents=True)
            (tree / str(number) / str(part) / "deeper" / "file").write_bytes(b"x")
        (tree / str(number) / "file").write_bytes(b"x")
        (tree / str(number) / "link").symlink_to(tmp_path / "other")
    (tree / "link").symlink_to(tmp_path / "other")
    remove_tree(tree)
    assert not tree.exists() and len(list((tmp_path / "other").iterdir())) == 2
    remove_tree(tree)  # what is not there is no error
    tree.symlink_to(tmp_path / "other")
    remove_tree(tree)
    assert len(list((tmp_path / "other").iterdir())) == 2


def _is_immutable(path):
    shown = subprocess.run(["lsattr", path], capture_output=True, text=True).stdout
    return "i" in shown.partition(" ")[0]


@pytest.mark.parametrize(
    "make_it", [os.mkfifo, lambda path: path.symlink_to("/etc/passwd"), lambda path: path.write_bytes(b"x" * 101), os.mkdir]
)
def test_what_a_stranger_put_in_a_files_place_is_not_read(tmp_path, make_it):
    path = tmp_path / "file"
    make_it(path)
    with pytest.raises(OSError):
        read_file(path, 100)


def test_a_file_up_to_its_bound_is_read(tmp_path):
    (tmp_path / "file").write_bytes(b"x" * 100)
    assert read_file(tmp_path / "file", 100) == b"x" * 100
