"""Values of options and arguments that several commands take: a namespace, a time with its unit, a rate. What is malformed is said before anything is asked."""

from __future__ import annotations

import re

import click

_NUMBER = r"([0-9]{1,12}(?:\.[0-9]{0,12})?|\.[0-9]{1,12})"
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_SECONDS_MAX = 366 * 86_400.0


class Namespace(click.ParamType):
    """A namespace's name."""

    name = "namespace"

    def convert(self, value: object, parameter: click.Parameter | None, context: click.Context | None) -> str:
        text = str(value)
        if not re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", text):
            raise click.BadParameter(f"{text[:100]!r} is no namespace; write lower case letters, digits and '-'", context, parameter)
        return text


class Duration(click.ParamType):
    """A time with its unit: 300ms, 10s, 2m."""

    name = "duration"

    def convert(self, value: object, parameter: click.Parameter | None, context: click.Context | None) -> float:
        text = str(value)
        found = re.fullmatch(_NUMBER + "(ms|s|m|h)", text)
        if not found:
            raise click.BadParameter(f"{text[:100]!r} is no time; write 300ms, 10s or 2m", context, parameter)
        seconds = float(found[1]) * _UNITS[found[2]]
        if seconds > _SECONDS_MAX:
            raise click.BadParameter(f"{text!r} is longer than a year", context, parameter)
        return seconds


class Rate(click.ParamType):
    """Requests a second: 200, or 200/s as in an experiment's file."""

    name = "rate"

    def convert(self, value: object, parameter: click.Parameter | None, context: click.Context | None) -> float:
        text = str(value)
        found = re.fullmatch(_NUMBER + r"(\s*/\s*s)?", text)
        if not found:
            raise click.BadParameter(f"{text[:100]!r} is no rate; write 200 or 200/s", context, parameter)
        return float(found[1])
