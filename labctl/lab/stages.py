"""Where an experiment's labs come from. The person's lab is taken if it has the settings that the file asks for. Otherwise a lab is made for the experiment,
below the folder of its result, and destroyed when its repetitions are done; the person's lab is not touched then.
"""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labctl.errors import LabctlError
from labctl.experiments.repetition import refuse_early
from labctl.experiments.stage import Stage, StageRefuses
from labctl.lab import images
from labctl.lab.abilities import possible_providers, why_no_experiment
from labctl.lab.lab import Lab
from labctl.lab.playing import playing
from labctl.lab.progress import step
from labctl.lab.settings import BY_NAME
from labctl.lab.stage import LabStage

if TYPE_CHECKING:
    from labctl.experiments.plan import Plan
    from labctl.experiments.steps import PlannedStep
    from labctl.lab.folder import LabFolder

_NEVER = ("api_port", "machines")  # settings that are of one lab alone


class LabStages:
    """The labs of one experiment. `wanted_images` are built into this host's image store if they are not there."""

    def __init__(self, lab: Lab, folder: Path, wanted_images: Sequence[str] = ()) -> None:
        self._lab = lab
        self._folder = folder / "labs"
        self._images = wanted_images
        self._made: dict[int, Lab] = {}
        self._held: dict[int, contextlib.ExitStack] = {}  # of each stage, what keeps other experiments away from its lab

    def refuse(self, settings: Mapping[str, Any], steps: Sequence[PlannedStep] = ()) -> str:
        for name, value in settings.items():
            if name not in BY_NAME or name in _NEVER:
                close = difflib.get_close_matches(name, BY_NAME, 1)
                return f"lab.{name}: unknown setting: " + (f"did you mean {close[0]}?" if close else "`labctl config` lists what there is")
            try:
                BY_NAME[name].parse(value)
            except (ValueError, TypeError) as error:
                return f"lab.{name} can't be {str(value)!r}: {error}"
        return why_no_experiment(possible_providers(self._lab, settings), steps) if steps else ""

    def refuse_now(self, plans: Sequence[Plan]) -> str:
        """Return why the person's lab could not do the plans' faults now; empty if it could, or if it does not run, or would not be used. It starts nothing."""
        mine = [plan for plan in plans if not self.differences(plan.settings)]
        if not mine or not self._lab.answers():
            return ""
        try:
            refuse_early(LabStage(self._lab), mine)
        except StageRefuses as error:
            return error.message
        return ""

    def open(self, settings: Mapping[str, Any]) -> Stage:
        with contextlib.ExitStack() as holding:
            holding.callback(self._tidy)
            stage = self._open(settings, holding)
            self._held[id(stage)] = holding.pop_all()
        return stage

    def _tidy(self) -> None:
        """Remove the folder of the labs that were made, if it is empty."""
        with contextlib.suppress(OSError):
            self._folder.rmdir()

    def _open(self, settings: Mapping[str, Any], holding: contextlib.ExitStack) -> LabStage:
        differences = self.differences(settings)
        if not differences:
            holding.enter_context(playing(self._lab.paths.state / "experiment.lock"))
            build_missing(self._lab, self._images)
            self._lab.up()
            return LabStage(Lab(self._lab.folder, environment=self._lab.environment))
        folder = self._folder_of(settings)
        holding.enter_context(playing(folder.with_name(folder.name + ".lock")))
        build_missing(self._lab, self._images)
        with step(self._lab.progress, "a lab for the experiment") as note:
            note(differences)
            lab = self._make(folder, settings)
        stage = LabStage(lab)
        self._made[id(stage)] = lab
        return stage

    def _folder_of(self, settings: Mapping[str, Any]) -> Path:
        name = "-".join(re.sub(r"[^a-z0-9.]", "", str(value).lower())[:20] for value in settings.values()) or "lab"
        return self._folder / f"{name}-{hashlib.sha256(repr(sorted(settings.items())).encode()).hexdigest()[:6]}"

    def _make(self, folder: Path, settings: Mapping[str, Any]) -> Lab:
        """Make the lab with these settings, or finish one that a killed run began. If that fails, nothing of it is left."""
        flags = {key.replace(".", "__"): value for key, value in settings.items()}
        if self._lab.exists and "provider" not in settings:
            flags["provider"] = self._lab.record["kept"].get("provider") or None
        folder.mkdir(parents=True, exist_ok=True)
        lab = Lab(folder, environment=self._lab.environment, **flags)
        try:
            lab.up()
        except BaseException:
            self._remove(lab)
            raise
        return lab

    def differences(self, settings: Mapping[str, Any]) -> str:
        """Return why the person's lab is not used, in words, or an empty text if it is."""
        if not self._lab.exists:
            return "there is no lab in this folder"
        has = {**self._lab.settings.values(), **self._lab.record["kept"], **self._lab.record.get("settings", {})}
        wrong = [
            f"{name} {has.get(name)}, not {value}"
            for name, value in settings.items()
            if has.get(name) != BY_NAME[name].parse(value) and BY_NAME[name].parse(value) != "auto"
        ]
        return f"the lab here has {', '.join(wrong)}" if wrong else ""

    def close(self, stage: Stage) -> None:
        with self._held.pop(id(stage), contextlib.ExitStack()):
            if lab := self._made.pop(id(stage), None):
                self._remove(lab)

    def _remove(self, lab: Lab) -> None:
        with contextlib.suppress(LabctlError):
            if lab.exists:
                lab.destroy()
        shutil.rmtree(lab.folder, ignore_errors=True)


def build_missing(lab: LabFolder, names: Sequence[str]) -> None:
    """Build the images that this host's store does not have."""
    store = images.images(lab)
    there = {name for image in store.list() for name in (image.name, image.name.rpartition("/")[2].partition(":")[0])}
    for name in names:
        if name not in there:
            images.build(lab, name)
