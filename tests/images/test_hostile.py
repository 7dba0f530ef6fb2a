"""Image archives that are damaged or made to harm: each is one line about the archive, at once, and leaves nothing behind."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from labctl.errors import LabctlError, UsageError
from labctl.images import archive, layout
from labctl.images.blobs import BlobStore
from labctl.images.index import Image
from labctl.tarfiles import tarfile

NAME = "docker.io/library/x:1"
SIZE, MODE, LINK = slice(124, 136), slice(100, 108), slice(157, 257)


def header(name: str = "x", size: int = 0, kind: bytes = tarfile.REGTYPE, **fields: Any) -> bytes:
    """A header as it lies in an archive. `raw` puts bytes at a place in it, which no program would write there."""
    entry = tarfile.TarInfo(name)
    entry.size, entry.type = size, kind
    raw = bytearray(entry.tobuf(tarfile.USTAR_FORMAT))
    if "raw" in fields:
        place, data = fields["raw"]
        raw[place] = data.ljust(place.stop - place.start, b"\0")
    raw[148:156] = b" " * 8
    raw[148:156] = b"%06o\0 " % sum(raw)
    return bytes(raw)


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


def member(name: str, data: bytes, kind: bytes = tarfile.REGTYPE) -> bytes:
    return header(name, len(data), kind) + padded(data)


def extended(**words: str) -> bytes:
    """An extended header (pax) before the next member; `__` stands for a dot."""
    data = b""
    for key, value in words.items():
        line = f" {key.replace('__', '.')}={value}\n".encode()
        size = len(line) + 1
        while size != len(line) + len(str(size)):
            size = len(line) + len(str(size))
        data += str(size).encode() + line
    return member("pax", data, tarfile.XHDTYPE)


HOLES = {"GNU__sparse__major": "1", "GNU__sparse__minor": "0", "GNU__sparse__name": "x", "GNU__sparse__realsize": "100"}

ARCHIVES = {
    "a negative size": header(raw=(SIZE, b"\xff" * 12)),
    "a negative size in an extended header": extended(size="-1024") + header(),
    "an extended header of negative size": header(kind=tarfile.XHDTYPE, raw=(SIZE, b"\xff" * 11 + b"\0")),
    "a name of a megabyte": member("p", b"n" * 1_000_000 + b"\0", tarfile.GNUTYPE_LONGNAME) + header(),
    "a path of a megabyte": extended(path="n" * 1_000_000) + header(),
    "folders two thousand deep": extended(path="n/" * 2000 + "x") + header(),
    "a name with a zero": extended(path="a\0b") + header(),
    "headers before headers": extended(comment="x") * 5000 + header(),
    "long names before long names": member("p", b"name\0", tarfile.GNUTYPE_LONGNAME) * 5000 + header(),
    "holes": extended(**HOLES) + header(size=512) + padded(b"1\n0\n0\n"),
    "holes, an older form": extended(GNU__sparse__map="x,y") + header(),
    "holes, the oldest form": header(kind=tarfile.GNUTYPE_SPARSE),
    "a file where a folder is": member("a/b", b"x") + member("a", b"x"),
    "a folder where a file is": member("a", b"x") + member("a/b", b"x"),
    "a link to nothing": header(kind=tarfile.LNKTYPE, raw=(LINK, b"nope")),
    "a link to itself": header(kind=tarfile.LNKTYPE, raw=(LINK, b"x")),
    "a circle of links": header(kind=tarfile.SYMTYPE, raw=(LINK, b"x")) + member("x/y", b"z"),
    "a device": header(kind=tarfile.CHRTYPE),
}


@pytest.mark.parametrize("packed", [bytes, gzip.compress])
@pytest.mark.parametrize("what", ARCHIVES)
def test_a_hostile_archive_is_one_line(blobs: BlobStore, tmp_path: Path, what: str, packed: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(packed(ARCHIVES[what] + bytes(1024)))
    with pytest.raises(UsageError) as refused:
        layout.read(path, blobs, name=NAME)
    assert "no image" in str(refused.value) and "\n" not in str(refused.value) and len(str(refused.value)) < 600
    assert list(blobs.folder.iterdir()) == []


@pytest.mark.parametrize("time", ["nan", "inf", "1e300", "-5"])
def test_a_time_that_is_none_does_no_harm(blobs: BlobStore, make_image: Callable[..., Image], tmp_path: Path, time: str) -> None:
    layout.write([make_image(blobs, NAME)], blobs, tmp_path / "good.tar")
    (tmp_path / "x.tar").write_bytes(extended(mtime=time) + member("x", b"y") + (tmp_path / "good.tar").read_bytes())
    assert [image.name for image in layout.read(tmp_path / "x.tar", BlobStore(tmp_path / "other"))] == [NAME]


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK])
def test_a_header_of_gigabytes_is_not_read(blobs: BlobStore, tmp_path: Path, kind: bytes) -> None:
    """300 KB of gzip took 2 GB of memory, and half a minute."""
    path = tmp_path / "x.tar.gz"
    with gzip.open(path, "wb", 1) as file:
        file.write(header(size=64 << 20, kind=kind))
        for _ in range(64):
            file.write(b"a" * (1 << 20))
    tracemalloc.start()
    try:
        with pytest.raises(UsageError, match="a header of 67108864 bytes"):
            layout.read(path, blobs)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("pack", [gzip.open, bz2.open, lzma.open])
def test_a_compressed_archive_is_read_once_from_its_beginning_to_its_end(
    tmp_path: Path, pack: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Going back in it would unpack it anew each time."""
    path = tmp_path / "x.tar"
    with pack(path, "wb") as file:
        for number in range(300):
            file.write(member(f"{number}", b"x" * (number % 3)))
        file.write(bytes(1024))

    def seek(*_: Any) -> int:
        raise AssertionError("it was sought in")

    for opened in (gzip.GzipFile, bz2.BZ2File, lzma.LZMAFile):
        monkeypatch.setattr(opened, "seek", seek)
    (tmp_path / "out").mkdir()
    archive.unpack(path, str(tmp_path / "out"))
    assert len(list((tmp_path / "out").iterdir())) == 300


DAMAGED: dict[str, Any] = {
    "null": None,
    "a number": 5,
    "a text": "x",
    "manifests that are a number": {"manifests": 5},
    "a manifest that is a number": {"manifests": [5]},
    "a manifest without a digest": {"manifests": [{}]},
    "a digest that is a number": {"manifests": [{"digest": 5}]},
    "annotations that are a number": {"manifests": [{"digest": "sha256:" + "0" * 64, "annotations": 5}]},
    "a path as a digest": {"manifests": [{"digest": "sha256:../../etc/passwd"}]},
}
SAVED: dict[str, Any] = {
    "a number": 5,
    "entries that are numbers": [5],
    "no configuration": [{"Layers": []}],
    "a number as a path": [{"Config": 5, "Layers": []}],
    "layers that are a number": [{"Config": "manifest.json", "Layers": 5}],
    "a list as the configuration": [{"Config": "manifest.json", "Layers": [], "RepoTags": ["a:b"]}],
    "a path of a megabyte": [{"Config": "x" * 1_000_000, "Layers": []}],
    "a path with a zero": [{"Config": "a\0b", "Layers": []}],
}


@pytest.mark.parametrize("what", DAMAGED)
def test_a_damaged_index_is_one_line(blobs: BlobStore, tmp_path: Path, what: str) -> None:
    refused(blobs, tmp_path, "index.json", json.dumps(DAMAGED[what]))


@pytest.mark.parametrize("what", SAVED)
def test_a_damaged_list_of_docker_is_one_line(blobs: BlobStore, tmp_path: Path, what: str) -> None:
    refused(blobs, tmp_path, "manifest.json", json.dumps(SAVED[what]))


@pytest.mark.parametrize("text", ["[" * 100_000, '{"manifests":' * 100_000, "NaN", "{", '{"manifests":[' + "9" * 100_000])
@pytest.mark.parametrize("name", ["index.json", "manifest.json"])
def test_what_is_no_json_is_one_line(blobs: BlobStore, tmp_path: Path, name: str, text: str) -> None:
    refused(blobs, tmp_path, name, text)


def refused(blobs: BlobStore, tmp_path: Path, name: str, text: str) -> None:
    folder = tmp_path / "layout"
    folder.mkdir()
    (folder / name).write_text(text)
    with pytest.raises(LabctlError) as error:
        layout.read(folder, blobs, name=NAME)
    assert len(str(error.value)) < 600


MANIFESTS: dict[str, Any] = {
    "a list": [],
    "no layers": {"config": {"digest": "sha256:" + "0" * 64, "size": 1}},
    "numbers": {"config": 5, "layers": 5},
    "a size in words": {"config": {"digest": "sha256:" + "0" * 64, "size": "big"}, "layers": []},
    "a negative size": {"config": {"digest": "sha256:" + "0" * 64, "size": -5}, "layers": []},
}
CONFIGS: dict[str, Any] = {
    "a list": [],
    "a number as the system": {"os": 5},
    "a list as the architecture": {"os": "linux", "architecture": ["x"]},
}


@pytest.mark.parametrize("what", [*(("manifest", each) for each in MANIFESTS), *(("config", each) for each in CONFIGS)])
def test_a_damaged_manifest_or_configuration_is_one_line(blobs: BlobStore, tmp_path: Path, what: tuple[str, str]) -> None:
    part, each = what
    store = BlobStore(tmp_path / "made")
    if part == "manifest":
        digest = store.put(json.dumps(MANIFESTS[each]).encode())
    else:
        config = json.dumps(CONFIGS[each]).encode()
        digest = store.put(json.dumps({"config": {"digest": store.put(config), "size": len(config)}, "layers": []}).encode())
    with pytest.raises(LabctlError, match="is damaged"):
        layout.read(indexed(store, tmp_path, [digest]), blobs, name=NAME)


def test_indexes_that_name_each_other_have_an_end(blobs: BlobStore, tmp_path: Path) -> None:
    """Three small files stand for a hundred million images."""
    store = BlobStore(tmp_path / "made")
    config = json.dumps({"os": "linux", "architecture": "amd64"}).encode()
    digest = store.put(json.dumps({"config": {"digest": store.put(config), "size": len(config)}, "layers": []}).encode())
    for _ in range(3):
        digest = store.put(json.dumps({"manifests": [{"digest": digest}] * 500}).encode())
    with pytest.raises(UsageError, match="more than 10000 entries"):
        layout.read(indexed(store, tmp_path, [digest]), blobs, name=NAME)


def indexed(store: BlobStore, tmp_path: Path, digests: list[str]) -> Path:
    """A layout with these manifests, and all that the store has."""
    folder = tmp_path / "layout"
    target = folder / "blobs/sha256"
    target.mkdir(parents=True)
    for path in _files(store):
        (target / path.name).write_bytes(path.read_bytes())
    (folder / "index.json").write_text(json.dumps({"manifests": [{"digest": each} for each in digests]}))
    return folder


def _files(store: BlobStore) -> Iterator[Path]:
    return store.path("sha256:" + "0" * 64).parent.iterdir()
