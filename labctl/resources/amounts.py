"""Amounts with a unit, as people write them in Faults: `1m30s`, `50ms`, `10%`, `1mbit`. Each function raises ValueError with what is expected instead."""

from __future__ import annotations

import re

_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|us|µs|s|m|h))+")
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|us|µs|s|m|h)")
_SECONDS = {"us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_RATE = re.compile(r"(\d+(?:\.\d+)?)(bit|kbit|mbit|gbit)")
_BITS = {"bit": 1.0, "kbit": 1e3, "mbit": 1e6, "gbit": 1e9}
_SHARE = re.compile(r"(\d+(?:\.\d+)?)%")
_LENGTH_MAX = 40


def duration(text: str) -> float:
    """Returns seconds: `30s`, `50ms`, `1m30s`. It takes what Go's time.ParseDuration takes, without signs and nanoseconds."""
    if len(text) > _LENGTH_MAX or not _DURATION.fullmatch(text):
        raise ValueError('must be a duration with its unit, such as "50ms", "30s" or "1m30s"')
    return sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(text))


def share(text: str) -> float:
    """Returns a share between 0 and 1: `10%` is 0.1. Zero is refused."""
    found = _SHARE.fullmatch(text) if len(text) <= _LENGTH_MAX else None
    if found is None or not 0 < float(found[1]) <= 100:
        raise ValueError('must be a share in percent, greater than 0 and at most 100, such as "10%"')
    return float(found[1]) / 100


def rate(text: str) -> float:
    """Returns bits per second: `1mbit` is 1,000,000, as tc has it."""
    found = _RATE.fullmatch(text) if len(text) <= _LENGTH_MAX else None
    if found is None or float(found[1]) * _BITS[found[2]] < 1000:
        raise ValueError('must be a rate with its unit, at least 1kbit, such as "500kbit" or "1mbit"')
    return float(found[1]) * _BITS[found[2]]
