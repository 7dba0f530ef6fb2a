"""What an experiment gave: its file as it was read, the lab and host it ran on, every repetition, and whether each hypothesis held.

The runner makes these values, folder.py keeps them on disk, and the reports, `compare` and JUnit read them. Nothing here measures or judges.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec

from labctl.measure.records import Measurement
from labctl.measure.timeline import Timeline

MAX_RUNS = 10_000
_Text = Annotated[str, msgspec.Meta(max_length=4_000)]
_Name = Annotated[str, msgspec.Meta(max_length=253)]
_Few = msgspec.Meta(max_length=1_000)

Cell = Mapping[str, str]
"""One combination of the matrix: the text of each name's value, such as {"replicas": "2", "timing": "lab"}. Without a matrix it is empty."""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """Whether one hypothesis held in one cell of the matrix. `bound` and `measured` are in `unit`, the one that the file was written with."""

    text: _Text  # as the file has it: "p95 of outage < 0.5 s"
    figure: _Name
    statistic: _Name  # median, mean, min, max or a percentile such as p95, over the repetitions
    operator: Literal["<", "<=", ">", ">=", "=="]
    bound: float
    unit: str  # s, ms, us, % or empty for a count
    measured: float | None  # None where no repetition has the figure
    holds: bool
    cell: Cell = {}
    why: _Text = ""  # a sentence, where the number alone does not say it


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One repetition in one cell. `broken` says why it does not count; then its figures take no part in statistics and verdicts."""

    cell: Cell = {}
    number: int = 1  # of the repetition in its cell, from 1
    seed: int = 0  # what chose among several possible targets
    began_at: float = 0.0  # since the epoch
    took_s: float = 0.0
    timelines: Annotated[tuple[Timeline, ...], _Few] = ()  # one for each step of the file's timeline
    figures: Mapping[str, float | None] = {}  # each figure of figures.FIGURES: seconds, counts, or a share of 1
    broken: _Text = ""
    done: Annotated[tuple[_Text, ...], _Few] = ()  # what was really done, a sentence each
    load_average: float = 0.0  # of the host, when the run began
    requests: _Name = ""  # the file with its measurement, below the result's folder
    measurement: Measurement | None = None  # kept in that file, not in result.json


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """An experiment and what it gave so far. `ended_at` is 0 as long as repetitions are missing."""

    format: Literal["labctl experiment result 1"] = "labctl experiment result 1"
    name: _Name
    description: _Text = ""
    experiment: Annotated[str, msgspec.Meta(max_length=1 << 20)]  # the file as it was read
    files: Annotated[Mapping[str, str], _Few] = {}  # the manifests that it names: path and text
    digest: _Name = ""  # of the file and its manifests; a folder goes on only with the same one
    facts: Mapping[str, Any] = {}  # versions, settings, host, seed
    repetitions: int = 1
    cells: Annotated[tuple[Cell, ...], _Few] = ({},)  # in the order of the file
    runs: Annotated[tuple[Run, ...], msgspec.Meta(max_length=MAX_RUNS)] = ()
    verdicts: Annotated[tuple[Verdict, ...], msgspec.Meta(max_length=MAX_RUNS)] = ()
    began_at: float = 0.0
    ended_at: float = 0.0

    @property
    def holds(self) -> bool:
        """Tell whether every hypothesis held. An experiment without a hypothesis holds if one repetition of each cell counts."""
        counted = {tuple(sorted(run.cell.items())) for run in self.runs if not run.broken}
        return all(verdict.holds for verdict in self.verdicts) and all(tuple(sorted(cell.items())) in counted for cell in self.cells)

    def good_runs(self, cell: Cell) -> tuple[Run, ...]:
        """Return the repetitions of a cell that count."""
        return tuple(run for run in self.runs if run.cell == cell and not run.broken)

    def values(self, cell: Cell, figure: str) -> list[float]:
        """Return a figure of each repetition of a cell that counts and has it."""
        found = (run.figures.get(figure) for run in self.good_runs(cell))
        return [value for value in found if value is not None]


def cell_name(cell: Cell) -> str:
    """Return a cell for people: `replicas=2 timing=lab`."""
    return " ".join(f"{name}={value}" for name, value in cell.items())
