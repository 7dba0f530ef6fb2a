"""Reads and writes images as files: the OCI image layout (a folder, or a tar of one) and what `docker save` writes.

Reading verifies every byte against its digest and follows no path out of the folder. Writing makes an archive that both
`skopeo copy oci-archive:...` and `docker load` can read: a layout with a docker `manifest.json` beside it.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from labctl.errors import LabctlError, UsageError
from labctl.images import archive, documents, names, zstd
from labctl.images.blobs import BlobStore
from labctl.images.documents import LAYER, Config, Described, Document, Entry, Saved
from labctl.images.index import Blob, Image
from labctl.tarfiles import tarfile

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
_DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
_NAME_KEYS = ("io.containerd.image.name", "org.opencontainers.image.ref.name")
_DIGEST = re.compile(r"sha256:[a-f0-9]{64}")
_ENTRIES_MAX = 10_000  # of all its indexes together: one that is named by each of another's entries counts as often
_DEPTH = 4  # the most levels of indexes in indexes; real images have one or two


def read(path: Path, blobs: BlobStore, *, name: str = "") -> list[Image]:
    """Put all images of the archive or folder at `path` into the store and return them. `name` is for images that carry no name."""
    if not path.exists():
        raise UsageError(f"{path} does not exist")
    if path.is_dir():
        return _read_folder(path, blobs, name)
    if not path.is_file():
        raise UsageError(f"{path} is neither a file nor a folder")
    blobs.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".load-", dir=blobs.folder) as folder:  # this disk has space for images; /tmp may be in memory
        archive.unpack(path, folder)
        return _read_folder(Path(folder), blobs, name)


def write(images: Iterable[Image], blobs: BlobStore, path: Path) -> None:
    """Write all images into one archive, each blob once."""
    temporary = path.with_name(f".{path.name}.new")
    images = list(images)
    with tarfile.open(temporary, "w") as out:
        for digest in sorted(set().union(*(image.blobs for image in images))):
            out.add(blobs.path(digest), f"blobs/sha256/{digest[7:]}", recursive=False)
        _add(out, "oci-layout", {"imageLayoutVersion": "1.0.0"})
        _add(out, "index.json", {"schemaVersion": 2, "mediaType": INDEX, "manifests": [_described(image, blobs) for image in images]})
        _add(out, "manifest.json", [_as_docker(image) for image in images])
    temporary.replace(path)


def put_image(blobs: BlobStore, name: str, config: dict[str, Any], layers: Iterable[Blob], origin: str) -> Image:
    """Make an image of blobs that are in the store already. Its configuration and manifest are made and stored too."""
    layers = tuple(layers)
    raw = _canonical_json(config)
    config_blob = Blob(blobs.put(raw), len(raw), CONFIG)
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": _wire(config_blob),
        "layers": [_wire(layer) for layer in layers],
    }
    return Image(
        name,
        blobs.put(_canonical_json(manifest)),
        _platform(documents.decoded(raw, Config, "the configuration")),
        config_blob,
        layers,
        origin,
    )


def _read_folder(folder: Path, blobs: BlobStore, name: str) -> list[Image]:
    docker = documents.read(folder / "manifest.json", list[Saved]) if (folder / "manifest.json").is_file() else []
    if (folder / "index.json").is_file():
        tags = {Path(entry.config).name.removesuffix(".json"): entry.tags or [] for entry in docker}
        index = documents.read(folder / "index.json", Document)
        found = list(_Layout(folder, blobs, tags).images(index, name))
    elif docker:
        found = [image for entry in docker for image in _of_docker(entry, folder, blobs, name)]
    else:
        raise UsageError(
            "this is no image: neither index.json nor manifest.json is there",
            mend="it should be an OCI archive or what `docker save` wrote",
        )
    if not found:
        raise UsageError("there is no image in it")
    return found


class _Layout:
    """Reads the images of one layout. `tags` are the names in docker's list, by the digest of a configuration."""

    def __init__(self, folder: Path, blobs: BlobStore, tags: dict[str, list[str]]) -> None:
        self._folder, self._blobs, self._tags = folder, blobs, tags
        self._left = _ENTRIES_MAX

    def images(self, index: Document, name: str, depth: int = 0) -> Iterator[Image]:
        if depth > _DEPTH:
            raise UsageError("its indexes are nested too deep")
        for entry in index.manifests or ():
            self._left -= 1
            if self._left < 0:
                raise UsageError(f"its indexes have more than {_ENTRIES_MAX} entries")
            own = _name_in(entry) or name
            document = documents.read(_blob_file(self._folder, entry.digest), Document)
            if entry.media_type in (INDEX, _DOCKER_INDEX) or document.manifests is not None:
                yield from self.images(document, own, depth + 1)
            elif entry.platform is None or entry.platform.os != "unknown":  # os "unknown" marks an attestation, which no machine runs
                yield from self._of_manifest(entry.digest, document, own)

    def _of_manifest(self, digest: str, manifest: Document, name: str) -> Iterator[Image]:
        if manifest.config is None or manifest.layers is None:
            raise LabctlError(f"the manifest {digest} is damaged: it has no configuration, or no layers")
        folder, blobs = self._folder, self._blobs
        config, layers = _blob(manifest.config), tuple(_blob(layer) for layer in manifest.layers)
        called = _called(self._tags.get(config.digest[7:]), name)
        platform = _platform(documents.read(_blob_file(folder, config.digest), Config))
        if any(_is_zstd(layer, folder) for layer in layers):
            yield from _with_gzip(folder, config, layers, blobs, called)
            return
        for part in (digest, config.digest, *(layer.digest for layer in layers)):
            if not blobs.has(part):
                with open(_blob_file(folder, part), "rb") as file:
                    blobs.put_stream(file, part)
        for each in called:
            yield Image(names.canonical(each), digest, platform, config, layers)


def _called(tags: list[str] | None, name: str) -> list[str]:
    """Return the names that an image gets. Raises UsageError if it has none."""
    called = tags or ([name] if name else [])
    if not called:
        raise UsageError("the image carries no name", mend="say one with --name")
    return called


def _is_zstd(layer: Blob, folder: Path) -> bool:
    """Whether a layer is compressed by zstd, whatever its media type says: agents go by the first bytes, too."""
    return zstd.is_zstd(_blob_file(folder, layer.digest))


def _with_gzip(folder: Path, config: Blob, layers: Iterable[Blob], blobs: BlobStore, called: Iterable[str]) -> Iterator[Image]:
    """Yield an image some of whose layers are written anew. It gets another digest by that; what its layers hold stays the same."""
    verified = [_verified(folder, blob, blobs) for blob in layers]
    raw = _blob_file(folder, config.digest)
    with open(raw, "rb") as file:
        blobs.put_stream(file, config.digest)
    for each in called:
        yield put_image(blobs, names.canonical(each), documents.read(raw, dict[str, Any]), verified, "")


def _verified(folder: Path, layer: Blob, blobs: BlobStore) -> Blob:
    """Put a layer into the store, with gzip if it had zstd, and return it."""
    path = _blob_file(folder, layer.digest)
    with open(path, "rb") as file:
        if not zstd.is_zstd(path):
            blobs.put_stream(file, layer.digest)
            return layer
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if layer.digest != f"sha256:{digest}":
        raise LabctlError(f"the blob {layer.digest} is damaged: its bytes have the digest sha256:{digest}", mend="get the image again")
    return _gzipped(path, blobs)


def _gzipped(path: Path, blobs: BlobStore) -> Blob:
    with tempfile.TemporaryFile(dir=path.parent) as packed:
        zstd.as_gzip(path, packed)
        packed.seek(0)
        return Blob(*blobs.put_stream(packed), LAYER + "+gzip")


def _of_docker(entry: Saved, folder: Path, blobs: BlobStore, name: str) -> Iterator[Image]:
    config = documents.read(_inside(folder, entry.config), dict[str, Any])
    layers = []
    for each in entry.layers:
        if zstd.is_zstd(_inside(folder, each)):
            layers.append(_gzipped(_inside(folder, each), blobs))
            continue
        with open(_inside(folder, each), "rb") as file:
            gzipped = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            layers.append(Blob(*blobs.put_stream(file), LAYER + ("+gzip" if gzipped else "")))
    for called in _called(entry.tags, name):
        yield put_image(blobs, names.canonical(called), config, layers, "")


def _described(image: Image, blobs: BlobStore) -> dict[str, Any]:
    os, architecture, *variant = image.platform.split("/")
    return {
        "mediaType": MANIFEST,
        "digest": image.digest,
        "size": blobs.path(image.digest).stat().st_size,
        "platform": {"os": os, "architecture": architecture} | ({"variant": variant[0]} if variant else {}),
        "annotations": dict.fromkeys(_NAME_KEYS[:1], image.name) | {_NAME_KEYS[1]: names.parse(image.name).tag},
    }


def _as_docker(image: Image) -> dict[str, Any]:
    return {
        "Config": f"blobs/sha256/{image.config.digest[7:]}",
        "RepoTags": [names.parse(image.name).short],
        "Layers": [f"blobs/sha256/{layer.digest[7:]}" for layer in image.layers],
    }


def _name_in(entry: Entry) -> str:
    """Return the full name in an index entry, or "". The second key often holds only a tag, which is no name."""
    annotations = entry.annotations or {}
    for key in _NAME_KEYS:
        value = str(annotations.get(key, ""))
        if key == _NAME_KEYS[0] and value or "/" in value or ":" in value:
            return value
    return ""


def _blob(described: Described) -> Blob:
    return Blob(described.digest, described.size, described.media_type)


def _wire(blob: Blob) -> dict[str, Any]:
    return {"mediaType": blob.media_type, "digest": blob.digest, "size": blob.size}


def _platform(config: Config) -> str:
    return names.platform_of(config.os, config.architecture, config.variant or "")


def _blob_file(folder: Path, digest: str) -> Path:
    if not _DIGEST.fullmatch(digest):
        raise UsageError(f"not a sha256 digest: {digest!r}")
    path = folder / "blobs" / "sha256" / digest[7:]
    if not path.is_file():
        raise UsageError(f"the blob {digest} is missing in it")
    return path


def _inside(folder: Path, name: str) -> Path:
    try:
        path = (folder / name).resolve()
        if path.is_relative_to(folder.resolve()) and path.is_file():
            return path
    except (OSError, ValueError):  # too long, or with a zero byte
        pass
    raise UsageError(f"{name[:200]!r} is missing in it")


def _canonical_json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _add(out: tarfile.TarFile, name: str, value: Any) -> None:
    content = _canonical_json(value)
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), 0o644
    out.addfile(entry, io.BytesIO(content))
