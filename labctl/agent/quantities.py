"""Kubernetes quantities (100m, 1Gi, 2e3) as exact numbers."""

from __future__ import annotations

import math
import re
from fractions import Fraction
from typing import Any, Dict, Sequence, Union

_SUFFIX: Dict[str, Union[int, Fraction]] = {
    "": 1, "n": Fraction(1, 10**9), "u": Fraction(1, 10**6), "m": Fraction(1, 1000), "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15, "E": 10**18,
    "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50, "Ei": 2**60,
}  # fmt: skip
_SHAPE = re.compile(r"([+-]?[0-9.]+(?:[eE][+-]?[0-9]+)?)([A-Za-z]*)")


def parse(text: Any) -> Fraction:
    """Parse a quantity; nothing is 0. Raises ValueError."""
    if text in (None, ""):
        return Fraction(0)
    match = _SHAPE.fullmatch(str(text).strip())
    if match is None or match[2] not in _SUFFIX:
        raise ValueError(f"{text!r} is no quantity")
    return Fraction(match[1]) * _SUFFIX[match[2]]


def whole(text: Any) -> int:
    """Rounded up, as the kubelet rounds."""
    return math.ceil(parse(text))


def milli(text: Any) -> int:
    return math.ceil(parse(text) * 1000)


def summed(texts: Sequence[str]) -> str:
    """Return the sum of whole quantities in the largest unit that shows it exactly: in powers of 1024 if one of them is."""
    total, step = sum(whole(text) for text in texts), 1024 if any(text.endswith("i") for text in texts) else 1000
    for count, unit in reversed(list(enumerate(("Ki", "Mi", "Gi", "Ti") if step == 1024 else ("k", "M", "G", "T"), 1))):
        if total and total % step**count == 0:
            return f"{total // step**count}{unit}"
    return str(total)
