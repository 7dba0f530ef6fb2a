"""This module checks the keys and values of labels, with Kubernetes' messages. Its functions return the errors; an empty tuple means that there is none.

The kinds' validation and the parser of selectors call it.
"""

from __future__ import annotations

import re

from labctl.resources.cached import cached_if_short

_NAME = r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_VALUE = f"({_NAME})?"
_SUBDOMAIN = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
_MAX = 63
_MAX_PREFIX = 253

_NAME_WORDS = (
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character "
    f"(e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '{_NAME}')"
)
_VALUE_WORDS = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', "
    "and must start and end with an alphanumeric character "
    f"(e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '{_VALUE}')"
)
_SUBDOMAIN_WORDS = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', "
    f"and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '{_SUBDOMAIN}')"
)


@cached_if_short(4096)
def key_errors(key: str) -> tuple[str, ...]:
    """Returns the errors of a label's or annotation's key, which has the form `[prefix/]name`."""
    parts = key.split("/")
    if len(parts) > 2:
        return (f"a qualified name {_NAME_WORDS} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')",)
    errors = []
    if len(parts) == 2:
        errors += _prefix_errors(parts[0])
    name = parts[-1]
    if not name:
        errors.append("name part must be non-empty")
    elif len(name) > _MAX:
        errors.append(f"name part must be no more than {_MAX} bytes")
    if not re.fullmatch(_NAME, name, re.ASCII):
        errors.append(f"name part {_NAME_WORDS}")
    return tuple(errors)


@cached_if_short(4096)
def value_errors(value: str) -> tuple[str, ...]:
    """Returns the errors of a label's value."""
    errors = []
    if len(value) > _MAX:
        errors.append(f"must be no more than {_MAX} bytes")
    if not re.fullmatch(_VALUE, value, re.ASCII):
        errors.append(_VALUE_WORDS)
    return tuple(errors)


def _prefix_errors(prefix: str) -> list[str]:
    if not prefix:
        return ["prefix part must be non-empty"]
    errors = []
    if len(prefix) > _MAX_PREFIX:
        errors.append(f"prefix part must be no more than {_MAX_PREFIX} bytes")
    if not re.fullmatch(_SUBDOMAIN, prefix, re.ASCII):
        errors.append(f"prefix part {_SUBDOMAIN_WORDS}")
    return errors
