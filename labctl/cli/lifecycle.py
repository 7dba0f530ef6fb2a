"""The commands `up`, `halt`, `destroy` and `status`."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from labctl.cli.complete import minions
from labctl.cli.output import Command, Steps, many, output_option, print_json, print_table
from labctl.cli.words import echo, echo_line
from labctl.lab import Lab


@contextmanager
def showing(**flags: Any) -> Iterator[Lab]:
    """Yield a Lab that shows its progress on the terminal."""
    steps = Steps()
    lab = Lab(progress=steps, **flags)
    try:
        yield lab
    finally:
        lab.close()
        steps.close()


def become_root(lab: Lab, *, if_possible: bool = False) -> None:
    """Start labctl again through sudo if this lab's provider needs root, and say so.

    With `if_possible`, a host without sudo is no error: the command continues without root.
    """
    from labctl.lab.privilege import may_be_root, needs_root, sudo_command

    if needs_root(lab) and (may_be_root() or not if_possible):
        command = sudo_command(sys.argv[1:])
        echo("labctl: namespace machines need root; continuing through sudo", err=True)
        os.execvp(command[0], command)


LAB_OPTIONS = (
    click.option("--minions", help="how many machines (NUM_MINIONS; default 2; 0: API and controllers only, without root)"),
    click.option("--provider", help="auto, namespace, vagrant or ssh (LABCTL_PROVIDER; default auto)"),
    click.option("--memory", help="memory of each minion, such as 1G (MINION_MEMORY; default 1G)"),
    click.option("--cpus", help="CPUs of each minion (MINION_CPUS; default 1)"),
    click.option("--box", help="the box that virtual machines boot from (LABCTL_BOX; default labctl's own)"),
    click.option("--prepare", is_flag=True, default=None, help="install missing packages on machines that exist already (LABCTL_PREPARE)"),
    click.option("--network", help="how pods reach each other across minions: route, vxlan, ovs or bgp (LABCTL_NETWORK; default route)"),
    click.option("--proxy-mode", help="iptables or userspace (default iptables)"),
    click.option(
        "--timing", help="how soon silent nodes are given up: kubernetes (40 s + 300 s) or lab (3 s) (LABCTL_TIMING; default kubernetes)"
    ),
    click.option("--api-port", help="the API's port on loopback; 0 takes a free one and keeps it"),
)


def lab_options(command: Command) -> Command:
    """Add the flags that say how a lab is made. Every command that makes one has the same flags."""
    for option in reversed(LAB_OPTIONS):
        command = option(command)
    return command


@click.command(epilog="Example: labctl up --minions 3 --memory 512M")
@lab_options
@click.option(
    "--from",
    "snapshot",
    default="",
    metavar="SNAPSHOT",
    help="start from a snapshot that `labctl snapshot save` made; it replaces the lab's present state",
)
@output_option
def up(output: str, snapshot: str, **flags: Any) -> None:
    """Make the lab as asked and wait until every node is Ready. If a run was interrupted, the next one finishes it."""
    with showing(**flags) as lab:
        become_root(lab)
        status_ = lab.up(snapshot)
    if output == "json":
        print_json(status_)
        return
    echo(f"The lab is up: {many(len(status_['nodes']), 'node')}. Try: labctl get nodes")
    if "KUBECONFIG" not in os.environ:
        echo(f"For kubectl itself: export KUBECONFIG={shlex.quote(str(lab.kubeconfig))}")


def with_master(lab: Lab) -> Lab:
    """Return the lab for a command that asks its master.

    If no master runs, one will be started; the command becomes root first if the lab was made by root.
    """
    if lab.exists and not lab.running:
        become_root(lab)
    return lab


@click.command(epilog="Example: labctl halt minion-2")
@click.argument("names", nargs=-1, metavar="[MINION]...", shell_complete=minions)
def halt(names: tuple[str, ...]) -> None:
    """Stop machines in order; without names, stop all of them and the master. `labctl up` starts them again."""
    with showing() as lab:
        become_root(lab)
        lab.halt(*names)


@click.command(epilog="Example: labctl destroy --yes")
@click.argument("names", nargs=-1, metavar="[MINION]...", shell_complete=minions)
@click.option("-y", "--yes", is_flag=True, help="do not ask")
def destroy(names: tuple[str, ...], yes: bool) -> None:
    """Remove machines (the whole lab without names): processes, disks, network, objects. Asks first on a terminal."""
    what = ", ".join(names) or f"the lab in {Lab().folder}"
    if not yes and sys.stdin.isatty():
        click.confirm(f"Destroy {what}?", abort=True)
    with showing() as lab:
        become_root(lab)
        lab.destroy(*names)


@click.command(epilog="Example: labctl status -o json")
@output_option
def status(output: str) -> None:
    """Show the state of the machines, the nodes and the master. Starts nothing."""
    answer = Lab().status()
    if output == "json":
        print_json(answer)
        return
    master = answer["master"]
    echo(f"lab {answer['lab']} in {answer['folder']}, provider {answer['provider'] or 'none'}")
    echo(f"master: {'process {pid} at {url}'.format(**master) if master['running'] else 'not running (labctl up)'}")
    for task in answer["tasks"]:
        echo_line(f"  {_task_line(task)}")
    if answer["machines"]:
        nodes = {node["name"]: node for node in answer["nodes"]}
        rows = [
            (m["name"], m["power"] or "-", m["phase"] or "-", m["address"] or "-", _node_word(nodes.get(m["name"])), m["memory"], m["cpus"])
            for m in answer["machines"]
        ]
        print_table(("NAME", "POWER", "PHASE", "ADDRESS", "NODE", "MEMORY", "CPUS"), rows)
        for machine in answer["machines"]:
            if trouble := _trouble(machine, nodes.get(machine["name"]), answer["provider"], len(answer["machines"])):
                echo_line(f"  {machine['name']}: {trouble}")


def _task_line(task: dict[str, Any]) -> str:
    """Describe a part of the master that failed in the last five minutes."""
    if task["trouble"]:
        return f"in trouble: {task['trouble']}"
    times = task["restarts"] + task["mistakes"]
    return f"{task['name']} failed {'once' if times == 1 else f'{times} times'} lately and was started again: {task['error']}"


def _trouble(machine: dict[str, Any], node: dict[str, Any] | None, provider: str, count: int) -> str:
    """Return what is wrong with a machine that is to be on, and which commands mend it, the mildest first; empty if its node is Ready."""
    if machine["wanted"] == "Off" or (node and node["ready"] == "True" and machine["phase"] == "Ready"):
        return ""
    said = machine["message"] or ("its agent does not speak" if machine["phase"] == "Ready" else "")
    if not said or "labctl up" in said:
        return said
    name = machine["name"]
    reset = f", or `labctl fault reset {name}` boots it anew" if machine["power"] == "On" and provider != "ssh" else ""
    anew = "" if provider == "ssh" else f", or `labctl destroy {name}` and `labctl up --minions {count}` makes it anew"
    return f"{said}; labctl up tries again{reset}{anew}"


def _node_word(node: dict[str, Any] | None) -> str:
    if node is None:
        return "-"
    word = {"True": "Ready", "False": "NotReady"}.get(node["ready"], "Unknown")
    return word if node["schedulable"] else word + ",SchedulingDisabled"
