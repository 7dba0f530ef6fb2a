"""What a container sees of its machine's files, mounted below its bundle before crun makes the container: the root folder from the image's layers, sub-paths,
and, for a pod with users of its own, every layer and every folder with shifted owners (userns.py).

    BUNDLE/layers/N   the image's layers for users of the pod's own
    BUNDLE/rootfs     the overlay of them
    BUNDLE/mounts/N   the container's mount number N, where crun can't be left to mount its source
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import stat
from typing import List, Optional, Sequence

from .. import linux, volumes
from . import userns
from .interface import PRIVATE, SHARED, SLAVE, BadMount, ContainerSpec, Mount, RuntimeFailure


def overlay(layers: Sequence[str], bundle: str, users: str) -> None:
    """Mount the layers, and what the container writes above them. `users`: the namespace to whose users the layers' files are to belong, if not the machine's."""
    with contextlib.ExitStack() as opened:
        if users:
            folder = _shifted_layers(layers, bundle, users, opened)
            layers = [os.path.join(folder, str(number)) for number in range(len(layers))]
        data = f"lowerdir={':'.join(reversed(layers))},upperdir={bundle}/upper,workdir={bundle}/work"
        try:  # what a container wrote need not survive a power cut
            linux.mount("overlay", f"{bundle}/rootfs", "overlay", 0, data + ",volatile")
        except OSError:
            linux.mount("overlay", f"{bundle}/rootfs", "overlay", 0, data)


def _shifted_layers(layers: Sequence[str], bundle: str, users: str, opened: contextlib.ExitStack) -> str:
    """Mount each layer for these users, and return the folder of all under a name that is good while `opened` is: its own is too long to be said for each of many."""
    for number, layer in enumerate(layers):
        target = os.path.join(bundle, "layers", str(number))
        os.makedirs(target, exist_ok=True)
        userns.shift(layer, target, users)
    descriptor = os.open(os.path.join(bundle, "layers"), os.O_PATH | os.O_CLOEXEC)
    opened.callback(os.close, descriptor)
    return f"/proc/self/fd/{descriptor}"


def check_propagation(mounts: Sequence[Mount]) -> None:
    """Raises RuntimeFailure, in containerd's words, for a mount that the machine would tell nothing, or be told nothing of."""
    for mount in mounts:
        if mount.propagation == PRIVATE:
            continue
        place, kind = linux.propagation(mount.source)
        if kind != SHARED and (kind, mount.propagation) != (SLAVE, SLAVE):
            words = "a shared mount" if mount.propagation == SHARED else "a shared or slave mount"
            raise RuntimeFailure(f'path "{mount.source}" is mounted on "{place}" but it is not {words}')


def pinned(mounts: Sequence[Mount], container: str, bundle: str, users: str) -> List[Mount]:
    """Return the container's mounts, where need be of what was first mounted into the bundle: a sub-path, by descriptor; all folders, for users of its own.

    crun opens its sources by name, and whoever writes to the volume can exchange a name inside it. Raises BadMount, or RuntimeFailure for what can't be
    given to others.
    """
    pinned = []
    for number, mount in enumerate(mounts):
        if mount.below:
            try:
                mount = dataclasses.replace(mount, source=_pin(mount, _place(bundle, number), users), below="")
            except OSError as error:
                raise BadMount(sub_path_failure(container, mount, error.strerror or str(error))) from error
        elif users and mount.kind == "bind":
            mount = dataclasses.replace(mount, source=_pin(mount, _place(bundle, number), users))
        pinned.append(mount)
    return pinned


def _place(bundle: str, number: int) -> str:
    return os.path.join(bundle, "mounts", str(number))


def removed_meanwhile(spec: ContainerSpec, bundle: str) -> Optional[Mount]:
    """Return a mount whose sub-path was removed since it was pinned, if there is one: the kernel mounts no folder or file that has no name any more."""
    for number, mount in enumerate(spec.mounts):
        with contextlib.suppress(OSError):
            if mount.below and linux.shows_what_was_removed(_place(bundle, number)):
                return mount
    return None


def sub_path_failure(container: str, mount: Mount, why: str) -> str:
    return f'failed to prepare subPath for volumeMount "{mount.target}" of container "{container}": {mount.below!r}: {why}'


def _pin(mount: Mount, target: str, users: str) -> str:
    descriptor = volumes.sub_path(mount.source, mount.below) if mount.below else os.open(mount.source, os.O_PATH | os.O_CLOEXEC)
    try:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            os.mkdir(target)
        else:
            os.close(os.open(target, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC))
        if users:
            _shift(mount, f"/proc/self/fd/{descriptor}", target, users)
        else:
            linux.mount(f"/proc/self/fd/{descriptor}", target, None, linux.MS_BIND | linux.MS_REC)
    finally:
        os.close(descriptor)
    return target


def _shift(mount: Mount, source: str, target: str, users: str) -> None:
    try:
        userns.shift(source, target, users)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        words = "maybe the file system can't have other users on this machine's kernel, as an overlay can't"
        raise RuntimeFailure(f"failed to map the owners of {mount.source} for {mount.target}: {error.strerror} ({words})") from error
