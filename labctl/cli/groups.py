"""A group of commands that says which command may have been meant, when one is not there."""

from __future__ import annotations

import difflib

import click


class SuggestingGroup(click.Group):
    """Its `list_commands` names what it may suggest; `more_words` are commands that are not listed there."""

    def more_words(self) -> list[str]:
        return []

    def resolve_command(self, context: click.Context, arguments: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(context, arguments)
        except click.UsageError as error:
            close = difflib.get_close_matches(arguments[0], [*self.list_commands(context), *self.more_words()], 1)
            if not close:
                raise
            raise click.UsageError(f"{error.message.rstrip('.')}: did you mean {close[0]}?", context) from None
