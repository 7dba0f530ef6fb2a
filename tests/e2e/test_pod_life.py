"""How pods begin and end: limits above the machine, containers that can't be started, deadlines."""

import time
from datetime import datetime

from tests.e2e.cluster import wait
from tests.e2e.test_workloads import made, phase, pod, running, state  # noqa: F401 - made is a fixture


def seconds(moment: str) -> float:
    return datetime.fromisoformat(moment.replace("Z", "+00:00")).timestamp()


def test_a_cpu_limit_may_exceed_the_machine(cluster, made):  # noqa: F811
    limits = {"resources": {"requests": {"cpu": "10m"}, "limits": {"cpu": "3000"}}}
    made(pod("wide", "sleep", "1000", container=limits))
    running(cluster, "wide")
    assert state(cluster, "wide")["restartCount"] == 0


def test_a_container_that_can_not_be_started_ends_with_a_start_error(cluster, made):  # noqa: F811
    made(pod("absent", "/no/such/program", restartPolicy="Never"), pod("again", "/no/such/program"))
    phase(cluster, "absent", "Failed")
    ended = state(cluster, "absent")["state"]["terminated"]
    assert (ended["reason"], ended["exitCode"]) == ("StartError", 128) and "/no/such/program" in ended["message"]
    assert abs(seconds(ended["finishedAt"]) - time.time()) < 60
    wait(lambda: state(cluster, "again")["state"].get("waiting", {}).get("reason") == "CrashLoopBackOff", "it backs off")
    assert state(cluster, "again")["lastState"]["terminated"]["reason"] == "StartError"


def test_a_pod_that_is_active_for_longer_than_it_may_has_failed(cluster, made):  # noqa: F811
    made(pod("late", "sleep", "1000", activeDeadlineSeconds=3, terminationGracePeriodSeconds=1))
    phase(cluster, "late", "Failed", 15)
    status = cluster.get("pod", "late")["status"]
    assert status["reason"] == "DeadlineExceeded"
    assert status["containerStatuses"][0]["state"]["terminated"]["exitCode"] in (137, 143)


def test_logs_follow_a_program_that_writes_at_full_speed(cluster, made):  # noqa: F811
    count = 2_000_000  # several files of conmon's, and rotations by the agent
    made(pod("fast", "sh", "-c", f"sleep 4; seq 1 {count}; sleep 8", restartPolicy="Never"))
    running(cluster, "fast")
    lines = cluster.kubectl("logs", "-f", "fast", timeout_s=120).stdout.splitlines()
    told = [index for index, line in enumerate(lines) if line.startswith("[labctl: ")]
    beside = {index + step for index in told for step in (-1, 0, 1)}  # of a line beside a gap a part may be missing, too
    numbers = [int(line) for index, line in enumerate(lines) if index not in beside]
    gaps = [(a, b) for a, b in zip(numbers, numbers[1:], strict=False) if b != a + 1]
    assert len(gaps) == len(told) and numbers[-1] == count, (gaps[:5], told)
    assert not gaps or cluster.environment["LABCTL_PROVIDER"] != "namespace", gaps[:5]


def test_a_container_is_started_again_by_a_rule_of_its_exit_code(cluster, made):  # noqa: F811
    twice = "test -e /kept/once && exit 0; touch /kept/once; exit 42"
    rules = [{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]
    ruled = {"restartPolicy": "Never", "restartPolicyRules": rules, "volumeMounts": [{"name": "kept", "mountPath": "/kept"}]}
    made(
        pod("again", "sh", "-c", twice, container=ruled, restartPolicy="Never", volumes=[{"name": "kept", "emptyDir": {}}]),
        pod("over", "sh", "-c", "exit 41", container={**ruled, "volumeMounts": []}, restartPolicy="Never"),
    )
    phase(cluster, "again", "Succeeded")
    ended = state(cluster, "again")
    assert ended["restartCount"] == 1 and ended["lastState"]["terminated"]["exitCode"] == 42
    phase(cluster, "over", "Failed")
    assert state(cluster, "over")["restartCount"] == 0


def test_all_containers_begin_again_by_a_rule_of_one(cluster, made):  # noqa: F811
    kept = {"volumeMounts": [{"name": "kept", "mountPath": "/kept"}]}
    rules = [{"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [88]}}]
    once = "test -e /kept/once && exec sleep 1000; touch /kept/once; sleep 1; exit 88"
    whole = pod("all", "sh", "-c", once, container={**kept, "restartPolicy": "Never", "restartPolicyRules": rules}, restartPolicy="Never")
    beside = {"name": "beside", "image": whole["spec"]["containers"][0]["image"], "command": ["sleep", "1000"]}
    init = {**beside, "name": "init", "command": ["sh", "-c", "echo x >>/kept/inits"], **kept}
    whole["spec"] |= {"initContainers": [init], "volumes": [{"name": "kept", "emptyDir": {}}], "terminationGracePeriodSeconds": 1}
    whole["spec"]["containers"].append(beside)
    made(whole)
    wait(
        lambda: [each["restartCount"] for each in cluster.get("pod", "all")["status"].get("containerStatuses", ())] == [1, 1],
        "both began again",
    )
    running(cluster, "all")
    assert cluster.kubectl("exec", "all", "-c", "main", "--", "cat", "/kept/inits").stdout.split() == ["x", "x"]
    assert cluster.kubectl("logs", "all", "-c", "beside", "--previous").stdout == ""


def test_a_variable_is_what_an_init_container_wrote_into_a_file(cluster, made):  # noqa: F811
    reference = {"volumeName": "shared", "path": "all.env", "key": "ADDRESS"}
    whole = pod(
        "env", "sh", "-c", "echo =$ADDRESS=; ls /shared", container={"env": [{"name": "ADDRESS", "valueFrom": {"fileKeyRef": reference}}]}
    )
    write = {"name": "write", "image": "busybox", "command": ["sh", "-c", "echo \"ADDRESS='here'\" >/shared/all.env"]}
    write["volumeMounts"] = [{"name": "shared", "mountPath": "/shared"}]
    whole["spec"] |= {"initContainers": [write], "volumes": [{"name": "shared", "emptyDir": {}}], "restartPolicy": "Never"}
    made(whole)
    phase(cluster, "env", "Failed")  # its program sees no volume
    assert "=here=" in cluster.kubectl("logs", "env").stdout


def test_an_image_is_a_volume(cluster, made):  # noqa: F811
    site = {"volumeMounts": [{"name": "site", "mountPath": "/site"}, {"name": "site", "mountPath": "/bin-of-it", "subPath": "bin"}]}
    look = "ls /site/bin/busybox /bin-of-it/busybox && ! touch /site/x && sleep 1000"
    volume = {"name": "site", "image": {"reference": "busybox"}}
    absent = {"name": "site", "image": {"reference": "no-such-image:1", "pullPolicy": "IfNotPresent"}}
    made(
        pod("reader", "sh", "-c", look, container=site, volumes=[volume], terminationGracePeriodSeconds=1),
        pod("waiter", "sleep", "1", container=site, volumes=[absent]),
    )
    running(cluster, "reader")
    wait(lambda: "/bin-of-it/busybox" in cluster.kubectl("logs", "reader").stdout, "it saw the files")
    assert cluster.get("pod", "reader")["spec"]["volumes"][0]["image"]["pullPolicy"] == "Always"
    wait(
        lambda: state(cluster, "waiter")["state"].get("waiting", {}).get("reason") in ("ErrImagePull", "ImagePullBackOff"),
        "it waits for the image",
    )
