"""Tables, comparisons and JUnit: what people and CI read, also of hostile texts."""

import random
from xml.etree import ElementTree

import msgspec

from labctl.experiments import tables
from labctl.experiments.hypothesis import judge, parse
from labctl.experiments.junit import junit
from tests.experiments.results import result, run


def judged(value, *texts):
    verdicts = tuple(judge(parse(text), cell, value.good_runs(cell)) for cell in value.cells for text in texts)
    return msgspec.structs.replace(value, verdicts=verdicts)


def test_the_table_has_median_spread_and_how_many_count():
    value = result((0.1, 0.2, 0.3, None), cells=({"replicas": "2"},))
    rows = {row[1]: row for row in tables.rows(value)}
    assert (
        rows["outage"][0] == "replicas=2"
        and rows["outage"][2] == "200 ms"
        and rows["outage"][4:] == ("100 ms", "100 ms .. 300 ms", "3 of 4")
    )
    assert rows["repair"] == ("replicas=2", "repair", "-", "-", "-", "-", "0 of 4")


def test_a_verdict_is_a_sentence():
    good, bad = judged(result(), "outage < 0.5 s", "max of outage < 250 ms").verdicts
    assert tables.verdict_line(good) == "holds: outage < 0.5 s (measured 0.2 s)"
    assert tables.verdict_line(bad) == "does not hold: max of outage < 250 ms (measured 300 ms)"


def noisy(middle, seed, count=10):
    rng = random.Random(seed)
    return result(tuple(middle + rng.gauss(0, 0.01) for _ in range(count)))


def test_a_slower_result_is_said_with_how_much_and_an_equal_one_honestly():
    (slower,) = tables.compare(noisy(0.2, 1), noisy(0.3, 2), ["outage"], 0.1)
    assert slower.slower and slower.text.startswith("B is worse by ") and "95 % interval" in slower.text
    (same,) = tables.compare(noisy(0.2, 1), noisy(0.2, 3), ["outage"], 0.0)
    assert not same.slower and same.text.startswith("no difference shown")
    (faster,) = tables.compare(noisy(0.3, 1), noisy(0.2, 2), ["outage"], 0.0)
    assert not faster.slower and faster.text.startswith("B is better by ")
    (within,) = tables.compare(noisy(0.2, 1), noisy(0.22, 2), ["outage"], 0.5)
    assert not within.slower and within.text.endswith("within the threshold")
    (few,) = tables.compare(noisy(0.2, 1, 3), noisy(0.9, 2, 3), ["outage"], 0.0)
    assert not few.slower and "at least 4 repetitions of each" in few.text


def test_junit_has_a_case_for_each_hypothesis_and_for_what_went_wrong():
    value = judged(result(ended_at=0.0), "outage < 0.5 s", "outage < 0.1 s")
    value = msgspec.structs.replace(value, runs=(*value.runs, run(4, broken="the machine was off")))
    root = ElementTree.fromstring(junit(value))
    suite = root.find("testsuite")
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("4", "1", "2")
    assert [case.get("name") for case in suite.findall("testcase")] == [
        "outage < 0.5 s",
        "outage < 0.1 s",
        "repetition 4",
        "all repetitions",
    ]
    assert "does not hold" in suite.find("testcase/failure").get("message")


def test_junit_of_hostile_texts_is_xml():
    hostile = ']]><script>&"\x1b[31m\x00\ud800'.encode("utf-8", "replace").decode()
    value = judged(result(name="x", cells=({"a": hostile},)), "outage < 0.5 s")
    value = msgspec.structs.replace(value, runs=(*value.runs, run(4, {"a": hostile}, broken=hostile)))
    root = ElementTree.fromstring(junit(value))
    assert "<script>" in root.find("testsuite/testcase").get("name")


def test_an_experiment_without_a_repetition_that_counts_does_not_hold():
    assert not msgspec.structs.replace(result(), runs=(run(1, broken="it was off"),)).holds
    assert result().holds
