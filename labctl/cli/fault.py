"""The command `fault`: it breaks things on purpose, lists what is broken, and heals it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import click

from labctl.cli.complete import minions
from labctl.cli.groups import SuggestingGroup
from labctl.cli.lifecycle import become_root, with_master
from labctl.cli.output import many, output_option, print_json, print_table
from labctl.cli.words import echo, echo_line
from labctl.errors import LabctlError, UsageError
from labctl.lab import Lab

FAULTS = {  # what also works without a master: the fault's name in faults/machines.py, which is not imported before it is needed
    "power-off": "power_off",
    "reset": "reset",
    "pause": "pause",
    "resume": "resume",
    "cut": "cut",
    "restore": "restore",
}
HEALERS = {"resume": "pause", "restore": "cut"}
EPILOG = """\b
Examples:
  labctl fault power-off minion-1
  labctl fault cut minion-1 --to minion-2 --for 30s
  labctl fault loss minion-1 -p share=10% --direction in
  labctl fault api-refuse client/labctl-admin -p code=503
  labctl fault list
  labctl fault heal --all
"""


class FaultGroup(SuggestingGroup):
    """Its commands are the types of faults, besides list and heal."""

    def list_commands(self, _context: click.Context) -> list[str]:
        from labctl.resources.faulttypes import TYPES

        return ["list", "heal", *HEALERS, *TYPES]

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        from labctl.resources.faulttypes import TYPES

        if name in HEALERS:
            return _healer(name)
        return _injector(name) if name in TYPES else super().get_command(context, name)

    def format_commands(self, _context: click.Context, formatter: click.HelpFormatter) -> None:
        from labctl.resources.faulttypes import TYPES

        with formatter.section("Types"):
            formatter.write_dl([(name, each.summary) for name, each in TYPES.items()])
        with formatter.section("Commands"):
            formatter.write_dl([(name, self.get_command(_context, name).get_short_help_str(90)) for name in ("list", "heal", *HEALERS)])  # type: ignore[union-attr]


@click.group(cls=FaultGroup, epilog=EPILOG, subcommand_metavar="TYPE TARGET [OPTIONS] | list | heal")
def fault() -> None:
    """Break something on purpose. It happens at once, and Kubernetes is not told.

    The lab's master heals it after the time of --for, also when this command was ended. Without --for it lasts until `labctl fault heal`.
    docs/faults.md says what each type does.
    """


def _injector(type_: str) -> click.Command:
    from labctl.resources.faulttypes import TYPES

    known = TYPES[type_]
    parameters = ", ".join(f"{name}{' (needed)' if each.required else ''}" for name, each in known.parameters.items())
    words = known.summary + (f" Parameters: {parameters}." if parameters else "")

    @click.command(type_, help=words, epilog=f"Example: labctl fault {type_} {known.example}")
    @click.argument("target", shell_complete=minions)
    @click.option(
        "--for",
        "duration",
        default="",
        metavar="TIME",
        help="heal it after this time, such as 30s; without it, it lasts until it is healed",
    )
    @click.option("--to", "peer", default="", metavar="PEER", help="of a link: only to this machine, or to the master")
    @click.option(
        "--direction", default="", type=click.Choice(["", "both", "in", "out"]), help="of a link: to (in) or from (out) the target"
    )
    @click.option("-p", "parameters", multiple=True, metavar="KEY=VALUE", help="a parameter with its unit, such as share=10%")
    @click.option("--wait", is_flag=True, help="return when it is healed; Ctrl-C heals it")
    @output_option
    def inject(target: str, wait: bool, output: str, parameters: tuple[str, ...], **how: str) -> None:
        given = _pairs(parameters)
        _check(type_, target, given, **how)
        lab = Lab()
        if type_ in FAULTS and not (wait or parameters or any(how.values())) and not lab.answers():
            become_root(lab)
            lab.fault(FAULTS[type_], target)
            return
        _inject(with_master(lab), type_, target, wait=wait, output=output, parameters=given, **how)

    return inject


_OPTIONS = {"target": "TARGET", "peer": "--to", "direction": "--direction", "duration": "--for"}


def _check(type_: str, target: str, parameters: Mapping[str, str], duration: str, peer: str, direction: str) -> None:
    """Raise UsageError for what no lab would take as a fault, in the words of the command line, before any lab is asked."""
    from labctl.resources.faulttypes import TYPES
    from labctl.resources.kinds.labctl_internal_v1.fault import validate

    spec = {"type": type_, "target": target, "peer": peer, "direction": direction, "duration": duration, "parameters": dict(parameters)}
    for error in validate({"spec": {name: value for name, value in spec.items() if value}}, None):
        field = error.field.removeprefix("spec.")
        name = field.removeprefix("parameters").strip("[]")
        word = _OPTIONS.get(field) or (f"-p {name}" if name else "-p")
        raise UsageError(f"{type_}: {word}: {error.message}", mend=f"labctl fault {type_} {TYPES[type_].example}")


def _inject(lab: Lab, type_: str, target: str, *, wait: bool, output: str, **how: Any) -> None:
    from labctl.lab.faults import ENDED, LabFaults

    faults = LabFaults(lab)
    if (type_, target) == ("kill-process", "master") and how["parameters"].get("process", "master") == "master":
        _kill_master(faults, type_, target, how)
        return
    made = faults.inject(type_, target, **how)
    name = made["metadata"]["name"]
    if output == "table":
        until = f"; it is healed after {how['duration']}" if how["duration"] else ""
        echo_line(f"{name}: {'; '.join(made['status'].get('done', ()))}{until}")
    if wait:
        try:
            made = faults.wait(name, lambda phase: phase in ENDED, 0)
        except KeyboardInterrupt:
            made = faults.heal([name])[0]
        if output == "table":
            echo_line(f"{name}: {made['status']['phase']}: {made['status'].get('message', '')}")
    if output == "json":
        print_json(made)


def _kill_master(faults: Any, type_: str, target: str, how: Any) -> None:
    """Kill the master, and print what follows. It can't answer any more; it reports the fault when it is started again."""
    try:
        faults.inject(type_, target, **how)
    except LabctlError as error:
        if "does not answer" not in str(error):
            raise
    echo("the master was killed; the next command of labctl that needs it starts it again")


def _healer(name: str) -> click.Command:
    what = {"resume": "Let a paused machine continue.", "restore": "Restore a machine's network after a cut."}[name]

    @click.command(name, help=f"{what} Faults of type {HEALERS[name]} on it are healed.", epilog=f"Example: labctl fault {name} minion-1")
    @click.argument("minion", shell_complete=minions)
    def heal_machine(minion: str) -> None:
        lab = Lab()
        become_root(lab)
        if lab.answers():
            from labctl.lab.faults import LabFaults

            faults = LabFaults(lab)
            faults.heal(faults.unfinished(HEALERS[name], minion))
        lab.fault(FAULTS[name], minion)

    return heal_machine


@fault.command("list", epilog="Example: labctl fault list -o json")
@output_option
def list_(output: str) -> None:
    """List the faults: those at work, and the last ones that are over."""
    from labctl.lab.faults import LabFaults

    lab = with_master(Lab())
    if output == "json":
        print_json(LabFaults(lab).all())
        return
    rows = [_row(each) for each in LabFaults(lab).all()]
    print_table(("NAME", "TYPE", "TARGET", "PEER", "DIRECTION", "PHASE", "DURATION", "MESSAGE"), rows)


def _row(made: dict[str, Any]) -> tuple[str, ...]:
    """Return a line of the list. It is read without kubectl, which would ask more of an API that may be refusing it."""
    spec, status = made["spec"], made.get("status", {})
    message = status.get("message") or "; ".join(status.get("done", ()))
    words = (spec["type"], spec["target"], spec.get("peer"), spec.get("direction"), status.get("phase") or "Pending", spec.get("duration"))
    return (made["metadata"]["name"], *(word or "-" for word in words), message or "-")


@fault.command(epilog="Example: labctl fault heal --all")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--all", "all_", is_flag=True, help="heal all faults that are at work")
def heal(names: tuple[str, ...], all_: bool) -> None:
    """Heal faults now, and return when what they broke is whole again."""
    from labctl.lab.faults import LabFaults

    if bool(names) == all_:
        raise UsageError("name the faults to heal, or say --all")
    faults = LabFaults(with_master(Lab()))
    healed = faults.heal(names or faults.unfinished())
    for one in healed:
        echo_line(f"{one['metadata']['name']}: {one['status']['phase']}: {one['status'].get('message', '')}")
    if not healed:
        echo("no fault is at work")
    failed = [one for one in healed if one["status"]["phase"] == "Failed"]
    if failed:
        echo(f"labctl: {many(len(failed), 'fault')} failed", err=True)
        sys.exit(1)


def _pairs(words: tuple[str, ...]) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not key or not equals or key in pairs:
            raise UsageError(f"-p {word}: write a parameter once, as KEY=VALUE")
        pairs[key] = value
    return pairs
