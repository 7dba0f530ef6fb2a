"""The command `dash`: it prints the address of the live page, and opens a browser where there is one."""

from __future__ import annotations

import os
import sys

import click

from labctl.cli.lifecycle import with_master
from labctl.cli.words import echo
from labctl.lab import Lab


@click.command(epilog="Example: labctl dash --no-browser")
@click.option("--no-browser", is_flag=True, help="only print the address")
def dash(no_browser: bool) -> None:
    """Show the lab in a browser, live: machines, pods, Services, Events, requests, and buttons for faults.

    The address opens the page once, within two minutes, on this host only. The browser does not know the lab's certificate and says so; the lab's own
    authority is .labctl/pki/ca.crt. docs/dash.md has more.
    """
    lab = with_master(Lab())
    address = lab.dash()
    echo(address)
    if not no_browser and _has_browser():
        import webbrowser

        webbrowser.open(address)


def _has_browser() -> bool:
    """Tell whether a person sits at a graphical terminal of their own. Root starts no browser, and a script gets the address only."""
    graphical = sys.platform == "darwin" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
    return graphical and sys.stdout.isatty() and os.geteuid() != 0
