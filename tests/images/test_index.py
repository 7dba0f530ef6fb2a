from __future__ import annotations

import threading
from pathlib import Path

import pytest

from labctl.errors import LabctlError
from labctl.images.index import Blob, Image, Index


def image(name: str, platform: str = "linux/amd64") -> Image:
    return Image(name, "sha256:m", platform, Blob("sha256:c", 1, "config"), (Blob("sha256:l", 7, "layer"),))


def test_what_one_process_writes_another_reads(tmp_path: Path) -> None:
    writer, reader = Index(tmp_path / "images.json"), Index(tmp_path / "images.json")
    assert reader.names() == {}
    writer.add(image("a"), image("a", "linux/arm64"))
    assert reader.names() == {"a": {"linux/amd64": image("a"), "linux/arm64": image("a", "linux/arm64")}}
    writer.remove("a")
    writer.remove("a")
    assert reader.names() == {}


def test_many_writers_lose_nothing(tmp_path: Path) -> None:
    threads = [threading.Thread(target=Index(tmp_path / "images.json").add, args=(image(f"i{number}"),)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(Index(tmp_path / "images.json").names()) == 20


def test_a_writer_that_was_killed_in_the_middle_changes_nothing(tmp_path: Path) -> None:
    index = Index(tmp_path / "images.json")
    index.add(image("a"))
    (tmp_path / "images.new").write_bytes(b'{"a": {"linux/am')
    assert set(index.names()) == {"a"}
    index.add(image("b"))
    assert set(index.names()) == {"a", "b"}


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "images.json").write_text("{")
    with pytest.raises(LabctlError, match="images.json can't be read"):
        Index(tmp_path / "images.json").names()
