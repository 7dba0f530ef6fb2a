"""Images on this machine: names, configurations and unpacked layers, fetched from the master's store by digest.

    ROOT/images/names.json          name -> manifest, as the API resolved it, and when it was last wanted
    ROOT/images/configs/HEX.json
    ROOT/layers/SHORT/              one folder per layer, complete or not there; used as overlay's lower directories
    ROOT/images/links/SHORT.json    hard links of a layer to files below it; what completes it for one row of layers is a folder in layers/ too (hardlinks.py)
    ROOT/images/settled/SHORT       a mark for each blob that survives a power cut (durable.py)

The API is the only registry: it pulls what it lacks. Concurrent requests for one image share one pull. While the API is away an image that is here will do.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import json
import os
import shutil
import tempfile
import time
from dataclasses import dataclass, field
from typing import Any, Callable, Collection, Dict, List, Optional, Tuple
from urllib.parse import urlencode

from . import trees
from .client import Api, Refused
from .durable import SHORT, DurableBlobs
from .failures import BadLayer
from .feed import Feed
from .hardlinks import Link
from .http import Unreachable
from .runtime.records import names, read_json, write_json

PULL_TIMEOUT_S = 900.0
FETCHES_AT_ONCE = 3
UNUSED_FOR_S = 600.0
LINKS = ".links"
FLUSH_AFTER_S = 5.0
"""Pulls come in groups, and pods are waiting then: the disk's turn is afterwards."""


class ImageFailure(Exception):
    """Why an image is not to be had: a waiting reason of Kubernetes' and its message."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class Image:
    name: str  # in full: docker.io/library/nginx:latest
    digest: str
    layers: Tuple[str, ...]
    config: Dict[str, Any] = field(default_factory=dict)  # the OCI "config": Env, Entrypoint, Cmd, User, ...
    size_bytes: int = 0
    pulled: bool = False  # something was fetched for this request
    took_s: float = 0.0

    @property
    def id(self) -> str:
        return f"{repository(self.name)}@{self.digest}"


def _short(digest: str) -> str:
    return digest.partition(":")[2][:SHORT]


def repository(name: str) -> str:
    """Return a name without its tag or digest."""
    name = name.partition("@")[0]
    head, slash, last = name.rpartition("/")
    return head + slash + last.partition(":")[0]


def default_policy(image: str) -> str:
    """Return Kubernetes' default: Always for a name without a fixed tag, else IfNotPresent."""
    last = image.rpartition("/")[2]
    return "IfNotPresent" if "@" in last or (":" in last and not last.endswith(":latest")) else "Always"


class Images:
    def __init__(self, root: str, api: Api, platform: str, durable: "DurableBlobs | None" = None) -> None:
        self._root, self._api, self._platform = root, api, platform
        self._durable = durable or DurableBlobs(root)
        self._unflushed = asyncio.Event()
        self._unflushed.set()  # an agent before this one may have left some
        self._names_path = os.path.join(root, "images", "names.json")
        for folder in ("images/configs", "images/links", "layers"):
            os.makedirs(os.path.join(root, folder), exist_ok=True)
        self._requests: Dict[Tuple[str, str], "asyncio.Task[Image]"] = {}
        self._fetches = asyncio.Semaphore(FETCHES_AT_ONCE)
        self._clear_half_done()

    def _clear_half_done(self) -> None:
        for name in os.listdir(os.path.join(self._root, "layers")):
            if name.startswith("tmp"):
                trees.remove_tree(os.path.join(self._root, "layers", name))

    # -- asking

    def local(self, image: str) -> "Image | None":
        """Return the image if all of it is on this machine, else None."""
        manifest = self._names().get(image)
        there = manifest and self._missing(manifest) == [] and all(os.path.isdir(folder) for folder in self._folders(manifest))
        return self._image(manifest) if manifest and there else None

    async def ensure(self, image: str, policy: str) -> Image:
        """Raises ImageFailure. Cancelling one request does not stop the pull that others wait for."""
        key = (image, policy)
        task = self._requests.get(key)
        if task is None:
            task = self._requests[key] = asyncio.ensure_future(self._ensure(image, policy))
            task.add_done_callback(lambda done: (self._requests.pop(key, None), done.cancelled() or done.exception()))
        return await asyncio.shield(task)

    async def _ensure(self, image: str, policy: str) -> Image:
        here = self.local(image)
        if here and policy == "IfNotPresent":
            self._touch(image)
            return here
        began = time.monotonic()
        try:
            manifest = await self._resolve(image, policy)
        except Unreachable as error:
            if here and policy != "Never":
                return here
            raise ImageFailure("ErrImagePull", f"the lab's image store does not answer: {error}") from error
        missing = self._missing(manifest)
        try:
            fetched = await asyncio.gather(*(self._fetch(blob) for blob in missing), return_exceptions=True)
            for failure in filter(None, fetched):  # all have ended: none goes on beside the next try
                raise failure
            await self._complete(manifest)
        except (Unreachable, Refused, BadLayer, OSError) as error:
            raise ImageFailure("ErrImagePull", f"failed to pull image {image!r}: {error}".replace("'", '"')) from error
        self._remember(image, manifest)
        found = self._image(manifest)
        return Image(**{**found.__dict__, "pulled": bool(missing), "took_s": time.monotonic() - began})

    async def _resolve(self, image: str, policy: str) -> Dict[str, Any]:
        query = urlencode({"name": image, "platform": self._platform, "pull": policy})
        try:
            return await self._api.get(f"/labctl/v1/images/resolve?{query}", timeout_s=PULL_TIMEOUT_S)
        except Refused as error:
            reason = (
                error.reason
                if error.reason in ("ErrImageNeverPull", "ErrImagePull", "InvalidImageName", "RegistryUnavailable")
                else "ErrImagePull"
            )
            raise ImageFailure(reason, str(error).replace(f'Failed to pull image "{image}": ', "")) from error

    # -- blobs

    def _layer(self, digest: str) -> str:
        return os.path.join(self._root, "layers", _short(digest))

    def _config(self, digest: str) -> str:
        return os.path.join(self._root, "images", "configs", digest.partition(":")[2] + ".json")

    def _links(self, digest: str) -> str:
        return os.path.join(self._root, "images", "links", _short(digest) + ".json")

    def _folders(self, manifest: Dict[str, Any]) -> List[str]:
        """Return the folders that an image is mounted from, lowest first: its layers, and right above a layer what completes it."""
        folders, row = [], hashlib.sha256()
        for layer in manifest["layers"]:
            row.update(layer["digest"].encode() + b"\n")
            folders.append(self._layer(layer["digest"]))
            if os.path.exists(self._links(layer["digest"])):
                folders.append(os.path.join(self._root, "layers", row.hexdigest()[:SHORT]))
        return folders

    async def _complete(self, manifest: Dict[str, Any]) -> None:
        """Make the files that layers link to in lower ones. Raises BadLayer or OSError."""
        folders = self._folders(manifest)
        layers = {self._layer(layer["digest"]): layer["digest"] for layer in manifest["layers"]}
        for place, final in enumerate(folders):
            if not os.path.isdir(final):
                links = (read_json(self._links(layers[folders[place - 1]])) or {}).get("links") or []
                await asyncio.get_running_loop().run_in_executor(None, self._make_completion, folders[:place], links, final)
                self._unflushed.set()

    def _make_completion(self, below: List[str], links: List[Link], final: str) -> None:
        from .hardlinks import complete

        folder = tempfile.mkdtemp(prefix="tmp", dir=os.path.join(self._root, "layers"))
        try:
            made = os.path.join(folder, "made")
            os.mkdir(made, 0o755)
            complete(below, links, made)
            self._durable.unmark([os.path.basename(final)])
            _move(made, final)
        finally:
            trees.remove_tree(folder)

    def _missing(self, manifest: Dict[str, Any]) -> list:
        missing = [] if os.path.exists(self._config(manifest["config"]["digest"])) else [{**manifest["config"], "config": True}]
        return missing + [layer for layer in manifest["layers"] if not os.path.isdir(self._layer(layer["digest"]))]

    async def _fetch(self, blob: Dict[str, Any]) -> None:
        """Download a blob, and move it into its place if it is what the manifest promised."""
        async with self._fetches:
            folder = tempfile.mkdtemp(prefix="tmp", dir=os.path.join(self._root, "layers"))
            try:
                made = os.path.join(folder, "made")
                await self._download(blob, _save if blob.get("config") else _unpack, made)
                self._durable.unmark([_short(blob["digest"])])
                if blob.get("config"):
                    os.replace(made, self._config(blob["digest"]))
                else:
                    if os.path.exists(made + LINKS):
                        os.replace(made + LINKS, self._links(blob["digest"]))
                    _move(made, self._layer(blob["digest"]))
                self._unflushed.set()
            finally:
                await trees.remove_trees(folder)

    async def _download(self, blob: Dict[str, Any], use: Callable[[Feed, str], None], made: str) -> None:
        """Download a blob; `use` works on it in a thread as it arrives. Raises BadLayer if size or digest are not as promised."""
        response = await self._api.stream(f"/labctl/v1/blobs/{blob['digest']}")
        feed, whole, seen = Feed(), False, 0
        work = asyncio.get_running_loop().run_in_executor(None, _use, use, feed, made)
        try:
            async for piece in response.pieces():
                seen += len(piece)
                if seen > blob["size"]:
                    break
                await feed.put(piece)
            whole = seen == blob["size"]
        finally:
            feed.end(broken=not whole)
            if not whole:
                response.close()
            failure = await work
        if not whole or feed.digest != blob["digest"]:
            raise BadLayer(f"blob {blob['digest'][:19]} is not what its digest says")
        if failure:
            raise failure

    # -- a power cut

    def _blobs(self) -> Dict[str, str]:
        """Return every layer and configuration on this machine: the first digits of its digest, and its path."""
        layers = os.path.join(self._root, "layers")
        configs = os.path.join(self._root, "images", "configs")
        here = {name[:SHORT]: os.path.join(configs, name) for name in names(configs)}
        return {**here, **{name: os.path.join(layers, name) for name in names(layers) if not name.startswith("tmp")}}

    async def flush_fetched(self) -> None:
        """Runs until it is cancelled: writes what was fetched to the disk, a few seconds after those who waited for it have it."""
        while True:
            await self._unflushed.wait()
            await asyncio.sleep(FLUSH_AFTER_S)
            self._unflushed.clear()
            with contextlib.suppress(OSError):  # no mark: it is fetched again after a boot, and tried with the next one
                await asyncio.get_running_loop().run_in_executor(None, self._durable.flush, self._blobs())

    def forget_unflushed(self) -> int:
        """Remove what a power cut may have damaged. Called after a boot, before anything is asked. Answers how many blobs it removed."""
        blobs = self._blobs()
        unmarked = self._durable.unmarked(blobs)
        for name in unmarked:
            self._remove(blobs[name])
        return len(unmarked)

    def _remove(self, path: str) -> None:
        """Remove a layer or a configuration in one step: a layer that is half removed when the agent dies must not look like a whole one."""
        self._durable.unmark([os.path.basename(path)[:SHORT]])
        folder = tempfile.mkdtemp(prefix="tmp", dir=os.path.join(self._root, "layers"))
        os.rename(path, os.path.join(folder, "removed"))
        with contextlib.suppress(FileNotFoundError):  # after its layer: a layer without it would look whole
            os.unlink(os.path.join(self._root, "images", "links", os.path.basename(path) + ".json"))
        trees.remove_tree(folder)

    # -- names

    def _names(self) -> Dict[str, Any]:
        return read_json(self._names_path) or {}

    def _remember(self, image: str, manifest: Dict[str, Any]) -> None:
        write_json(self._names_path, {**self._names(), image: {**manifest, "wanted_s": time.time()}})

    def _touch(self, image: str) -> None:
        self._remember(image, self._names()[image])

    def _image(self, manifest: Dict[str, Any]) -> Image:
        with open(self._config(manifest["config"]["digest"]), encoding="utf-8") as file:
            config = json.load(file).get("config") or {}
        layers = tuple(self._folders(manifest))
        return Image(manifest["name"], manifest["digest"], layers, config, sum(layer["size"] for layer in manifest["layers"]))

    def reported(self, most: int = 50) -> list:
        """Return the images for the Node's status.images."""
        return [
            {
                "names": [f"{repository(each['name'])}@{each['digest']}", each["name"]],
                "sizeBytes": sum(layer["size"] for layer in each["layers"]),
            }
            for each in list(self._names().values())[:most]
        ]

    # -- giving back

    def collect(self, used_layers: Collection[str], limit_bytes: int) -> int:
        """Forget the images that were wanted longest ago until they fit; never one in use or wanted just now. How many were forgotten."""
        if self._requests:
            return 0  # a pull that is under way has layers here that no name knows yet
        names = self._names()
        oldest = sorted(names, key=lambda name: names[name].get("wanted_s", 0.0))
        forgotten = 0
        for name in oldest:
            layers = set(self._folders(names[name]))
            if _layers_bytes(names) <= limit_bytes or time.time() - names[name].get("wanted_s", 0.0) < UNUSED_FOR_S:
                break
            if not layers & set(used_layers):
                del names[name]  # layers that other images share stay, and go on counting
                forgotten += 1
        if forgotten:
            write_json(self._names_path, names)
            self._drop_layers({folder for each in names.values() for folder in self._folders(each)} | set(used_layers))
        return forgotten

    def _drop_layers(self, keep: Collection[str]) -> None:
        base = os.path.join(self._root, "layers")
        for name in os.listdir(base):
            path = os.path.join(base, name)
            if path not in keep and not name.startswith("tmp"):
                self._remove(path)


def _layers_bytes(names: Dict[str, dict]) -> int:
    """Return the size of all layers of these images. One that several images share counts once."""
    return sum({layer["digest"]: layer["size"] for each in names.values() for layer in each["layers"]}.values())


def _use(use: Callable[[Feed, str], None], feed: Feed, made: str) -> Optional[Exception]:
    """Runs in a thread. Answers the failure instead of raising it, because the caller first has to check that it was the right blob."""
    try:
        use(feed, made)
        return None
    except (BadLayer, OSError) as error:
        return error
    finally:
        feed.drain()


def _save(feed: Feed, made: str) -> None:
    with open(made, "wb") as file:
        shutil.copyfileobj(feed, file)


def _unpack(feed: Feed, made: str) -> None:
    from .layers import unpack  # here: an agent that pulls nothing needs no tar

    os.mkdir(made, 0o755)
    links = unpack(io.BufferedReader(feed, 256 << 10), made).links
    if links:
        write_json(made + LINKS, {"links": links})


def _move(made: str, final: str) -> None:
    try:
        os.rename(made, final)
    except OSError:
        if not os.path.isdir(final):  # else somebody else was first with the same layer
            raise
