"""`halt` and `destroy` stop and remove in order what was made, also a lab that was only half made."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Sequence
from typing import TYPE_CHECKING

from labctl.errors import ApiError, LabctlError
from labctl.lab import machines, process, providers, record
from labctl.lab.progress import step
from labctl.paths import remove_tree

if TYPE_CHECKING:
    from labctl.lab.folder import LabFolder

HALT_TIMEOUT_S = 60.0


def halt(lab: LabFolder, names: Sequence[str]) -> None:
    if not lab.exists:
        raise LabctlError(f"there is no lab in {lab.folder} or above", mend="labctl up")
    with process.working_on(lab.paths, "halt"):
        chosen = _chosen(lab, names)  # this starts a master if it was killed, because machines may be on without one
        for name in chosen:
            lab.api.patch(f"{machines.PATH}/{name}", {"spec": {"power": "Off"}})
        machines.wait(lab, chosen, _still_on, timeout_s=HALT_TIMEOUT_S)
        if not names:
            _stop_master(lab)


def destroy(lab: LabFolder, names: Sequence[str]) -> None:
    if not lab.paths.lab.exists():
        raise LabctlError(f"there is no lab in {lab.folder} or above", mend="labctl up")
    with process.working_on(lab.paths, "destroy"):
        if names:
            _destroy_machines(lab, names)
        else:
            _destroy_lab(lab)
            _remove_folder(lab)


def _destroy_machines(lab: LabFolder, names: Sequence[str]) -> None:
    chosen = _chosen(lab, names)
    for name in chosen:
        lab.api.delete(f"{machines.PATH}/{name}")
    machines.wait(lab, chosen, lambda machine: "stopping" if machine else "", timeout_s=HALT_TIMEOUT_S)
    for name in chosen:
        try:
            lab.api.delete(f"/api/v1/nodes/{name}")
        except ApiError as error:
            if error.code != 404:
                raise
    lab.save(minions=len(machines.list_machines(lab)))


def _destroy_lab(lab: LabFolder) -> None:
    """Remove the whole lab without asking its master, which may be dead."""
    record.check_removable(lab.paths.state, lab.record["id"])
    _stop_master(lab)
    name = lab.record["kept"].get("provider", "auto")
    if name not in ("", "auto"):
        with step(lab.progress, "machines"):
            providers.make(lab, name).destroy_lab()
    remove_tree(lab.paths.state)


def _remove_folder(lab: LabFolder) -> None:
    """Remove the lab's folder by renaming it first, while this command still holds the lab's lock.

    What another command makes at the old place from then on belongs to that command and stays.
    """
    gone = lab.paths.lab.with_name(f"{lab.paths.lab.name}.destroyed-{secrets.token_hex(4)}")
    try:
        os.rename(lab.paths.lab, gone)
    except OSError:  # it is a mount point, or the folder around it is not writable
        gone = lab.paths.lab
    shutil.rmtree(gone, ignore_errors=True)
    lab.__dict__.pop("record", None)


def _stop_master(lab: LabFolder) -> None:
    with step(lab.progress, "master") as note:
        note("stopped" if process.stop_master(lab.paths) else "was not running")
    lab.__dict__.pop("api", None)


def _chosen(lab: LabFolder, names: Sequence[str]) -> list[str]:
    known = [machine["metadata"]["name"] for machine in machines.list_machines(lab)]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise LabctlError(f"there is no machine {unknown[0]}", mend=f"there are {', '.join(known) or 'none'}")
    return list(names) or known


def _still_on(machine: dict | None) -> str:
    return "stopping" if machine and machine.get("status", {}).get("power") not in ("Off", "", None) else ""
