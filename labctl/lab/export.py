"""`export` writes one folder with everything about a lab that a bug report needs: objects, journal, logs of the master, agents and
containers,
rules, routes and facts of every machine, and the output of its console.

It leaves out the data of Secrets, and private keys.
"""

from __future__ import annotations

import json
import platform
import re
import shutil
import subprocess
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import msgspec

from labctl import __version__, logfiles
from labctl.decoding import from_json, from_values
from labctl.errors import ApiError, LabctlError
from labctl.lab import collect
from labctl.lab.progress import step
from labctl.lab.ssh import hosts, run
from labctl.paths import make_folder

if TYPE_CHECKING:
    from labctl.lab.folder import LabFolder

COLLECT = Path(collect.__file__)
_AS_ROOT = ("sh", "-c", 'if [ "$(id -u)" = 0 ]; then exec "$@"; else exec sudo -n "$@"; fi', "sh")
_MACHINE_S = 60.0
_FILES_MAX = 1000
_PARTS_MAX = 6
_FILE_NAME_MAX = 200
_PART = re.compile(r"[A-Za-z0-9._-]{1,255}")


def export(lab: LabFolder, folder: Path) -> Path:
    """Fill `folder`, which is made if needed and must be empty, and return it."""
    make_folder(folder)
    if any(folder.iterdir()):
        raise LabctlError(f"{folder} is not empty", mend="name a new folder")
    with step(lab.progress, "lab"):
        _about(lab, folder)
    if lab.running:
        with step(lab.progress, "objects"):
            _objects(lab, folder / "objects")
    names = hosts(lab.paths.ssh_config.read_text()) if lab.paths.ssh_config.exists() else []
    if names:
        with step(lab.progress, "machines"), ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda name: _machine(lab, name, folder / "machines" / name), names))
    return folder


def _about(lab: LabFolder, folder: Path) -> None:
    settings = {option.name: {"value": s.value, "source": s.source} for option, s in lab.settings.items()}
    about = {"labctl": __version__, "python": platform.python_version(), "host": platform.platform(), "settings": settings}
    (folder / "lab.json").write_text(json.dumps({**about, "record": lab.record}, indent=1, default=str))
    for path in (lab.paths.journal, lab.paths.master_log):
        if path.exists():
            shutil.copy(path, folder / path.name)


class _Resource(msgspec.Struct):
    name: str
    verbs: list[str] = []


class _Discovery(msgspec.Struct):
    resources: list[_Resource]


def _objects(lab: LabFolder, folder: Path) -> None:
    """Write the objects of each resource into a file. A group that another API server serves may not answer, or with anything: that costs its own files."""
    folder.mkdir()
    unreachable = []
    for path in ["/api/v1", *(f"/apis/{group['preferredVersion']['groupVersion']}" for group in lab.api.get("/apis")["groups"])]:
        try:
            found = from_values(lab.api.get(path), _Discovery).resources
            for name in dict.fromkeys(
                each.name for each in found if "list" in each.verbs and "/" not in each.name and _is_inside(each.name)
            ):
                items = lab.api.get(f"{path}/{name}")
                if (path, name) == ("/api/v1", "secrets"):
                    _leave_out_data(items)
                file = f"{name}.json" if not (folder / f"{name}.json").exists() else f"{name}.{path.split('/')[2]}.json"
                (folder / file[-_FILE_NAME_MAX:]).write_text(json.dumps(items, indent=1))
        except (ApiError, msgspec.ValidationError) as error:
            unreachable.append(f"{path}: {str(error)[:500]}\n")
    if unreachable:
        (folder / "unreachable.txt").write_text("".join(unreachable))


def _leave_out_data(secrets: Any) -> None:
    for item in secrets.get("items", []):
        item["data"] = dict.fromkeys(item.get("data") or {}, "(left out)")
        item.get("metadata", {}).pop("managedFields", None)
        item.get("metadata", {}).get("annotations", {}).pop("kubectl.kubernetes.io/last-applied-configuration", None)


def _files(said: str) -> dict[str, str]:
    """Return a machine's files by their names. What it says is its word alone: a name may lead nowhere but into its own folder. Raises LabctlError."""
    try:
        found = from_json(said, dict[str, str])
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise LabctlError(f"what it sent are no files: {str(error)[:200]}") from None
    wrong = next((name for name in found if not _is_inside(name)), None)
    if wrong is not None:
        raise LabctlError(f"it sent a file with the name {wrong[:200]!r}")
    if len(found) > _FILES_MAX or _folders(found) & found.keys():
        raise LabctlError("it sent too many files, or a file that is a folder, too")
    return found


def _is_inside(name: str) -> bool:
    parts = name.split("/")
    return len(parts) <= _PARTS_MAX and all(_PART.fullmatch(part) and part.strip(".") for part in parts)


def _folders(names: Iterable[str]) -> set[str]:
    return {str(parent) for name in names for parent in PurePosixPath(name).parents}


def _machine(lab: LabFolder, name: str, folder: Path) -> None:
    """Write a machine's files: those collected in one SSH session, and the output of its console, which this side has."""
    folder.mkdir(parents=True)
    console = lab.paths.machines / name / "console.log"
    if console.exists():
        (folder / console.name).write_bytes(logfiles.end(console))
    try:
        answer = run(lab, name, (*_AS_ROOT, "/usr/bin/python3", "-c", COLLECT.read_text()), check=False, timeout_s=_MACHINE_S)
        found = _files(answer.stdout) if answer.returncode == 0 else {"unreachable.txt": answer.stderr}
    except (LabctlError, subprocess.TimeoutExpired) as error:
        found = {"unreachable.txt": f"{error}\n"}
    for file, text in found.items():
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
