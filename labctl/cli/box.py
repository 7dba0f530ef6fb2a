"""box: build, list, remove."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from labctl.cli.lifecycle import showing
from labctl.cli.output import output_option, print_json, print_table

if TYPE_CHECKING:
    from labctl.lab import Lab
    from labctl.providers.vagrant.box import Built


@click.group(epilog="Example: labctl box build")
def box() -> None:
    """What virtual machines boot from: `labctl up --provider vagrant` builds it where there is none."""


@box.command("build", epilog="Example: labctl box build")
@output_option
def build(output: str) -> None:
    """Make the box from Debian packages, offline where apt is. The same packages give the same bytes."""
    from labctl.lab import boxes

    with showing() as lab:
        _show(lab, [boxes.build(lab)], output)


@box.command("list", epilog="Example: labctl box list -o json")
@output_option
def list_(output: str) -> None:
    """What is here; * is what `up` takes. Snapshots that build on a box need it."""
    from labctl.lab import boxes

    with showing() as lab:
        _show(lab, boxes.boxes(lab), output)


@box.command("remove", epilog="Example: labctl box remove labctl/minion-amd64-0123456789ab")
@click.argument("name")
@click.option("--force", is_flag=True, help="also if snapshots build on it: nothing can begin from them then")
def remove(name: str, force: bool) -> None:
    """Forget a box, here and in Vagrant. One that snapshots build on stays; `labctl box list` says which those are."""
    from labctl.lab import boxes

    with showing() as lab:
        boxes.remove(lab, name, force=force)


def _show(lab: Lab, found: Sequence[Built], output: str) -> None:
    from labctl.lab.boxes import built_on

    if output == "json":
        shown = [
            {
                "name": b.name,
                "path": b.path,
                "size": b.size_bytes,
                "sha256": b.sha256(),
                "current": b.current,
                "snapshots": built_on(lab, b),
            }
            for b in found
        ]
        print_json(shown)
        return
    rows = [(b.name, f"{b.size_bytes / 1e6:.1f} MB", "*" if b.current else "", ", ".join(built_on(lab, b)) or "-", b.path) for b in found]
    print_table(("NAME", "SIZE", "CURRENT", "SNAPSHOTS", "PATH"), rows)
