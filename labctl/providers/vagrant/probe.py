"""Whether virtual machines work here, and all that `up` needs for them, each with what mends it. Changes nothing."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterator
from pathlib import Path

from labctl.errors import ProviderError
from labctl.providers.protocol import Finding, Verdict
from labctl.providers.vagrant.box import Box
from labctl.providers.vagrant.command import Vagrant
from labctl.providers.vagrant.hypervisor import Hypervisor

POOL = Path("/var/lib/libvirt/images")
ROOM_BYTES = 3 << 30


def probe(hypervisor: Hypervisor, box: Box, chosen_box: str) -> Verdict:
    """The first thing that doesn't work, or that all does."""
    for found in findings(hypervisor, box, chosen_box):
        if found.level == "error":
            return Verdict(False, found.found, found.mend)
    return Verdict(True, "vagrant, vagrant-libvirt and libvirtd work")


def findings(hypervisor: Hypervisor, box: Box, chosen_box: str) -> Iterator[Finding]:
    """In the order in which `up` needs them."""
    if not shutil.which("vagrant"):
        yield Finding("vagrant", "error", "vagrant is not installed", "apt-get install vagrant vagrant-libvirt")
        return
    if importlib.util.find_spec("libvirt") is None:
        yield Finding(
            "libvirt-python", "error", "libvirt-python is missing", "apt-get install libvirt-dev, then pip install 'labctl[libvirt]'"
        )
        return
    try:
        hypervisor.domains()
        yield Finding("libvirtd", "ok", "answers")
        missing = "vagrant-libvirt" not in Vagrant(Path("/")).plugins()
    except ProviderError as error:
        yield Finding("libvirtd", "error", error.message, error.mend)
        return
    if missing:
        yield Finding("vagrant-libvirt", "error", "vagrant-libvirt is missing", "apt-get install vagrant-libvirt")
    yield from _box(box, chosen_box)
    if POOL.is_dir() and shutil.disk_usage(POOL).free < ROOM_BYTES:
        yield Finding("disk", "warning", f"less than {ROOM_BYTES >> 30} GiB free in {POOL}", "free some space there")


def _box(box: Box, chosen_box: str) -> Iterator[Finding]:
    if chosen_box:
        yield Finding("box", "ok", chosen_box)
    elif box.path().exists():
        yield Finding("box", "ok", box.name)
    elif shutil.which("mmdebstrap") and shutil.which("qemu-img"):
        yield Finding("box", "ok", f"{box.name} is not built yet: `labctl up` does it, or labctl box build")
    else:
        yield Finding(
            "box", "error", f"there is no box for {box.arch}, and none can be built here", "apt-get install mmdebstrap qemu-utils"
        )
