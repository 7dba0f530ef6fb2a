"""The command `sim`: labctl's own control plane on virtual time, without machines, root or network."""

from __future__ import annotations

import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from labctl.cli.words import echo
from labctl.errors import UsageError

if TYPE_CHECKING:
    from labctl.sim.scenario import Outcome
    from labctl.sim.settings import ScenarioSettings

EXAMPLES = """\b
Examples:
  labctl sim --seeds 100
  labctl sim --seed 42
  labctl sim --seeds 1000 --partitions
  labctl sim examples/experiments/node-death.yaml
  labctl sim --nodes 500 --pods 15000"""


@click.command(epilog=EXAMPLES)
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--seeds", type=click.IntRange(1, 1_000_000), help="how many runs, from seed 0 on")
@click.option("--seed", type=int, help="one run, and its story")
@click.option("--nodes", type=click.IntRange(1, 20_000), help="how many nodes (default 5; with --pods 5000)")
@click.option(
    "--pods", type=click.IntRange(1, 1_000_000), help="measure a lab of so many pods: start them, and let a tenth of the nodes die"
)
@click.option("--steps", type=click.IntRange(0, 10_000), default=40, show_default=True, help="how many things happen in a run")
@click.option(
    "--timing", type=click.Choice(["kubernetes", "lab"]), default="kubernetes", show_default=True, help="how soon silent nodes are given up"
)
@click.option("--partitions", is_flag=True, help="let nothing happen but cut links and partitions, with the timing of a lab")
def sim(
    file: Path | None, seeds: int | None, seed: int | None, nodes: int | None, pods: int | None, steps: int, timing: str, partitions: bool
) -> None:
    """Run labctl's controllers, scheduler and proxy on virtual time: the same code as in a lab, on machines that are simulated.

    In each run people and faults do what a seed says: power cuts, partitions, restarts of the master, a failing disk. Checkers look whether a rule of safety
    is ever broken, and whether the lab becomes what was asked for once all is healed. The same seed is always the same run.
    """
    if sum(each is not None for each in (file, seeds, seed, pods)) > 1:
        raise UsageError("FILE, --seeds, --seed and --pods are different things to do", mend="name one of them")
    if file is not None:
        _experiment(file)
    elif pods is not None:
        _scale(nodes or 5000, pods, 0)
    else:
        _seeds(
            range(seed, seed + 1) if seed is not None else range(seeds or 20), nodes or 5, steps, timing, partitions, tell=seed is not None
        )


def _seeds(seeds: range, nodes: int, steps: int, timing: str, partitions: bool, *, tell: bool) -> None:
    from labctl.sim.scenario import play
    from labctl.sim.settings import PARTITIONS, ScenarioSettings

    what = PARTITIONS if partitions else ()
    settings = ScenarioSettings(nodes=nodes, steps=steps, lab_timing=timing == "lab" or partitions, what=what)
    began, virtual_s, wrong = time.perf_counter(), 0.0, 0
    for seed in seeds:
        outcome = play(seed, settings)
        virtual_s += outcome.journal[-1].t if outcome.journal else 0.0
        if outcome.wrong:
            wrong += 1
            _failed(outcome, settings)
        elif tell:
            echo(outcome.story(len(outcome.journal)))
    took_s = time.perf_counter() - began
    went = f"{len(seeds)} runs" if wrong == 0 else f"{wrong} of {len(seeds)} runs went wrong"
    echo(f"{went}{': all went well' if not wrong else ''}; {virtual_s / 3600:.1f} virtual hours in {took_s:.0f} s")
    sys.exit(1 if wrong else 0)


def _failed(outcome: Outcome, settings: ScenarioSettings) -> None:
    """Make the run smaller, and tell it."""
    from labctl.sim.scenario import play_case
    from labctl.sim.shrink import Shrinker

    case = outcome.case
    echo(f"seed {outcome.seed} went wrong: {outcome.wrong[0]}")
    echo(f"  making it smaller: {case.nodes} nodes, {len(case.deeds)} things happen", err=True)
    small = Shrinker(lambda case: bool(play_case(case, settings).wrong)).smaller(case)
    smallest = play_case(small, settings)
    echo(smallest.story(len(smallest.journal)))
    echo(f"The whole run: labctl sim --seed {outcome.seed} --nodes {case.nodes} --steps {len(case.deeds)}{_how(settings)}")


def _how(settings: ScenarioSettings) -> str:
    if settings.what:
        return " --partitions"
    return " --timing lab" if settings.lab_timing else ""


def _scale(nodes: int, pods: int, seed: int) -> None:
    from labctl.sim.scale import measure
    from labctl.sim.settings import ScaleSettings

    measure(seed, ScaleSettings(nodes=nodes, pods=pods), lambda phase: echo(str(phase)))


def _experiment(file: Path) -> None:
    """Play an experiment's file on virtual time. Its result lies beside those of real labs, under a name of its own."""
    from labctl.cli.experiment import read_file, show
    from labctl.experiments.run import run
    from labctl.sim.stage import SimStages

    experiment = read_file(file)
    folder = Path("experiments") / f"{experiment.name}-simulated"
    result = run(experiment, folder, SimStages(), lambda _name: nullcontext(lambda _text: None), time.time, again=True)
    show(result, folder, "text")
    sys.exit(0 if result.holds else 1)
