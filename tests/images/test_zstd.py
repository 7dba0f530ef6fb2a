"""Images whose layers or whole archive are compressed by zstd."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import zstandard

from labctl.errors import LabctlError, UsageError
from labctl.images import documents, layout, zstd
from labctl.images.blobs import BlobStore

ZSTD_LAYER = documents.LAYER + "+zstd"


def layer() -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        entry = tarfile.TarInfo("hello")
        entry.size = 5
        tar.addfile(entry, io.BytesIO(b"hello"))
    return raw.getvalue()


def archive(folder: Path, content: bytes, media_type: str = ZSTD_LAYER, digest: str = "") -> Path:
    """An OCI archive with one layer."""
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def put(raw: bytes, media_type: str, digest: str = "") -> dict[str, object]:
        digest = digest or hashlib.sha256(raw).hexdigest()
        (blobs / digest).write_bytes(raw)
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(raw)}

    config = put(json.dumps({"os": "linux", "architecture": "amd64"}).encode(), layout.CONFIG)
    manifest = {"schemaVersion": 2, "config": config, "layers": [put(content, media_type, digest)]}
    entry = put(json.dumps(manifest).encode(), layout.MANIFEST)
    entry["annotations"] = {"io.containerd.image.name": "docker.io/library/tool:v1"}
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    path = folder.with_suffix(".tar")
    with tarfile.open(path, "w") as tar:
        tar.add(folder, ".")
    return path


def test_a_layer_of_zstd_becomes_one_of_gzip(blobs: BlobStore, tmp_path: Path) -> None:
    [image] = layout.read(archive(tmp_path / "image", zstandard.compress(layer())), blobs)
    [found] = image.layers
    assert image.name == "docker.io/library/tool:v1" and found.media_type == documents.LAYER + "+gzip"
    assert gzip.decompress(blobs.path(found.digest).read_bytes()) == layer()
    [again] = layout.read(tmp_path / "image", blobs)
    assert again.digest == image.digest


def test_a_whole_archive_of_several_frames(blobs: BlobStore, tmp_path: Path) -> None:
    path = archive(tmp_path / "image", layer(), documents.LAYER)
    raw, packed = path.read_bytes(), tmp_path / "image.tar.zst"
    packed.write_bytes(zstandard.compress(raw[:1000]) + zstandard.compress(raw[1000:]))
    [image] = layout.read(packed, blobs)
    assert blobs.path(image.layers[0].digest).read_bytes() == layer()


@pytest.mark.parametrize("cut", [6, 40])
def test_a_damaged_archive_is_said_in_one_line(blobs: BlobStore, tmp_path: Path, cut: int) -> None:
    packed = tmp_path / "image.tar.zst"
    packed.write_bytes(zstandard.compress(archive(tmp_path / "image", layer(), documents.LAYER).read_bytes())[:cut])
    with pytest.raises(UsageError, match="damaged|no image archive"):
        layout.read(packed, blobs)


def test_a_layer_with_another_digest_is_refused(blobs: BlobStore, tmp_path: Path) -> None:
    with pytest.raises(LabctlError, match="is damaged"):
        layout.read(archive(tmp_path / "image", zstandard.compress(layer()), digest="0" * 64), blobs)


def test_a_bomb_and_a_window_as_large_as_memory_are_refused(tmp_path: Path) -> None:
    bomb, target = tmp_path / "bomb", io.BytesIO()
    bomb.write_bytes(zstandard.compress(bytes(4 << 20)))
    with pytest.raises(UsageError, match="unpacks to more than 1048576 bytes"):
        zstd.as_gzip(bomb, target, 1 << 20)
    wide = zstandard.ZstdCompressionParameters(window_log=28, enable_ldm=True)
    compressor = zstandard.ZstdCompressor(compression_params=wide).compressobj()
    bomb.write_bytes(compressor.compress(bytes(1 << 20)) + compressor.flush())
    with pytest.raises(UsageError, match="damaged"):
        zstd.as_gzip(bomb, target)


def test_it_is_not_imported_before_it_is_needed() -> None:
    program = "import sys, labctl.cli.main, labctl.images.layout; sys.exit('zstandard' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
