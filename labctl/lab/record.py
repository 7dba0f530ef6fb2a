"""Reads a lab's record, `.labctl/lab.json`, which may not be ours.

A lab's folder is found by going upwards, as git does, and what lies in it is carried out: ssh_config and kubeconfig may name programs, the record names
folders that `destroy` removes. So a folder of another user is not used (as since CVE-2022-24765 with git), and a record has its shape before it is believed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from labctl.decoding import from_json
from labctl.errors import LabctlError

_BYTES_MAX = 1 << 20
_ID = re.compile(r"lab-[0-9a-z-]{1,40}")


class _Kept(msgspec.Struct):
    """What was said or chosen for the lab: settings by name, each of which is looked at when it is read."""

    provider: str = ""


class _Shape(msgspec.Struct):
    """What is relied on by whoever reads a record. More may be in it."""

    id: str
    state: str
    cache: str
    kept: _Kept
    settings: dict[str, Any] = {}
    restoring: dict[str, str | int] = {}


def read(folder: Path, environment: Mapping[str, str]) -> dict[str, Any] | None:
    """Return the record in a `.labctl` folder, or None if there is none. Raises LabctlError if it is damaged or another user's."""
    path = folder / "lab.json"
    try:
        with path.open("rb") as file:
            text = file.read(_BYTES_MAX + 1)
        _check_owner(folder, environment)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise LabctlError(f"{path} can't be read: {error.strerror or error}") from None
    try:
        if len(text) > _BYTES_MAX:
            raise ValueError(f"more than {_BYTES_MAX} bytes")
        shape = from_json(text, _Shape)
        if not _ID.fullmatch(shape.id) or "\0" in shape.state + shape.cache:
            raise ValueError("id, state or cache is none")
        record: dict[str, Any] = msgspec.json.decode(text)
        return record
    except (ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors
        raise LabctlError(f"{path} is damaged: {str(error)[:300]}", mend=f"remove {folder}, then labctl up") from None


def _check_owner(folder: Path, environment: Mapping[str, str]) -> None:
    """Raise LabctlError if the folder or what lies in it directly belongs to neither this user nor root nor, with sudo, whoever gave the command."""
    ours = {0, os.geteuid()}
    if os.geteuid() == 0 and environment.get("SUDO_UID", "").isdecimal():
        ours.add(int(environment["SUDO_UID"]))
    for path in (folder, *folder.iterdir()):
        for found in (path.lstat(), path.stat()) if path.exists() else (path.lstat(),):
            if found.st_uid not in ours:
                raise LabctlError(
                    f"{path} belongs to another user (uid {found.st_uid}), whose programs it may start",
                    mend=f"chown -R {os.geteuid()} {folder} if you trust what is in it, or work in another folder",
                )


def check_removable(state: Path, identity: str) -> None:
    """Raise LabctlError if a lab's folder for its state is no folder of its own: all that is in it would be removed."""
    if state.name != identity:
        raise LabctlError(
            f"lab.json says that the lab's state is in {state}, which is no folder of lab {identity}",
            mend="look what is there, and remove both by hand",
        )
