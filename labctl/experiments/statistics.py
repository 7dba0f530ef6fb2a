"""Statistics of a few repetitions: median, spread, a bootstrap interval, the empirical distribution, and whether one sample is slower than another.

Repetitions of an experiment are few and not normally distributed, so nothing here assumes a distribution. What is drawn by lot comes from a seed: the same
values give the same interval. Only the standard library is used.

Sources: the percentile bootstrap, B. Efron and R. Tibshirani, An Introduction to the Bootstrap (1993), chapter 13; the permutation test, chapter 15.
"""

from __future__ import annotations

import itertools
import math
import random
import re
from collections.abc import Sequence
from statistics import fmean, median

import msgspec

RESAMPLES = 2_000
_EXACT_MAX = 20_000  # up to so many ways of dividing two samples, all are counted
MAX_VALUES = 10_000
_PERCENTILE = re.compile(r"p(\d{1,2}(?:\.\d)?)")


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """A sample in a few numbers. `low` and `high` bound the median with 95 % confidence; with fewer than three values there is no interval."""

    count: int
    median: float
    mean: float
    min: float
    max: float
    q1: float
    q3: float
    low: float | None
    high: float | None

    @property
    def iqr(self) -> float:
        """Return the distance between the quartiles."""
        return self.q3 - self.q1


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Two samples side by side. `difference` is the median of B less that of A, with its 95 % interval.

    `p_value` is how often chance alone would make the medians differ as much if both samples were of one kind.
    """

    count_a: int
    count_b: int
    median_a: float
    median_b: float
    difference: float
    low: float | None
    high: float | None
    p_value: float

    @property
    def shown(self) -> bool:
        """Tell whether a difference is shown: the interval excludes zero and chance explains it in fewer than 5 % of cases."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0) and self.p_value < 0.05


def known(name: str) -> bool:
    """Tell whether a name is a statistic: median, mean, min, max, or a percentile such as p95."""
    return name in ("median", "mean", "min", "max") or bool(_PERCENTILE.fullmatch(name))


def statistic(name: str, values: Sequence[float]) -> float:
    """Return that statistic of at least one value."""
    simple = {"median": median, "mean": fmean, "min": min, "max": max}
    if name in simple:
        return float(simple[name](values))  # type: ignore[operator]
    match = _PERCENTILE.fullmatch(name)
    assert match, name
    return percentile(values, float(match[1]))


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the percentile, interpolated linearly between the two nearest values."""
    ordered = sorted(values)
    place = (len(ordered) - 1) * percent / 100
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def summary(values: Sequence[float], seed: int = 0) -> Summary | None:
    """Return a sample in a few numbers, or None if there is no value."""
    if not values:
        return None
    low, high = bootstrap(values, seed)
    return Summary(
        count=len(values),
        median=median(values),
        mean=fmean(values),
        min=min(values),
        max=max(values),
        q1=percentile(values, 25),
        q3=percentile(values, 75),
        low=low,
        high=high,
    )


def bootstrap(values: Sequence[float], seed: int = 0) -> tuple[float | None, float | None]:
    """Return the 95 % percentile bootstrap interval of the median; None and None for fewer than three values, of which nothing follows."""
    if len(values) < 3:
        return None, None
    rng, values = random.Random(seed), values[:MAX_VALUES]
    medians = [median(rng.choices(values, k=len(values))) for _ in range(_resamples(len(values)))]
    return percentile(medians, 2.5), percentile(medians, 97.5)


def _resamples(count: int) -> int:
    """Return how often to draw: often for the few values of an experiment, less often for many, so that it stays below a second or two."""
    return max(200, min(RESAMPLES, 2_000_000 // count))


def distribution(values: Sequence[float]) -> list[tuple[float, float]]:
    """Return the empirical distribution as steps: each value with the share of values that are at most as large."""
    ordered = sorted(values)
    steps = {value: (index + 1) / len(ordered) for index, value in enumerate(ordered)}
    return list(steps.items())


def compare(a: Sequence[float], b: Sequence[float], seed: int = 0) -> Comparison | None:
    """Compare two samples, or return None if one of them is empty."""
    if not a or not b:
        return None
    low, high = _difference_interval(a, b, seed)
    return Comparison(
        count_a=len(a),
        count_b=len(b),
        median_a=median(a),
        median_b=median(b),
        difference=median(b) - median(a),
        low=low,
        high=high,
        p_value=permutation_p(a, b, seed),
    )


def _difference_interval(a: Sequence[float], b: Sequence[float], seed: int) -> tuple[float | None, float | None]:
    if len(a) < 3 or len(b) < 3:
        return None, None
    rng, a, b = random.Random(seed), a[:MAX_VALUES], b[:MAX_VALUES]
    drawn = [median(rng.choices(b, k=len(b))) - median(rng.choices(a, k=len(a))) for _ in range(_resamples(len(a) + len(b)))]
    return percentile(drawn, 2.5), percentile(drawn, 97.5)


def permutation_p(a: Sequence[float], b: Sequence[float], seed: int = 0) -> float:
    """Return the two-sided p-value of a permutation test on the sum of ranks (Mann-Whitney's statistic; ties share their mean rank).

    For small samples every division is counted, otherwise divisions are drawn. Two samples of three can't reach 5 %: then no difference can be shown.
    """
    a, b = a[:MAX_VALUES], b[:MAX_VALUES]
    ranks = _ranks([*a, *b])
    count = len(a)
    middle = count * (len(ranks) + 1) / 2
    seen = abs(sum(ranks[:count]) - middle) - 1e-9
    if math.comb(len(ranks), count) <= _EXACT_MAX:
        sums = [sum(chosen) for chosen in itertools.combinations(ranks, count)]
        return sum(abs(each - middle) >= seen for each in sums) / len(sums)
    rng, draws = random.Random(seed), _resamples(len(ranks))
    extreme = sum(abs(sum(rng.sample(ranks, count)) - middle) >= seen for _ in range(draws))
    return (extreme + 1) / (draws + 1)


def _ranks(values: Sequence[float]) -> list[float]:
    order = sorted(range(len(values)), key=values.__getitem__)
    ranks = [0.0] * len(values)
    start = 0
    while start < len(order):
        end = start
        while end + 1 < len(order) and values[order[end + 1]] == values[order[start]]:
            end += 1
        for place in range(start, end + 1):
            ranks[order[place]] = (start + end) / 2 + 1
        start = end + 1
    return ranks
