"""The figures of a measurement, and its seconds while it runs."""

import msgspec
import pytest

from labctl.measure.live import MAX_TICKS, LiveMeasurements, Tick, source_tick
from labctl.measure.records import Measurement, Request, Source
from labctl.measure.summary import percentile, summaries


def request(at_s: float, outcome: str = "ok", took_s: float = 0.01, late_s: float = 0.0, pod: str = "web-1") -> Request:
    started = 0.0 if outcome == "unsent" else at_s + late_s
    return Request("minion-1", at_s, outcome, started, 0.0, 0.0, at_s + late_s + took_s, answered_by=pod if outcome == "ok" else "")


def measured(*requests: Request, began_s: float = 100.0) -> Measurement:
    return Measurement("web", 10.0, "http", False, began_s, 110.0, 0.0, (Source("minion-1"), Source("minion-2")), requests)


def test_each_source_has_its_figures_and_silence_counts_until_the_end():
    good = [request(100 + n / 10) for n in range(10)]
    bad = [request(101 + n / 10, "timeout", took_s=2.0) for n in range(5)] + [request(101.5, "unsent"), request(101.6, "reset")]
    back = [request(104.0, pod="web-2"), request(104.1, took_s=0.5, late_s=0.25)]
    one, other = summaries(measured(*good, *bad, *back))
    assert (one.sent, one.ok, one.failed, one.failures, one.unsent) == (18, 12, {"reset": 1, "timeout": 5}, 6, 1)
    assert one.longest_gap_s == pytest.approx(104.01 - 100.91)
    assert one.from_intended.max_s == pytest.approx(0.75) and one.from_started.max_s == pytest.approx(0.5)
    assert one.answered_by == {"web-1": 11, "web-2": 1}
    assert (other.sent, other.from_intended, other.longest_gap_s) == (0, None, 0.0)


def test_a_source_that_never_had_an_answer_was_silent_all_the_time():
    """Until the last request was due: how long that one then waited says nothing of a time in which nobody asked."""
    [one, _] = summaries(measured(request(100.0, "refused", 0.001), request(105.0, "timeout", 5.0)))
    assert one.longest_gap_s == pytest.approx(5.0)


def test_percentiles_are_values_that_were_measured():
    assert [percentile([1, 2, 3, 4], share) for share in (0.01, 0.5, 0.51, 0.99, 1.0)] == [1, 2, 3, 4, 4]


def test_a_second_counts_what_ended_in_it():
    tick = source_tick("minion-1", [("ok", "web-1", 0.01), ("ok", "web-1", 0.03), ("reset", "", 0.5), ("unsent", "", 0.0)], 0.0)
    assert (tick.ok, tick.failed, tick.unsent, tick.p50_s, tick.p99_s, tick.answered_by) == (2, 1, 1, 0.01, 0.03, {"web-1": 2})


def body(**changes) -> bytes:
    tick = msgspec.to_builtins(Tick("measure-1", "web", 200.0, 5.0, 1.7e9, (source_tick("minion-1", [("ok", "a", 0.1)], 0.0),)))
    return msgspec.json.encode(tick | changes)


def test_the_master_keeps_a_bounded_number_of_seconds_and_tells_the_later_ones():
    live = LiveMeasurements()
    for second in range(MAX_TICKS + 50):
        live.add(body(at_s=float(second)))
    assert len(live.since()) == MAX_TICKS
    assert [tick.at_s for tick in live.since(MAX_TICKS + 47.0)] == [MAX_TICKS + 48.0, MAX_TICKS + 49.0]


@pytest.mark.parametrize(
    "bad, said",
    [
        (b"", "Input data was truncated"),
        (b"[" * 100_000, ""),
        (b"\xff", ""),
        (b" " * (1 << 19), "longer than"),
        (body(rate=0), "`$.rate`"),
        (body(id="../x"), "`$.id`"),
        (body(more=1), "unknown field"),
        (body(sources=[{"name": "x", "outcomes": {"fine": 1}}]), "'fine'"),
        (body(sources=[{"name": "x", "outcomes": {"ok": -1}}]), "`$.sources[0].outcomes"),
        (body(sources=[{"name": "x"}] * 300), "`$.sources`"),
        (body(at_s=1e300), "`$.at_s`"),
    ],
)
def test_a_second_that_nobody_measured_is_refused(bad, said):
    live = LiveMeasurements()
    with pytest.raises(ValueError) as error:
        live.add(bad)
    assert said in str(error.value) and "\n" not in str(error.value) and not live.since()
