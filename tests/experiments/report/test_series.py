"""Requests in steps of time, and the strips of minions and pods."""

from __future__ import annotations

from random import Random

import msgspec
import pytest

from labctl.experiments.report import series, strips
from labctl.measure.records import Measurement, Request, Source
from labctl.measure.timeline import FaultFacts, Mark, Timeline
from tests.experiments.report.synthetic import node_death_run


def measurement(*requests: Request) -> Measurement:
    return Measurement("http://10.247.0.10/", 10, "http", False, 100.0, 110.0, 1e9, (Source("host"),), requests)


def ok(due: float, took: float = 0.002, pod: str = "web-1") -> Request:
    return Request("host", due, "ok", due, due, due, due + took, 200, pod)


def test_every_request_is_in_the_step_in_which_it_was_due() -> None:
    made = measurement(*(ok(100 + i / 10) for i in range(50)), *(Request("host", 105 + i / 10, "refused") for i in range(50)))
    found = series.steps(made, 105.0)
    widths = [end - start for start, end in zip(found.edges_s, found.edges_s[1:], strict=False)]
    assert sum(rate * width for rate, width in zip(found.answered["web-1"], widths, strict=True)) == pytest.approx(50)
    assert sum(rate * width for rate, width in zip(found.failed, widths, strict=True)) == pytest.approx(50)
    assert 0.0 in found.edges_s, "a step begins with the fault"
    assert [rate > 0 for rate in found.failed] == [edge >= 0 for edge in found.edges_s[:-1]]
    assert found.outcomes == {"ok": 50, "refused": 50}


def test_latency_counts_from_when_a_request_was_due() -> None:
    late = Request("host", 100.0, "ok", 100.9, 100.9, 100.95, 101.0, 200, "web-1")
    assert series.steps(measurement(late), 100.0).median_s == [pytest.approx(1.0)]


@pytest.mark.parametrize("requests", [(), (ok(100.0),), (ok(100.0), ok(100.0)), (ok(0.0), ok(1e11 - 1))])
def test_odd_measurements_have_few_steps(requests) -> None:
    found = series.steps(measurement(*requests), 100.0)
    assert 1 <= len(found.failed) <= 400
    assert list(found.edges_s) == sorted(set(found.edges_s))


def test_more_pods_than_colours_are_taken_together() -> None:
    made = measurement(*(ok(100 + i / 10, pod=f"web-{i}") for i in range(40)), ok(100.05, pod=""))
    found = series.steps(made, 100.0, pods=["web-7"])
    assert list(found.answered)[0] == "web-7" and list(found.answered)[-1] == series.OTHERS
    assert len(found.answered) == series.MAX_PODS


def test_quantiles() -> None:
    assert series.quantile([], 0.5) is None
    assert series.quantile([1.0, 2.0, 3.0], 0.5) == 2.0
    assert series.quantile([float(i) for i in range(1, 101)], 0.99) == 99.0


def test_strips_tell_who_was_broken_who_left_and_who_came() -> None:
    run = node_death_run({}, 1, Random(1), 0.3)
    rows = {row.name: row for row in strips.rows(run.timelines, run.measurement, run.timelines[0].fault.injected_s, -4.0, 6.0)}
    assert list(rows)[:3] == ["minion-1", "minion-2", "minion-3"]
    assert [(span.state, span.from_s, span.to_s) for span in rows["minion-2"].spans] == [
        ("vip", -4.0, 0.0),
        ("off", 0.0, 4.0),
        ("vip", 4.0, 6.0),
    ]
    first, lost, new = (rows[name].spans for name in ("web-6f9c-x2vqp", "web-6f9c-7hkld", "web-6f9c-m4t8z"))
    assert {(span.from_s, span.to_s) for span in first} == {(-4.0, 6.0)}
    assert lost[0].from_s == -4.0 and 0 < lost[0].to_s < lost[1].to_s < 1, "it is in the rules a little longer than it is an endpoint"
    assert 0.9 < new[0].from_s < new[1].from_s < 3 and new[1].to_s == 6.0


def test_a_pod_that_comes_back_has_two_spans() -> None:
    fault = FaultFacts(name="f", type="stop-container", target="pod/default/web-1/main", injected_s=100.0)
    web, pod = "services/default/web", "pods/default/web-1"
    marks = (
        Mark(at_s=1.0, what="known", about=pod),
        Mark(at_s=1.1, what="endpoint-removed", about=web, text="no longer: 10.246.1.2 web-1"),
        Mark(at_s=1.2, what="rules", where="minion-1", about=web, text="sends nothing to 10.246.1.2 web-1"),
        Mark(at_s=1.3, what="rules", where="minion-2", about=web, text="sends nothing to 10.246.1.2 web-1"),
        Mark(at_s=5.0, what="ready", where="minion-1", about=pod),
        Mark(at_s=5.1, what="in-vip", where="minion-2", about=web, text="sends to 10.246.1.2 web-1"),
        Mark(at_s=5.2, what="in-vip", where="minion-1", about=web, text="sends to 10.246.1.2 web-1"),
    )
    row = strips.rows([Timeline(fault=fault, marks=marks)], None, 100.0, -1.0, 9.0)[-1]
    assert [(span.state, round(span.from_s, 6), round(span.to_s, 6)) for span in row.spans] == [
        ("ready", -1.0, 1.0),
        ("ready", 5.0, 9.0),
        ("vip", -1.0, 1.3),
        ("vip", 5.1, 9.0),
    ]


def test_strips_without_marks_or_requests_and_with_too_many_pods() -> None:
    fault = FaultFacts(name="f", type="kill-container", target="pod/default/web-1/main", injected_s=100.0)
    assert strips.rows([Timeline(fault=fault)], None, 100.0, 0.0, 1.0) == []
    marks = tuple(Mark(at_s=0.1, what="ready", where="minion-1", about=f"pods/default/web-{i}") for i in range(100))
    rows = strips.rows([msgspec.structs.replace(Timeline(fault=fault), marks=marks)], None, 100.0, 0.0, 1.0)
    assert len(rows) == strips.MAX_ROWS
