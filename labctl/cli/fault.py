"""fault: breaking machines on purpose."""

from __future__ import annotations

import click

from labctl.cli.complete import minions
from labctl.cli.lifecycle import become_root
from labctl.lab import Lab

FAULTS = {"power-off": "power_off", "reset": "reset", "pause": "pause", "resume": "resume", "cut": "cut", "restore": "restore"}


@click.command(epilog="Example: labctl fault power-off minion-1")
@click.argument("what", type=click.Choice(list(FAULTS)))
@click.argument("name", metavar="MINION", shell_complete=minions)
def fault(what: str, name: str) -> None:
    """Pull a machine's plug, reset it, freeze and thaw it, cut and restore its network: abruptly, behind Kubernetes' back. `labctl up` boots what is off."""
    lab = Lab()
    become_root(lab)
    lab.fault(FAULTS[what], name)
