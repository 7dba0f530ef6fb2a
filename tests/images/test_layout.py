from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from labctl.errors import LabctlError, UsageError
from labctl.images import archive, documents, layout
from labctl.images.blobs import BlobStore
from labctl.images.index import Image
from labctl.tarfiles import tarfile

NGINX, TOOL = "docker.io/library/nginx:latest", "registry.example/tool:v1"


@pytest.fixture
def other(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "other")


def test_what_is_written_is_read_again(blobs: BlobStore, other: BlobStore, make_image: Callable[..., Image], tmp_path: Path) -> None:
    images = [make_image(blobs, NGINX), make_image(blobs, TOOL, "tool", "arm64")]
    layout.write(images, blobs, tmp_path / "out.tar")
    found = layout.read(tmp_path / "out.tar", other)
    assert [(image.name, image.digest, image.platform, image.layers) for image in found] == [
        (image.name, image.digest, image.platform, image.layers) for image in images
    ]
    assert all(other.has(digest) for image in found for digest in image.blobs)


def test_the_archive_reads_as_a_docker_save_too(
    blobs: BlobStore, other: BlobStore, make_image: Callable[..., Image], tmp_path: Path
) -> None:
    layout.write([make_image(blobs, NGINX)], blobs, tmp_path / "out.tar")
    with tarfile.open(tmp_path / "out.tar") as archive:
        archive.extractall(tmp_path / "out", filter="data")
    (tmp_path / "out" / "index.json").unlink()
    (found,) = layout.read(tmp_path / "out", other)
    assert (found.name, found.platform) == (NGINX, "linux/amd64")


def docker_save(
    folder: Path, tags: list[str] | None, *, zipped: bool = False, config: str = "c0ffee.json", layer: str = "1/layer.tar"
) -> Path:
    """As docker wrote it for ten years: a folder per layer."""
    content = b"not really a tar"
    folder.mkdir()
    (folder / "1").mkdir()
    (folder / "1" / "layer.tar").write_bytes(gzip.compress(content) if zipped else content)
    (folder / "c0ffee.json").write_text(json.dumps({"os": "linux", "architecture": "arm64", "variant": "v8"}))
    (folder / "manifest.json").write_text(json.dumps([{"Config": config, "RepoTags": tags, "Layers": [layer]}]))
    with tarfile.open(folder.with_suffix(".tar"), "w") as archive:
        archive.add(folder, ".")
    return folder.with_suffix(".tar")


@pytest.mark.parametrize("zipped", [False, True])
def test_an_old_docker_save_is_read(blobs: BlobStore, tmp_path: Path, zipped: bool) -> None:
    found = layout.read(docker_save(tmp_path / "save", ["nginx:latest", "tool:v2"], zipped=zipped), blobs)
    assert [(image.name, image.platform) for image in found] == [(NGINX, "linux/arm64"), ("docker.io/library/tool:v2", "linux/arm64")]
    assert found[0].layers[0].media_type == documents.LAYER + ("+gzip" if zipped else "")
    assert blobs.read_json(found[0].digest)["config"]["digest"] == found[0].config.digest


def test_a_compressed_archive_is_read(blobs: BlobStore, tmp_path: Path) -> None:
    plain = docker_save(tmp_path / "save", ["nginx"])
    zipped = tmp_path / "save.tar.gz"
    zipped.write_bytes(gzip.compress(plain.read_bytes()))
    assert layout.read(zipped, blobs)[0].name == NGINX


def test_an_image_without_a_name_takes_the_one_that_is_said(blobs: BlobStore, tmp_path: Path) -> None:
    path = docker_save(tmp_path / "save", None)
    with pytest.raises(UsageError, match="carries no name"):
        layout.read(path, blobs)
    assert layout.read(path, blobs, name="mine")[0].name == "docker.io/library/mine:latest"


@pytest.mark.parametrize("member", [{"config": "../../../etc/passwd"}, {"layer": "/etc/passwd"}])
def test_no_path_leads_out_of_the_archive(blobs: BlobStore, tmp_path: Path, member: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="missing in it"):
        layout.read(docker_save(tmp_path / "save", ["nginx"], **member), blobs)


def test_every_platform_of_an_index_is_read(blobs: BlobStore, other: BlobStore, make_image: Callable[..., Image], tmp_path: Path) -> None:
    images = [make_image(blobs, NGINX), make_image(blobs, NGINX, architecture="arm64")]
    entries: list[dict[str, Any]] = [{"mediaType": layout.MANIFEST, "digest": image.digest} for image in images]
    attestation = {"mediaType": layout.MANIFEST, "digest": images[0].digest, "platform": {"os": "unknown", "architecture": "unknown"}}
    inner = json.dumps({"manifests": [*entries, attestation]}).encode()
    folder = as_folder(
        tmp_path / "oci",
        blobs,
        {"mediaType": layout.INDEX, "digest": blobs.put(inner), "annotations": {"org.opencontainers.image.ref.name": "nginx:latest"}},
    )
    assert [(image.name, image.platform) for image in layout.read(folder, other)] == [(NGINX, "linux/amd64"), (NGINX, "linux/arm64")]


def test_a_bare_tag_is_no_name(blobs: BlobStore, make_image: Callable[..., Image], tmp_path: Path) -> None:
    entry = {
        "mediaType": layout.MANIFEST,
        "digest": make_image(blobs, NGINX).digest,
        "annotations": {"org.opencontainers.image.ref.name": "v1"},
    }
    folder = as_folder(tmp_path / "oci", blobs, entry)
    with pytest.raises(UsageError, match="carries no name"):
        layout.read(folder, blobs)


def test_a_damaged_blob_is_refused(blobs: BlobStore, other: BlobStore, make_image: Callable[..., Image], tmp_path: Path) -> None:
    image = make_image(blobs, NGINX)
    folder = as_folder(tmp_path / "oci", blobs, {"digest": image.digest, "annotations": {"io.containerd.image.name": NGINX}})
    (folder / "blobs/sha256" / image.layers[0].digest[7:]).write_bytes(b"changed")
    with pytest.raises(LabctlError, match="damaged"):
        layout.read(folder, other)


GZIPPED = gzip.compress(b"no tar" * 1000, mtime=0)


@pytest.mark.parametrize(
    "content", [b"", b"no tar", gzip.compress(b"no tar", mtime=0), GZIPPED[:-9]], ids=["empty", "text", "gzip", "half"]
)
def test_what_is_no_archive_is_one_clear_line(blobs: BlobStore, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(UsageError, match="no image"):
        layout.read(tmp_path / "file", blobs)


def test_a_tar_of_something_else_is_one_clear_line(blobs: BlobStore, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        entry = tarfile.TarInfo("readme")
        archive.addfile(entry, io.BytesIO())
    with pytest.raises(UsageError, match="this is no image"):
        layout.read(tmp_path / "x.tar", blobs)
    with pytest.raises(UsageError, match="does not exist"):
        layout.read(tmp_path / "y.tar", blobs)


def as_folder(folder: Path, blobs: BlobStore, *entries: dict[str, Any]) -> Path:
    """An OCI layout that shares no file with the store."""
    target = folder / "blobs/sha256"
    target.mkdir(parents=True)
    for blob in blobs.path("sha256:" + "0" * 64).parent.iterdir():
        (target / blob.name).write_bytes(blob.read_bytes())
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": list(entries)}))
    return folder


def test_zeros_without_end_are_no_archive_at_once(blobs: BlobStore, tmp_path: Path) -> None:
    """xz takes them for the space between its streams; 200 GB of them need no disk."""
    with open(tmp_path / "zeros.tar", "wb") as file:
        file.truncate(200 << 30)
    with pytest.raises(UsageError, match="no image"):
        layout.read(tmp_path / "zeros.tar", blobs)
    with pytest.raises(UsageError, match="/dev/zero is neither a file nor a folder"):
        layout.read(Path("/dev/zero"), blobs)


def test_a_small_archive_that_unpacks_to_very_much_is_refused(blobs: BlobStore, tmp_path: Path) -> None:
    """A header may say any size, and gzip makes a few bytes of very many zeros. It is refused before it is written."""
    path = tmp_path / "bomb.tar.gz"
    with gzip.open(path, "wb", 1) as file:
        one = tarfile.TarInfo("blobs")
        one.size = 33 << 30
        file.write(one.tobuf())
    with pytest.raises(UsageError, match="unpacks to more than 34359738368 bytes"):
        layout.read(path, blobs)
    assert list(blobs.folder.iterdir()) == []


def test_an_archive_of_very_many_files_is_refused() -> None:
    bounded = archive.Bounded("many.tar", most_files=3)
    for number in range(3):
        bounded(tarfile.TarInfo(f"{number}"), "/")
    with pytest.raises(UsageError, match=r"many\.tar has more than 3 files"):
        bounded(tarfile.TarInfo("3"), "/")
