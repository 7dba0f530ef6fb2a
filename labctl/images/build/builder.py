"""Turns a recipe into an image, step by step."""

from __future__ import annotations

import platform
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from labctl.images import documents, layout
from labctl.images.blobs import BlobStore
from labctl.images.build import closure, recipe
from labctl.images.build.layer import Layer
from labctl.images.build.packages import Packages
from labctl.images.build.recipe import Recipe
from labctl.images.index import Blob, Image
from labctl.images.names import ImageName
from labctl.images.settings import ImageSettings

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_EPOCH = "1970-01-01T00:00:00Z"  # the real time would change the digest at each build
_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_LABEL = "internal.labctl.packages"


class _Base(msgspec.Struct, frozen=True):
    """The image that is built on: its layers, their uncompressed digests, its history and its packages."""

    layers: tuple[Blob, ...] = ()
    diff_ids: tuple[str, ...] = ()
    history: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()


class Builder:
    """Builds images by recipe. `cache` keeps apt's lists between builds; the blobs go into the store."""

    def __init__(self, cache: Path, blobs: BlobStore, settings: ImageSettings) -> None:
        self._scratch = cache / "tmp"
        self._blobs = blobs
        self._packages = Packages(cache / "apt", settings.apt_fresh_s)

    def build(self, name: ImageName, progress: Callable[[str], None]) -> Image:
        """Build the image for this machine's platform. Raises UsageError if there is no recipe of that name."""
        short = name.path.removeprefix("library/")
        built = self._build(short, recipe.read(short), progress)
        config = self._config(recipe.read(short).config, built)
        return layout.put_image(self._blobs, str(name), config, built.layers, "built from Debian packages")

    def _build(self, name: str, what: Recipe, progress: Callable[[str], None]) -> _Base:
        base = self._build(what.base, recipe.read(what.base), progress) if what.base else _Base()
        self._scratch.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="build-", dir=self._scratch) as scratch:
            root = Path(scratch, "root")
            root.mkdir()
            versions = self._packages.extract(what.packages, root, progress) if what.packages else []
            progress(f"writing the layer of {name}")
            content = _fill(what, root, whole=not what.base)
            with open(Path(scratch, "layer.tar"), "w+b") as file:
                content.write(file)
                file.seek(0)
                digest, size = self._blobs.put_stream(file)
        return _Base(
            layers=(*base.layers, Blob(digest, size, documents.LAYER)),
            diff_ids=(*base.diff_ids, digest),
            history=(*base.history, f"labctl image build {name}"),
            packages=(*base.packages, *versions),
        )

    def _config(self, own: dict[str, Any], built: _Base) -> dict[str, Any]:
        return {
            "architecture": _ARCHITECTURES.get(platform.machine(), platform.machine()),
            "os": "linux",
            "created": _EPOCH,
            "config": {"Env": [_PATH], **own, "Labels": {_LABEL: " ".join(built.packages)}},
            "rootfs": {"type": "layers", "diff_ids": list(built.diff_ids)},
            "history": [{"created": _EPOCH, "created_by": line} for line in built.history],
        }


def _fill(what: Recipe, root: Path, *, whole: bool) -> Layer:
    """Return the layer: the files that the recipe keeps of `root`, and those that it writes itself.

    With `whole`, it also has the files that every root file system has.
    """
    layer = Layer()
    if whole:
        _base_files(layer, what)
    for path in _kept(what, root):
        layer.file(path, root / path.lstrip("/"))
    if what.applets:
        folder = what.applets.rsplit("/", 1)[0]
        for applet in _applets(root / what.applets.lstrip("/")):
            layer.link(f"{folder}/{applet}", what.applets)
    for path in what.directories:
        layer.directory(path)
    for path, target in what.links.items():
        layer.link(path, target)
    for path, text in what.text.items():
        layer.text(path, text)
    return layer


def _base_files(layer: Layer, what: Recipe) -> None:
    users = {"root": 0, **what.users, "nobody": 65534}
    layer.text(
        "/etc/passwd", "".join(f"{name}:x:{number}:{number}::/{'root' if number == 0 else ''}:/bin/sh\n" for name, number in users.items())
    )
    layer.text("/etc/group", "".join(f"{name}:x:{number}:\n" for name, number in users.items()))
    layer.text("/etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n")
    layer.directory("/root", 0o700)
    layer.directory("/tmp", 0o1777)
    for path in ("/dev", "/proc", "/sys", "/run", "/var"):
        layer.directory(path)


def _kept(what: Recipe, root: Path) -> list[str]:
    """Return the recipe's files, with each folder replaced by its files, and the libraries that they need."""
    files: set[str] = set()
    for name in what.files:
        path = root / name.strip("/")
        files |= {f"/{each.relative_to(root)}" for each in path.rglob("*") if each.is_file()} if name.endswith("/") else {name}
    return sorted(files | set(closure.libraries(root, sorted(files))))


def _applets(busybox: Path) -> list[str]:
    listed = subprocess.run([str(busybox), "--list"], capture_output=True, text=True, check=True).stdout.split()
    return [name for name in listed if name != "busybox"]
