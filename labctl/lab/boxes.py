"""Boxes of virtual machines, for the command line.

They are built here and given to Vagrant when a lab is made; this needs no lab and no master.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from labctl.errors import LabctlError, ProviderError
from labctl.lab.progress import step
from labctl.providers.settings import VagrantSettings
from labctl.providers.vagrant import snapshots
from labctl.providers.vagrant.box import Box, Built
from labctl.providers.vagrant.command import Vagrant
from labctl.providers.vagrant.hypervisor import Hypervisor

if TYPE_CHECKING:
    from labctl.lab.folder import LabFolder


def _box(lab: LabFolder) -> Box:
    return Box(lab.paths.cache, VagrantSettings(network=lab.settings["addresses.machines"]))


def build(lab: LabFolder) -> Built:
    """Build this labctl's box, or return it at once if it was built before."""
    box = _box(lab)
    with step(lab.progress, f"box {box.name}") as note:
        box.get(note)
    return next(built for built in box.boxes() if built.current)


def boxes(lab: LabFolder) -> list[Built]:
    return _box(lab).boxes()


def built_on(lab: LabFolder, box: Built) -> list[str]:
    """Return the snapshots that build on this box: the disks of their machines hold only the differences from it."""
    return sorted(
        path.parent.parent.name for path in lab.paths.snapshots.glob("[!.]*/machines/lab.json") if _made_of(path.parent) == box.name
    )


def _made_of(machines: Path) -> str:
    """Return the box of a snapshot's machines. It is empty if they are not virtual machines, or if their record can't be read."""
    try:
        return str(snapshots.read(machines).facts.get("box", ""))
    except ProviderError:
        return ""


def remove(lab: LabFolder, name: str, *, force: bool = False) -> Built:
    """Delete a box here and in Vagrant, and in libvirt's pool the files that no machine is made of.

    Raises LabctlError if snapshots build on it, unless `force` is set.
    """
    built = _box(lab).find(name)
    lost = built_on(lab, built)
    if lost and not force:
        raise LabctlError(
            f"{built.name} was kept, because snapshots build on it ({', '.join(lost)})",
            mend=f"labctl snapshot delete {lost[0]}, and so on; or use --force, and no lab can start from them any more",
        )
    with step(lab.progress, f"remove {name}") as note:
        _box(lab).remove(name)
        vagrant = Vagrant(lab.folder)
        if importlib.util.find_spec("libvirt") is None:
            return built  # without Vagrant and libvirt there is no other copy
        try:
            if built.name in vagrant.boxes():
                vagrant.remove_box(built.name)
            used = Hypervisor("").pool.remove_by_prefix(built.name.replace("/", "-VAGRANTSLASH-"), built.name.replace("/", "-"))
            if used:
                note("its files in libvirt's pool were kept, because machines are made of them")
        except ProviderError as error:
            note(f"Vagrant keeps its copy: {error.message}")
    return built
