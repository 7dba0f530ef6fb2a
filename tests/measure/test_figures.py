"""The figures of a fault, from requests that are made up here, and their laws with requests that are drawn."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labctl.journal import Line
from labctl.measure.records import Measurement, Request, Source
from labctl.measure.timeline import FaultFacts, timeline

FAULT = FaultFacts(name="plug", type="power-off", target="minion-1", injected_s=100.0, uncertainty_s=0.002)
OFF = [Line(100.1, 0.0, "machines", "machine/minion-1", "off", did="off", where="minion-1")]


def request(at, outcome="ok", took=0.001, source="host", by="web-a"):
    return Request(
        source=source, intended_s=at, outcome=outcome, started_s=at, ended_s=at + took, answered_by=by if outcome == "ok" else ""
    )


def measured(requests, *sources, rate=100.0, began=99.0, ended=102.0):
    names = sources or ("host",)
    whole = tuple(Source(name=name, clock_uncertainty_s=0.001) for name in names)
    return Measurement("web", rate, "http", False, began, ended, 0.0, whole, tuple(requests))


def every(rate, begin, end, **more):
    return [request(begin + number / rate, **more) for number in range(round((end - begin) * rate))]


def figures(requests, *sources, lines=OFF, **more):
    return timeline(FAULT, lines, measured(requests, *sources, **more)).figures


def test_nothing_failed():
    found = figures(every(100, 99, 102))
    assert (found.requests, found.failed, found.slow, found.unsent) == (200, 0, 0, 0)
    assert (found.outage_s, found.recovery_s, found.reaction_s) == (0.0, 0.0, pytest.approx(0.1))
    assert found.longest_gap_s == {"host": pytest.approx(0.01)}
    assert found.uncertainty_s == 0.002


def test_an_outage_ends_with_the_first_good_answer_after_the_last_failure():
    requests = [*every(100, 99, 100), *every(100, 100, 100.5, outcome="timeout", took=0.3), *every(100, 100.5, 102)]
    found = figures(requests)
    assert (found.failed, found.outage_s) == (50, pytest.approx(0.501))
    assert found.recovery_s == pytest.approx(0.401) and found.reaction_s + found.recovery_s == pytest.approx(found.outage_s)
    assert found.longest_gap_s["host"] == pytest.approx(0.51)


def test_requests_that_only_wait_are_an_outage_too():
    """Nothing fails, because each client waits until the service is back: the silence is what counts."""
    waiting = [request(100 + n / 100, took=0.5 - n / 100 + 0.001) for n in range(50)]
    found = figures([*every(100, 99, 100), *waiting, *every(100, 100.5, 102)])
    assert (found.failed, found.outage_s) == (0, pytest.approx(0.501))
    assert found.slow == 41, "those that took more than 0.1 s"


def test_a_source_that_was_not_given_the_processor_was_not_without_service():
    """It slept for half a second and then sent, late, what was due: each request was answered at once."""
    late = [
        Request(source="host", intended_s=100.3 + n / 100, outcome="ok", started_s=100.8, ended_s=100.802, answered_by="web-a")
        for n in range(50)
    ]
    found = figures([*every(100, 99, 100.3), *late, *every(100, 100.8, 102)])
    assert (found.failed, found.outage_s) == (0, 0.0)
    assert found.slow == 41 and found.longest_gap_s["host"] == pytest.approx(0.51), "it is told all the same"


@pytest.mark.parametrize("answered", [0, 5])
def test_a_source_that_stood_still_with_requests_under_way_was_not_without_service(answered):
    """What it had sent was answered at once, and it read the answers when it ran again: what it did not do meanwhile is no silence of the service."""
    under_way = [request(100.3 - (answered - n) / 100, took=5.5 + (answered - n) / 100) for n in range(answered + 1)]
    unsent = [Request(source="host", intended_s=100.31 + n / 100, outcome="unsent", ended_s=105.8) for n in range(449)]
    late = [Request("host", 104.8 + n / 100, "ok", 105.8, 105.801, 105.801, 105.802) for n in range(100)]
    found = figures([*every(100, 99, 100.3 - answered / 100), *under_way, *unsent, *late, *every(100, 105.81, 108)], ended=108.0)
    assert (found.failed, found.outage_s) == (0, 0.0) and found.longest_gap_s["host"] > 5.4


def test_a_service_that_made_its_source_wait_while_that_ran_was_away():
    """The source went on beginning requests all the time."""
    waiting = [request(100.3 + n / 100, took=2.2 - n / 100) for n in range(150)]
    found = figures([*every(100, 99, 100.3), *waiting, *every(100, 102.5, 104)], ended=104.0)
    assert found.outage_s == pytest.approx(2.5)


def test_a_silence_long_after_the_service_was_back_is_not_of_this_outage():
    waiting = [request(104 + n / 100, took=0.2 - n / 100) for n in range(20)]
    requests = [
        *every(100, 99, 100),
        *every(100, 100, 100.5, outcome="refused"),
        *every(100, 100.5, 104),
        *waiting,
        *every(100, 104.2, 106),
    ]
    assert figures(requests, ended=106.0).outage_s == pytest.approx(0.501)
    failing = [*requests, request(105.001, outcome="reset")]
    assert figures(failing, ended=106.0).outage_s == pytest.approx(5.011), "a failure is, whenever it comes"


def test_a_service_that_stays_away_has_no_outage_that_ended():
    found = figures([*every(100, 99, 100), *every(100, 100, 102, outcome="refused")])
    assert (found.outage_s, found.recovery_s, found.failed) == (None, None, 200)
    assert found.longest_gap_s["host"] == pytest.approx(1.99, abs=0.02)


def test_the_slowest_source_decides():
    near = every(100, 99, 102, source="host")
    far = [
        *every(100, 99, 100, source="minion-2"),
        *every(100, 100, 100.2, source="minion-2", outcome="reset"),
        *every(100, 100.2, 102, source="minion-2"),
    ]
    found = figures([*near, *far], "host", "minion-2")
    assert found.outage_s == pytest.approx(0.201)
    assert found.longest_gap_s["minion-2"] > found.longest_gap_s["host"]


def test_what_was_never_sent_is_counted_apart():
    found = figures([*every(100, 99, 100), *every(100, 100, 100.1, outcome="unsent", took=0), *every(100, 100.1, 102)])
    assert (found.unsent, found.failed) == (10, 0)


def test_slow_is_measured_by_what_was_usual():
    usual = every(100, 99, 100, took=0.05)
    assert figures([*usual, *every(100, 100, 102, took=0.2)]).slow == 0
    assert figures([*usual, *every(100, 100, 102, took=0.3)]).slow == 200


def test_the_marks_of_the_requests():
    requests = [
        *every(100, 99, 100),
        *every(100, 100, 100.2, outcome="timeout", took=0.5),
        *every(100, 100.2, 101),
        *every(100, 101, 102, by="web-b"),
    ]
    lines = [
        *OFF,
        Line(100.2, 0, "machines", "machines.labctl.internal/minion-1", "", rev=1),
        Line(100.3, 0, "rc", "pods/default/web-b", "", rev=2, cause=1, did="create"),
        Line(100.8, 0, "agent", "pods/default/web-b", "", rev=3, did="ready", where="minion-2"),
    ]
    told = [
        (m.what, round(m.at_s, 3), m.by, m.about) for m in timeline(FAULT, lines, measured(requests)).marks if m.what.startswith("first")
    ]
    assert told == [
        ("first-answer", 0.201, "web-a", ""),
        ("first-failure", 0.5, "timeout", ""),
        ("first-answer", 1.001, "web-b", "pods/default/web-b"),
    ]


def test_without_requests_there_is_nothing_to_count():
    found = figures([])
    assert (found.requests, found.failed, found.longest_gap_s, found.p99_s) == (0, 0, {}, None)


OUTCOMES = st.sampled_from(["ok", "ok", "ok", "refused", "timeout", "unsent"])
DRAWN = st.lists(st.builds(request, st.floats(98, 104), OUTCOMES, st.floats(0, 2), st.sampled_from(["host", "minion-2"])), max_size=60)


@settings(max_examples=300)
@given(DRAWN)
def test_laws(requests):
    found = figures(requests, "host", "minion-2", ended=106.0)
    concerned = [one for one in requests if max(one.ended_s, one.intended_s) >= 100]
    assert found.requests == len(concerned)
    assert found.failed + found.unsent + sum(one.outcome == "ok" for one in concerned) == found.requests
    assert found.slow <= found.requests
    if found.outage_s is not None:
        assert 0 <= found.outage_s <= 6
        assert found.outage_s == pytest.approx(found.reaction_s + found.recovery_s) or (
            found.recovery_s == 0 and found.outage_s <= found.reaction_s
        )
        assert not [one for one in concerned if one.outcome in ("refused", "timeout") and one.intended_s > 100 + found.outage_s]
    if found.p50_s is not None:
        assert found.p50_s <= found.p99_s
    assert all(0 < gap <= 8 for gap in found.longest_gap_s.values())
