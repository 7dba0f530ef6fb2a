"""`python -m labctl.sim SEED [SEED...]` runs these scenarios and prints the story of those that went wrong.

The exit status is 1 if one did.
"""

from __future__ import annotations

import sys

import click

from labctl.sim.scenario import play


@click.command()
@click.argument("seeds", nargs=-1, type=int, required=True)
@click.option("--story", is_flag=True, help="print also the story of those that went well")
def main(seeds: tuple[int, ...], story: bool) -> None:
    """Run the scenario of each SEED: faults first, then a calm."""
    wrong = 0
    for seed in seeds:
        outcome = play(seed)
        wrong += bool(outcome.wrong)
        click.echo(f"seed {seed}: {'WRONG' if outcome.wrong else 'ok'}, true again {outcome.calm_s:.0f} s after healing")
        if outcome.wrong or story:
            click.echo(outcome.story(len(outcome.journal)))
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
