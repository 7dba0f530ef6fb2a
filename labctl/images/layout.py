"""Reads and writes images as files: the OCI image layout (a folder, or a tar of one) and what `docker save` writes.

Reading verifies every byte against its digest and follows no path out of the folder. Writing makes an archive that both
`skopeo copy oci-archive:...` and `docker load` can read: a layout with a docker `manifest.json` beside it.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import lzma
import re
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

from labctl.errors import LabctlError, UsageError
from labctl.images import names, zstd
from labctl.images.blobs import BlobStore
from labctl.images.index import Blob, Image
from labctl.tarfiles import tarfile

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
_DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
_NAME_KEYS = ("io.containerd.image.name", "org.opencontainers.image.ref.name")
_DIGEST = re.compile(r"sha256:[a-f0-9]{64}")
_FILES_MAX = 100_000  # an archive has a file for each layer and a few more
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
        try:
            with contextlib.ExitStack() as opened:
                if zstd.is_zstd(path):
                    stream = opened.enter_context(io.BufferedReader(zstd.Unpacked(path)))
                    archive = opened.enter_context(tarfile.open(fileobj=stream, mode="r|"))
                else:
                    archive = opened.enter_context(tarfile.open(path, _mode(path)))
                archive.extractall(folder, filter=Bounded(path.name))
        except (tarfile.TarError, gzip.BadGzipFile, lzma.LZMAError, zlib.error, EOFError) as error:
            why = str(error).partition("\n")[0].rstrip(":- ")  # tarfile's message lists every compression that it tried
            raise UsageError(
                f"{path} is no image archive: {why}", mend="it should be an OCI archive or what `docker save` wrote"
            ) from error
        return _read_folder(Path(folder), blobs, name)


def _mode(path: Path) -> Literal["r:gz", "r:bz2", "r:xz", "r:"]:
    """Return how tarfile is to open the file, by its first bytes. If it tried by itself, xz would take any number of zeros for the space between its streams."""
    with open(path, "rb") as file:
        begin = file.read(6)
    if begin[:2] == b"\x1f\x8b":
        return "r:gz"
    if begin[:3] == b"BZh":
        return "r:bz2"
    return "r:xz" if begin == b"\xfd7zXZ\0" else "r:"


class Bounded:
    """A filter of tarfile's that refuses what the filter "data" refuses, and archives that unpack to more than `most_bytes` or `most_files`.

    A few bytes of gzip may stand for any number of zeros. Raises UsageError before the file that is too much is written.
    """

    def __init__(self, name: str, most_bytes: int = zstd.UNPACKED_BYTES_MAX, most_files: int = _FILES_MAX) -> None:
        self._name, self._most_bytes, self._most_files = name, most_bytes, most_files
        self._bytes = self._files = 0

    def __call__(self, member: tarfile.TarInfo, folder: str) -> tarfile.TarInfo:
        self._bytes += member.size
        self._files += 1
        if self._bytes > self._most_bytes:
            raise UsageError(f"{self._name} unpacks to more than {self._most_bytes} bytes")
        if self._files > self._most_files:
            raise UsageError(f"{self._name} has more than {self._most_files} files")
        return tarfile.data_filter(member, folder)


def write(images: Iterable[Image], blobs: BlobStore, path: Path) -> None:
    """Write all images into one archive, each blob once."""
    temporary = path.with_name(f".{path.name}.new")
    images = list(images)
    with tarfile.open(temporary, "w") as archive:
        for digest in sorted(set().union(*(image.blobs for image in images))):
            archive.add(blobs.path(digest), f"blobs/sha256/{digest[7:]}", recursive=False)
        _add(archive, "oci-layout", {"imageLayoutVersion": "1.0.0"})
        _add(archive, "index.json", {"schemaVersion": 2, "mediaType": INDEX, "manifests": [_described(image, blobs) for image in images]})
        _add(archive, "manifest.json", [_as_docker(image) for image in images])
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
    return Image(name, blobs.put(_canonical_json(manifest)), _platform(config), config_blob, layers, origin)


def _read_folder(folder: Path, blobs: BlobStore, name: str) -> list[Image]:
    docker = _json(folder / "manifest.json") if (folder / "manifest.json").is_file() else []
    if (folder / "index.json").is_file():
        tags = {Path(entry["Config"]).name.removesuffix(".json"): entry.get("RepoTags") or [] for entry in docker}
        found = list(_of_index(_json(folder / "index.json"), folder, blobs, name, tags, depth=0))
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


def _of_index(index: dict[str, Any], folder: Path, blobs: BlobStore, name: str, tags: dict[str, list[str]], depth: int) -> Iterator[Image]:
    if depth > _DEPTH:
        raise UsageError("its indexes are nested too deep")
    for entry in index.get("manifests", []):
        own = _name_in(entry) or name
        manifest = _json(_blob_file(folder, entry["digest"]))
        if entry.get("mediaType") in (INDEX, _DOCKER_INDEX) or "manifests" in manifest:
            yield from _of_index(manifest, folder, blobs, own, tags, depth + 1)
        elif (entry.get("platform") or {}).get("os") != "unknown":  # os "unknown" marks an attestation, which no machine runs
            yield from _of_manifest(entry["digest"], manifest, folder, blobs, own, tags)


def _of_manifest(
    digest: str, manifest: dict[str, Any], folder: Path, blobs: BlobStore, name: str, tags: dict[str, list[str]]
) -> Iterator[Image]:
    config, layers = _described_blob(manifest["config"]), tuple(_described_blob(layer) for layer in manifest["layers"])
    called = _called(tags.get(config.digest[7:]), name)
    if any(_is_zstd(layer, folder) for layer in layers):
        yield from _with_gzip(folder, config, layers, blobs, called)
        return
    for part in (digest, config.digest, *(layer.digest for layer in layers)):
        if not blobs.has(part):
            with open(_blob_file(folder, part), "rb") as file:
                blobs.put_stream(file, part)
    platform = _platform(blobs.read_json(config.digest))
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
        yield put_image(blobs, names.canonical(each), _json(raw), verified, "")


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


def _of_docker(entry: dict[str, Any], folder: Path, blobs: BlobStore, name: str) -> Iterator[Image]:
    config = _json(_inside(folder, entry["Config"]))
    layers = []
    for path in entry["Layers"]:
        if zstd.is_zstd(_inside(folder, path)):
            layers.append(_gzipped(_inside(folder, path), blobs))
            continue
        with open(_inside(folder, path), "rb") as file:
            gzipped = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            layers.append(Blob(*blobs.put_stream(file), LAYER + ("+gzip" if gzipped else "")))
    for each in _called(entry.get("RepoTags"), name):
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


def _name_in(entry: dict[str, Any]) -> str:
    """Return the full name in an index entry, or "". The second key often holds only a tag, which is no name."""
    annotations = entry.get("annotations") or {}
    for key in _NAME_KEYS:
        value = str(annotations.get(key, ""))
        if key == _NAME_KEYS[0] and value or "/" in value or ":" in value:
            return value
    return ""


def _described_blob(wire: dict[str, Any]) -> Blob:
    return Blob(wire["digest"], wire["size"], wire.get("mediaType", LAYER))


def _wire(blob: Blob) -> dict[str, Any]:
    return {"mediaType": blob.media_type, "digest": blob.digest, "size": blob.size}


def _platform(config: dict[str, Any]) -> str:
    return names.platform_of(config.get("os", "linux"), config.get("architecture", ""), config.get("variant", ""))


def _blob_file(folder: Path, digest: str) -> Path:
    if not _DIGEST.fullmatch(digest):
        raise UsageError(f"not a sha256 digest: {digest!r}")
    path = folder / "blobs" / "sha256" / digest[7:]
    if not path.is_file():
        raise UsageError(f"the blob {digest} is missing in it")
    return path


def _inside(folder: Path, name: str) -> Path:
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()) or not path.is_file():
        raise UsageError(f"{name!r} is missing in it")
    return path


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except ValueError as error:
        raise LabctlError(f"{path.name} is damaged: {error}") from error


def _canonical_json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _add(archive: tarfile.TarFile, name: str, value: Any) -> None:
    content = _canonical_json(value)
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), 0o644
    archive.addfile(entry, io.BytesIO(content))
