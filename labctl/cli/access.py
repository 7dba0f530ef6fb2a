"""ssh, kubeconfig."""

from __future__ import annotations

import os

import click

from labctl.cli.complete import minions
from labctl.cli.lifecycle import become_root
from labctl.lab import Lab


@click.command(epilog="Example: labctl ssh minion-1 -- curl -s 10.247.0.10", context_settings={"ignore_unknown_options": True})
@click.argument("name", metavar="MINION", shell_complete=minions)
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def ssh(name: str, command: tuple[str, ...]) -> None:
    """A shell on a machine, or a command there; the exit status is the command's."""
    lab = Lab()
    become_root(lab)
    argv = lab.ssh(name, command)
    os.execvp(argv[0], argv)


@click.command(epilog="Example: export KUBECONFIG=$(labctl kubeconfig)")
def kubeconfig() -> None:
    """Print the path of the lab's kubeconfig."""
    click.echo(str(Lab().kubeconfig))
