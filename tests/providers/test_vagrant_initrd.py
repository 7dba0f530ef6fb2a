"""The initrd's archive: the same bytes for the same content, readable by the kernel's own tools."""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from labctl.providers.vagrant import initrd


def fill(tree: Path) -> Path:
    (tree / "bin").mkdir(parents=True)
    (tree / "bin" / "busybox").write_bytes(b"\x7fELF" + b"x" * 1001)
    (tree / "bin" / "busybox").chmod(0o755)
    (tree / "bin" / "sh").symlink_to("busybox")
    (tree / "init").write_text("#!/bin/sh\n")
    return tree


def test_times_places_and_order_of_making_do_not_matter(tmp_path: Path) -> None:
    first, second = fill(tmp_path / "one"), tmp_path / "two"
    second.mkdir()
    shutil.copy(first / "init", second / "init")  # the other way round
    shutil.copytree(first / "bin", second / "bin", symlinks=True)
    os.utime(second / "init", (1, 1))
    assert initrd.archive(first) == initrd.archive(second)


def test_any_change_of_content_shows(tmp_path: Path) -> None:
    before = initrd.archive(fill(tmp_path / "tree"))
    (tmp_path / "tree" / "init").chmod(0o755)
    assert initrd.archive(tmp_path / "tree") != before


@pytest.mark.skipif(not shutil.which("busybox") and not shutil.which("cpio"), reason="no cpio here")
def test_cpio_unpacks_it(tmp_path: Path) -> None:
    archive = initrd.archive(fill(tmp_path / "tree"))
    target = tmp_path / "target"
    target.mkdir()
    cpio = ["cpio"] if shutil.which("cpio") else ["busybox", "cpio"]
    subprocess.run([*cpio, "-i", "-d"], input=gzip.decompress(archive), cwd=target, check=True, capture_output=True)
    assert (target / "bin" / "sh").readlink() == Path("busybox")
    assert (target / "bin" / "busybox").read_bytes() == (tmp_path / "tree" / "bin" / "busybox").read_bytes()
    assert (target / "bin" / "busybox").stat().st_mode & 0o777 == 0o755
