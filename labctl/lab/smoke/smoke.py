"""Chooses the lab and the checks, runs them, and saves logs and objects after a failure. `labctl smoke` and tests call it; it prints
nothing.

In a lab (or below one) smoke uses that lab, in a namespace of its own. Elsewhere it makes one in a temporary folder, as the lab.yml in the
current
folder says, and destroys it at the end. The first failure ends the checks: the rest is skipped, logs and objects are saved, and it cleans
up.
"""

from __future__ import annotations

import json
import platform
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from labctl import __version__
from labctl.errors import LabctlError, UsageError
from labctl.lab import providers
from labctl.lab.lab import Lab
from labctl.lab.progress import Progress, Step
from labctl.lab.smoke import checks
from labctl.lab.smoke.checks import Check
from labctl.lab.smoke.report import FAILED, PASSED, SKIPPED, Report, Result
from labctl.lab.smoke.scene import Scene
from labctl.providers.protocol import PowerControl, ability

UP, DESTROY = "the lab is up", "destroy leaves nothing"


def smoke(lab: Lab, *, keep: bool = False, artifacts: Path | None = None) -> Report:
    """Run all checks. `lab` exists, or says (by flags, lab.yml, environment) how to make a temporary one.

    With `keep`, that one is not destroyed.
    """
    if lab.settings["minions"] == 0:
        raise UsageError(f"{lab.settings.source('minions')}: smoke needs a minion", mend="labctl smoke --minions 2")
    if artifacts and artifacts.exists() and (not artifacts.is_dir() or any(artifacts.iterdir())):
        raise UsageError(f"{artifacts} is not empty", mend="name a new folder for the artifacts")
    own = not lab.exists
    scene = Scene(_temporary(lab) if own else lab, f"labctl-smoke-{secrets.token_hex(3)}")
    run = Run(scene, artifacts)
    try:
        run.all(_plan(scene))
    finally:
        if own and not keep:
            run.one(Check(DESTROY, _destroy, always=True))
    return run.report()


def _temporary(lab: Lab) -> Lab:
    """Make a lab in a new folder, as the flags, the environment and the lab.yml in the current folder say.

    The settings are written as JSON, which is YAML too; relative paths are absolute by now.
    """
    folder = Path(tempfile.mkdtemp(prefix="labctl-smoke-"))
    written: dict[str, Any] = {}
    for option, setting in lab.settings.items():
        if setting.source.startswith("lab.yml"):
            group, _, name = option.name.rpartition(".")
            (written.setdefault(group, {}) if group else written)[name] = _without_none(setting.value)
    if written:
        (folder / "lab.yml").write_text(json.dumps(written, indent=1) + "\n")
    flags = {name.replace(".", "__"): value for name, value in lab.flags.items()}
    return Lab(folder, environment=lab.environment, progress=lab.progress, **flags)


def _without_none(value: Any) -> Any:
    """Return the value without its empty fields, which lab.yml can't hold."""
    if isinstance(value, list):
        return [{name: one for name, one in each.items() if one != ""} if isinstance(each, dict) else each for each in value]
    return value


def _plan(scene: Scene) -> Iterable[Check]:
    """Yield the checks. The fault is chosen when it is due, because only then it is known what the provider can do."""
    yield checks.IMAGES_CHECK
    yield Check(UP, _up)
    yield from checks.SCENARIO
    yield from _fault(scene)
    yield checks.CLEAN


def _fault(scene: Scene) -> Sequence[Check]:
    """Choose a power cut if the provider can do it and another minion is left to serve; otherwise kill pods."""
    name = scene.lab.record["kept"].get("provider", "auto")
    if name not in ("", "auto") and len(scene.minions) > 1 and ability(providers.make(scene.lab, name), PowerControl) is not None:
        return checks.POWER_OFF
    return checks.KILL_PODS


def _up(scene: Scene) -> str:
    status = scene.lab.up()
    scene.kubectl("create", "namespace", scene.namespace)
    count = len(status["nodes"])
    return f"{count} node{'s' * (count > 1)}, provider {status['provider']}"


def _destroy(scene: Scene) -> str:
    scene.lab.destroy()
    shutil.rmtree(scene.lab.folder, ignore_errors=True)
    return str(scene.lab.folder)


class Run:
    """The checks made so far. Each is reported as it ends."""

    def __init__(self, scene: Scene, artifacts: Path | None) -> None:
        self._scene = scene
        self._progress: Progress = scene.lab.progress
        self._wanted = artifacts
        self._kept = ""
        self._results: list[Result] = []
        self._begun = time.monotonic()
        self._started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self._facts: dict[str, str] = {}

    def all(self, plan: Iterable[Check]) -> None:
        for check in plan:
            self.one(check)

    def one(self, check: Check) -> None:
        """Run a check. After a failure, only those that clean up run."""
        failed = next((result.name for result in self._results if result.state == FAILED), "")
        if failed and not check.always:
            self._results.append(Result(check.name, SKIPPED, text=f"skipped, because this failed: {failed}"))
            return
        begun = time.monotonic()
        self._progress(Step(check.name, "begun"))
        try:
            state, text = PASSED, check.run(self._scene)
        except (LabctlError, OSError, subprocess.SubprocessError) as error:
            state, text = FAILED, str(error)
        took_s = time.monotonic() - begun
        self._results.append(Result(check.name, state, round(took_s, 3), text))
        self._progress(Step(check.name, "done" if state == PASSED else "failed", took_s, text))
        if state == FAILED and not failed:
            self._keep_artifacts()
        if check.name == UP:
            self._facts = self._where()

    def report(self) -> Report:
        return Report(tuple(self._results), round(time.monotonic() - self._begun, 3), self._started, self._facts, self._kept)

    def _keep_artifacts(self) -> None:
        """Save what `export` finds, before anything is cleaned up. If `export` fails, the check's failure is still the one reported."""
        from labctl.lab.export import export

        if not self._wanted or not self._scene.lab.exists:
            return
        try:
            self._kept = str(export(self._scene.lab, self._wanted))
        except (LabctlError, OSError, subprocess.SubprocessError) as error:
            self._progress(Step("artifacts", "failed", 0.0, str(error)))

    def _where(self) -> dict[str, Any]:
        record = self._scene.lab.record
        return {
            "labctl": __version__,
            "provider": str(record["kept"].get("provider", "")),
            "lab": str(record["id"]),
            "folder": str(self._scene.lab.folder),
            "host": platform.platform(),
        }
