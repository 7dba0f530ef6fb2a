"""A pod's volumes as folders of the machine, ready to be bind-mounted: emptyDir, hostPath, configMap, secret, downwardAPI, projected.

Files from the API are written as the kubelet does it: a time-stamped folder, a `..data` link that moves to it in one step, a link per file; so a container sees
all of the old or all of the new.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import stat
import time
from typing import Any, Dict, List, Tuple

from . import linux, quantities
from .environment import ConfigError, Fetch, PodFacts, decoded, pod_field, resource_field

Object = Dict[str, Any]
Files = Dict[str, Tuple[bytes, int]]  # relative path -> content, mode


class VolumeFailure(Exception):
    """A volume can't be set up (yet): the name of the volume, and why."""

    def __init__(self, volume: str, message: str) -> None:
        super().__init__(message)
        self.volume = volume


def folder_of(pod_dir: str, name: str) -> str:
    return os.path.join(pod_dir, "volumes", name)


async def prepare(pod: Object, pod_dir: str, facts: PodFacts, fetch: Fetch) -> Dict[str, str]:
    """Name -> path on the machine, for every volume. Called again, it renews what comes from the API and leaves the rest. Raises VolumeFailure."""
    paths = {}
    for volume in pod["spec"].get("volumes") or ():
        try:
            paths[volume["name"]] = await _one(pod, volume, pod_dir, facts, fetch)
        except (ConfigError, OSError, ValueError) as error:
            raise VolumeFailure(volume["name"], str(error)) from error
    return paths


async def _one(pod: Object, volume: Object, pod_dir: str, facts: PodFacts, fetch: Fetch) -> str:
    if volume.get("hostPath"):
        return _host_path(volume["hostPath"]["path"], volume["hostPath"].get("type", ""))
    folder = folder_of(pod_dir, volume["name"])
    fresh = not os.path.isdir(folder)
    group = (pod["spec"].get("securityContext") or {}).get("fsGroup")
    sources = _api_sources(volume)
    if sources is None:
        _empty(volume.get("emptyDir") or {}, folder, fresh)
    else:
        files: Files = {}
        for source, mode in sources:
            files.update(await _files(pod, source, mode, facts, fetch))
        os.makedirs(folder, exist_ok=True)
        write_atomically(folder, files, group)
    if fresh and group is not None:
        os.chown(folder, -1, group)
        os.chmod(folder, stat.S_IMODE(os.stat(folder).st_mode) | 0o2070)
    return folder


def _api_sources(volume: Object) -> "List[Tuple[Object, int]] | None":
    """What a volume's files come from, each with its default mode; None: not from the API."""
    for kind in ("configMap", "secret", "downwardAPI"):
        if volume.get(kind) is not None:
            return [({kind: volume[kind]}, volume[kind].get("defaultMode", 0o644))]
    if volume.get("projected") is not None:
        return [(source, volume["projected"].get("defaultMode", 0o644)) for source in volume["projected"].get("sources") or ()]
    if volume.get("emptyDir") is None and len(volume) > 1:
        kind = next(key for key in volume if key != "name")
        raise ConfigError(f"volumes of type {kind} are not supported")
    return None


def _empty(asked: Object, folder: str, fresh: bool) -> None:
    if not fresh:
        return
    os.makedirs(folder)
    if asked.get("medium") == "Memory":
        size = f",size={quantities.whole(asked['sizeLimit'])}" if asked.get("sizeLimit") else ""
        linux.mount("tmpfs", folder, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, f"mode=1777{size}")
    os.chmod(folder, 0o777)


_HOST_PATH = {
    "Directory": (stat.S_ISDIR, "is not a directory"),
    "File": (stat.S_ISREG, "is not a file"),
    "Socket": (stat.S_ISSOCK, "is not a socket"),
    "CharDevice": (stat.S_ISCHR, "is not a character device"),
    "BlockDevice": (stat.S_ISBLK, "is not a block device"),
}


def _host_path(path: str, kind: str) -> str:
    if kind == "DirectoryOrCreate":
        os.makedirs(path, 0o755, exist_ok=True)
    elif kind == "FileOrCreate":
        os.close(os.open(path, os.O_CREAT | os.O_RDONLY | os.O_CLOEXEC, 0o644))
    elif kind == "" and not os.path.lexists(path):
        os.makedirs(path, 0o755)  # as container runtimes do for a bind mount that has no source
    test, words = _HOST_PATH.get(kind.replace("OrCreate", ""), (None, ""))
    if test and not (os.path.exists(path) and test(os.stat(path).st_mode)):
        raise ConfigError(f"hostPath type check failed: {path} {words}")
    return path


async def _files(pod: Object, source: Object, mode: int, facts: PodFacts, fetch: Fetch) -> Files:
    if source.get("downwardAPI") is not None:
        return _downward(pod, source["downwardAPI"], mode, facts)
    for field, kind in (("configMap", "configmaps"), ("secret", "secrets")):
        if source.get(field) is not None:
            return await _keys(pod["metadata"]["namespace"], kind, source[field], mode, fetch)
    raise ConfigError(f"projected sources of type {next(iter(source), '?')} are not supported")


async def _keys(namespace: str, kind: str, asked: Object, mode: int, fetch: Fetch) -> Files:
    name = asked.get("secretName") or asked.get("name", "")
    found = await fetch(kind, namespace, name)
    if found is None:
        if asked.get("optional"):
            return {}
        raise ConfigError(f'{kind[:-1]} "{name}" not found')
    keys = decoded(found, kind)
    if not asked.get("items"):
        return {key: (value, mode) for key, value in keys.items()}
    files: Files = {}
    for item in asked["items"]:
        if item["key"] in keys:
            files[_relative(item["path"])] = (keys[item["key"]], item.get("mode", mode))
        elif not asked.get("optional"):
            raise ConfigError(f"references non-existent {kind[:-1]} key: {item['key']}".replace("configmap key", "config key"))
    return files


def _downward(pod: Object, asked: Object, mode: int, facts: PodFacts) -> Files:
    files: Files = {}
    for item in asked.get("items") or ():
        if item.get("fieldRef"):
            text = pod_field(pod, item["fieldRef"]["fieldPath"], facts)
        else:
            text = resource_field(pod, pod["spec"]["containers"][0], item["resourceFieldRef"], facts)
        files[_relative(item["path"])] = (text.encode(), item.get("mode", mode))
    return files


def _relative(path: str) -> str:
    if path.startswith("/") or ".." in path.split("/"):
        raise ConfigError(f"path {path!r} leaves the volume")
    return path


def write_atomically(folder: str, files: Files, group: "int | None" = None) -> bool:
    """False if the folder held just that already."""
    link = os.path.join(folder, "..data")
    old = os.path.realpath(link) if os.path.islink(link) else ""
    if old and _read(old) == {path: content for path, (content, _) in files.items()}:
        return False
    stamp = f"..{time.strftime('%Y_%m_%d_%H_%M_%S')}.{time.time_ns() % 10**9}"
    fresh = os.path.join(folder, stamp)
    os.mkdir(fresh, 0o755)
    for path, (content, mode) in files.items():
        target = os.path.join(fresh, path)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(target, "wb") as file:
            file.write(content)
        os.chmod(target, mode | (0o040 if group is not None else 0))
        if group is not None:
            os.chown(target, -1, group)
    os.symlink(stamp, link + ".new")
    os.replace(link + ".new", link)
    _link_tops(folder, {path.split("/")[0] for path in files})
    if old:
        shutil.rmtree(old, ignore_errors=True)
    return True


def _read(folder: str) -> Dict[str, bytes]:
    found = {}
    for base, _, names in os.walk(folder):
        for name in names:
            with open(os.path.join(base, name), "rb") as file:
                found[os.path.relpath(os.path.join(base, name), folder)] = file.read()
    return found


def _link_tops(folder: str, wanted: "set[str]") -> None:
    for name in os.listdir(folder):
        if not name.startswith("..") and name not in wanted:
            os.unlink(os.path.join(folder, name))
    for name in wanted:
        if not os.path.islink(os.path.join(folder, name)):
            os.symlink(os.path.join("..data", name), os.path.join(folder, name))


def sub_path(volume: str, below: str) -> str:
    """The source of a mount with subPath: made if missing, never outside the volume."""
    base = os.path.realpath(volume)
    path = os.path.realpath(os.path.join(base, below))
    if path != base and not path.startswith(base + os.sep):
        raise VolumeFailure(os.path.basename(volume), f"subPath {below!r} leaves the volume")
    if not os.path.exists(path):
        os.makedirs(path, 0o755)
    return path


def needs_api(pod: Object) -> bool:
    """Does a volume hold files that may change in the API?"""
    return any(
        volume.get(kind) is not None
        for volume in pod["spec"].get("volumes") or ()
        for kind in ("configMap", "secret", "projected", "downwardAPI")
    )


async def renew(pod: Object, pod_dir: str, facts: PodFacts, fetch: Fetch) -> None:
    """Later versions of ConfigMaps and Secrets reach running containers. What can't be had now keeps its old content."""
    with contextlib.suppress(VolumeFailure, asyncio.TimeoutError):
        await prepare(pod, pod_dir, facts, fetch)
