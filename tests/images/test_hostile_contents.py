"""Image archives that say one thing and hold another, or that make much work of little: each is one line, at once, and nothing is taken from it."""

from __future__ import annotations

import json
import lzma
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from labctl.errors import LabctlError, UsageError
from labctl.images import archive, layout, source, xz
from labctl.images.blobs import BlobStore
from labctl.images.index import Image
from tests.images.test_hostile import NAME, indexed, member


@pytest.mark.parametrize("part", ["manifest", "configuration"])
def test_a_blob_that_the_store_has_is_not_believed_to_be_another(
    blobs: BlobStore, make_image: Callable[..., Image], tmp_path: Path, part: str
) -> None:
    """A pod that names an image by its digest would run another one: the archive calls its own manifest by the digest of the true one."""
    true = make_image(blobs, NAME)
    made = BlobStore(tmp_path / "made")
    for digest in true.blobs:
        made.put(blobs.path(digest).read_bytes())
    layer = made.put(b"evil")
    if part == "manifest":
        evil = {"config": {"digest": true.config.digest, "size": 1}, "layers": [{"digest": layer, "size": 4}]}
        made.path(true.digest).write_bytes(json.dumps(evil).encode())
        named = true.digest
    else:
        made.path(true.config.digest).write_bytes(b'{"os": "windows", "architecture": "amd64"}')
        named = made.put(json.dumps({"config": {"digest": true.config.digest, "size": 1}, "layers": []}).encode())
    with pytest.raises(LabctlError, match="is damaged: its bytes have the digest"):
        layout.read(indexed(made, tmp_path, [named]), blobs, name=NAME)


@pytest.fixture
def manifest(tmp_path: Path) -> Callable[..., tuple[BlobStore, str, str]]:
    def make(layers: int = 0, **more: object) -> tuple[BlobStore, str, str]:
        store = BlobStore(tmp_path / "made")
        config = store.put(json.dumps({"os": "linux", "architecture": "amd64", **more}).encode())
        layer = {"digest": store.put(b"layer"), "size": 5}
        return store, store.put(json.dumps({"config": {"digest": config, "size": 1}, "layers": [layer] * layers}).encode()), config

    return make


def test_names_and_entries_do_not_multiply(blobs: BlobStore, tmp_path: Path, manifest: Callable[..., tuple[BlobStore, str, str]]) -> None:
    """Two files of 1 MB would stand for a billion images."""
    store, digest, config = manifest()
    folder = indexed(store, tmp_path, [digest] * 10_000)
    tags = [f"x:{number}" for number in range(60_000)]
    (folder / "manifest.json").write_text(json.dumps([{"Config": f"{config[7:]}.json", "RepoTags": tags}]))
    with pytest.raises(UsageError, match="more than 100000 layers and names"):
        layout.read(folder, blobs)


def test_layers_are_counted(blobs: BlobStore, tmp_path: Path, manifest: Callable[..., tuple[BlobStore, str, str]]) -> None:
    store, digest, _ = manifest(layers=20_000)
    with pytest.raises(UsageError, match="has 20000 layers, more than 1000"):
        layout.read(indexed(store, tmp_path, [digest]), blobs, name=NAME)


def test_large_documents_that_are_named_again_and_again_have_a_bound(
    blobs: BlobStore, tmp_path: Path, manifest: Callable[..., tuple[BlobStore, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "DOCUMENTS_BYTES_MAX", 5 << 20)
    store, digest, _ = manifest(comment="x" * (1 << 20))
    with pytest.raises(UsageError, match="indexes, manifests and configurations have more than"):
        layout.read(indexed(store, tmp_path, [digest] * 100), blobs, name=NAME)
    assert len(layout.read(indexed(store, tmp_path / "fine", [digest] * 3), blobs, name=NAME)) == 3


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        ({"Layers": ["layer"] * 100_000}, "has 100000 layers, more than 1000"),
        ({"RepoTags": [f"x:{number}" for number in range(200_000)]}, "more than 100000 layers and names"),
    ],
)
def test_dockers_list_is_counted_too(blobs: BlobStore, tmp_path: Path, entry: dict[str, object], why: str) -> None:
    folder = tmp_path / "saved"
    folder.mkdir()
    (folder / "c.json").write_text('{"os": "linux", "architecture": "amd64"}')
    (folder / "layer").write_bytes(b"layer")
    (folder / "manifest.json").write_text(json.dumps([{"Config": "c.json", "RepoTags": ["x:1"], "Layers": [], **entry}]))
    with pytest.raises(UsageError, match=why):
        layout.read(folder, blobs)


def test_a_layer_that_is_named_again_is_read_once(blobs: BlobStore, tmp_path: Path) -> None:
    folder = tmp_path / "saved"
    folder.mkdir()
    (folder / "c.json").write_text('{"os": "linux", "architecture": "amd64"}')
    (folder / "layer").write_bytes(b"layer")
    (folder / "manifest.json").write_text(json.dumps([{"Config": "c.json", "RepoTags": ["x:1"], "Layers": ["layer"] * 500}]))
    [image] = layout.read(folder, blobs)
    assert len(image.layers) == 500 and len(set(image.layers)) == 1


def test_an_archive_of_xz_takes_no_more_memory_than_xz_itself(blobs: BlobStore, tmp_path: Path) -> None:
    """It says how much must be kept of what was unpacked: 200 KB of it took as much memory as it liked, up to 4 GiB."""
    path = tmp_path / "x.tar.xz"
    program = """
import lzma, sys
filters = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 1 << 30}]
with lzma.open(sys.argv[1], "wb", filters=filters) as file:
    file.write(sys.stdin.buffer.read())
"""
    subprocess.run([sys.executable, "-c", program, path], input=member("index.json", b"{}"), check=True, timeout=60)
    with pytest.raises(UsageError, match="needs more than 192 MiB of memory"):
        layout.read(path, blobs)


def test_xz_in_several_streams_with_padding_is_read_and_a_cut_one_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "x.xz"
    path.write_bytes(lzma.compress(b"a" * 1_000_000) + bytes(8) + lzma.compress(b"b") + bytes(4))
    with xz.Unpacked(path) as unpacked:
        assert unpacked.readall() == b"a" * 1_000_000 + b"b"
    path.write_bytes(lzma.compress(bytes(range(256)) * 100)[:-20])
    with pytest.raises(UsageError, match="is damaged"), xz.Unpacked(path) as unpacked:
        unpacked.readall()
    (tmp_path / "folder").mkdir()
    path.write_bytes(lzma.compress(member("a", b"x") + bytes(1024)))
    archive.unpack(path, str(tmp_path / "folder"))
    assert (tmp_path / "folder/a").read_bytes() == b"x"
