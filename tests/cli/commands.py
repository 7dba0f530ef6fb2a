"""Reading the `labctl` command lines out of documents, shell scripts and help texts, and parsing them without carrying them out."""

import os
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path

import click

from labctl.cli.main import VERBS, labctl
from labctl.lab.settings import BY_NAME, OPTIONS, compose

_OPERATORS = {"&&", "||", ";", "|", "&", "(", ")", "{", "}"}
_PREFIXES = {"if", "then", "else", "do", "!", "sudo", "env", "time", "while", "until", "exec"}
_PLACES = ("LABCTL_STATE_HOME", "LABCTL_CACHE_HOME", "LABCTL_LAB_HOME")


def variables() -> set[str]:
    """Every environment variable that labctl reads as a setting."""
    return {name for option in OPTIONS for name in option.environment} | set(_PLACES)


def in_script(script: str) -> Iterator[list[str]]:
    """The simple commands of a shell script that call labctl, each as its words, `labctl` first."""
    script = re.sub(r"\\\n", " ", script)
    for inner in re.findall(r"\$\(([^()]*)\)", script):
        yield from in_script(inner)
    for line in script.splitlines():
        lexer = shlex.shlex(re.sub(r"\$\([^()]*\)", "x", line), posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        lexer.commenters = "#"
        command: list[str] = []
        for word in [*lexer, ";"]:
            if word in _OPERATORS:
                yield from _call(command)
                command = []
            else:
                command.append(word)


def _call(command: list[str]) -> Iterator[list[str]]:
    words = list(command)
    while words and (words[0] in _PREFIXES or words[0].startswith("--preserve-env") or re.match(r"^\w*=|^PATH=", words[0])):
        words.pop(0)
    if words and words[0] == "labctl":
        yield words[: next((i for i, word in enumerate(words) if word.startswith((">", "<"))), None)]


def check(words: list[str], folder: Path, environment: Mapping[str, str] | None = None) -> None:
    """Parse one command line as labctl would; files that it names exist in `folder`. Raises what labctl would say."""
    for word in words[1:]:
        if "/" not in word and word.endswith((".tar", ".yml", ".yaml")):
            (folder / word).touch()
    before = Path.cwd()
    os.chdir(folder)
    try:
        _parse(labctl, "labctl", words[1:])
    finally:
        os.chdir(before)
    flags = {name: value for name, value in _flags(words) if name in BY_NAME and "$" not in value}
    compose(flags, environment or {}, None, {})


def _parse(command: click.Command, name: str, arguments: list[str]) -> None:
    if arguments and arguments[0] in VERBS and command is labctl:
        return  # kubectl's own words
    context = command.make_context(name, arguments.copy(), resilient_parsing=False)
    if isinstance(command, click.Group):
        rest = [*context._protected_args, *context.args]
        found, inner, rest = command.resolve_command(context, rest)
        assert inner is not None
        _parse(inner, found or "", rest)


def _flags(words: list[str]) -> Iterator[tuple[str, str]]:
    for word, after in zip(words, [*words[1:], ""], strict=True):
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            value = value if equals else after
            yield name.replace("-", "_"), "true" if not value or value.startswith("-") else value
