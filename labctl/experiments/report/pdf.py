"""The figures of an experiment for a paper: a PDF of vector graphics, one column wide, with embedded fonts, that can be read in grey.

Page 1 is the typical run of the first cell; page 2, where there are several runs, the distributions of the four figures. `\\includegraphics[page=2]` takes one.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from labctl.errors import LabctlError
from labctl.experiments.report import canvas, requests_figure, runs_figures, scenes, series
from labctl.experiments.report.canvas import PAPER
from labctl.experiments.result import Result
from labctl.paths import write_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def pdf(result: Result, path: Path) -> None:
    """Writes the figures, whole or not at all. Raises LabctlError if matplotlib is not installed, no run counts, or the disk refuses."""
    with canvas.settings(PAPER, "paper"):
        data = _document(_figures(result), result.name)
    write_whole(path, data)


def _figures(result: Result) -> list[Figure]:
    pods = series.pods_of(run.measurement for run in result.runs if run.measurement and not run.broken)
    drawn = []
    run = next((run for cell in result.cells if (run := scenes.typical(result, cell))), None)
    if run:
        drawn.append(requests_figure.draw(scenes.close(run, pods) or scenes.whole(run, pods), PAPER))
    if runs_figures.has_distribution(result):
        drawn.append(runs_figures.distribution(result, PAPER))
    if not drawn:
        raise LabctlError("there is nothing to draw: no run of this result counts")
    return drawn


def _document(figures: list[Figure], title: str) -> bytes:
    from matplotlib.backends.backend_pdf import PdfPages

    buffer = io.BytesIO()
    with PdfPages(
        buffer, metadata={"Title": canvas.clean(title, 200), "Creator": "labctl", "CreationDate": None, "Producer": None}
    ) as pages:
        for figure in figures:
            pages.savefig(figure)
    return buffer.getvalue()
