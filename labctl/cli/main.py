"""The `labctl` command. It imports a subcommand only when it is called, and passes kubectl's verbs to the real kubectl.

`labctl --help` answers in under 0.2 s because nothing but click is imported for it.
"""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import io
import os
import signal
import sys
from collections.abc import Iterator
from typing import Any

import click

from labctl.cli.groups import SuggestingGroup
from labctl.cli.words import echo, let_go_what_nobody_takes
from labctl.errors import ApiError, LabctlError
from labctl.lab.kubectl import VERBS

COMMANDS: dict[str, tuple[str, str]] = {
    "up": ("lifecycle", "Make the lab: machines, a master, Ready nodes."),
    "halt": ("lifecycle", "Stop machines in order; disks and objects stay."),
    "destroy": ("lifecycle", "Remove the lab and leave nothing behind."),
    "status": ("lifecycle", "Machines, nodes and the master."),
    "ssh": ("access", "A shell or a command on a machine."),
    "kubeconfig": ("access", "The path of the lab's kubeconfig."),
    "token-keys": ("access", "The keys that sign ServiceAccounts' tokens; exchange them."),
    "why": ("look", "Why a pod, controller or Service is as it is."),
    "measure": ("measure", "Send requests at a fixed rate; what became of each."),
    "trace": ("trace", "A packet to a Service, through a minion's real rules."),
    "timeline": ("timeline", "What a fault led to, step by step, in milliseconds."),
    "fault": ("fault", "Break machines, links, pods, names on purpose; heal them."),
    "dash": ("dash", "The lab in a browser, as it is now, with buttons for faults."),
    "experiment": ("experiment", "Play an experiment with faults: a hypothesis, repetitions, figures."),
    "sim": ("sim", "Run labctl on virtual time, without machines: safety under faults, and how large a lab may be."),
    "image": ("image", "Build, load, save and list container images."),
    "box": ("box", "Build, list and remove the boxes that virtual machines boot from."),
    "snapshot": ("snapshot", "Save a lab's state; start a lab from it in seconds."),
    "config": ("look", "Show each setting and where it came from."),
    "smoke": ("smoke", "Check on this machine what labctl promises; JUnit XML for CI."),
    "doctor": ("look", "Check what `up` needs, and say how to mend it."),
    "export": ("look", "Write everything about a lab into one folder, for a bug report."),
    "completion": ("look", "Print the shell completion script."),
    "version": ("look", "Print labctl's version."),
}

EPILOG = """\b
Examples:
  labctl up --minions 2
  labctl create -f nginx-rc.yml        every kubectl verb works: get, create, apply, logs, exec, ...
  labctl ssh minion-1 -- curl -s 10.247.0.10
  labctl destroy
"""


@contextlib.contextmanager
def _ended_by_interrupts() -> Iterator[None]:
    """Let Ctrl-C end the process in the block, quietly, as start.py does: an import that it interrupts may raise anything (`ssl` a TypeError)."""
    was = signal.getsignal(signal.SIGINT)
    if was is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, was)


class Group(SuggestingGroup):
    """Find commands by name and import them when they are called. A verb of kubectl's is passed to kubectl."""

    def list_commands(self, _context: click.Context) -> list[str]:
        return list(COMMANDS)

    def more_words(self) -> list[str]:
        return sorted(VERBS)

    def get_command(self, _context: click.Context, name: str) -> click.Command | None:
        if name in COMMANDS:
            with _ended_by_interrupts():
                module = importlib.import_module(f"labctl.cli.{COMMANDS[name][0]}")
            return getattr(module, name.replace("-", "_"))
        return _kubectl(name) if name in VERBS else None

    def format_commands(self, _context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])
        with formatter.section("Handed to kubectl"):
            formatter.write_text(", ".join(sorted(VERBS)))


def _words(*asked: Any) -> Any:
    from labctl.cli.complete import kubectl_words

    return kubectl_words(*asked)


class KubectlCommand(click.Command):
    """A verb of kubectl's. All words after it go to kubectl, also `--`, which click would otherwise remove."""

    def parse_args(self, context: click.Context, arguments: list[str]) -> list[str]:
        context.params["arguments"] = tuple(arguments)
        return []


def _kubectl(verb: str) -> click.Command:
    @click.command(verb, cls=KubectlCommand, add_help_option=False)
    @click.argument("arguments", nargs=-1, type=click.UNPROCESSED, shell_complete=_words)
    def hand_over(arguments: tuple[str, ...]) -> None:
        """Run kubectl with this lab's kubeconfig."""
        from labctl.lab import Lab
        from labctl.lab.kubectl import find_kubectl

        lab = Lab()
        if lab.exists and not lab.running:
            from labctl.cli.lifecycle import with_master

            _ = with_master(lab).api  # reading `api` starts a master if none runs
        environment = {**os.environ, **({"KUBECONFIG": str(lab.kubeconfig)} if lab.exists else {})}
        if not lab.exists and "KUBECONFIG" not in os.environ and not {"--help", "-h"} & set(arguments):
            _ = lab.kubeconfig  # raises LabctlError if there is no lab
        os.execve(find_kubectl(), ["kubectl", verb, *arguments], environment)

    return hand_over


@click.group(cls=Group, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]}, invoke_without_command=True)
@click.version_option(package_name="labctl", message="labctl %(version)s")
@click.pass_context
def labctl(context: click.Context) -> None:
    """A Kubernetes small enough to read, on real machines you can break."""
    if context.invoked_subcommand is None:
        echo(context.get_help())


def main(arguments: list[str] | None = None) -> None:
    """Run labctl; errors become one line on standard error and exit status 1 or 2."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if sys.stderr is sys.__stderr__ is not None:  # it is a stream of the process's own: not closed, not a caller's
        faulthandler.enable()  # an end by the interpreter's or a C library's fault says where it was; 0.1 ms
    try:
        _run(arguments)
    finally:
        let_go_what_nobody_takes()


def _run(arguments: list[str]) -> None:
    try:
        status: Any = labctl.main(arguments, prog_name="labctl", standalone_mode=False)
        sys.exit(status if isinstance(status, int) else 0)
    except click.exceptions.Abort:
        _fail("stopped", 130)
    except click.ClickException as error:
        said = io.StringIO()
        error.show(said)  # it may quote the name of a file, which its author chose
        echo(said.getvalue().rstrip("\n"), err=True)
        sys.exit(error.exit_code)
    except ApiError as error:
        _fail(f"Error from server ({error.reason}): {error.message}", 1)
    except LabctlError as error:
        _fail(str(error), error.exit_status)
    except KeyboardInterrupt:
        _fail("stopped", 130)
    except BrokenPipeError:
        sys.exit(1)
    except OSError as error:  # of this machine, as a full disk: not ours to mend
        _fail(": ".join(str(each) for each in (error.filename, error.strerror or error) if each), 1)


def _fail(text: str, status: int) -> None:
    echo(f"labctl: {text}", err=True)
    sys.exit(status)
