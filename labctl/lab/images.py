"""Container images, for the command line: the machine's image store, which its labs share. This needs no master."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from labctl.images.images import Images
from labctl.images.index import Image
from labctl.images.settings import ImageSettings
from labctl.lab.progress import step
from labctl.lab.settings import proxies

if TYPE_CHECKING:
    from labctl.lab.folder import LabFolder

T = TypeVar("T")


def images(lab: LabFolder) -> Images:
    """Return the store, with this lab's mirrors and the person's proxy settings."""
    mirrors = {name: tuple(hosts) for name, hosts in lab.settings["mirrors"].items()}
    return Images(lab.paths, ImageSettings(mirrors=mirrors, proxy=proxies(lab.environment)))


def build(lab: LabFolder, name: str) -> Image:
    with step(lab.progress, f"image {name}") as note:
        return asyncio.run(images(lab).build(name, note))


def load(lab: LabFolder, path: Path, name: str) -> Sequence[Image]:
    return _do(lab, f"load {path.name}", lambda store: store.load(path, name))


def save(lab: LabFolder, names: Sequence[str], path: Path) -> Sequence[Image]:
    return _do(lab, f"save {path.name}", lambda store: store.save(names, path))


def remove(lab: LabFolder, name: str) -> int:
    return _do(lab, f"remove {name}", lambda store: store.remove(name))


def _do(lab: LabFolder, what: str, work: Callable[[Images], Coroutine[Any, Any, T]]) -> T:
    with step(lab.progress, what):
        return asyncio.run(work(images(lab)))
