"""Clocks of machines are compared as NTP does; the error that is told is never smaller than the real one."""

import random

from hypothesis import given
from hypothesis import strategies as st

from labctl.measure.clocks import ClockComparison


def test_a_shared_clock_needs_no_comparison():
    clock = ClockComparison(same=True)
    clock.add(1.0, 500.0, 2.0)
    assert (clock.offset_s(500.0), clock.uncertainty_s) == (0.0, 0.0)


def test_the_reading_with_the_shortest_trip_counts():
    clock = ClockComparison()
    clock.add(10.0, 110.9, 11.0)  # a slow answer, most of whose trip was the way there
    clock.add(20.0, 120.0005, 20.001)
    assert clock.offset_s(115.0) == 20.0005 - 120.0005
    assert abs(clock.uncertainty_s - (0.0005 + 9.1005 * 500e-6)) < 1e-9  # what the clock may drift in the time without a good reading


@given(st.integers(0, 2**32), st.floats(-1e6, 1e6), st.floats(-2e-4, 2e-4))
def test_the_error_is_within_what_is_told(seed, ahead_s, drift):
    """The other clock runs `drift` too fast, and each way of each question takes its own time."""
    rng = random.Random(seed)
    clock, true_s = ClockComparison(), lambda ours_s: ours_s + ahead_s + drift * ours_s
    for second in range(20):
        asked_s = 1e6 + second * 0.5 + rng.random() * 0.1
        there_at = asked_s + rng.expovariate(1 / 0.0003)
        answered_s = there_at + rng.expovariate(1 / 0.0003)
        clock.add(asked_s, true_s(there_at), answered_s)
    for _ in range(20):
        ours_s = 1e6 + rng.random() * 9.5
        there_s = true_s(ours_s)
        assert abs(there_s + clock.offset_s(there_s) - ours_s) <= clock.uncertainty_s + 1e-4 + 1e-6  # an answer just after the last reading


def test_a_clock_that_stood_still_is_told_as_uncertain():
    """A paused virtual machine: its clock is behind afterwards by as long as it was paused."""
    clock = ClockComparison()
    for second in range(10):
        behind_s = 3.0 if second >= 5 else 0.0
        clock.add(100.0 + second, 100.0 + second - behind_s, 100.0 + second + 0.001)
    assert clock.uncertainty_s > 2.9
    assert abs(clock.offset_s(101.5) - 0.0) < 0.01 and abs(clock.offset_s(105.5) - 3.0) < 0.01
