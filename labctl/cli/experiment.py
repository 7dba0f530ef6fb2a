"""The command `experiment`: play a file's experiment, check the file, report on a result, compare two results, list the examples."""

from __future__ import annotations

import signal
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from labctl.cli.lifecycle import become_root, showing
from labctl.cli.output import many, output_option, print_json, print_table
from labctl.cli.words import echo
from labctl.errors import LabctlError, UsageError
from labctl.paths import make_folder, write_whole

if TYPE_CHECKING:
    from labctl.experiments.file import Experiment
    from labctl.experiments.result import Result

EPILOG = """\b
Examples:
  labctl experiment list
  labctl experiment run examples/experiments/node-death.yaml --repetitions 3
  labctl experiment report experiments/node-death
  labctl experiment compare before after --threshold 10%
"""


@click.group(epilog=EPILOG)
def experiment() -> None:
    """Play an experiment from a file: steady state, load, faults, hypothesis, as often as statistics need.

    docs/experiments.md describes the file, the statistics and the result.
    """


@experiment.command(epilog="Example: labctl experiment run examples/experiments/node-death.yaml --junit result.xml")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--repetitions", type=click.IntRange(1, 1000), help="how many, instead of what the file says")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="the folder of the result (default experiments/NAME)")
@click.option("--again", is_flag=True, help="begin anew, instead of going on where an earlier run was broken off")
@click.option("--junit", type=click.Path(dir_okay=False, path_type=Path), help="write JUnit XML here, for CI")
@output_option
def run(file: Path, repetitions: int | None, out: Path | None, again: bool, junit: Path | None, output: str) -> None:
    """Play the experiment, and say whether its hypothesis holds: exit status 0 if it does, 1 if it does not, 2 for bad input.

    The lab of this folder is used if it has the settings that the file asks for, and is afterwards as it was before; otherwise a lab is made for the
    experiment. The same command goes on where it was broken off. FILE may be the name of one that `labctl experiment list` shows.
    """
    from labctl.experiments.run import run as play
    from labctl.lab.privilege import return_ownership
    from labctl.lab.progress import step
    from labctl.lab.stages import LabStages

    path = _find(file)
    read = _read(path)
    folder = out or Path("experiments") / read.name
    with showing() as lab:
        become_root(lab)

        @contextmanager
        def progress(name: str) -> Any:
            with step(lab.progress, name) as note:
                yield note

        drawn = ""
        with _interrupts():
            try:
                result = play(
                    read, folder, LabStages(lab, folder, read.images), progress, time.time, repetitions=repetitions or 0, again=again
                )
            except KeyboardInterrupt:
                _tell_kept(folder)
                raise
            finally:
                _write_junit(folder, junit)
                drawn = _draw(folder, folder / "report.html", folder / "figure.pdf")
                return_ownership(lab, folder, *([junit] if junit else []))
    show(result, folder, output)
    if output == "table":
        echo(drawn)
    sys.exit(0 if result.holds else 1)


@contextmanager
def _interrupts() -> Any:
    """Make SIGTERM an interruption as Ctrl-C is, and let a second one not disturb the healing that follows the first."""
    taken: list[int] = []

    def interrupt(number: int, _frame: Any) -> None:
        if taken:
            echo("labctl: healing what was broken; a moment", err=True)
            return
        taken.append(number)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _find(file: Path) -> Path:
    """Return the file, or the example of that name."""
    from labctl import assets

    if file.exists() or file.suffix or len(file.parts) > 1:
        return file
    example = assets.experiments() / f"{file}.yaml"
    if not example.exists():
        raise UsageError(f"there is no file {file}, and no example of that name", mend="labctl experiment list")
    return example


def read_file(file: Path) -> Experiment:
    """Return the experiment of a file, or of the example of that name."""
    return _read(_find(file))


def _read(path: Path) -> Experiment:
    from labctl.experiments.file import read
    from labctl.resources.faulttypes import TYPES

    return read(path, TYPES)


def _write_junit(folder: Path, junit: Path | None) -> None:
    from labctl.experiments import folder as folders
    from labctl.experiments import junit as xml

    if junit and folders.exists(folder):
        make_folder(junit.parent)
        write_whole(junit, xml.junit(folders.read(folder, requests=False)).encode())


def show(result: Result, folder: Path, output: str) -> None:
    from labctl.experiments import tables

    if output == "json":
        import msgspec

        print_json({**msgspec.to_builtins(result), "holds": result.holds, "folder": str(folder)})
        return
    print_table(tables.HEADINGS, tables.rows(result))
    broken = [run for run in result.runs if run.broken]
    for run in broken:
        echo(f"Repetition {run.number} does not count: {run.broken}")
    for verdict in result.verdicts:
        echo(tables.verdict_line(verdict))
    if not result.verdicts:
        echo("The file has no hypothesis.")
    echo(f"{many(len(result.runs) - len(broken), 'repetition')} kept in {folder}.")


def _tell_kept(folder: Path) -> None:
    """Say how many repetitions a run that was broken off has left, and how it goes on."""
    from labctl.experiments import folder as folders

    if folders.exists(folder):
        kept = [run for run in folders.read(folder, requests=False).runs if not run.broken]
        echo(f"{many(len(kept), 'repetition')} kept in {folder}: the same command goes on from there", err=True)


def _draw(folder: Path, html: Path, pdf: Path) -> str:
    """Write the report and the figure of what there is, and return where they are, or why there are none: the result is worth more than its picture."""
    from labctl.experiments import folder as folders
    from labctl.experiments import report as drawing

    if not folders.exists(folder):
        return "No report: nothing was measured."
    try:
        result = folders.read(folder)
        write_whole(html, drawing.html(result).encode())
        drawing.pdf(result, pdf)
    except LabctlError as error:
        return f"No report: {error}"
    return f"The report: {html}, and a figure for papers: {pdf}"


@experiment.command(epilog="Example: labctl experiment check examples/experiments/node-death.yaml")
@click.argument("file", type=click.Path(path_type=Path))
@output_option
def check(file: Path, output: str) -> None:
    """Check a file without touching anything: every problem is one line. Exit status 0 if there is none, else 2."""
    from labctl.experiments.file import Refused
    from labctl.lab import Lab
    from labctl.lab.stages import LabStages

    path = _find(file)
    try:
        read = _read(path)
        stages = LabStages(Lab(), Path())
        whys = [stages.refuse(plan.settings, plan.steps) for plan in read.plans]
        problems = [f"{path.name}: {why}" for why in whys if why]
        if not problems and (why := stages.refuse_now(read.plans)):
            problems = [f"{path.name}: the lab here: {why}"]
    except Refused as error:
        problems = error.problems
    problems = list(dict.fromkeys(problems))
    if output == "json":
        print_json({"file": str(path), "problems": problems})
    elif problems:
        for problem in problems:
            echo(problem, err=True)
    else:
        runs = read.repetitions * len(read.plans)
        seconds = sum(plan.duration_s for plan in read.plans) * read.repetitions
        echo(f"{path} is in order: {many(len(read.plans), 'cell')}, {many(runs, 'repetition')}, {seconds:.0f} s under load.")
    sys.exit(2 if problems else 0)


@experiment.command(epilog="Example: labctl experiment report experiments/node-death")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--html", type=click.Path(dir_okay=False, path_type=Path), help="where the page is written (default FOLDER/report.html)")
@click.option("--pdf", type=click.Path(dir_okay=False, path_type=Path), help="write the figure for a paper here")
@output_option
def report(folder: Path, html: Path | None, pdf: Path | None, output: str) -> None:
    """Show a result's table and verdicts, and write its report: one HTML file that needs nothing else, and a PDF figure if asked for."""
    from labctl.experiments import folder as folders
    from labctl.experiments import report as drawing

    result = folders.read(folder)
    page = html or folder / "report.html"
    write_whole(page, drawing.html(result).encode())
    if pdf:
        drawing.pdf(result, pdf)
    show(result, folder, output)
    if output == "table":
        echo(f"Written: {page}{f', {pdf}' if pdf else ''}")


def _share(_context: Any, _parameter: Any, text: str) -> float:
    from labctl.experiments.units import quantity

    try:
        number, unit = quantity(text)
    except ValueError:
        number, unit = 0.0, ""
    if unit != "%":
        raise click.BadParameter("write a share such as 10%")
    return number / 100


@experiment.command(epilog="Example: labctl experiment compare before after --threshold 10%")
@click.argument("a", type=click.Path(file_okay=False, path_type=Path))
@click.argument("b", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--figure",
    "figures",
    multiple=True,
    help="compare this figure; may be given several times (default reaction, repair, recovery, outage)",
)
@click.option(
    "--threshold", default="0%", callback=_share, help="how much worse B's median may be before the exit status is 1 (default 0%)"
)
@output_option
def compare(a: Path, b: Path, figures: tuple[str, ...], threshold: float, output: str) -> None:
    """Say whether the result in folder B is slower than that in A, and by how much. Exit status 1 if it is shown to be slower beyond the threshold.

    The interval is a bootstrap of the difference of medians, p comes from a permutation test of ranks. Where chance explains what is seen, it says so.
    """
    import msgspec

    from labctl.experiments import folder as folders
    from labctl.experiments import tables
    from labctl.experiments.figures import FIGURES

    for figure in figures:
        if figure not in FIGURES:
            raise UsageError(f"unknown figure {figure}", mend=f"there are {', '.join(FIGURES)}")
    found = tables.compare(folders.read(a, requests=False), folders.read(b, requests=False), figures or tables.SHOWN[:4], threshold)
    if not found:
        raise UsageError("the two results have no cell of the matrix in common")
    if output == "json":
        print_json(msgspec.to_builtins(found))
    else:
        rows = []
        for each in found:
            medians = (each.comparison.median_a, each.comparison.median_b) if each.comparison else (None, None)
            rows.append((each.cell or "-", each.figure, *(tables.number(each.figure, median) for median in medians), each.text))
        print_table(("CELL", "FIGURE", "A", "B", "VERDICT"), rows)
    sys.exit(1 if any(each.slower for each in found) else 0)


@experiment.command("list", epilog="Example: labctl experiment list -o json")
@output_option
def list_(output: str) -> None:
    """List the examples that come with labctl; each teaches one thing. `labctl experiment run NAME` plays one."""
    from labctl import assets

    found = [
        {"name": path.stem, "file": str(path), "description": _first_line(path)} for path in sorted(assets.experiments().glob("*.yaml"))
    ]
    if output == "json":
        print_json(found)
    else:
        print_table(("NAME", "WHAT IT TEACHES"), [(each["name"], each["description"]) for each in found])


def _first_line(path: Path) -> str:
    """Return the first line of a file's header comment."""
    with path.open(encoding="utf-8") as file:
        return file.readline().lstrip("# ").strip()
