"""A pod's volumes as folders of the machine, ready to be bind-mounted: emptyDir, hostPath, configMap, secret, downwardAPI, projected,
nfs, image (imagevolumes.py), and the volumes of claims (claims.py).

Files from the API are written as the kubelet does it: a time-stamped folder, a `..data` link that moves to it in one step, a link per file; so a container sees
all of the old or all of the new. Containers can only read these volumes: one that could exchange `..data` for a link to somewhere else would
direct what the agent removes (CVE-2017-1002102).

The agent may be killed at any step. Each step can be repeated: it finds what an earlier attempt left, and finishes or removes it.

    POD/volumes/NAME          the volume
    POD/volumes-ready/NAME    an empty file: the volume was set up once, and what its root looks like is the containers' affair from now on
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
import tempfile
import time
from dataclasses import dataclass
from typing import Any, Awaitable, Callable, Dict, List, Set, Tuple

from . import beneath, claims, containers, linux, quantities, trees
from .environment import ConfigError, Fetch, PodFacts, decoded, pod_field, resource_field

Object = Dict[str, Any]
Files = Dict[str, Tuple[bytes, int, "int | None"]]  # relative path -> content, mode, owner (None: the agent's own user)


class VolumeFailure(Exception):
    """A volume can't be set up (yet): the name of the volume, and why."""

    def __init__(self, volume: str, message: str) -> None:
        super().__init__(message)
        self.volume = volume


def folder_of(pod_dir: str, name: str) -> str:
    return os.path.join(pod_dir, "volumes", name)


VOLUMES_DIR = "/var/lib/labctl/volumes"
"""Where the data of labctl's own PersistentVolumes lies."""

Token = Callable[[Object, Object], Awaitable[str]]
"""(pod, the source `serviceAccountToken` of a projected volume) -> the token."""


Trust = Callable[[Object], Awaitable[bytes]]
"""The source `clusterTrustBundle` of a projected volume -> its certificates."""


Certificate = Callable[[Object, str, int], Awaitable[Tuple[bytes, bytes]]]
"""(pod, the name of a projected volume, the place of a source `podCertificate` in it) -> private key and chain. Raises ConfigError while there are none."""


@dataclass(frozen=True)
class Sources:
    """Where volumes come from: objects of the API, tokens of the pod's ServiceAccount, trust anchors, the pod's certificates, the folder of PersistentVolumes."""

    fetch: Fetch
    token: Token
    trust: Trust
    certificate: Certificate
    volumes_dir: str = VOLUMES_DIR


async def prepare(pod: Object, pod_dir: str, facts: PodFacts, sources: Sources) -> Dict[str, str]:
    """Name -> path on the machine, for every volume. Called again, it renews what comes from the API and leaves the rest. Raises VolumeFailure."""
    paths = {}
    for volume in pod["spec"].get("volumes") or ():
        try:
            paths[volume["name"]] = await _one(pod, volume, pod_dir, facts, sources)
        except (ConfigError, OSError, ValueError) as error:
            raise VolumeFailure(volume["name"], str(error)) from error
    return paths


async def _one(pod: Object, volume: Object, pod_dir: str, facts: PodFacts, sources: Sources) -> str:
    if volume.get("hostPath"):
        return _host_path(volume["hostPath"]["path"], volume["hostPath"].get("type", ""))
    folder = folder_of(pod_dir, volume["name"])
    if volume.get("persistentVolumeClaim"):
        return await _claimed(pod, volume["persistentVolumeClaim"], folder, sources)
    if volume.get("ephemeral"):
        name = f"{pod['metadata']['name']}-{volume['name']}"
        return await _claimed(pod, {"claimName": name}, folder, sources, owner=pod["metadata"]["uid"])
    if volume.get("image"):
        return folder  # imagevolumes.py mounted it
    if volume.get("nfs"):
        return await _in_thread(claims.mount_nfs, volume["nfs"], [], False, folder)
    ready = os.path.join(pod_dir, "volumes-ready", volume["name"])
    first = not _is_ready(volume, folder, ready)
    group = (pod["spec"].get("securityContext") or {}).get("fsGroup")
    parts = _api_sources(volume)
    if parts is not None:
        files: Files = {}
        reading = (_files(pod, source, mode, facts, sources, (volume["name"], index)) for index, (source, mode) in enumerate(parts))
        for part in await asyncio.gather(*reading):
            files.update(part)
        os.makedirs(folder, exist_ok=True)
        write_atomically(folder, files, group)
    elif first:
        asked = volume.get("emptyDir") or {}
        _empty(asked, folder, most_memory(pod, asked, facts))
    if first:
        _finish(folder, group, ready)
    return folder


async def _claimed(pod: Object, asked: Object, folder: str, sources: Sources, owner: str = "") -> str:
    """Return the folder with the data of a claim's volume.

    `folder` is where a volume of the network is mounted. `owner` is whose claim it must be.
    """
    volume = await claims.volume_of(pod, asked["claimName"], sources.fetch, owner)
    spec = volume["spec"]
    if spec.get("nfs"):
        return await _in_thread(claims.mount_nfs, spec["nfs"], spec.get("mountOptions") or [], bool(asked.get("readOnly")), folder)
    if spec.get("hostPath"):
        return _host_path(spec["hostPath"]["path"], spec["hostPath"].get("type", ""))
    if not spec.get("local"):
        kind = next(
            (key for key, value in spec.items() if isinstance(value, dict) and key not in ("capacity", "claimRef", "nodeAffinity")), "?"
        )
        raise ConfigError(f"volumes of type {kind} are not supported")
    own = claims.own_folder(sources.volumes_dir, volume)
    path = claims.make_folder(own) if own else claims.local_path(spec["local"]["path"])
    group = (pod["spec"].get("securityContext") or {}).get("fsGroup")
    if group is not None and not _is_given_to(path, group):
        _give_to(path, group)
    return path


async def _in_thread(work: Callable[..., str], *arguments: Any) -> str:
    return await asyncio.get_running_loop().run_in_executor(None, work, *arguments)


def _in_memory(volume: Object) -> bool:
    return (volume.get("emptyDir") or {}).get("medium") == "Memory"


def _is_ready(volume: Object, folder: str, ready: str) -> bool:
    return os.path.exists(ready) and os.path.isdir(folder) and (not _in_memory(volume) or os.path.ismount(folder))


def _finish(folder: str, group: "int | None", ready: str) -> None:
    """Gives the volume to the pod's group, and notes that it is set up."""
    if group is not None:
        _give_to(folder, group)
    os.makedirs(os.path.dirname(ready), exist_ok=True)
    with open(ready, "w"):
        pass


def _give_to(folder: str, group: int) -> None:
    os.chown(folder, -1, group)
    os.chmod(folder, stat.S_IMODE(os.stat(folder).st_mode) | 0o2070)


def _is_given_to(folder: str, group: int) -> bool:
    found = os.stat(folder)
    return found.st_gid == group and found.st_mode & 0o2070 == 0o2070


def _api_sources(volume: Object) -> "List[Tuple[Object, int]] | None":
    """Return the sources of a volume's files, each with its default mode, or None if they don't come from the API."""
    for kind in ("configMap", "secret", "downwardAPI"):
        if volume.get(kind) is not None:
            return [({kind: volume[kind]}, volume[kind].get("defaultMode", 0o644))]
    if volume.get("projected") is not None:
        return [(source, volume["projected"].get("defaultMode", 0o644)) for source in volume["projected"].get("sources") or ()]
    if volume.get("emptyDir") is None and len(volume) > 1:
        kind = next(key for key in volume if key != "name")
        raise ConfigError(f"volumes of type {kind} are not supported")
    return None


def most_memory(pod: Object, asked: Object, facts: PodFacts) -> int:
    """Return the size in bytes of a volume in memory: its sizeLimit, and never more than its pod's memory limit, or all pods of this machine, may have.

    Without a size the kernel would give it half of the host's memory.
    """
    bounds = (
        quantities.whole(asked.get("sizeLimit")),
        containers.pod_limits(pod).memory_limit_bytes,
        quantities.whole(facts.allocatable.get("memory")),
    )
    return min((bound for bound in bounds if bound), default=0)


def _empty(asked: Object, folder: str, most_bytes: int) -> None:
    os.makedirs(folder, exist_ok=True)
    if asked.get("medium") == "Memory" and not os.path.ismount(folder):
        size = f",size={most_bytes}" if most_bytes else ""
        linux.mount("tmpfs", folder, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, f"mode=1777{size}")
    if os.stat(folder).st_mode & 0o777 != 0o777:  # else it stays as it is: memory has the sticky bit
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
        os.close(os.open(path, os.O_CREAT | os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC, 0o644))
    elif kind == "" and not os.path.lexists(path):
        os.makedirs(path, 0o755)  # as container runtimes do for a bind mount that has no source
    test, words = _HOST_PATH.get(kind.replace("OrCreate", ""), (None, ""))
    if test and not (os.path.exists(path) and test(os.stat(path).st_mode)):
        raise ConfigError(f"hostPath type check failed: {path} {words}")
    return path


async def _files(pod: Object, source: Object, mode: int, facts: PodFacts, sources: Sources, place: Tuple[str, int]) -> Files:
    """`place` is the volume's name, and which of its sources this one is."""
    if source.get("downwardAPI") is not None:
        return _downward(pod, source["downwardAPI"], mode, facts)
    if source.get("serviceAccountToken") is not None:
        asked = source["serviceAccountToken"]
        return {_relative(asked["path"]): ((await sources.token(pod, asked)).encode(), *of_token(pod, mode))}
    if source.get("clusterTrustBundle") is not None:
        asked = source["clusterTrustBundle"]
        return {_relative(asked["path"]): (await sources.trust(asked), mode, None)}
    if source.get("podCertificate") is not None:
        return _of_certificate(source["podCertificate"], await sources.certificate(pod, *place), *of_token(pod, mode))
    for field, kind in (("configMap", "configmaps"), ("secret", "secrets")):
        if source.get(field) is not None:
            return await _keys(pod["metadata"]["namespace"], kind, source[field], mode, sources.fetch)
    raise ConfigError(f"projected sources of type {next(iter(source), '?')} are not supported")


def _of_certificate(asked: Object, bundle: Tuple[bytes, bytes], mode: int, owner: "int | None") -> Files:
    key, chain = bundle
    contents = (("credentialBundlePath", key + chain), ("keyPath", key), ("certificateChainPath", chain))
    return {_relative(asked[field]): (content, mode, owner) for field, content in contents if asked.get(field)}


def of_token(pod: Object, mode: int) -> Tuple[int, "int | None"]:
    """Return the mode of a token or a certificate's key, and its owner if all containers run as one user: nobody else may read it then, but the pod's fsGroup (KEP-2451)."""
    spec, context = pod["spec"], pod["spec"].get("securityContext") or {}
    every = [*(spec.get("initContainers") or ()), *spec["containers"], *(spec.get("ephemeralContainers") or ())]
    users = {(each.get("securityContext") or {}).get("runAsUser", context.get("runAsUser")) for each in every}
    user = users.pop() if len(users) == 1 else None
    if user is not None:
        return 0o600, int(user)
    return (0o600 if context.get("fsGroup") is not None else mode), None


async def _keys(namespace: str, kind: str, asked: Object, mode: int, fetch: Fetch) -> Files:
    name = asked.get("secretName") or asked.get("name", "")
    found = await fetch(kind, namespace, name)
    if found is None:
        if asked.get("optional"):
            return {}
        raise ConfigError(f'{kind[:-1]} "{name}" not found')
    keys = decoded(found, kind)
    if not asked.get("items"):
        return {key: (value, mode, None) for key, value in keys.items()}
    files: Files = {}
    for item in asked["items"]:
        if item["key"] in keys:
            files[_relative(item["path"])] = (keys[item["key"]], item.get("mode", mode), None)
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
        files[_relative(item["path"])] = (text.encode(), item.get("mode", mode), None)
    return files


def _relative(path: str) -> str:
    """Check the path of a file in a volume, and return it. Names that begin with two dots are the agent's own."""
    if path.startswith(("/", "..")) or ".." in path.split("/"):
        raise ConfigError(f"path {path!r} leaves the volume")
    return path


def write_atomically(folder: str, files: Files, group: "int | None" = None) -> bool:
    """Makes `files` the volume's content in one step. False if the folder held just that already.

    An attempt that was cut short may have left a half-written folder, a link that was not moved yet, or links of files that are gone: they are mended in any case.
    """
    current = _current(folder)
    changed = not (current and _holds(os.path.join(folder, current), files))
    if changed:
        current = _write_new(folder, files, group)
        _point(folder, "..data", current)
    _link_tops(folder, {path.split("/")[0] for path in files})
    for name in os.listdir(folder):
        if name.startswith("..") and name not in ("..data", current):
            _remove(os.path.join(folder, name))
    return changed


def _current(folder: str) -> str:
    """Return the name of the folder that `..data` names, or "" if there is none, or if the link does not name a folder of ours beside it."""
    try:
        name = os.readlink(os.path.join(folder, "..data"))
        ours = name.startswith("..") and "/" not in name and stat.S_ISDIR(os.lstat(os.path.join(folder, name)).st_mode)
    except OSError:
        return ""
    return name if ours and name not in ("..", "..data") else ""


def _write_new(folder: str, files: Files, group: "int | None") -> str:
    fresh = tempfile.mkdtemp(prefix=time.strftime("..%Y_%m_%d_%H_%M_%S."), dir=folder)
    os.chmod(fresh, 0o755)
    for path, (content, mode, owner) in files.items():
        target = os.path.join(fresh, path)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(target, "wb") as file:
            file.write(content)
        os.chmod(target, mode | (0o040 if group is not None else 0))
        if group is not None or owner is not None:
            os.chown(target, -1 if owner is None else owner, -1 if group is None else group)
    return os.path.basename(fresh)


def _point(folder: str, name: str, target: str) -> None:
    """Makes `name` a link to `target` in one step, whatever stood there before, except for a folder."""
    new = os.path.join(folder, f"..new{name.lstrip('.')}")
    _remove(new)
    os.symlink(target, new)
    os.replace(new, os.path.join(folder, name))


def _holds(folder: str, files: Files) -> bool:
    """Tell whether the folder has just these files with this content."""
    there = {os.path.relpath(os.path.join(base, name), folder) for base, _, names in os.walk(folder) for name in names}
    try:
        return there == {os.path.normpath(path) for path in files} and all(
            beneath.read_file(os.path.join(folder, path), len(content) + 1) == content for path, (content, *_) in files.items()
        )
    except OSError:
        return False


def _link_tops(folder: str, wanted: Set[str]) -> None:
    for name in os.listdir(folder):
        if not name.startswith("..") and name not in wanted:
            _remove(os.path.join(folder, name))
    for name in wanted:
        path, target = os.path.join(folder, name), os.path.join("..data", name)
        if os.path.islink(path) and os.readlink(path) == target:
            continue
        if os.path.lexists(path):
            _remove(path)
        _point(folder, name, target)


def _remove(path: str) -> None:
    """Removes whatever is there: a link, a file or a folder with all in it. Nothing there is no error."""
    if os.path.isdir(path) and not os.path.islink(path):
        trees.remove_tree(path)
    else:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def sub_path(volume: str, below: str) -> int:
    """Return a descriptor of what a mount with subPath shows. A missing folder is made, never outside of the volume. Raises OSError.

    It has all bits of the volume's mode: setgid makes what is written below it the fsGroup's, too.
    """
    return beneath.open_below(volume, below, stat.S_IMODE(os.stat(volume).st_mode))


def read_only(pod: Object) -> Set[str]:
    """Return the names of the volumes that containers may only read: those from the API, which the agent writes, images, and claims that say so."""
    volumes = pod["spec"].get("volumes") or ()
    return {
        each["name"]
        for each in volumes
        if _from_api(each) or each.get("image") or (each.get("persistentVolumeClaim") or {}).get("readOnly")
    }


def _from_api(volume: Object) -> bool:
    return any(volume.get(kind) is not None for kind in ("configMap", "secret", "projected", "downwardAPI"))


def needs_api(pod: Object) -> bool:
    """Tell whether a volume has files that may change in the API."""
    return any(_from_api(volume) for volume in pod["spec"].get("volumes") or ())


async def renew(pod: Object, pod_dir: str, facts: PodFacts, sources: Sources) -> None:
    """Later versions of ConfigMaps, Secrets and tokens reach running containers. What can't be had now keeps its old content."""
    with contextlib.suppress(VolumeFailure, asyncio.TimeoutError):
        await prepare(pod, pod_dir, facts, sources)
