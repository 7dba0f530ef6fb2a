"""Reads a lab's record, `.labctl/lab.json`, which may not be ours.

A lab's folder is found by going upwards, as git does, and what lies in it is carried out: ssh_config and kubeconfig may name programs, the record names
folders that `destroy` removes. So a folder of another user is not used (as since CVE-2022-24765 with git), and a record has its shape before it is believed.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from labctl.decoding import from_json
from labctl.errors import LabctlError, UsageError
from labctl.paths import LAB_DIRECTORY

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
    folder: str = ""
    settings: dict[str, Any] = {}
    restoring: dict[str, str | int] = {}


def read(folder: Path, environment: Mapping[str, str]) -> dict[str, Any] | None:
    """Return the record in a `.labctl` folder, or None if there is none. Raises LabctlError if it is damaged or another user's."""
    path = folder / "lab.json"
    try:
        if path.exists() and not path.is_file():
            raise LabctlError(f"{path} is no file", mend=f"remove {folder}, then labctl up")
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


def check_place(folder: Path) -> None:
    """Raise UsageError if a folder's name is one with which no lab can be made there: ssh_config and KUBECONFIG could not name what is in it."""
    name = str(folder)
    bad = next((each for each in (":", "${") if each in name), "")
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in name):
        bad = "a control character, or bytes that are no UTF-8"
    if bad:
        raise UsageError(f"no lab can be made in {name!r}: ssh_config or KUBECONFIG can't hold {bad} in it", mend="work in another folder")


def moved_from(record: Mapping[str, Any], folder: Path, environment: Mapping[str, str]) -> str:
    """Return the folder in which a lab was when its record was written, if it is another one than `folder`, else "".

    Raises LabctlError if the lab is still there: then this is a copy, and to stop or remove its machines would take them from the other folder.
    """
    was = Path(record.get("folder") or folder)
    here, there = folder / LAB_DIRECTORY, was / LAB_DIRECTORY
    try:
        if was == folder or there.samefile(here):
            return ""
        other = read(there, environment) if (there / "lab.json").is_file() else None
    except (OSError, ValueError, LabctlError):  # it is not there, or no longer a lab
        other = None
    if other and other["id"] == record["id"]:
        raise LabctlError(
            f"{here} is a copy: lab {record['id']} with its machines is that of {was}",
            mend=f"work there; or remove {here}, and labctl up makes another lab here",
        )
    return str(was)


def check_removable(state: Path, identity: str) -> None:
    """Raise LabctlError if a lab's folder for its state is no folder of its own: all that is in it would be removed."""
    if state.name != identity:
        raise LabctlError(
            f"lab.json says that the lab's state is in {state}, which is no folder of lab {identity}",
            mend="look what is there, and remove both by hand",
        )
