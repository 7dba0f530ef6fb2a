"""Reads and writes images as files: the OCI image layout (a folder, or a tar of one) and what `docker save` writes.

Reading verifies every byte against its digest and follows no path out of the folder. Writing makes an archive that both
`skopeo copy oci-archive:...` and `docker load` can read: a layout with a docker `manifest.json` beside it.
"""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from labctl.errors import LabctlError, UsageError
from labctl.images import archive, documents, names, zstd
from labctl.images.blobs import BlobStore
from labctl.images.documents import Config, Described, Document, Entry, Saved
from labctl.images.index import Blob, Image
from labctl.images.source import Source
from labctl.paths import written_whole
from labctl.tarfiles import tarfile

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
_DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
_NAME_KEYS = ("io.containerd.image.name", "org.opencontainers.image.ref.name")
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
    """Write all images into one archive, each blob once, whole or not at all. Raises LabctlError."""
    images = list(images)
    with written_whole(path) as new, open(new, "wb") as file, tarfile.open(fileobj=file, mode="w|") as out:
        for digest in sorted(set().union(*(image.blobs for image in images))):
            out.add(blobs.path(digest), f"blobs/sha256/{digest[7:]}", recursive=False)
        _add(out, "oci-layout", {"imageLayoutVersion": "1.0.0"})
        _add(out, "index.json", {"schemaVersion": 2, "mediaType": INDEX, "manifests": [_described(image, blobs) for image in images]})
        _add(out, "manifest.json", [_as_docker(image) for image in images])


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
    source = Source(folder, blobs)
    docker = source.named(folder / "manifest.json", list[Saved]) if source.has("manifest.json") else []
    if source.has("index.json"):
        tags = {Path(entry.config).name.removesuffix(".json"): entry.tags or [] for entry in docker}
        index = source.named(folder / "index.json", Document)
        found = list(_Layout(source, blobs, tags).images(index, name))
    elif docker:
        found = [image for entry in docker for image in _of_docker(entry, source, blobs, name)]
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

    def __init__(self, source: Source, blobs: BlobStore, tags: dict[str, list[str]]) -> None:
        self._source, self._blobs, self._tags = source, blobs, tags

    def images(self, index: Document, name: str, depth: int = 0) -> Iterator[Image]:
        if depth > _DEPTH:
            raise UsageError("its indexes are nested too deep")
        for entry in index.manifests or ():
            self._source.entry()
            own = _name_in(entry) or name
            document = self._source.document(entry.digest, Document)
            if entry.media_type in (INDEX, _DOCKER_INDEX) or document.manifests is not None:
                yield from self.images(document, own, depth + 1)
            elif entry.platform is None or entry.platform.os != "unknown":  # os "unknown" marks an attestation, which no machine runs
                yield from self._of_manifest(entry.digest, document, own)

    def _of_manifest(self, digest: str, manifest: Document, name: str) -> Iterator[Image]:
        if manifest.config is None or manifest.layers is None:
            raise LabctlError(f"the manifest {digest} is damaged: it has no configuration, or no layers")
        source, blobs = self._source, self._blobs
        config, layers = _blob(manifest.config), tuple(_blob(layer) for layer in manifest.layers)
        called = _called(self._tags.get(config.digest[7:]), name)
        source.parts(len(layers), len(called))
        platform = _platform(source.document(config.digest, Config))
        if any(
            zstd.is_zstd(source.blob(layer.digest)) for layer in layers
        ):  # whatever its media type says: agents go by the first bytes, too
            yield from self._with_gzip(config, layers, called)
            return
        for part in (digest, config.digest, *(layer.digest for layer in layers)):
            if not blobs.has(part):
                with open(source.blob(part), "rb") as file:
                    blobs.put_stream(file, part)
        for each in called:
            yield Image(names.canonical(each), digest, platform, config, layers)

    def _with_gzip(self, config: Blob, layers: Iterable[Blob], called: Iterable[str]) -> Iterator[Image]:
        """Yield an image some of whose layers are written anew. It gets another digest by that; what its layers hold stays the same."""
        source = self._source
        kept = [self._readable(layer) for layer in layers]
        whole = source.document(config.digest, dict[str, Any])
        with open(source.blob(config.digest), "rb") as file:
            self._blobs.put_stream(file, config.digest)
        for each in called:
            yield put_image(self._blobs, names.canonical(each), whole, kept, "")

    def _readable(self, layer: Blob) -> Blob:
        """Put a layer into the store. One without zstd keeps what its descriptor says."""
        stored = self._source.put(self._source.blob(layer.digest), layer.digest)
        return layer if stored.digest == layer.digest else stored


def _called(tags: list[str] | None, name: str) -> list[str]:
    """Return the names that an image gets. Raises UsageError if it has none."""
    called = tags or ([name] if name else [])
    if not called:
        raise UsageError("the image carries no name", mend="say one with --name")
    return called


def _of_docker(entry: Saved, source: Source, blobs: BlobStore, name: str) -> Iterator[Image]:
    source.entry()
    called = _called(entry.tags, name)
    source.parts(len(entry.layers), len(called))
    config = source.named(source.file(entry.config), dict[str, Any])
    layers = [source.put(source.file(each)) for each in entry.layers]
    for each in called:
        yield put_image(blobs, names.canonical(each), config, layers, "")


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


def _canonical_json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _add(out: tarfile.TarFile, name: str, value: Any) -> None:
    content = _canonical_json(value)
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), 0o644
    out.addfile(entry, io.BytesIO(content))
