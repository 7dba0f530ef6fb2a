"""What agents do to pods stands in the journal: once, with the revision, and not for what the node controller wrote itself."""

import msgspec
import pytest

from labctl.clock import SystemClock
from labctl.controllers.milestones import Milestones
from labctl.journal import MemoryJournal
from labctl.reconcile.plan import Seen
from labctl.resources.kinds.core_v1.event import Event
from labctl.resources.kinds.core_v1.pod_view import Pod
from labctl.resources.reports import note_report

RUNNING = {"state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}
KILLED = {"state": {"terminated": {"reason": "Error", "exitCode": 137}}}
RESTARTED = {**RUNNING, "restartCount": 1, "lastState": KILLED["state"]}


def pod(ready="True", reason="", container=RUNNING, revision=7):
    return msgspec.convert(
        {
            "metadata": {"name": "web", "namespace": "default", "uid": "u", "resourceVersion": str(revision)},
            "spec": {"nodeName": "minion-1"},
            "status": {
                "podIP": "10.246.1.2",
                "conditions": [{"type": "Ready", "status": ready, "reason": reason}],
                "containerStatuses": [{"name": "app", **container}],
            },
        },
        Pod,
    )


def noted(old, new):
    journal = MemoryJournal(SystemClock())
    Milestones(journal).seen(None, Seen("pods", "default/web", old, new))
    return [(line.did, line.about, line.rev, line.where, line.text) for line in journal.lines]


@pytest.mark.parametrize(
    "old, new, did, text",
    [
        (pod("False"), pod(), "ready", "ready on minion-1 at 10.246.1.2"),
        (pod(), pod("False"), "unready", "ready no longer: its agent says so"),
        (pod(), pod("False", container=KILLED), "ended", "container app ended: Error (exit code 137)"),
    ],
)
def test_a_transition_is_one_line(old, new, did, text):
    assert noted(old, new) == [(did, "pods/default/web", 7, "minion-1", text)]


def test_a_container_that_is_back_in_the_same_report_ended_and_its_pod_is_ready_again():
    assert [did for did, *_ in noted(pod(), pod("True", container=RESTARTED))] == ["ended", "ready"]


@pytest.mark.parametrize("old, new", [(None, pod()), (pod(), None), (pod(), pod()), (pod(), pod("False", "NodeNotReady"))])
def test_all_else_is_no_line(old, new):
    assert noted(old, new) == []


def event(reason="Started", kind="Pod", **annotations):
    about = {"kind": kind, "namespace": "default", "name": "web"}
    source = {"component": "kubelet", "host": "minion-1"}
    return msgspec.convert({"metadata": {"annotations": annotations}, "involvedObject": about, "reason": reason, "source": source}, Event)


def reported(one, since_arrival_s=0.5):
    journal = MemoryJournal(SystemClock())
    note_report(journal, one, since_arrival_s)
    return [(line.did, line.about, line.where, line.age, line.unsure) for line in journal.lines]


def test_a_report_says_how_long_ago_by_no_clock_of_the_machine():
    assert reported(event(**{"labctl.internal/age": "0.250000 0.004000"})) == [("started", "pods/default/web", "minion-1", 0.75, 0.004)]


@pytest.mark.parametrize("age", ["", "nan 1", "-1 0", "1", "1 2 3", "inf 0", "x y", "1 " + "2" * 5000, "1e9 0"])
def test_an_age_that_is_none_is_said_to_be_unsure(age):
    [(did, _, _, age_s, unsure_s)] = reported(event(**{"labctl.internal/age": age}))
    assert (did, age_s, unsure_s) == ("started", 0.5, 3600.0)


def test_other_events_are_no_reports():
    assert reported(event("Killing")) == reported(event(kind="Node")) == []
