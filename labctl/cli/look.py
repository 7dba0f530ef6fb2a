"""The commands that show something and change nothing: why, config, doctor, export, completion, version."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import click

from labctl import __version__
from labctl.cli.complete import minions, objects
from labctl.cli.lifecycle import become_root, with_master
from labctl.cli.output import Steps, output_option, print_json, print_table
from labctl.cli.quantities import Namespace
from labctl.cli.words import echo, echo_line
from labctl.errors import LabctlError, UsageError
from labctl.lab import Lab


@click.command(
    epilog="""\b
Examples:
  labctl why pod/nginx-controller-3qyv2
  labctl why pod/nginx-controller-3qyv2 --not-on minion-2
  labctl why svc/web-service
  labctl why machine/minion-1
"""
)
@click.argument("what", metavar="pod/NAME|rc/NAME|svc/NAME|node/NAME|machine/NAME|fault/NAME", shell_complete=objects)
@click.option("-n", "--namespace", type=Namespace(), default="default", help="the object's namespace")
@click.option("--not-on", default="", metavar="NODE", shell_complete=minions, help="say why a pod is not on this node")
@output_option
def why(what: str, namespace: str, not_on: str, output: str) -> None:
    """Explain an object's state: where a pod runs, why it is pending or was killed, why a Service has no endpoints, what a fault did.

    With --not-on: why a pod is not where one wanted it.
    """
    lines = with_master(Lab()).why(what, namespace, not_on=not_on)
    if output == "json":
        print_json({"object": what, "namespace": namespace, "lines": lines})
        return
    for line in lines:
        echo_line(line)


@click.command(epilog="Example: labctl config -o json")
@output_option
def config(output: str) -> None:
    """Show each setting, its value and its source: a flag, the environment, lab.yml, this lab, or the default."""
    settings = Lab().settings.items()
    if output == "json":
        print_json({option.name: {"value": s.value, "source": s.source, "help": option.help} for option, s in settings})
        return
    print_table(("SETTING", "VALUE", "SOURCE", "WHAT"), [(o.name, s.value, s.source, o.help) for o, s in settings])


@click.command(epilog="Example: labctl doctor -o json")
@click.option("--store", is_flag=True, help="check each row of the lab's store instead; the master must be halted")
@click.option(
    "--keep-whole-rows", is_flag=True, help="with --store: make a new store from the undamaged rows; the damaged file stays beside it"
)
@output_option
def doctor(store: bool, keep_whole_rows: bool, output: str) -> None:
    """Check everything that `up` needs. The exit status is 1 if something is missing."""
    from labctl.lab.doctor import doctor as look

    if keep_whole_rows and not store:
        raise UsageError("--keep-whole-rows goes with --store")
    lab = Lab()
    with contextlib.suppress(LabctlError):  # the checks report what is wrong in the settings
        become_root(lab, if_possible=True)
    if store:
        from labctl.lab.doctor_store import doctor_store, keep_undamaged_rows

        checks = keep_undamaged_rows(lab) if keep_whole_rows else doctor_store(lab)
    else:
        checks = look(lab)
    if output == "json":
        print_json([{"name": c.name, "level": c.level, "found": c.found, "mend": c.mend} for c in checks])
    else:
        marks = {"ok": "✓", "warning": "!", "error": "✗"}
        for check in checks:
            mend = f"   mend: {check.mend}" if check.mend else ""
            echo_line(f" {marks[check.level]} {check.name}: {check.found}{mend}")
    if any(check.level == "error" for check in checks):
        sys.exit(1)


@click.command(epilog="Example: labctl export ./bug-report")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
def export(folder: Path) -> None:
    """Write objects, logs, journal, rules and facts of every machine into one new folder. The data of Secrets is left out."""
    from labctl.lab.export import export as collect

    steps = Steps()
    try:
        echo(str(collect(Lab(progress=steps), folder)))
    finally:
        steps.close()


@click.command(epilog='Example: eval "$(labctl completion bash)"')
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the shell's completion script."""
    from click.shell_completion import get_completion_class

    from labctl.cli.main import labctl

    kind = get_completion_class(shell)
    assert kind is not None
    echo(kind(labctl, {}, "labctl", "_LABCTL_COMPLETE").source())


@click.command(epilog="Example: labctl version -o json")
@output_option
def version(output: str) -> None:
    """Print labctl's version."""
    print_json({"labctl": __version__}) if output == "json" else echo(f"labctl {__version__}")
