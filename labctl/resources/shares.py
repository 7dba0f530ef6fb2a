"""An IntOrString that counts pods or nodes: a number, or a percentage of how many there are, as rolling updates and disruption budgets have it."""

from __future__ import annotations

import re

_PERCENT = re.compile(r"[0-9]{1,9}%")
WRONG_PERCENT = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')"


def is_percent(text: str) -> bool:
    """Tell whether the text is a percentage. Kubernetes' pattern takes any number of digits, and fails later on those that are no int."""
    return _PERCENT.fullmatch(text) is not None


def percent(text: str) -> int:
    """Return the number before the sign. What is no percentage counts as 0: an object may have been stored before it was refused."""
    return int(text[:-1]) if is_percent(text) else 0


def share(value: int | str, of: int, *, up: bool = True) -> int:
    """Return a number as it is, and a percentage of `of` rounded up or down."""
    if isinstance(value, int):
        return value
    return -(-percent(value) * of // 100) if up else percent(value) * of // 100
