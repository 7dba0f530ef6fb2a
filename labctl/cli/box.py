"""The command `box` with its subcommands build, list and remove."""

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
    """Manage the boxes that virtual machines boot from. `labctl up --provider vagrant` builds a box if there is none."""


@box.command("build", epilog="Example: labctl box build")
@output_option
def build(output: str) -> None:
    """Build the box from Debian packages. It needs no network where apt needs none. The same packages give the same bytes."""
    from labctl.lab import boxes

    with showing() as lab:
        _show(lab, [boxes.build(lab)], output)


@box.command("list", epilog="Example: labctl box list -o json")
@output_option
def list_(output: str) -> None:
    """List the boxes of this machine. A * marks the one that `up` uses. Snapshots that build on a box need it."""
    from labctl.lab import boxes

    with showing() as lab:
        _show(lab, boxes.boxes(lab), output)


@box.command("remove", epilog="Example: labctl box remove labctl/minion-amd64-0123456789ab")
@click.argument("name")
@click.option("--force", is_flag=True, help="delete it also if snapshots build on it; no lab can start from them afterwards")
def remove(name: str, force: bool) -> None:
    """Delete a box here and in Vagrant. A box that snapshots build on is kept; `labctl box list` shows those snapshots."""
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
