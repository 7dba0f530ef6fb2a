"""Playing an experiment: for each lab, for each cell of the matrix, for each repetition, from the same state each time.

    lab ─► its state is kept ─┬─► restore ─► deploy ─► steady? ─► load ─► faults ─► figures ─► on disk ─┐
                              └──────────────────── next repetition, or next cell ◄─────────────────────┘

Pods are made anew in each repetition: a restored machine may boot, and a container that was started again waits longer before the next time.

The runner knows no machine: it plays on a Stage. Whatever happens, faults are healed, what was measured is on disk, and the lab returns to what it was. A
repetition that fails is kept with its reason, does not count, and the next is played. The same command goes on where it was broken off.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from pathlib import Path
from typing import Any

import msgspec

from labctl.errors import LabctlError, UsageError
from labctl.experiments import folder as folders
from labctl.experiments.figures import figures
from labctl.experiments.file import Experiment
from labctl.experiments.hypothesis import NOT_BACK, judge
from labctl.experiments.plan import Plan
from labctl.experiments.repetition import BrokenOff, Repetition, refuse_early
from labctl.experiments.result import Result, Run, cell_name
from labctl.experiments.stage import Stage, StageGone, Stages

Progress = Callable[[str], AbstractContextManager[Callable[[str], None]]]
"""Reports a step of the work: a context that yields a function for notes."""
BROKEN_IN_A_ROW_MAX = 3


def run(
    experiment: Experiment,
    folder: Path,
    stages: Stages,
    progress: Progress,
    wall: Callable[[], float],
    *,
    repetitions: int = 0,
    again: bool = False,
) -> Result:
    """Play what is missing of an experiment, keep it in the folder, and return the whole result.

    Raises UsageError before anything is touched if the folder has another experiment's result, or if no lab can be had with the settings of a cell.
    """
    return Runner(experiment, folder, stages, progress, wall, repetitions or experiment.repetitions).run(again)


class Runner:
    """One experiment on its way. `result` is what is on disk."""

    def __init__(
        self, experiment: Experiment, folder: Path, stages: Stages, progress: Progress, wall: Callable[[], float], repetitions: int
    ) -> None:
        self._experiment = experiment
        self._folder = folder
        self._stages = stages
        self._progress = progress
        self._wall = wall
        self._repetitions = repetitions
        self._broken_in_a_row = 0
        self._state = "experiment-" + hashlib.sha256(f"{folder.resolve()}{experiment.digest}".encode()).hexdigest()[:12]
        self.result: Result

    def run(self, again: bool) -> Result:
        self.result = self._continued() if folders.exists(self._folder) and not again else self._new()
        for plan in self._experiment.plans:
            if why := self._stages.refuse(plan.settings, plan.steps):
                raise UsageError(f"{cell_name(plan.cell) + ': ' if plan.cell else ''}{why}")
        folders.write(self._folder, self.result)  # a folder that can't be written is said before anything is played
        for plans in self._labs():
            if any(self._missing(plan) for plan in plans):
                self._play_lab(plans)
        self._keep(ended_at=self._wall())
        return self.result

    # -- what there is already -------------------------------------------------------------------------------------

    def _new(self) -> Result:
        return Result(
            name=self._experiment.name,
            description=self._experiment.description,
            experiment=self._experiment.text,
            files=self._experiment.files,
            digest=self._experiment.digest,
            facts={"seed": self._experiment.seed},
            repetitions=self._repetitions,
            cells=tuple(plan.cell for plan in self._experiment.plans),
            began_at=self._wall(),
        )

    def _continued(self) -> Result:
        """Return the folder's result, without the repetitions that were broken: they are played again."""
        found = folders.read(self._folder, requests=False)
        if found.digest != self._experiment.digest:
            raise UsageError(
                f"{self._folder} has the result of another experiment, or of an earlier form of this one",
                mend="write another --out, or --again to replace it",
            )
        good = tuple(run for run in found.runs if not run.broken)
        return msgspec.structs.replace(found, runs=good, repetitions=self._repetitions, ended_at=0.0)

    def _missing(self, plan: Plan) -> list[int]:
        there = {run.number for run in self.result.runs if run.cell == plan.cell and not run.broken}
        return [number for number in range(1, self._repetitions + 1) if number not in there]

    def _labs(self) -> list[list[Plan]]:
        """Return the plans, grouped by the settings of their lab, so that each lab is made once."""
        groups: dict[bytes, list[Plan]] = {}
        for plan in self._experiment.plans:
            groups.setdefault(msgspec.json.encode(sorted(plan.settings.items())), []).append(plan)
        return list(groups.values())

    # -- playing ---------------------------------------------------------------------------------------------------

    def _play_lab(self, plans: Sequence[Plan]) -> None:
        stage = self._stages.open(plans[0].settings)
        start = f"{self._state}-start"
        try:
            if stage.saved(start):  # an earlier run was killed: the lab is in the middle of something
                stage.heal()
                self._restore(stage, start, "the lab as it was before")
                refuse_early(stage, plans)
            else:
                refuse_early(stage, plans)
                self._save(stage, start, "keep the lab as it is")
            self._note_facts(stage, plans)
            for plan in plans:
                for number in self._missing(plan):
                    where = f"{cell_name(plan.cell)}: " if plan.cell else ""
                    self._play(stage, plan, number, start, f"{where}repetition {number} of {self._repetitions}")
        finally:
            self._leave(stage, start)

    def _leave(self, stage: Stage, start: str) -> None:
        """Heal and return to the state from before: each of these also if one before it failed."""
        with ExitStack() as last:
            last.callback(self._stages.close, stage)
            last.callback(self._back, stage, start)
            last.enter_context(suppress(StageGone))
            with self._progress("heal"):
                stage.heal()

    def _back(self, stage: Stage, start: str) -> None:
        """Return to the state from before, and forget it. If the way back is broken off, the state is kept: nothing else finishes a restore."""
        with suppress(StageGone):
            if stage.saved(start):
                self._restore(stage, start, "the lab as it was before")
        stage.forget(start)

    def _save(self, stage: Stage, name: str, what: str) -> None:
        with self._progress(what):
            stage.save(name)

    def _restore(self, stage: Stage, name: str, what: str) -> None:
        with self._progress(what):
            stage.restore(name)

    def _play(self, stage: Stage, plan: Plan, number: int, state: str, what: str) -> None:
        """Play one repetition and keep it, whatever it came to."""
        began_at, began_s = self._wall(), stage.now()
        seed = self._experiment.seed * 1_000_003 + number
        repetition = Repetition(stage, plan, seed)
        broken = ""
        ended_by: BaseException | None = None
        load_average = stage.load_average()
        with self._progress(what) as note:
            try:
                stage.restore(state)
                repetition.deploy()
                repetition.play()
            except BaseException as error:  # also a mistake of ours: the load ends, faults are healed, and what was measured is kept
                broken = str(error) if isinstance(error, LabctlError) else "it was broken off"
                ended_by = error
                repetition.break_off()
            timelines, measurement = repetition.timelines, repetition.measurement
            run = Run(
                cell=plan.cell,
                number=number,
                seed=seed,
                began_at=began_at,
                took_s=round(stage.now() - began_s, 3) if not isinstance(ended_by, StageGone) else 0.0,
                timelines=tuple(timelines),
                figures={} if broken else figures(timelines, measurement),
                broken=broken[:4_000],
                done=tuple(repetition.done),
                load_average=load_average,
                measurement=measurement,
            )
            note(_in_words(run))
            self._keep(run)
        self._go_on(ended_by)

    def _go_on(self, ended_by: BaseException | None) -> None:
        """Raise what ends the whole experiment: Ctrl-C, a lab that is gone, bad input, or a fault that the lab refuses, which others would meet too."""
        if ended_by is None:
            self._broken_in_a_row = 0
            return
        self._broken_in_a_row += 1
        if not isinstance(ended_by, LabctlError) or isinstance(ended_by, StageGone | UsageError | BrokenOff):
            raise ended_by
        if self._broken_in_a_row == BROKEN_IN_A_ROW_MAX:
            raise LabctlError(f"{BROKEN_IN_A_ROW_MAX} repetitions in a row did not count; the last one: {ended_by}")

    # -- keeping ---------------------------------------------------------------------------------------------------

    def _keep(self, run: Run | None = None, ended_at: float = 0.0) -> None:
        """Write a repetition, and the verdicts over all that count so far."""
        runs = self.result.runs
        if run is not None:
            kept = folders.write_run(self._folder, run)
            runs = tuple(each for each in runs if (each.cell, each.number) != (run.cell, run.number)) + (kept,)
        order = {tuple(sorted(cell.items())): index for index, cell in enumerate(self.result.cells)}
        runs = tuple(sorted(runs, key=lambda each: (order[tuple(sorted(each.cell.items()))], each.number)))
        result = msgspec.structs.replace(self.result, runs=runs, ended_at=ended_at)
        verdicts = [judge(each, plan.cell, result.good_runs(plan.cell)) for plan in self._experiment.plans for each in plan.hypotheses]
        self.result = msgspec.structs.replace(result, verdicts=tuple(verdicts))
        folders.write(self._folder, self.result)

    def _note_facts(self, stage: Stage, plans: Sequence[Plan]) -> None:
        found: dict[str, Any] = dict(stage.facts())
        labs = {**self.result.facts.get("labs", {}), _lab_name(plans[0]): found.pop("settings", {})}
        facts = {**found, **self.result.facts, "labs": labs}
        self.result = msgspec.structs.replace(self.result, facts=facts)


def _lab_name(plan: Plan) -> str:
    """Return a lab's name among the facts: the settings that the file asks for."""
    return " ".join(f"{name}={value}" for name, value in plan.settings.items()) or "as it was"


def _in_words(run: Run) -> str:
    """Return what a repetition came to, for the progress line."""
    if run.broken:
        return f"does not count: {run.broken}"
    outage, failed, requests = (run.figures.get(name) for name in ("outage", "failed", "requests"))
    words = [f"outage {outage:.3f} s"] if outage is not None else [f"the service {NOT_BACK}"] if requests and run.timelines else []
    return ", ".join(
        [*words, *([f"{failed:.0f} of {requests:.0f} requests failed"] if failed is not None and requests is not None else [])]
    )
