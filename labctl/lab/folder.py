"""A lab's folder: its record, its paths on this machine, its settings and the way to its master. Every step of `Lab` builds on it.

Nothing here changes machines. Only `api` may start something: the master, if none runs.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from labctl.errors import LabctlError, UsageError
from labctl.lab import process, record
from labctl.lab.client import LabClient
from labctl.lab.progress import Progress, silent
from labctl.lab.settings import Settings, compose, homes, proxies
from labctl.paths import LAB_DIRECTORY, Paths, find_lab, make_folder, write_whole

FIXED = ("provider", "network", "addresses.machines", "addresses.pods", "addresses.services", "addresses.load_balancers")


class LabFolder:
    """A lab in `directory`. Without it, the lab is searched from the current folder upwards, as git does; if there is none, it will be made
    in the current folder.

    `flags` are settings by name; a dot in a name is written as two underscores.
    """

    def __init__(
        self,
        directory: Path | str | None = None,
        *,
        environment: Mapping[str, str] | None = None,
        progress: Progress = silent,
        **flags: Any,
    ) -> None:
        self.environment = dict(os.environ) if environment is None else dict(environment)
        self.progress = progress
        self.flags = {name.replace("__", "."): value for name, value in flags.items()}
        if directory is None:
            here = _current()
            self.folder = (find_lab(here) or here / LAB_DIRECTORY).parent
        else:
            self.folder = Path(directory).resolve()

    # -- what it is ------------------------------------------------------------------------------------------------

    @property
    def exists(self) -> bool:
        return (self.folder / LAB_DIRECTORY / "lab.json").exists()

    @cached_property
    def record(self) -> dict[str, Any]:
        """Return lab.json: the lab's id, its folders on this machine, and the settings it was made with."""
        found = record.read(self.folder / LAB_DIRECTORY, self.environment)
        if found is not None:
            record.moved_from(found, self.folder, self.environment)  # a copy of a lab is none
            return found
        state, cache = homes(self.environment)
        identity = "lab-" + secrets.token_hex(4)
        return {"id": identity, "state": str(state / identity), "cache": str(cache), "kept": {}}

    @property
    def moved_from(self) -> str:
        """Return the folder in which the last `up` found the lab, if it was moved since, else ""."""
        return record.moved_from(self.record, self.folder, self.environment)

    @cached_property
    def paths(self) -> Paths:
        return Paths(self.folder / LAB_DIRECTORY, Path(self.record["state"]), Path(self.record["cache"]))

    @cached_property
    def settings(self) -> Settings:
        """Return every setting with its source. Raises UsageError for a wrong value, or for a change that needs a new lab."""
        kept = self.record["kept"]
        settings = compose(self.flags, self.environment, self.folder / "lab.yml", kept)
        for name in FIXED if self.exists else ():
            was, wanted = self.record.get("settings", {}).get(name), settings[name]
            if was not in (None, "", wanted) and not (name == "provider" and wanted == "auto"):
                raise UsageError(
                    f"{settings.source(name)}: this lab was made with {name} {was}, not {wanted}", mend="labctl destroy, then up"
                )
        return settings

    def save(self, **kept: Any) -> None:
        """Write lab.json atomically: what flags and environment said, what was chosen, and every setting for the master."""
        settled = {
            o.name: self.record["kept"][o.name] for o, s in self.settings.items() if s.value == "auto" and o.name in self.record["kept"]
        }
        said = {o.name: s.value for o, s in self.settings.items() if s.source.startswith(("flag", "environment"))}
        self.record["kept"] = {**self.record["kept"], **said, **settled, **kept}
        self.record["folder"] = str(self.folder)
        self.record["proxies"] = proxies(self.environment)
        self.record["settings"] = {**self.settings.values(), **settled, **kept}
        make_folder(self.paths.lab)
        if not (ignored := self.paths.lab / ".gitignore").exists():
            write_whole(ignored, b"*\n")
        write_whole(self.paths.settings, json.dumps(self.record, indent=1).encode() + b"\n")
        self.__dict__.pop("settings", None)

    # -- its master ------------------------------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        """Tell whether a master runs for this lab. One that waits for a restore that was broken off is about to end."""
        return self.exists and "restoring" not in self.record and bool(process.master_pid(self.paths))

    def answers(self, within_s: float = 3.0) -> bool:
        """Tell whether a master runs and answers within so many seconds. One that is just starting counts, because it will answer."""
        if not self.running:
            return False
        said = process.master_run(self.paths)
        if not said:
            return True
        client = LabClient(said["port"], self.paths.certificates, timeout_s=within_s)
        try:
            client.get("/version")
        except LabctlError:
            return False
        finally:
            client.close()
        return True

    @cached_property
    def api(self) -> LabClient:
        """Return the client of the running master, and start a master if none runs. Raises LabctlError if there is no lab."""
        if not self.exists:
            raise LabctlError(f"there is no lab in {self.folder} or above", mend="labctl up")
        if "restoring" in self.record:  # an unfinished restore leaves parts of two labs
            name = self.record["restoring"]["name"]
            raise LabctlError(f"snapshot {name} is being restored, or its restore was interrupted", mend="`labctl up` finishes it")
        process.ensure_master(self.paths)
        return LabClient(process.master_run(self.paths)["port"], self.paths.certificates)

    def close(self) -> None:
        """Close the connection to the master, if there is one."""
        if client := self.__dict__.pop("api", None):
            client.close()

    @property
    def kubeconfig(self) -> Path:
        """Return the path of the kubeconfig. Raises LabctlError if there is no lab."""
        if not self.paths.kubeconfig.exists():
            raise LabctlError(f"there is no lab in {self.folder} or above", mend="labctl up")
        return self.paths.kubeconfig

    def kubectl(self, *arguments: str, check: bool = True, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run the real kubectl on this lab."""
        from labctl.lab.kubectl import find_kubectl

        environment = {**self.environment, "KUBECONFIG": str(self.kubeconfig)}
        return subprocess.run([find_kubectl(), *arguments], env=environment, text=True, capture_output=True, check=check, **options)


def _current() -> Path:
    try:
        return Path.cwd()
    except FileNotFoundError:
        raise LabctlError("the current folder was removed", mend="cd to another one") from None
