"""Pulls an image from a registry, through skopeo: from the mirrors in order, then from the registry itself.

Errors have the kubelet's words.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import tempfile
from pathlib import Path

from labctl.errors import ApiError
from labctl.images import documents, layout
from labctl.images.blobs import BlobStore
from labctl.images.index import Image
from labctl.images.names import ImageName
from labctl.images.settings import ImageSettings

_LOOPBACK = re.compile(r"(localhost|127(\.\d+){3}|\[::1\])(:\d+)?")
_MISSING = ("manifest unknown", "name unknown", "not found", "repository name not known")
_ZSTD = b"\x28\xb5\x2f\xfd"
_LOOK_S = 0.5  # how often it is looked how much of the disk a pull takes
_NO_PLATFORM = "no image found in"
_WORDS = re.compile(r'msg="(.*)"$', re.MULTILINE)


class Puller:
    """Pulls images as the settings say. It keeps no state."""

    def __init__(self, settings: ImageSettings, scratch: Path) -> None:
        self._settings = settings
        self._scratch = scratch

    async def pull(self, asked: str, name: ImageName, platform: str, blobs: BlobStore) -> Image:
        """Pull the image for `platform` and put its blobs into the store.

        If no source has it, ApiError ErrImagePull has each source's answer.
        """
        self._scratch.mkdir(parents=True, exist_ok=True)
        failures = []
        for source in self._sources(name):
            with tempfile.TemporaryDirectory(prefix="pull-", dir=self._scratch) as folder:
                status, said = await self._copy(source, platform, folder)
                if status == 0 and await asyncio.to_thread(_holds_zstd, Path(folder)):
                    status, said = await self._recompress(folder)
                    folder = f"{folder}/gzip"  # noqa: PLW2901 - it lies in the temporary folder
                if status == 0:
                    return await self._take(asked, name, platform, source, Path(folder), blobs)
            if _NO_PLATFORM in said:
                raise no_platform(asked, platform, await self._platforms(source))
            failures.append(f"{source}: {said}")
        raise pull_failed(asked, "; ".join(failures))

    def _sources(self, name: ImageName) -> list[str]:
        """Return the sources in the order of asking, each as `host/path:tag`."""
        mirrors = (*self._settings.mirrors.get(name.registry, ()), *self._settings.mirrors.get("*", ()))
        end = f"@{name.digest}" if name.digest else f":{name.tag}"
        return [f"{host.rstrip('/')}/{name.path}{end}" for host in (*mirrors, name.registry)]

    async def _copy(self, source: str, platform: str, folder: str) -> tuple[int, str]:
        # The layers are kept as they are; compressed again, they would have other digests than the registry's.
        options = ["--quiet", "--dest-oci-accept-uncompressed-layers", *_overrides(platform), *_tls(source, "src-")]
        return await self._skopeo("copy", *options, f"docker://{source}", f"oci:{folder}:pulled", folder=folder)

    async def _recompress(self, folder: str) -> tuple[int, str]:
        """Compress the layers with gzip, which agents can read; the image gets other digests by that."""
        return await self._skopeo(
            "copy", "--quiet", "--dest-compress-format", "gzip", f"oci:{folder}:pulled", f"oci:{folder}/gzip:pulled", folder=folder
        )

    async def _take(self, asked: str, name: ImageName, platform: str, source: str, folder: Path, blobs: BlobStore) -> Image:
        found = await asyncio.to_thread(layout.read, folder, blobs, name=str(name))
        image = found[0]
        if image.platform != platform:  # an image without an index has one platform, and skopeo takes it whatever was asked
            raise no_platform(asked, platform, [image.platform])
        return Image(str(name), image.digest, platform, image.config, image.layers, f"pulled from {source}")

    async def _platforms(self, source: str) -> list[str]:
        status, said = await self._skopeo("inspect", "--raw", *_tls(source, ""), f"docker://{source}")
        if status:
            return []
        listed = [entry.platform for entry in documents.decoded(said.encode(), documents.Document, source).manifests or ()]
        return sorted({f"{each.os}/{each.architecture}" for each in listed if each and each.os not in (None, "unknown")})

    async def _skopeo(self, *arguments: str, folder: str = "") -> tuple[int, str]:
        """Run skopeo and return (exit status, its output or, if it failed, its reason). What it writes into `folder` has a bound."""
        try:
            process = await asyncio.create_subprocess_exec(
                "skopeo",
                "--insecure-policy",
                *arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env={
                    "PATH": "/usr/local/bin:/usr/bin:/bin",
                    "HOME": "/root",
                    "TMPDIR": folder or str(self._scratch),
                    **self._settings.proxy,
                },
            )
        except FileNotFoundError:
            return 127, "skopeo is not installed on the master's host (apt-get install skopeo)"
        try:
            async with asyncio.timeout(self._settings.pull_deadline_s):
                out, err = await self._answer(process, folder)
        except TimeoutError:
            return 1, f"no answer within {self._settings.pull_deadline_s:g} s"
        except _TooLarge:
            return 1, f"it has more than {self._settings.pull_bytes_max} bytes"
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode:
            text = err.decode(errors="replace").strip()
            said = _WORDS.findall(text)
            return process.returncode, (said[-1] if said else text).replace('\\"', '"')
        return 0, out.decode(errors="replace")

    async def _answer(self, process: asyncio.subprocess.Process, folder: str) -> tuple[bytes, bytes]:
        """Return what the process says until it ends. Raises _TooLarge if it fills the folder meanwhile."""
        talking = asyncio.create_task(process.communicate())
        try:
            while not (await asyncio.wait((talking,), timeout=_LOOK_S))[0]:
                if folder and await asyncio.to_thread(_bytes_in, folder) > self._settings.pull_bytes_max:
                    raise _TooLarge
            return talking.result()
        finally:
            talking.cancel()


class _TooLarge(Exception):
    """What is pulled takes too much of the disk."""


def _bytes_in(folder: str) -> int:
    """Return how many bytes the files in a folder have, those that are just being written too."""
    total = 0
    for path in Path(folder).rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # it was renamed meanwhile
            total += path.lstat().st_size
    return total


def _holds_zstd(folder: Path) -> bool:
    """Tell whether a blob of a layout is compressed with zstd, which Python's standard library, all that an agent has, can't read."""
    for path in (folder / "blobs" / "sha256").iterdir():
        with open(path, "rb") as file:
            if file.read(4) == _ZSTD:
                return True
    return False


def pull_failed(asked: str, why: str) -> ApiError:
    code = "NotFound" if any(words in why for words in _MISSING) else "Unknown"
    return ApiError(404, "ErrImagePull", f'Failed to pull image "{asked}": rpc error: code = {code} desc = {why}')


def no_platform(asked: str, platform: str, has: list[str]) -> ApiError:
    there = f"; it has: {', '.join(has)}" if has else ""
    return ApiError(404, "ErrImagePull", f'Failed to pull image "{asked}": no image for platform {platform}{there}')


def never_pull(asked: str) -> ApiError:
    return ApiError(404, "ErrImageNeverPull", f'Container image "{asked}" is not present with pull policy of Never')


def _overrides(platform: str) -> list[str]:
    os, architecture, *variant = platform.split("/")
    return ["--override-os", os, "--override-arch", architecture, *(["--override-variant", variant[0]] if variant else [])]


def _tls(source: str, direction: str) -> list[str]:
    """Return the option for plain HTTP, which is only for registries on this machine."""
    host = source.split("/", 1)[0]
    return [f"--{direction}tls-verify=false"] if _LOOPBACK.fullmatch(host) else []
