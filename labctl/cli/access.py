"""ssh, kubeconfig, token-keys."""

from __future__ import annotations

import os

import click

from labctl.cli.complete import minions
from labctl.cli.lifecycle import become_root, showing, with_master
from labctl.cli.output import output_option, print_json, print_table
from labctl.cli.words import echo
from labctl.lab import Lab


@click.command(epilog="Example: labctl ssh minion-1 -- curl -s 10.247.0.10", context_settings={"ignore_unknown_options": True})
@click.argument("name", metavar="MINION", shell_complete=minions)
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def ssh(name: str, command: tuple[str, ...]) -> None:
    """Open a shell on a machine, or run a command there. The exit status is the command's."""
    lab = Lab()
    become_root(lab)
    argv = lab.ssh(name, command)
    os.execvp(argv[0], argv)


@click.command(epilog="Example: export KUBECONFIG=$(labctl kubeconfig)")
def kubeconfig() -> None:
    """Print the path of the lab's kubeconfig."""
    echo(str(Lab().kubeconfig))


@click.command(epilog="Example: labctl token-keys --rotate")
@click.option("--rotate", is_flag=True, help="sign with a new key from now on; older tokens stay good until they expire")
@click.option("--revoke", is_flag=True, help="sign with a new key, and refuse every token that was signed before")
@output_option
def token_keys(rotate: bool, revoke: bool, output: str) -> None:
    """List the keys that ServiceAccounts' tokens are signed with, the newest last; exchange them."""
    with showing() as lab:
        api = with_master(lab).api
        if rotate or revoke:
            api.post(f"/labctl/v1/token-keys{'?revoke=true' if revoke else ''}", {})
        keys = api.get("/openid/v1/jwks")["keys"]
    if output == "json":
        print_json(keys)
        return
    rows = [[key["kid"], key["alg"], "signs and verifies" if key is keys[-1] else "verifies"] for key in keys]
    print_table(["KEY", "ALGORITHM", "USE"], rows)
