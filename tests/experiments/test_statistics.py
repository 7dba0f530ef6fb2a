"""Statistics: known values, seeds, intervals that cover what they should, and no difference where none is shown."""

import random
import time
from statistics import median

import pytest

from labctl.experiments import statistics


def test_a_summary_of_known_values():
    found = statistics.summary([5, 1, 3, 2, 4])
    assert (found.count, found.median, found.mean, found.min, found.max, found.q1, found.q3, found.iqr) == (5, 3, 3, 1, 5, 2, 4, 2)
    assert 1 <= found.low <= 3 <= found.high <= 5


def test_nothing_follows_from_two_values():
    assert statistics.bootstrap([1.0, 2.0]) == (None, None)
    assert statistics.summary([]) is None
    assert statistics.compare([1, 2], [5, 6]).shown is False


@pytest.mark.parametrize(
    "name, value", [("median", 2.5), ("mean", 2.5), ("min", 1), ("max", 4), ("p50", 2.5), ("p100", None), ("p95", 3.85), ("p0", 1)]
)
def test_statistics_by_name(name, value):
    assert statistics.known(name) == (value is not None)
    if value is not None:
        assert statistics.statistic(name, [4, 3, 2, 1]) == pytest.approx(value)


def test_a_seed_gives_the_same_interval():
    rng = random.Random(1)
    values = [rng.gauss(1, 0.2) for _ in range(10)]
    assert statistics.bootstrap(values, 7) == statistics.bootstrap(values, 7) != statistics.bootstrap(values, 8)


def test_the_interval_covers_the_true_median_about_95_times_in_100():
    rng = random.Random(3)
    covered = 0
    for seed in range(200):
        low, high = statistics.bootstrap([rng.expovariate(1.0) for _ in range(20)], seed)
        covered += low <= 0.693 <= high
    assert 0.88 <= covered / 200 <= 0.99


def test_ranks_exactly_as_tables_say():
    # Mann-Whitney, 5 and 5, complete separation: 2 of 252 divisions
    assert statistics.permutation_p([1, 2, 3, 4, 5], [6, 7, 8, 9, 10]) == pytest.approx(2 / 252)
    assert statistics.permutation_p([1, 1, 1], [1, 1, 1]) == 1.0
    assert statistics.permutation_p([1, 2, 3], [4, 5, 6]) == pytest.approx(0.1)  # so three against three show nothing


def test_a_slower_sample_is_shown_and_an_equal_one_is_not():
    rng = random.Random(5)
    a = [rng.gauss(0.3, 0.03) for _ in range(12)]
    same = [rng.gauss(0.3, 0.03) for _ in range(12)]
    slower = [rng.gauss(0.5, 0.03) for _ in range(12)]
    found = statistics.compare(a, slower)
    assert found.shown and found.low > 0.1 and found.difference == pytest.approx(median(slower) - median(a)) and found.high < 0.3
    assert not statistics.compare(a, same).shown
    assert statistics.compare(slower, a).high < 0


def test_chance_alone_is_called_a_difference_at_most_once_in_twenty():
    rng = random.Random(9)
    shown = sum(statistics.compare([rng.random() for _ in range(8)], [rng.random() for _ in range(8)], n).shown for n in range(60))
    assert shown <= 6


def test_the_empirical_distribution():
    assert statistics.distribution([3, 1, 1, 2]) == [(1, 0.5), (2, 0.75), (3, 1.0)]
    assert statistics.distribution([]) == []


def test_many_values_take_bounded_time():
    rng = random.Random(1)
    values = [rng.random() for _ in range(20_000)]
    began = time.monotonic()
    statistics.summary(values)
    statistics.compare(values, values)
    assert time.monotonic() - began < 20
