"""The command `fault`: it breaks machines on purpose."""

from __future__ import annotations

import click

from labctl.cli.complete import minions
from labctl.cli.lifecycle import become_root
from labctl.lab import Lab

FAULTS = {  # what people type: the fault's name in faults/machines.py, which is not imported before it is needed
    "power-off": "power_off",
    "reset": "reset",
    "pause": "pause",
    "resume": "resume",
    "cut": "cut",
    "restore": "restore",
}


@click.command(epilog="Example: labctl fault power-off minion-1")
@click.argument("what", type=click.Choice(list(FAULTS)))
@click.argument("name", metavar="MINION", shell_complete=minions)
def fault(what: str, name: str) -> None:
    """Break a machine: cut its power, reset it, pause and resume it, or cut and restore its network.

    It happens at once and Kubernetes is not told. `labctl up` boots a machine that is off.
    """
    lab = Lab()
    become_root(lab)
    lab.fault(FAULTS[what], name)
