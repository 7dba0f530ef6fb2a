"""Images as volumes (KEP-4639): the files of an image, read-only, below a path of a container. The image is fetched like that of a container.

    POD/image-volumes.json    volume -> its image's layers, written before they are mounted: what is in use is not collected (pods.py)
    POD/volumes/NAME          an overlay of the layers, with nothing above them

Used by the pod's worker, before the other volumes are made. What is mounted stays until the pod's end, also when a new agent comes.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any, Awaitable, Callable, Dict, Optional, Sequence, Set

from . import linux
from .images import Image
from .runtime.records import read_json, write_json

Object = Dict[str, Any]
Fetched = Callable[[Object], Awaitable[Optional[Image]]]
"""A volume with an `image` -> the image, or None while it is not here."""
_RECORD = "image-volumes.json"
_FLAGS = linux.MS_RDONLY | linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC


async def mounted(pod: Object, pod_dir: str, fetched: Fetched) -> bool:
    """Tell whether all volumes that are images are there. Those whose image is here are mounted now."""
    complete = True
    for volume in pod["spec"].get("volumes") or ():
        folder = os.path.join(pod_dir, "volumes", volume["name"])
        if not volume.get("image") or os.path.ismount(folder):
            continue
        image = await fetched(volume)
        if image is None:
            complete = False
        else:
            os.makedirs(pod_dir, exist_ok=True)
            write_json(os.path.join(pod_dir, _RECORD), {**_record(pod_dir), volume["name"]: list(image.layers)})
            await asyncio.get_running_loop().run_in_executor(None, _mount, image.layers, folder)
    return complete


def layers_in_use(pod_dir: str) -> Set[str]:
    return {layer for layers in _record(pod_dir).values() for layer in layers}


def _record(pod_dir: str) -> Dict[str, Sequence[str]]:
    return read_json(os.path.join(pod_dir, _RECORD)) or {}


def _mount(layers: Sequence[str], folder: str) -> None:
    """An overlay without an upper layer needs two lower ones: an empty folder is always among them."""
    empty = folder + ".empty"
    for each in (folder, empty):
        os.makedirs(each, exist_ok=True)
    linux.mount("overlay", folder, "overlay", _FLAGS, f"lowerdir={':'.join([*reversed(layers), empty])}")
