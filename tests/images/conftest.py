"""A store of images in a temporary folder, and small images made by hand."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from labctl.images import documents, layout
from labctl.images.blobs import BlobStore
from labctl.images.images import Images
from labctl.images.index import Blob, Image
from labctl.images.settings import ImageSettings
from labctl.paths import Paths


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(tmp_path / "lab", tmp_path / "state", tmp_path / "cache")


@pytest.fixture
def blobs(paths: Paths) -> BlobStore:
    return BlobStore(paths.blobs)


@pytest.fixture
def make_images(paths: Paths) -> Callable[..., Images]:
    return lambda **settings: Images(paths, ImageSettings(**settings))


@pytest.fixture
def make_image() -> Callable[..., Image]:
    """An image of one small layer in a store; `text` decides its bytes."""

    def make(store: BlobStore, name: str, text: str = "hello", architecture: str = "amd64") -> Image:
        digest, size = store.put_stream(io.BytesIO(tar_of({"greeting": text.encode()})))
        config = {"os": "linux", "architecture": architecture, "config": {"Cmd": ["cat", "/greeting"]}, "rootfs": {"diff_ids": [digest]}}
        return layout.put_image(store, name, config, [Blob(digest, size, documents.LAYER)], "made by hand")

    return make


def tar_of(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return out.getvalue()
