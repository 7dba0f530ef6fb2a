"""Printing: tables and progress for people, JSON for programs, plain lines if the output is no terminal."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import click

from labctl.cli.words import echo, one_line, visible
from labctl.lab.progress import Step

Command = Callable[..., Any]


def output_option(command: Command) -> Command:
    """Add `-o json`, which every command that prints data has."""
    return click.option(
        "-o", "--output", type=click.Choice(["table", "json"]), default="table", help="table for people, json for programs"
    )(command)


def many(count: int, what: str) -> str:
    """Return a count with its noun, such as `1 node` or `2 nodes`."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def print_json(value: Any) -> None:
    echo(json.dumps(value, indent=2, default=str))


def print_table(headings: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print columns as kubectl does: three spaces apart, without lines."""
    table = [list(headings), *[[one_line(cell) for cell in row] for row in rows]]
    widths = [max(len(row[i]) for row in table) for i in range(len(headings))]
    for row in table:
        echo("   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


class Steps:
    """Print progress on standard error: a line for each step and for each note, with the seconds since the step began."""

    def __init__(self, *, quiet: bool = False) -> None:
        from rich.console import Console

        class Progress(Console):
            def on_broken_pipe(self) -> None:
                self.quiet = True  # rich would end the process

        self._console = Progress(stderr=True, highlight=False, soft_wrap=True)
        self._quiet = quiet
        self._status: Any = None
        self._open: dict[str, str] = {}

    def __call__(self, step: Step) -> None:
        """Show a step. What can't be shown is not: the work goes on when nobody reads its progress any longer, or the disk is full that takes it."""
        if not self._quiet:
            with suppress(OSError):
                self._print(step)

    def _print(self, step: Step) -> None:
        step = Step(visible(step.name), step.state, step.took_s, visible(step.note))
        if step.state in ("begun", "note"):
            self._open[step.name] = step.note
            self._show()
            if step.note and not self._console.is_terminal:
                self._console.print(f"   {step.name}: {step.note}", markup=False)
            return
        said = self._open.pop(step.name, None)
        mark, style = ("✓", "green") if step.state == "done" else ("✗", "red")
        fresh = step.note and (self._console.is_terminal or step.note != said)
        note = f"  [dim]{_escape(step.note)}[/dim]" if fresh else ""
        self._console.print(f" [{style}]{mark}[/{style}] {_escape(step.name)} [cyan]{step.took_s:.2f} s[/cyan]{note}")
        self._show()

    def _show(self) -> None:
        if not self._console.is_terminal:
            return
        text = ", ".join(_escape(f"{name} ({note})" if note else name) for name, note in self._open.items())
        if not text:
            if self._status:
                self._status.stop()
                self._status = None
        elif self._status:
            self._status.update(text)
        else:
            self._status = self._console.status(text)
            self._status.start()

    def close(self) -> None:
        """Remove the line that shows the steps in progress."""
        if self._status:
            with suppress(OSError):
                self._status.stop()


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(text)
