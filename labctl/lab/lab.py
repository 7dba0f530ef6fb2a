"""`Lab`: the one door for the command line, tests and other programs. Prints nothing, holds no globals; many labs in one process are fine.

    with Lab("/tmp/demo", minions=2) as lab:
        lab.kubectl("create", "-f", "nginx-rc.yml")

A lab is a folder with `.labctl/` in it. What `Lab` wants it writes as Machine objects into the API and waits; the master makes them true.
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
from labctl.lab import process
from labctl.lab.client import LabClient
from labctl.lab.progress import Progress, silent
from labctl.lab.settings import Settings, compose, homes, proxies
from labctl.paths import LAB_DIRECTORY, Paths, find_lab

_FIXED = ("provider", "network", "addresses.machines", "addresses.pods", "addresses.services")


class Lab:
    """A lab in `directory` (default: found upwards from here as git does, else here). `flags` are settings by name, dots as double underscores."""

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
        found = find_lab(Path.cwd()) if directory is None else Path(directory).resolve() / LAB_DIRECTORY
        self.folder = (found or Path.cwd() / LAB_DIRECTORY).parent

    # -- what it is ------------------------------------------------------------------------------------------------

    @property
    def exists(self) -> bool:
        return (self.folder / LAB_DIRECTORY / "lab.json").exists()

    @cached_property
    def record(self) -> dict[str, Any]:
        """lab.json: the lab's id, its folders on this machine, and the settings it was made with."""
        try:
            return json.loads((self.folder / LAB_DIRECTORY / "lab.json").read_text())
        except FileNotFoundError:
            state, cache = homes(self.environment)
            identity = "lab-" + secrets.token_hex(4)
            return {"id": identity, "state": str(state / identity), "cache": str(cache), "kept": {}}
        except ValueError as error:
            raise LabctlError(f"{self.folder / LAB_DIRECTORY}/lab.json is damaged: {error}", mend="labctl destroy, then up") from None

    @cached_property
    def paths(self) -> Paths:
        return Paths(self.folder / LAB_DIRECTORY, Path(self.record["state"]), Path(self.record["cache"]))

    @cached_property
    def settings(self) -> Settings:
        """Every setting and its source. UsageError for what is wrong, or for a change that needs a new lab."""
        kept = self.record["kept"]
        settings = compose(self.flags, self.environment, self.folder / "lab.yml", kept)
        for name in _FIXED if self.exists else ():
            was, wanted = kept.get(name), settings[name]
            if was not in (None, "", wanted) and not (name == "provider" and wanted == "auto"):
                raise UsageError(
                    f"{settings.source(name)}: this lab was made with {name} {was}, not {wanted}", mend="labctl destroy, then up"
                )
        return settings

    def save(self, **kept: Any) -> None:
        """Write lab.json, whole or not at all: what flags and environment said, what was chosen, and every setting for the master."""
        said = {o.name: s.value for o, s in self.settings.items() if s.source.startswith(("flag", "environment"))}
        self.record["kept"] = {**self.record["kept"], **said, **kept}
        self.record["proxies"] = proxies(self.environment)
        self.record["settings"] = {**self.settings.values(), **kept}
        self.paths.lab.mkdir(parents=True, exist_ok=True)
        new = self.paths.settings.with_suffix(".new")
        new.write_text(json.dumps(self.record, indent=1) + "\n")
        new.replace(self.paths.settings)
        (self.paths.lab / ".gitignore").write_text("*\n")
        self.__dict__.pop("settings", None)

    # -- its master ------------------------------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        return self.exists and bool(process.master_pid(self.paths))

    @cached_property
    def api(self) -> LabClient:
        """The client of the running master; starts one where none runs. LabctlError where there is no lab."""
        if not self.exists:
            raise LabctlError(f"there is no lab in {self.folder} or above", mend="labctl up")
        process.ensure_master(self.paths)
        return LabClient(process.master_run(self.paths)["port"], self.paths.certificates)

    @property
    def kubeconfig(self) -> Path:
        """The kubeconfig's path. LabctlError where there is no lab."""
        if not self.paths.kubeconfig.exists():
            raise LabctlError(f"there is no lab in {self.folder} or above", mend="labctl up")
        return self.paths.kubeconfig

    def kubectl(self, *arguments: str, check: bool = True, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run the real kubectl on this lab."""
        from labctl.lab.kubectl import find_kubectl

        environment = {**self.environment, "KUBECONFIG": str(self.kubeconfig)}
        return subprocess.run([find_kubectl(), *arguments], env=environment, text=True, capture_output=True, check=check, **options)

    # -- what can be done to it ------------------------------------------------------------------------------------

    def up(self) -> dict[str, Any]:
        """Make the lab as its settings say, and wait until every node is Ready. Run again it finishes what was half done; answers `status()`."""
        from labctl.lab.up import up

        return up(self)

    def halt(self, *names: str) -> None:
        """Stop machines in order (all, and the master, without names). Disks and the store stay; `up` goes on from there."""
        from labctl.lab.down import halt

        halt(self, names)

    def destroy(self, *names: str) -> None:
        """Remove machines (all, the master and the lab's folders, without names). Leaves nothing behind."""
        from labctl.lab.down import destroy

        destroy(self, names)

    def status(self) -> dict[str, Any]:
        """{"lab", "folder", "provider", "master": {"pid", "url", ...}, "machines": [...], "nodes": [...]}."""
        from labctl.lab.status import status

        return status(self)

    def ssh(self, name: str, command: tuple[str, ...] = ()) -> list[str]:
        """The ssh command line that reaches a machine."""
        from labctl.lab.ssh import ssh_command

        return ssh_command(self, name, command)

    def run(self, name: str, *command: str, check: bool = True, timeout_s: float = 60.0) -> subprocess.CompletedProcess[str]:
        """Run a command on a machine over SSH."""
        argv = self.ssh(name, command)
        return subprocess.run(argv, text=True, capture_output=True, check=check, timeout=timeout_s, stdin=subprocess.DEVNULL)

    def why(self, what: str, namespace: str = "default") -> list[str]:
        """Sentences: why `pod/NAME`, `rc/NAME` or `svc/NAME` is as it is."""
        kind, slash, name = what.partition("/")
        if not slash or not kind or not name:
            raise UsageError(f"{what!r} names nothing", mend="write pod/NAME, rc/NAME, svc/NAME or node/NAME")
        return self.api.get(f"/labctl/v1/why/{kind}/{namespace}/{name}")["lines"]

    def fault(self, what: str, name: str) -> None:
        """Break a machine now: power_off, reset, pause or resume. Healing it is `up`'s work."""
        from labctl.faults.machines import break_machine
        from labctl.lab import providers

        if not self.exists:
            raise LabctlError(f"there is no lab in {self.folder} or above", mend="labctl up")
        break_machine(providers.make(self, self.record["kept"]["provider"]), what, name)

    def __enter__(self) -> Lab:
        self.up()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.destroy()
