"""A hypothesis is judged on the repetitions that count; what did not happen is on no side of a bound."""

import pytest

from labctl.experiments.hypothesis import judge, parse
from tests.experiments.results import run


def verdict(text, outages):
    return judge(parse(text), {}, [run(number, outage_s=outage) for number, outage in enumerate(outages, 1)])


@pytest.mark.parametrize(
    "text, holds, measured",
    [
        ("outage < 0.5 s", True, 0.2),
        ("outage < 150ms", False, 200),
        ("max of outage <= 0.3 s", True, 0.3),
        ("min of outage > 0.2 s", False, 0.1),
        ("p95 of outage < 0.3 s", True, 0.29),
        ("failed == 10", True, 10),
        ("mean of outage >= 200000 us", True, 200_000),
    ],
)
def test_thresholds(text, holds, measured):
    found = verdict(text, [0.1, 0.2, 0.3])
    assert (found.holds, found.measured) == (holds, pytest.approx(measured)), found


def test_a_service_that_never_answered_again_is_below_no_bound():
    found = verdict("outage < 0.5 s", [0.1, None, 0.1])
    assert not found.holds and found.measured == pytest.approx(0.1)
    assert found.why == (
        "in 1 of 3 repetitions there is no outage: the service was not seen to recover within the load (10 of 200 requests failed);"
        " a longer `duration` watches longer"
    )
    assert not verdict("outage > 0.5 s", [None]).holds


def test_without_a_repetition_that_counts_nothing_holds():
    assert verdict("failed == 0", []).why == "no repetition counts"


@pytest.mark.parametrize(
    "text",
    ["", "outage", "outage < ", "outage < -1 s", "outage < 1e3 s", "outage << 1 s", "outage < 1 s; rm", "outage < inf s", "x" * 5000],
)
def test_what_is_no_hypothesis_is_refused(text):
    with pytest.raises(ValueError, match="is no hypothesis|unknown figure"):
        parse(text)
