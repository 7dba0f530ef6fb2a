"""Statuses as the kubelet words them, from pods and what a machine holds."""

import dataclasses

import pytest

from labctl.agent.history import completed
from labctl.agent.runtime.interface import Container, Pod, Sandbox, State
from labctl.agent.status import Seen, build, differs
from labctl.agent.times import duration, parse, rfc3339

NOW = 1_000_000.0
OPEN = Sandbox("u1", "default", "web", "10.246.1.2", NOW)


def pod(policy="Always", names=("c",), inits=(), status=None, **meta):
    spec = {"restartPolicy": policy, "containers": [{"name": name, "image": "nginx"} for name in names]}
    if inits:
        spec["initContainers"] = [{"name": name, "image": "busybox"} for name in inits]
    return {"metadata": {"name": "web", "namespace": "default", "uid": "u1", **meta}, "spec": spec, "status": status or {}}


def ran(name="c", attempt=0, code=None, **more):
    state = State.RUNNING if code is None else State.EXITED
    ends = {} if code is None else {"exit_code": code, "finished_s": NOW - 1}
    return Container(
        f"id-{name}-{attempt}", "u1", name, attempt, "nginx:latest", "nginx@sha256:1", state, NOW - 9, NOW - 8, **{**ends, **more}
    )


def status_of(the_pod, *containers, sandbox=OPEN, **seen):
    return build(the_pod, Pod("u1", sandbox, containers), Seen("10.245.1.11", **seen), NOW)


def conditions(status):
    return {each["type"]: (each["status"], each.get("reason") or "") for each in status["conditions"]}


@pytest.mark.parametrize(
    "asked, said",
    [
        ("SIGUSR1", "SIGUSR1"),
        ("quit", "SIGQUIT"),
        ("15", "SIGTERM"),
        ("SIGRTMIN+3", "SIGRTMIN+3"),
        ("37", "SIGRTMIN+3"),
        ("34", "SIGRTMIN"),
        ("no", "SIGTERM"),
    ],
)
def test_a_container_says_by_which_signal_it_is_stopped(asked, said):
    running, ended = status_of(pod(names=("a", "b")), ran("a", stop_signal=asked), ran("b", code=0, stop_signal=asked))["containerStatuses"]
    assert (running["stopSignal"], ended["stopSignal"]) == (said, said)


def test_a_status_says_how_volumes_are_mounted_from_the_first_moment():
    the_pod = pod(names=("c", "d"))
    the_pod["spec"]["containers"][0]["volumeMounts"] = [
        {"name": "a", "mountPath": "/a", "subPath": "x"},
        {"name": "b", "mountPath": "/b", "readOnly": True, "recursiveReadOnly": "IfPossible"},
        {"name": "c", "mountPath": "/c", "readOnly": True},
    ]
    wanted = [
        {"name": "a", "mountPath": "/a"},
        {"name": "b", "mountPath": "/b", "readOnly": True, "recursiveReadOnly": "Enabled"},
        {"name": "c", "mountPath": "/c", "readOnly": True, "recursiveReadOnly": "Disabled"},
    ]
    for containers in ((), (ran(),), (ran(code=0),)):
        mounted, plain = status_of(the_pod, *containers)["containerStatuses"]
        assert mounted["volumeMounts"] == wanted and "volumeMounts" not in plain
    told = status_of(the_pod, recursive_read_only=False)["containerStatuses"][0]["volumeMounts"]
    assert [each.get("recursiveReadOnly") for each in told] == [None, "Disabled", "Disabled"]


def test_a_pod_whose_init_container_failed_stays_uninitialized_once_it_has_failed():
    the_pod = pod("Never", names=("c",), inits=("i", "j"))
    failed = ran("i", code=1)
    first = status_of(the_pod, failed)
    assert first["phase"] == "Failed"
    again = status_of({**the_pod, "status": first}, failed, sandbox=dataclasses.replace(OPEN, ready=False))
    for status in (first, again):
        condition = next(each for each in status["conditions"] if each["type"] == "Initialized")
        assert (condition["status"], condition["reason"], condition["message"]) == (
            "False",
            "ContainersNotInitialized",
            "containers with incomplete status: [i j]",
        )
        assert status["containerStatuses"][0]["state"] == {"waiting": {"reason": "PodInitializing"}}


def test_a_pod_that_its_machine_could_not_keep_says_that_it_was_disrupted():
    why = ("Evicted", "The node was low on resource: memory. ")
    said = conditions(status_of(pod(), ran(code=137), failed=why, disrupted=True, ended=True))
    assert said["DisruptionTarget"] == ("True", "TerminationByKubelet")
    assert "DisruptionTarget" not in conditions(status_of(pod(), ran(code=137), failed=why, ended=True))


def test_a_running_pod():
    status = status_of(pod(), ran())
    assert (status["phase"], status["podIP"], status["hostIP"], status["podIPs"]) == (
        "Running",
        "10.246.1.2",
        "10.245.1.11",
        [{"ip": "10.246.1.2"}],
    )
    (container,) = status["containerStatuses"]
    assert container == {
        "name": "c",
        "image": "nginx:latest",
        "imageID": "nginx@sha256:1",
        "containerID": "crun://id-c-0",
        "ready": True,
        "started": True,
        "restartCount": 0,
        "lastState": {},
        "state": {"running": {"startedAt": rfc3339(NOW - 8)}},
        "stopSignal": "SIGTERM",
        "user": {"linux": {"uid": 0, "gid": 0, "supplementalGroups": [0]}},
    }
    assert all(
        conditions(status)[kind] == ("True", "") for kind in ("Initialized", "Ready", "ContainersReady", "PodReadyToStartContainers")
    )


def test_nothing_has_started_yet():
    status = status_of(pod(), sandbox=None)
    assert status["phase"] == "Pending" and "podIP" not in status
    assert status["containerStatuses"][0]["state"] == {"waiting": {"reason": "ContainerCreating"}}
    assert conditions(status)["Ready"] == ("False", "ContainersNotReady")
    assert conditions(status)["PodReadyToStartContainers"] == ("False", "")


def test_waiting_says_why():
    status = status_of(pod(), waiting={"c": ("ErrImagePull", "no such image")})
    assert status["containerStatuses"][0]["state"] == {"waiting": {"reason": "ErrImagePull", "message": "no such image"}}


@pytest.mark.parametrize(
    ("policy", "codes", "phase"),
    [
        ("Never", (0, 0), "Succeeded"),
        ("Never", (0, 3), "Failed"),
        ("OnFailure", (0, 0), "Succeeded"),
        ("OnFailure", (0, 3), "Running"),
        ("Always", (0, 0), "Running"),
        ("Never", (0, None), "Running"),
    ],
)
def test_phases(policy, codes, phase):
    the_pod = pod(policy, names=("a", "b"))
    assert status_of(the_pod, ran("a", code=codes[0]), ran("b", code=codes[1]))["phase"] == phase


def test_a_completed_pod_is_not_ready_and_says_why():
    status = status_of(pod("Never"), ran(code=0))
    assert conditions(status)["Ready"] == ("False", "PodCompleted")
    assert conditions(status)["Initialized"] == ("True", "PodCompleted")
    assert status["containerStatuses"][0]["state"]["terminated"]["reason"] == "Completed"


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"code": 1}, "Error"),
        ({"code": 0}, "Completed"),
        ({"code": 137, "oom_killed": True}, "OOMKilled"),
        ({"code": 137, "lost": True}, "ContainerStatusUnknown"),
    ],
)
def test_why_a_container_ended(more, reason):
    state = status_of(pod("Never"), ran(**more), messages={"id-c-0": "last words"})["containerStatuses"][0]["state"]["terminated"]
    assert (state["reason"], state["containerID"], state["exitCode"]) == (reason, "crun://id-c-0", more["code"])
    assert state.get("message", "") == (
        "The container could not be located when the pod was terminated" if more.get("lost") else "last words"
    )


def test_crash_loop_back_off_shows_how_it_ended_last():
    status = status_of(pod(), ran(attempt=1, code=1), ran(attempt=2, code=7), waiting={"c": ("CrashLoopBackOff", "back-off 20s")})
    (container,) = status["containerStatuses"]
    assert container["state"] == {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 20s"}}
    assert container["lastState"]["terminated"]["exitCode"] == 7
    assert (container["restartCount"], container["ready"], status["phase"]) == (2, False, "Running")


def test_a_restarted_container_remembers_its_last_end():
    container = status_of(pod(), ran(attempt=0, code=7), ran(attempt=1))["containerStatuses"][0]
    assert (container["restartCount"], container["lastState"]["terminated"]["exitCode"], "running" in container["state"]) == (1, 7, True)


def test_readiness_and_startup_probes_decide():
    status = status_of(pod(names=("a", "b")), ran("a"), ran("b"), ready={"a": False}, started={"b": False})
    assert [(each["ready"], each["started"]) for each in status["containerStatuses"]] == [(False, True), (False, False)]
    ready = next(each for each in status["conditions"] if each["type"] == "Ready")
    assert ready["message"] == "containers with unready status: [a b]"


def test_a_leaving_pod_is_ready_as_long_as_it_serves():
    assert conditions(status_of(pod(), ran(), leaving=True))["Ready"] == ("True", "")
    assert conditions(status_of(pod("Always"), ran(code=143), leaving=True))["Ready"][0] == "False"


def test_a_deleted_pod_whose_containers_ended_is_over_whatever_its_policy():
    assert status_of(pod("Always"), ran(code=0), leaving=True)["phase"] == "Succeeded"
    assert status_of(pod("Always"), ran(code=143), leaving=True)["phase"] == "Failed"


def test_a_deleted_pod_none_of_whose_containers_ever_ran_has_failed_when_it_is_ended():
    """Who counts pods, as a Job does, waits for one of the two last phases (KEP-3329)."""
    assert status_of(pod(), leaving=True)["phase"] == "Pending", "not yet"
    status = status_of(pod(names=("a", "b")), ran("a", code=0), sandbox=None, leaving=True, ended=True)
    assert status["phase"] == "Failed"
    assert conditions(status)["Ready"] == ("False", "PodFailed")
    assert [each["state"]["terminated"]["exitCode"] for each in status["containerStatuses"]] == [0, 137]
    assert status["containerStatuses"][1]["state"]["terminated"] == {
        "exitCode": 137,
        "reason": "ContainerStatusUnknown",
        "message": "The container could not be located when the pod was terminated",
    }
    created = dataclasses.replace(ran(), state=State.CREATED)
    assert status_of(pod(), created, leaving=True, ended=True)["phase"] == "Failed"
    assert status_of(pod(), ran(code=0), leaving=True, ended=True)["phase"] == "Succeeded"
    assert status_of(pod(status={"phase": "Succeeded"}), leaving=True, ended=True)["phase"] == "Succeeded"


def test_init_containers_whose_turn_never_came_stay_as_they_were_when_their_pod_is_ended():
    def states(*containers):
        status = status_of(pod(inits=("i", "j", "k")), *containers, leaving=True, ended=True)
        assert status["phase"] == "Failed"
        every = [*status["initContainerStatuses"], *status["containerStatuses"]]
        return [each["state"].get("terminated", each["state"].get("waiting", {}))["reason"] for each in every]

    assert states() == ["ContainerStatusUnknown", "PodInitializing", "PodInitializing", "PodInitializing"]
    again = dataclasses.replace(ran("j", attempt=1), state=State.CREATED)
    assert states(ran("i", code=0), ran("j", code=1), again) == [
        "Completed",
        "ContainerStatusUnknown",
        "PodInitializing",
        "PodInitializing",
    ]
    done = [ran(name, code=0) for name in "ijk"]
    assert states(*done) == ["Completed"] * 3 + ["ContainerStatusUnknown"]


@pytest.mark.parametrize("before", ["Pending", "Running"])
def test_a_pod_that_failed_as_a_whole_is_told_so_when_all_its_containers_have_ended(before):
    """Whoever learns that a pod is over gives what it used to others."""
    failed = ("DeadlineExceeded", "it took too long")
    the_pod = pod(names=("a", "b"), inits=("i",), status={"phase": before})
    early = status_of(the_pod, ran("i", code=0), ran("a", code=143), ran("b"), failed=failed)
    assert early["phase"] == before and "reason" not in early and "message" not in early
    late = status_of(the_pod, ran("i", code=0), ran("a", code=143), ran("b", code=137), failed=failed)
    assert (late["phase"], late["reason"], late["message"]) == ("Failed", *failed)
    refused = status_of(pod(), sandbox=None, failed=("OutOfcpu", "no room"))
    assert (refused["phase"], refused["reason"]) == ("Failed", "OutOfcpu"), "nothing ever ran"
    again = status_of(pod(status={"phase": "Failed"}), ran(), failed=failed)
    assert again["phase"] == "Failed", "no pod comes back from there"


def test_a_pod_is_not_over_while_somebody_looks_into_it():
    the_pod = pod("Never")
    the_pod["spec"]["ephemeralContainers"] = [{"name": "look", "image": "busybox"}]
    assert status_of(the_pod, ran(code=0), ran("look"))["phase"] == "Running"
    assert status_of(the_pod, ran(code=0), ran("look", code=137))["phase"] == "Succeeded"


def test_init_containers_come_first():
    the_pod = pod(inits=("i1", "i2"))
    status = status_of(the_pod, ran("i1", code=0), ran("i2"))
    assert status["phase"] == "Pending"
    assert [each["ready"] for each in status["initContainerStatuses"]] == [True, False]
    assert status["containerStatuses"][0]["state"] == {"waiting": {"reason": "PodInitializing"}}
    init = next(each for each in status["conditions"] if each["type"] == "Initialized")
    assert (init["status"], init["message"]) == ("False", "containers with incomplete status: [i2]")


def test_a_failed_init_container_fails_a_pod_that_is_never_restarted():
    assert status_of(pod("Never", inits=("i",)), ran("i", code=1))["phase"] == "Failed"
    assert status_of(pod("Always", inits=("i",)), ran("i", code=1))["phase"] == "Pending"


def test_a_condition_keeps_its_time_until_it_changes():
    before = status_of(pod(), ran())
    early = {**before, "conditions": [{**each, "lastTransitionTime": "2020-01-01T00:00:00Z"} for each in before["conditions"]]}
    after = status_of(pod(status=early), ran(), ready={"c": False})
    times = {each["type"]: each["lastTransitionTime"] for each in after["conditions"]}
    assert (times["Initialized"], times["Ready"]) == ("2020-01-01T00:00:00Z", rfc3339(NOW))


def test_a_reason_that_is_over_is_taken_away():
    before = status_of(pod(), ran(), ready={"c": False})
    ready = next(each for each in status_of(pod(status=before), ran())["conditions"] if each["type"] == "Ready")
    assert (ready["status"], ready["reason"], ready["message"]) == ("True", None, None)


def test_only_a_difference_is_worth_a_write():
    status = status_of(pod(), ran())
    stored = {
        **status,
        "qosClass": "BestEffort",
        "conditions": [*status["conditions"], {"type": "labctl.internal/Drained", "status": "True"}],
    }
    assert not differs(stored, status_of(pod(status=stored), ran()))
    assert differs(stored, status_of(pod(status=stored), ran(), ready={"c": False}))
    assert differs({**stored, "podIP": "10.246.1.9"}, status_of(pod(status=stored), ran()))


def test_the_master_took_ready_away_and_gets_it_back():
    status = status_of(pod(), ran())
    stored = {**status, "conditions": [{**each, "status": "False"} if each["type"] == "Ready" else each for each in status["conditions"]]}
    assert differs(stored, status_of(pod(status=stored), ran()))


# -- after a boot


def test_containers_the_machine_lost_are_taken_from_the_api():
    reported = status_of(pod(), ran(attempt=3))
    found = completed(Pod("u1"), pod(status=reported))
    (lost,) = found.containers
    assert (lost.attempt, lost.state, lost.lost, lost.exit_code) == (3, State.EXITED, True, 137)
    assert completed(Pod("u1", OPEN, (ran(attempt=3),)), pod(status=reported)).containers == (ran(attempt=3),)
    assert completed(Pod("u1", OPEN, (ran(attempt=4),)), pod(status=reported)).containers == (lost, ran(attempt=4))


def test_how_a_lost_container_had_ended_is_not_lost():
    reported = status_of(pod("Never"), ran(code=3))
    (known,) = completed(Pod("u1"), pod(status=reported)).containers
    assert (known.exit_code, known.lost, known.finished_s) == (3, False, NOW - 1)


def test_a_container_that_was_lost_stays_lost_however_often_it_is_reported():
    """While its image is fetched again the loss is reported, and is then all that is known of it."""
    (lost,) = completed(Pod("u1"), pod(status=status_of(pod(), ran()))).containers
    waiting = status_of(pod(), lost, waiting={"c": ("ContainerCreating", "")})
    (still,) = completed(Pod("u1"), pod(status=waiting)).containers
    assert lost.lost and still.lost
    assert still.finished_s == lost.finished_s


def test_a_started_container_after_a_boot_shows_the_lost_attempt():
    lost = dataclasses.replace(ran(attempt=0, code=137), lost=True)
    container = status_of(pod(), lost, ran(attempt=1))["containerStatuses"][0]
    assert (container["restartCount"], container["lastState"]["terminated"]["reason"]) == (1, "ContainerStatusUnknown")


# -- times


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (0.32, "320ms"), (10, "10s"), (80, "1m20s"), (300, "5m0s"), (1.5, "1.5s"), (3723, "1h2m3s")]
)
def test_durations_are_gos(seconds, text):
    assert duration(seconds) == text


def test_times_go_there_and_back():
    assert parse(rfc3339(NOW)) == NOW
    assert parse("2026-01-02T15:04:05.123456789+01:00") == pytest.approx(parse("2026-01-02T14:04:05Z") + 0.123456789)
    assert parse(None) == 0.0


def test_a_readiness_gate_holds_the_pod_back_until_somebody_says_it_is_open():
    the_pod = pod()
    the_pod["spec"]["readinessGates"] = [{"conditionType": "example.com/a"}, {"conditionType": "example.com/b"}]
    told = conditions(status_of(the_pod, ran()))
    assert told["ContainersReady"] == ("True", "") and told["Ready"] == ("False", "ReadinessGatesNotReady")
    the_pod["status"] = {"conditions": [{"type": "example.com/a", "status": "True"}, {"type": "example.com/b", "status": "False"}]}
    ready = next(each for each in status_of(the_pod, ran())["conditions"] if each["type"] == "Ready")
    assert ready["status"] == "False"
    assert ready["message"] == 'the status of pod readiness gate "example.com/b" is not "True", but False'
    the_pod["status"]["conditions"][1]["status"] = "True"
    assert conditions(status_of(the_pod, ran()))["Ready"] == ("True", "")
    assert conditions(status_of(the_pod, ran(), ready={"c": False}))["Ready"] == ("False", "ContainersNotReady")


def test_a_container_waits_for_its_turn_while_init_containers_run():
    status = status_of(pod("Never", inits=("i",)), ran("i", code=1), waiting={"c": ("ContainerCreating", "")})
    assert status["containerStatuses"][0]["state"] == {"waiting": {"reason": "PodInitializing"}}
    status = status_of(pod(inits=("i",)), ran("i"), waiting={"c": ("ImagePullBackOff", "no")})
    assert status["containerStatuses"][0]["state"]["waiting"]["reason"] == "ImagePullBackOff"


def test_no_container_ends_before_it_began():
    (status,) = status_of(pod("Never"), dataclasses.replace(ran(code=0), started_s=NOW, finished_s=NOW - 1))["containerStatuses"]
    ended = status["state"]["terminated"]
    assert ended["startedAt"] == ended["finishedAt"] == rfc3339(NOW - 1)


def test_each_condition_says_which_generation_it_is_about():
    the_pod = pod()
    assert not any("observedGeneration" in each for each in status_of(the_pod, ran())["conditions"])
    the_pod["metadata"]["generation"] = 3
    assert {each["observedGeneration"] for each in status_of(the_pod, ran())["conditions"]} == {3}


def test_what_waits_in_a_pod_with_init_containers_waits_for_its_initialization():
    """As from a kubelet: to the last moment before it runs, and that of its init containers as well."""

    def reasons(*containers, **seen):
        status = status_of(pod(inits=("i",)), *containers, **seen)
        every = [*status["initContainerStatuses"], *status["containerStatuses"]]
        return [each["state"].get("waiting", {}).get("reason") for each in every]

    creating = ("ContainerCreating", "")
    assert reasons() == reasons(waiting={"i": creating, "c": creating}) == ["PodInitializing", "PodInitializing"]
    assert reasons(dataclasses.replace(ran("i"), state=State.CREATED)) == ["PodInitializing", "PodInitializing"]
    assert reasons(ran("i", code=0)) == [None, "PodInitializing"]
    assert reasons(ran("i", code=0), dataclasses.replace(ran(), state=State.CREATED)) == [None, "PodInitializing"]
    assert reasons(waiting={"i": ("ErrImagePull", "")}) == ["ErrImagePull", "PodInitializing"]
