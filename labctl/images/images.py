"""`Images` is the lab's own image store, and the first registry that its minions ask.

`api` calls it (resolve and blob, for agents), and `cli` through `lab` (build, load, save, list, remove).
A name in the store satisfies every imagePullPolicy, without a network; registries are asked only for names that are not in it.
Blobs and the index are in the cache, which the labs of this machine share; several processes may change them.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from labctl.errors import ApiError, UsageError
from labctl.images import layout, names
from labctl.images.blobs import BlobStore
from labctl.images.build import Builder
from labctl.images.index import Image, Index
from labctl.images.pull import Puller, never_pull, no_platform
from labctl.images.settings import ImageSettings
from labctl.paths import Paths


def _silent(line: str) -> None:
    """Do nothing, as a progress callback."""


class Images:
    """The image store; a process needs one. `resolve` may be called on the master's event loop.

    The other coroutines do their work in a thread.
    """

    def __init__(self, paths: Paths, settings: ImageSettings | None = None) -> None:
        self._settings = settings or ImageSettings()
        self._cache = paths.cache
        self._blobs = BlobStore(paths.blobs)
        self._index = Index(paths.images)
        self._puller = Puller(self._settings, paths.cache / "tmp")
        self._pulls: dict[tuple[str, str], asyncio.Task[Image]] = {}

    async def resolve(self, name: str, platform: str, pull: str = "IfNotPresent") -> dict[str, Any]:
        """Return {"name", "digest", "platform", "config", "layers"} of an image; pull it first if it is not in the store.

        Raises ApiError ErrImagePull, ErrImageNeverPull or InvalidImageName. Callers that ask for the same image at the same time share one
        pull,
        which continues if one of them stops waiting.
        """
        wanted = names.parse(name)
        names.check_platform(platform)
        held = self._held(wanted)
        image = held.get(platform)
        if image is None:
            from_registry = all(each.origin.startswith("pulled") for each in held.values())
            if held and not from_registry:
                raise no_platform(name, platform, sorted(held))
            if pull == "Never":
                raise never_pull(name)
            image = await asyncio.shield(self._pull(name, wanted, platform))
        return image.manifest()

    def blob(self, digest: str) -> Path:
        """Return the blob's file. Raises ApiError 404 if it is not in the store."""
        try:
            path = self._blobs.path(digest)
        except ValueError as error:
            raise ApiError(400, "BadRequest", str(error)) from error
        if not path.is_file():
            raise ApiError(404, "NotFound", f"blob {digest} not found")
        return path

    async def build(self, name: str, progress: Callable[[str], None] = _silent) -> Image:
        """Build one of the images that labctl has a recipe for, for this machine's platform."""

        def work() -> Image:
            with self._importing():
                image = Builder(self._cache, self._blobs, self._settings).build(names.parse(name), progress)
                return self._keep([image])[0]

        return await asyncio.to_thread(work)

    async def load(self, path: Path, name: str = "") -> Sequence[Image]:
        """Load images from an OCI archive or folder, or from what `docker save` wrote."""

        def work() -> Sequence[Image]:
            with self._importing():
                origin = f"loaded from {path.name}"
                return self._keep([msgspec.structs.replace(image, origin=origin) for image in layout.read(path, self._blobs, name=name)])

        return await asyncio.to_thread(work)

    async def save(self, wanted: Iterable[str], path: Path) -> Sequence[Image]:
        """Write images into one archive that `labctl image load`, skopeo and `docker load` can read."""
        images: tuple[Image, ...] = ()
        for name in wanted:
            held = self._held(names.parse(name))
            if not held:
                raise UsageError(f"there is no image {name}", mend="see `labctl image list`")
            images += tuple(held.values())
        await asyncio.to_thread(layout.write, images, self._blobs, path)
        return images

    def list(self) -> Sequence[Image]:
        """Return all images, sorted by name, then by platform."""
        return [image for _, platforms in sorted(self._index.names().items()) for _, image in sorted(platforms.items())]

    async def remove(self, name: str) -> int:
        """Remove a name and return how many bytes that freed. Raises UsageError if there is no such name."""
        wanted = str(names.parse(name))

        def work() -> int:
            with self._importing(alone=True):
                if wanted not in self._index.names():
                    raise UsageError(f"there is no image {name}", mend="see `labctl image list`")
                left = self._index.remove(wanted)
                kept: set[str] = set()
                for platforms in left.values():
                    for image in platforms.values():
                        kept |= image.blobs
                shutil.rmtree(
                    self._cache / "tmp", ignore_errors=True
                )  # killed pulls and builds leave files here; nobody else uses them now
                return self._blobs.remove_all_but(kept)

        return await asyncio.to_thread(work)

    # -- parts

    def _held(self, wanted: names.ImageName) -> dict[str, Image]:
        """Return the stored images of that name by platform. A digest is found under any tag of the same repository."""
        held = dict(self._index.names().get(str(wanted), {}))
        if not held and wanted.digest:
            repository = f"{wanted.registry}/{wanted.path}:"
            for name, platforms in self._index.names().items():
                if name.startswith(repository):
                    held |= {each.platform: each for each in platforms.values() if each.digest == wanted.digest}
        return {platform: image for platform, image in held.items() if all(self._blobs.has(digest) for digest in image.blobs)}

    def _pull(self, asked: str, wanted: names.ImageName, platform: str) -> asyncio.Task[Image]:
        key = (str(wanted), platform)
        task = self._pulls.get(key)
        if task is None:
            task = asyncio.create_task(self._pull_and_keep(asked, wanted, platform))
            self._pulls[key] = task
            task.add_done_callback(lambda done: self._pull_done(key, done))
        return task

    def _pull_done(self, key: tuple[str, str], task: asyncio.Task[Image]) -> None:
        self._pulls.pop(key, None)
        if not task.cancelled():
            task.exception()  # all callers may have gone; reading the error keeps asyncio from logging it

    async def _pull_and_keep(self, asked: str, wanted: names.ImageName, platform: str) -> Image:
        with self._importing():
            image = await self._puller.pull(asked, wanted, platform, self._blobs)
            return (await asyncio.to_thread(self._keep, [image]))[0]

    def _keep(self, images: Iterable[Image]) -> Sequence[Image]:
        now = time.time()
        kept = [msgspec.structs.replace(image, added=now) for image in images]
        self._index.add(*kept)
        return kept

    @contextlib.contextmanager
    def _importing(self, *, alone: bool = False) -> Iterator[None]:
        """Hold the lock that keeps `remove` away: blobs are stored before the name that refers to them, and must not be removed in between."""
        self._cache.mkdir(parents=True, exist_ok=True)
        with open(self._cache / "images.importing", "wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
            yield
