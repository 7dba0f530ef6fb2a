"""The volumes of claims, as folders of this machine: found through the claim and its PersistentVolume, made and removed where they are labctl's own.

A pod's volume that names a claim: the claim names a PersistentVolume, that says where the data lies. Nothing is mounted but NFS; a container mounts
the folder itself. A volume of labctl's provisioner is a folder below `volumes_dir`, named as the PersistentVolume is. Its path is computed
from that name and never read from the object, so that no object can direct what is made or removed elsewhere.

`Keeper` removes such a folder when its PersistentVolume goes: it watches those of this node, and takes the finalizer away once the data is removed.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from typing import Any, Callable, Dict, List

from . import client, trees
from .client import MERGE, Api, Delays, Refused
from .environment import ConfigError, Fetch
from .http import Unreachable

Object = Dict[str, Any]
PROVISIONED_BY, LOCAL = "pv.kubernetes.io/provisioned-by", "labctl.internal/local"
LOCAL_DATA = "labctl.internal/local-data"
ON_NODE = "labctl.internal/node"
PATH = "/api/v1/persistentvolumes"
MOUNT_TIMEOUT_S = 30.0


async def volume_of(pod: Object, name: str, fetch: Fetch, owner: str = "") -> Object:
    """Return the PersistentVolume of a claim, which has this owner if one is given.

    Raises ConfigError if the claim has no volume, or if the volume is not (or no longer) this claim's.
    """
    namespace = pod["metadata"]["namespace"]
    claim = await fetch("persistentvolumeclaims", namespace, name)
    if claim is None:
        raise ConfigError(f'persistentvolumeclaim "{name}" not found')
    if owner and owner not in {each.get("uid") for each in claim["metadata"].get("ownerReferences") or ()}:
        raise ConfigError(f'persistentvolumeclaim "{name}" was not created for this pod')
    bound = (claim.get("spec") or {}).get("volumeName", "")
    if not bound or "pv.kubernetes.io/bind-completed" not in (claim["metadata"].get("annotations") or {}):
        raise ConfigError(f'persistentvolumeclaim "{name}" is not bound')
    volume = await fetch("persistentvolumes", "", bound)
    if volume is None:
        raise ConfigError(f'persistentvolume "{bound}" not found')
    if (volume["spec"].get("claimRef") or {}).get("uid") != claim["metadata"]["uid"]:
        raise ConfigError(f'persistentvolume "{bound}" is bound to another claim')
    if volume["spec"].get("volumeMode", "Filesystem") != "Filesystem":
        raise ConfigError(f'persistentvolume "{bound}" has volumeMode Block, which is not supported')
    return volume


def own_folder(volumes_dir: str, volume: Object) -> str:
    """Return the folder of a volume that labctl's provisioner made, or "" for any other volume."""
    metadata = volume["metadata"]
    name = metadata["name"]
    if (metadata.get("annotations") or {}).get(PROVISIONED_BY) != LOCAL or "/" in name or name in (".", ".."):
        return ""
    return os.path.join(volumes_dir, name)


def make_folder(path: str) -> str:
    """Makes the folder, which every user may write to, in one step: a folder that is there has its mode already."""
    if not os.path.isdir(path):
        os.makedirs(
            os.path.dirname(path), 0o700, exist_ok=True
        )  # containers get a mount of what is inside; others on this machine get nothing
        half = _beside(path, "new")
        trees.remove_tree(half)  # of an agent that was killed
        os.mkdir(half)
        os.chmod(half, 0o777)
        os.rename(half, path)
    return path


def _beside(path: str, word: str) -> str:
    """Return a temporary name beside a volume's folder. No volume's name begins with a dot."""
    folder, name = os.path.split(path)
    return os.path.join(folder, f".{word}-{name}")


def local_path(path: str) -> str:
    """Check that the folder of a `local` volume exists, because only an administrator makes it, and return it."""
    if not os.path.exists(path):
        raise ConfigError(f'path "{path}" does not exist')
    return path


def mount_nfs(source: Object, options: List[str], read_only: bool, folder: str) -> str:
    """Mounts an NFS export at `folder`. Raises ConfigError with the reason where this machine can't. Blocks for as long as the server takes."""
    lacks = nfs_refusal()
    if lacks:
        raise ConfigError(f"nfs volumes are not supported on this machine: {lacks}")
    os.makedirs(folder, exist_ok=True)
    if os.path.ismount(folder):
        return folder
    told = [*options, *(["ro"] if read_only or source.get("readOnly") else [])]
    argv = ["mount", "-t", "nfs", *(["-o", ",".join(told)] if told else []), "--", f"{source['server']}:{source['path']}", folder]
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=MOUNT_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        raise ConfigError(f"mount of {source['server']}:{source['path']} took longer than {MOUNT_TIMEOUT_S:g} s") from None
    if done.returncode != 0:
        words = done.stderr.decode(errors="replace").strip().splitlines()
        raise ConfigError(f"mount failed: {words[-1] if words else f'exit status {done.returncode}'}")
    return folder


def nfs_refusal(file_systems: str = "/proc/filesystems") -> str:
    """Why this machine can't mount NFS; "": it can."""
    if not shutil.which("mount.nfs"):
        return "it has no mount.nfs (package nfs-common)"
    with open(file_systems, encoding="ascii") as file:
        known = {line.split()[-1] for line in file if line.strip()}
    if known.isdisjoint({"nfs", "nfs4"}) and not _loads("nfs"):
        return "its kernel has no NFS"
    return ""


def _loads(module: str) -> bool:
    """Tell whether the kernel can load this module."""
    tool = shutil.which("modprobe")
    return tool is not None and subprocess.run([tool, "-q", module], stdin=subprocess.DEVNULL, check=False).returncode == 0


class Keeper:
    """Removes the data of volumes that are deleted. `run` goes on until it is cancelled."""

    def __init__(self, api: Api, node: str, volumes_dir: str, say: Callable[[str], None]) -> None:
        self._api, self._node, self._dir, self._say = api, node, volumes_dir, say
        self._going: Dict[str, Object] = {}  # by name: deleted, and the data not removed yet
        self._told = asyncio.Event()

    async def run(self) -> None:
        await asyncio.gather(
            client.reflect(self._api, PATH, f"{ON_NODE}={self._node}", self._listed, self._event, self._say), self._remove_them()
        )

    async def _listed(self, volumes: List[Object]) -> None:
        self._going.clear()
        for volume in volumes:
            await self._event("MODIFIED", volume)

    async def _event(self, kind: str, volume: Object) -> None:
        metadata = volume["metadata"]
        self._going.pop(metadata["name"], None)
        if kind != "DELETED" and metadata.get("deletionTimestamp") and metadata.get("finalizers") == [LOCAL_DATA]:
            self._going[metadata["name"]] = volume
            self._told.set()

    async def _remove_them(self) -> None:
        delays = Delays()
        while True:
            await self._told.wait()
            self._told.clear()
            for name, volume in list(self._going.items()):
                try:
                    await self._remove(volume)
                    delays.reset()
                    if self._going.get(name) is volume:  # else the watch has told of it again meanwhile
                        del self._going[name]
                except (Refused, Unreachable, OSError) as error:
                    self._say(f"removing volume {name}: {error}")
            if self._going:
                await asyncio.sleep(delays.next())
                self._told.set()

    async def _remove(self, volume: Object) -> None:
        """Remove the data first, then the finalizer. An agent that is killed between them does both again."""
        metadata = volume["metadata"]
        folder = own_folder(self._dir, volume)
        if folder and volume["spec"].get("persistentVolumeReclaimPolicy") == "Delete":
            await asyncio.get_running_loop().run_in_executor(None, remove_folder, folder)
            self._say(f"removed the data of volume {metadata['name']}")
        body = {"metadata": {"finalizers": [], "resourceVersion": metadata["resourceVersion"]}}
        try:
            await self._api.patch(f"{PATH}/{metadata['name']}", body, MERGE)
        except Refused as error:
            if error.code not in (404, 409):
                raise  # somebody else was quicker; the watch tells what it is now


def remove_folder(folder: str) -> None:
    """Rename the folder before it is removed, so that a half-removed one is never mounted again."""
    gone = _beside(folder, "gone")
    if os.path.isdir(folder):
        trees.remove_tree(gone)
        os.rename(folder, gone)
    trees.remove_tree(gone)
    if os.path.lexists(gone):
        raise OSError(f"{gone} could not be removed")
