"""This module parses Kubernetes quantities (`100m`, `1Gi`, `1e3`) exactly, compares them as numbers, and prints them as Kubernetes does.

Validation calls canonical() on every quantity of a user's body; the scheduler and the machines room ask for bytes and millicores.
Everything is cached by text, because a lab uses few different quantities and asks for them often. Errors are ValueErrors in Kubernetes' words.
"""

from __future__ import annotations

import re
from fractions import Fraction
from math import ceil, floor

from labctl.resources.cached import cached_if_short

WRONG_FORMAT = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
WRONG_SUFFIX = "unable to parse quantity's suffix"

_PATTERN = re.compile(r"([+-]?)([0-9]*)(?:\.([0-9]*))?([eEinumkKMGTP]*[-+]?[0-9]*)", re.ASCII)
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_DECIMAL_SUFFIX = {exponent: suffix for suffix, exponent in _DECIMAL.items()}
_BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_BINARY_SUFFIX = {0: "", **{exponent: suffix for suffix, exponent in _BINARY.items()}}

_LONGEST = 512  # characters; on long text the pattern's time grows with the square of the length

_MAX = 2**63 - 1  # the largest mantissa; a larger one becomes this, as in Kubernetes
_NANO = 10**9  # a billionth is the finest step of a quantity; finer values are rounded away from zero

QuantityValue = str | int | float
"""A quantity in JSON is a string or a number."""


def parse(value: QuantityValue) -> Fraction:
    """Returns the exact number. Raises ValueError in Kubernetes' words."""
    return _parse(str(value))[0]


def canonical(value: QuantityValue) -> str:
    """Returns the form that Kubernetes stores and prints: `1000m` becomes `1`, `1024Mi` becomes `1Gi`, `0.5` becomes `500m`."""
    return _canonical(str(value))


def compare(a: QuantityValue, b: QuantityValue) -> int:
    """Compares two quantities: returns -1, 0 or 1."""
    left, right = parse(a), parse(b)
    return (left > right) - (left < right)


def is_binary(value: QuantityValue) -> bool:
    """True for a quantity such as `1Gi`."""
    return _parse(str(value))[1] == "binary"


@cached_if_short(4096)
def to_int(value: QuantityValue) -> int:
    """Returns a whole number, such as bytes or pods. A fraction is rounded up, as Kubernetes' Value() does."""
    return _away_from_zero(parse(value))


@cached_if_short(4096)
def to_milli(value: QuantityValue) -> int:
    """Returns thousandths, rounded up: for a `cpu` these are millicores."""
    return _away_from_zero(parse(value) * 1000)


to_bytes = to_int
to_millicores = to_milli


def text(amount: Fraction, like: QuantityValue = "0") -> str:
    """Formats an amount as a quantity, in the format (binary or decimal) of `like`. Fractions are rounded up to thousandths."""
    if amount.denominator == 1:
        return format_bytes(amount.numerator) if is_binary(like) else canonical(str(amount.numerator))
    return canonical(f"{-(-amount.numerator * 1000 // amount.denominator)}m")


def format_bytes(count: int) -> str:
    """Formats a number of bytes as a binary quantity: `1Gi`, `512Mi`, `1000`."""
    return _print_binary(count) if abs(count) >= 1024 else str(count)


def format_millicores(count: int) -> str:
    """Formats a number of millicores as a quantity: `250m`, `2`."""
    return _print_decimal(Fraction(count, 1000), exponential=False)


@cached_if_short(4096)
def _parse(text: str) -> tuple[Fraction, str]:
    """Returns the number and its format: `decimal`, `binary` or `exponent`."""
    match = _PATTERN.fullmatch(text) if len(text) <= _LONGEST else None
    if match is None or not (match[2] or match[3]):
        raise ValueError(WRONG_FORMAT)
    sign, whole, fraction, suffix = match[1], match[2], match[3] or "", match[4]
    scale, format_ = _scale(suffix)
    amount = Fraction(int(f"{whole}{fraction}"), 10 ** len(fraction)) * scale
    amount = min(Fraction(ceil(amount * _NANO), _NANO), Fraction(_MAX))
    return (-amount if sign == "-" else amount), format_


def _scale(suffix: str) -> tuple[Fraction, str]:
    if suffix in _DECIMAL:
        return Fraction(10) ** _DECIMAL[suffix], "decimal"
    if suffix in _BINARY:
        return Fraction(2 ** _BINARY[suffix]), "binary"
    if suffix[0] in "eE" and re.fullmatch(r"[-+]?[0-9]{1,3}", suffix[1:]):
        return Fraction(10) ** int(suffix[1:]), "exponent"
    raise ValueError(WRONG_SUFFIX)


@cached_if_short(4096)
def _canonical(text: str) -> str:
    amount, format_ = _parse(text)
    # Kubernetes shows binary quantities that would lose precision, or are below 1Ki, in decimal.
    if format_ == "binary" and abs(amount) >= 1024 and amount.denominator == 1:
        return _print_binary(int(amount))
    return _print_decimal(amount, exponential=format_ == "exponent")


def _print_binary(count: int) -> str:
    exponent = 0
    while exponent < 60 and count % 1024 == 0 and count:
        count //= 1024
        exponent += 10
    return f"{count}{_BINARY_SUFFIX[exponent]}"


def _print_decimal(amount: Fraction, *, exponential: bool) -> str:
    """Prints a number with the largest suffix that needs no fraction: 1500 is `1500`, 2000 is `2k`."""
    mantissa, exponent = int(amount * _NANO), -9
    while exponent < 18 and mantissa % 1000 == 0 and mantissa:
        mantissa //= 1000
        exponent += 3
    if not mantissa:
        return "0"
    if exponential:
        return f"{mantissa}e{exponent}" if exponent else str(mantissa)
    return f"{mantissa}{_DECIMAL_SUFFIX[exponent]}"


def _away_from_zero(amount: Fraction) -> int:
    return ceil(amount) if amount >= 0 else floor(amount)
