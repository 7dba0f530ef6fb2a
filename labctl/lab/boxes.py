"""VM boxes from the command line: built here, given to Vagrant when a lab is made. No lab and no master is needed."""

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
    """This labctl's box; answered at once where it lies already."""
    box = _box(lab)
    with step(lab.progress, f"box {box.name}") as note:
        box.get(note)
    return next(built for built in box.boxes() if built.current)


def boxes(lab: LabFolder) -> list[Built]:
    return _box(lab).boxes()


def built_on(lab: LabFolder, box: Built) -> list[str]:
    """The snapshots whose machines' disks hold only what differs from this box."""
    return sorted(
        path.parent.parent.name for path in lab.paths.snapshots.glob("[!.]*/machines/lab.json") if _made_of(path.parent) == box.name
    )


def _made_of(machines: Path) -> str:
    """The box of the machines in a snapshot; empty if they are no virtual ones, or nobody can read what they are."""
    try:
        return str(snapshots.read(machines).facts.get("box", ""))
    except ProviderError:
        return ""


def remove(lab: LabFolder, name: str, *, force: bool = False) -> Built:
    """Forget a box: here, in Vagrant, and in libvirt's pool what no machine is made of. LabctlError if snapshots build on it, without `force`."""
    built = _box(lab).find(name)
    lost = built_on(lab, built)
    if lost and not force:
        raise LabctlError(
            f"{built.name} stays: snapshots build on it ({', '.join(lost)})",
            mend=f"labctl snapshot delete {lost[0]}, and so on; or --force, and nothing can begin from them any more",
        )
    with step(lab.progress, f"remove {name}") as note:
        _box(lab).remove(name)
        vagrant = Vagrant(lab.folder)
        if importlib.util.find_spec("libvirt") is None:
            return built  # then nobody was ever given it
        try:
            if built.name in vagrant.boxes():
                vagrant.remove_box(built.name)
            used = Hypervisor("").pool.take_back(built.name.replace("/", "-VAGRANTSLASH-"), built.name.replace("/", "-"))
            if used:
                note("machines are still made of it: its files in libvirt's pool stay")
        except ProviderError as error:
            note(f"Vagrant keeps its copy: {error.message}")
    return built
