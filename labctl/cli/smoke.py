"""The command `smoke`: it checks on this machine that labctl does what it promises."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from labctl.cli.lifecycle import become_root, lab_options, showing
from labctl.cli.output import output_option, print_json
from labctl.cli.words import echo
from labctl.paths import make_folder, write_whole

if TYPE_CHECKING:
    from labctl.lab.smoke.report import Report


@click.command(epilog="Example: labctl smoke --minions 2 --junit smoke.xml --artifacts smoke-artifacts")
@lab_options
@click.option("--junit", type=click.Path(dir_okay=False, path_type=Path), help="write JUnit XML here, for CI")
@click.option(
    "--artifacts", type=click.Path(file_okay=False, path_type=Path), help="after a failure, everything about the lab is written here"
)
@click.option("--keep", is_flag=True, help="keep the lab that smoke made, and say where it is")
@output_option
def smoke(output: str, junit: Path | None, artifacts: Path | None, keep: bool, **flags: str) -> None:
    """Check that labctl works here: run its main scenario, break a machine and watch the lab heal. Each check is timed; the exit status is
    1 if one fails.

    In a lab, that lab is used, in a namespace of its own; one minion loses its power and is booted again. Elsewhere a lab is made
    in a temporary folder, as lab.yml here and the flags say, and destroyed afterwards.
    """
    from labctl.lab.privilege import return_ownership
    from labctl.lab.smoke.smoke import smoke as check_all

    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))  # a cancelled CI job still cleans up
    with showing(**flags) as lab:
        become_root(lab)
        report = check_all(lab, keep=keep, artifacts=artifacts)
    if junit:
        _write_junit(report, junit)
    return_ownership(lab, *(path for path in (junit, artifacts) if path))
    if output == "json":
        from labctl.lab.smoke.report import as_data

        print_json(as_data(report))
    else:
        _print_report(report, keep)
    sys.exit(0 if report.passed else 1)


def _write_junit(report: Report, path: Path) -> None:
    from labctl.lab.smoke.report import as_junit

    make_folder(path.parent)
    write_whole(path, as_junit(report).encode())


def _print_report(report: Report, keep: bool) -> None:
    from labctl.lab.smoke.report import FAILED, PASSED, SKIPPED

    skipped = f", {report.count(SKIPPED)} skipped" if report.count(SKIPPED) else ""
    echo(f"{report.count(PASSED)} passed, {report.count(FAILED)} failed{skipped} in {report.took_s:.1f} s")
    if report.artifacts:
        echo(f"Logs and objects for finding the cause: {report.artifacts}")
    if keep:
        echo(f"The lab is still there: cd {report.facts.get('folder', '')}")
