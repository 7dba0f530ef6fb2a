"""The command `snapshot` with its subcommands save, list, restore and delete."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from labctl.cli.lifecycle import become_root, showing
from labctl.cli.output import many, output_option, print_json, print_table
from labctl.cli.words import echo

if TYPE_CHECKING:
    from labctl.lab.snapshots import Snapshot


@click.group(epilog="Example: labctl snapshot save ready && labctl destroy --yes && labctl up --from ready")
def snapshot() -> None:
    """Save a lab's present state under a name: machines, objects, certificates.

    A snapshot outlives its lab, and every lab of this machine can start from it.
    """


@snapshot.command("save", epilog="Example: labctl snapshot save before-the-storm")
@click.argument("name")
@output_option
def save(name: str, output: str) -> None:
    """Save the lab of this folder. Its machines are paused for a moment and then continue."""
    from labctl.lab import snapshots

    with showing() as lab:
        become_root(lab)
        saved = snapshots.save(lab, name)
    if output == "json":
        _show([saved], output)
    else:
        echo(f"Saved. From here on: labctl up --from {name}")


@snapshot.command("list", epilog="Example: labctl snapshot list -o json")
@output_option
def list_(output: str) -> None:
    """List the snapshots of this machine."""
    from labctl.lab import snapshots

    with showing() as lab:
        become_root(lab)
        _show(snapshots.listed(lab), output)


@snapshot.command("restore", epilog="Example: labctl snapshot restore before-the-storm")
@click.argument("name")
@output_option
def restore(name: str, output: str) -> None:
    """Return the lab of this folder to the state of a snapshot. Its present state is lost."""
    from labctl.errors import LabctlError

    with showing() as lab:
        become_root(lab)
        if not lab.exists:
            raise LabctlError(f"there is no lab in {lab.folder} or above", mend=f"labctl up --from {name}")
        status = lab.up(snapshot=name)
    if output == "json":
        print_json(status)
    else:
        echo(f"The lab is as it was in {name}: {many(len(status['nodes']), 'node')}.")


@snapshot.command("delete", epilog="Example: labctl snapshot delete before-the-storm")
@click.argument("name")
def delete(name: str) -> None:
    """Delete a snapshot and free its space. Labs that were started from it keep everything they need."""
    from labctl.lab import snapshots

    with showing() as lab:
        become_root(lab)
        snapshots.delete(lab, name)


def _show(found: Sequence[Snapshot], output: str) -> None:
    if output == "json":
        shown = ("name", "saved", "lab", "provider", "memory", "machines", "revision", "size", "paused_s")
        print_json([{field: getattr(each, field) for field in shown} for each in found])
        return
    rows = [
        (s.name, s.saved, s.provider or "-", str(len(s.machines)), f"{s.size / 1e6:.0f} MB", "yes" if s.memory else "no") for s in found
    ]
    print_table(("NAME", "SAVED", "PROVIDER", "MACHINES", "SIZE", "MEMORY"), rows)
