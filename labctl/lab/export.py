"""`export` writes one folder with everything about a lab that a bug report needs: objects, journal, logs of the master, agents and
containers,
rules, routes and facts of every machine, and the output of its console.

It leaves out the data of Secrets, and private keys.
"""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labctl import __version__
from labctl.errors import LabctlError
from labctl.lab import collect
from labctl.lab.progress import step
from labctl.lab.ssh import hosts, run

if TYPE_CHECKING:
    from labctl.lab.folder import LabFolder

COLLECT = Path(collect.__file__)
_AS_ROOT = ("sh", "-c", 'if [ "$(id -u)" = 0 ]; then exec "$@"; else exec sudo -n "$@"; fi', "sh")
_MACHINE_S = 60.0


def export(lab: LabFolder, folder: Path) -> Path:
    """Fill `folder`, which is made if needed and must be empty, and return it."""
    if folder.exists() and any(folder.iterdir()):
        raise LabctlError(f"{folder} is not empty", mend="name a new folder")
    folder.mkdir(parents=True, exist_ok=True)
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


def _objects(lab: LabFolder, folder: Path) -> None:
    folder.mkdir()
    paths = ["/api/v1", *(f"/apis/{group['preferredVersion']['groupVersion']}" for group in lab.api.get("/apis")["groups"])]
    for path in paths:
        for resource in lab.api.get(path)["resources"]:
            if "/" in resource["name"] or "list" not in resource["verbs"]:
                continue
            items = lab.api.get(f"{path}/{resource['name']}")
            (folder / f"{resource['name']}.json").write_text(json.dumps(_without_secrets(items), indent=1))


def _without_secrets(items: Any) -> Any:
    for item in items.get("items", []):
        if items.get("kind") == "SecretList":
            item["data"] = dict.fromkeys(item.get("data") or {}, "(left out)")
            item.get("metadata", {}).pop("managedFields", None)
            item.get("metadata", {}).get("annotations", {}).pop("kubectl.kubernetes.io/last-applied-configuration", None)
    return items


def _machine(lab: LabFolder, name: str, folder: Path) -> None:
    """Write a machine's files: those collected in one SSH session, and the output of its console, which this side has."""
    folder.mkdir(parents=True)
    console = lab.paths.machines / name / "console.log"
    if console.exists():
        shutil.copy(console, folder)
    try:
        answer = run(lab, name, (*_AS_ROOT, "/usr/bin/python3", "-c", COLLECT.read_text()), check=False, timeout_s=_MACHINE_S)
        found = json.loads(answer.stdout) if answer.returncode == 0 else {"unreachable.txt": answer.stderr}
    except (LabctlError, subprocess.TimeoutExpired, ValueError) as error:
        found = {"unreachable.txt": f"{error}\n"}
    for file, text in found.items():
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
