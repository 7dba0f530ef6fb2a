"""smoke's order of work and what it reports, with checks of the test's own; the real checks run in tests/e2e/test_smoke.py."""

import os
import shutil
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest

from labctl.errors import LabctlError, UsageError
from labctl.lab import Lab
from labctl.lab.privilege import return_ownership
from labctl.lab.progress import silent
from labctl.lab.smoke.checks import Check
from labctl.lab.smoke.report import Report, Result, as_data, as_junit
from labctl.lab.smoke.smoke import Run, _temporary, smoke


def no(text):
    def run(_scene):
        raise LabctlError(text)

    return run


def made(*checks, told=silent):
    run = Run(SimpleNamespace(lab=SimpleNamespace(progress=told, exists=False)), None)
    run.all(checks)
    return run.report()


def test_the_first_failure_ends_the_checks_but_not_the_cleaning():
    report = made(
        Check("one", lambda _: "fine"),
        Check("two", no("no pod came")),
        Check("three", lambda _: pytest.fail("must not be made")),
        Check("clean", lambda _: "gone", always=True),
    )
    assert [(r.name, r.state) for r in report.results] == [("one", "passed"), ("two", "failed"), ("three", "skipped"), ("clean", "passed")]
    assert report.results[1].text == "no pod came" and "two" in report.results[2].text
    assert not report.passed


def test_every_check_is_shown_as_it_ends():
    told = []
    made(Check("one", lambda _: "fine"), Check("two", no("bad")), told=told.append)
    assert [(s.name, s.state, s.note) for s in told] == [
        ("one", "begun", ""),
        ("one", "done", "fine"),
        ("two", "begun", ""),
        ("two", "failed", "bad"),
    ]


def report(*results):
    return Report(tuple(results), 3.5, "2026-01-02T03:04:05Z", {"provider": "namespace"}, "art")


def test_junit_is_what_ci_reads():
    text = as_junit(
        report(Result("a", "passed", 1.0, "seen"), Result("b", "failed", 2.5, "line\nmore"), Result("c", "skipped", text="b failed"))
    )
    (suite,) = ElementTree.fromstring(text)
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped"), suite.get("time")) == ("3", "1", "1", "3.500")
    assert suite.find("properties/property").attrib == {"name": "provider", "value": "namespace"}
    first, second, third = suite.findall("testcase")
    assert (first.get("name"), first.get("time"), first.find("failure")) == ("a", "1.000", None)
    assert (second.find("failure").get("message"), second.find("failure").text) == ("line", "line\nmore")
    assert third.find("skipped").get("message") == "b failed"
    assert suite.find("system-out").text == "artifacts: art"


def test_junit_holds_whatever_a_program_printed():
    text = as_junit(report(Result("a", "failed", 0.0, "\x1b[31mred\x00 <&> \udc80 é")))
    assert ElementTree.fromstring(text).find(".//failure").text == "\ufffd[31mred\ufffd <&> \ufffd é"


def test_json_says_at_once_whether_it_passed():
    assert as_data(report(Result("a", "passed")))["passed"] is True
    assert as_data(report(Result("a", "skipped")))["passed"] is False


def test_without_minions_there_is_nothing_to_check(tmp_path):
    with pytest.raises(UsageError, match="smoke needs a minion"):
        smoke(Lab(tmp_path, environment={}, minions=0))


def test_its_own_lab_is_as_the_lab_yml_here_says(tmp_path):
    (tmp_path / "key").write_text("k")
    (tmp_path / "lab.yml").write_text(
        "memory: 512M\nnodes:\n  grace_s: 7\nmirrors: {docker.io: a.example}\nmachines:\n- {address: 203.0.113.7, key: key}\nminions: 1\n"
    )
    here = Lab(tmp_path, environment={"HOME": str(tmp_path), "MINION_CPUS": "2"}, proxy_mode="userspace")
    there = _temporary(here)
    try:
        assert there.folder != here.folder
        assert there.settings.values() == here.settings.values()
        assert there.settings["machines"][0]["key"] == str(tmp_path / "key")
    finally:
        shutil.rmtree(there.folder)


def test_artifacts_never_mix_with_what_is_there(tmp_path):
    (tmp_path / "old.txt").write_text("mine")
    with pytest.raises(UsageError, match="is not empty"):
        smoke(Lab(tmp_path, environment={}), artifacts=tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_root_wrote_for_a_person_is_the_persons(tmp_path):
    junit, artifacts = tmp_path / "smoke.xml", tmp_path / "art"
    junit.write_text("x")
    (artifacts / "objects").mkdir(parents=True)
    (artifacts / "objects" / "pods.json").write_text("{}")
    return_ownership(Lab(tmp_path, environment={"SUDO_UID": "1234", "SUDO_GID": "1234"}), junit, artifacts, tmp_path / "never-written")
    assert {path.stat().st_uid for path in (junit, artifacts, *artifacts.rglob("*"))} == {1234}
