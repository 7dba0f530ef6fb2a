"""What labctl prints: words of pods, machines and other people reach a terminal as words, never as commands to it.

An Event's message may quote what a pod answered to a probe, and an escape sequence in it could rewrite what stands above, set the window's title, or fill
the clipboard (CVE-2021-25743 is kubectl's). JSON needs none of this: its encoder escapes.
"""

from __future__ import annotations

import os
import sys
import unicodedata
from contextlib import suppress

import click

from labctl.errors import LabctlError

_CARETS = {number: f"^{chr(number ^ 0x40)}" for number in (*range(0x20), 0x7F) if chr(number) not in "\n\t"}
_BAD = "\N{REPLACEMENT CHARACTER}"


def visible(text: str) -> str:
    """Return the text without characters that command a terminal or turn the direction of writing: `^[` for an escape, as kubectl shows it."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" or unicodedata.category(c) == "Zs" else _BAD for c in text.translate(_CARETS))


def one_line(text: object) -> str:
    """Return the text as one line. A line break in what others say would begin a line that looks like one of labctl's own."""
    return " ".join(visible(str(text)).splitlines())


def echo_line(text: object, *, err: bool = False) -> None:
    """Print exactly one line, whatever line breaks there are in what it quotes."""
    _write(one_line(text), err=err)


def echo(text: object = "", *, err: bool = False) -> None:
    """Print a line, as `click.echo`, with only visible characters."""
    _write(visible(str(text)), err=err)


def _write(text: str, *, err: bool) -> None:
    """Raises LabctlError if standard output takes no more, as a full disk doesn't. Nobody can be told that standard error doesn't."""
    try:
        click.echo(text, err=err)
    except BrokenPipeError:
        raise
    except OSError as error:
        if not err:
            raise LabctlError(f"standard output can't be written: {error.strerror or error}") from None


def let_go_what_nobody_takes() -> None:
    """Let go what was written to standard output or error and can't be: a full disk's, a pipe's without a reader.

    What stays in their buffers would be tried again at the interpreter's end, which then complains and has status 120.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            with suppress(OSError, ValueError):  # closed, or no file's
                nobody = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nobody, stream.fileno())
                os.close(nobody)
