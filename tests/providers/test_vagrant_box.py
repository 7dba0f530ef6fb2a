"""The box, really built: the same inputs give the same bytes. Takes minutes, so it runs only where LABCTL_TEST_BOX=1 asks for it."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import pytest

from labctl.providers.settings import VagrantSettings
from labctl.providers.vagrant.box import Box

MOST_BYTES = 200_000_000


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(os.environ.get("LABCTL_TEST_BOX") != "1", reason="builds a box twice: set LABCTL_TEST_BOX=1")
def test_two_builds_are_the_same_bytes_and_small(tmp_path: Path) -> None:
    boxes = [Box(tmp_path / cache, VagrantSettings()) for cache in ("one", "two")]
    first, second = (box.get(print) for box in boxes)
    assert first.read_bytes() == second.read_bytes()
    assert first.stat().st_size < MOST_BYTES
    with tarfile.open(first) as box:
        assert box.getnames() == ["metadata.json", "Vagrantfile", "vmlinuz", "initrd", "box.img"]
    assert [path.name for path in first.parent.iterdir() if path.name != ".lock"] == [first.name]
