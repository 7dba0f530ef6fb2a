"""`labctl measure` on real machines: from minions, pods and the host; with a machine that loses its power in the middle, and with Ctrl-C."""

import json
import signal
import subprocess
import sys
import time

import pytest

from tests.e2e.cluster import PATIENCE, SEED, crowded, wait

RATE = 50
SECONDS = 10
"""How long a measurement takes in the middle of which a machine loses its power: a command takes two of them on a slow host."""
PROBED = """
{"spec": {"template": {"spec": {"containers": [{"name": "nginx", "readinessProbe": {"httpGet": {"port": 80}, "periodSeconds": 1}}]}}}}
"""


@pytest.fixture(scope="module")
def web(cluster):
    cluster.kubectl("create", "-f", str(SEED / "nginx-rc.yml"), "-f", str(SEED / "nginx-service.yml"))
    cluster.kubectl("patch", "rc", "nginx-controller", "--patch", PROBED)
    cluster.kubectl("patch", "service", "web-service", "--patch", '{"spec": {"type": "NodePort"}}')
    wait(lambda: len(cluster.ready_pods()) == 2, "two pods are Ready", 60)
    wait(
        lambda: cluster.curl("minion-1", cluster.vip(), check=False) and cluster.curl("minion-2", cluster.vip(), check=False),
        "the VIP answers",
    )
    return cluster


def measured(cluster, *arguments: str, **options) -> dict:
    done = cluster.labctl("measure", "web-service", "--rate", str(RATE), "-o", "json", *arguments, **options)
    return json.loads(done.stdout)


def test_from_minions_a_pod_and_the_host_each_request_has_its_record(web, tmp_path):
    pods = {pod["metadata"]["name"] for pod in web.ready_pods()}
    asker = sorted(pods)[0]
    saved = tmp_path / "run.jsonl.gz"
    said = measured(web, "--from", f"minion-1,pod/{asker},host", "--for", "2s", "--save", str(saved), "--max-failed", "0")
    sources = {each["source"]: each for each in said["summaries"]}
    assert list(sources) == ["minion-1", f"pod/default/{asker}", "host"]
    for each in sources.values():
        assert (each["sent"] + each["unsent"], each["ok"]) == (2 * RATE, 2 * RATE)
    for name in ("minion-1", f"pod/default/{asker}"):  # nginx says nobody's name: the kernel knows to whom the rules sent a connection
        assert set(sources[name]["answered_by"]) == pods and sum(sources[name]["answered_by"].values()) == 2 * RATE
    program = "import sys, pathlib; from labctl.measure import records; print(len(records.read(pathlib.Path(sys.argv[1])).requests))"
    read = subprocess.run([sys.executable, "-c", program, saved], env=web.environment, capture_output=True, text=True, check=True)
    assert read.stdout.split() == [str(3 * 2 * RATE)]


def test_kept_connections_datagrams_and_connecting_alone(web):
    assert measured(web, "--keepalive", "--for", "1s", "--from", "minion-1")["summaries"][0]["ok"] == RATE
    for url in (f"tcp://{web.vip()}:80", "udp://kube-dns.kube-system:53", "https://kubernetes/readyz"):
        done = web.labctl("measure", url, "--rate", "20", "--for", "1s", "--from", "minion-2", "-o", "json")
        assert json.loads(done.stdout)["summaries"][0]["ok"] == 20, done.stdout


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["http://192.0.2.1/"], "192.0.2.1 is no address of this lab, and labs send nothing outside"),
        (["http://example.com/"], "example.com is no Service and no machine of this lab"),
        (["http://10.246.77.1/"], "10.246.77.1 is no address of this lab"),
        (["no-such"], "there is no Service no-such in namespace default"),
        (["web-service:telnet"], "Service web-service has no port telnet: write web-service:80"),
        (["web-service", "--from", "minion-9"], "there is no source 'minion-9'"),
        (["web-service", "--from", "pod/nobody"], "there is no pod nobody in namespace default"),
        (["web-service", "--rate", "0"], "0 requests a second from each source"),
        (["web-service", "--for", "5"], "'5' is no time; write 300ms, 10s or 2m"),
        (["web-service", "--udp"], "port 80 of Service web-service is TCP, not udp"),
    ],
)
def test_what_can_not_be_measured_is_refused_in_one_line(web, arguments, said):
    done = web.labctl("measure", *arguments, check=False)
    assert done.returncode in (1, 2) and said in done.stderr and "Traceback" not in done.stderr and not done.stdout


def test_the_live_page_is_told_each_second_and_only_admins_may(web):
    measured(web, "--for", "2s", "--from", "minion-1")
    ticks = json.loads(web.kubectl("get", "--raw", "/labctl/v1/measurements").stdout)["items"]
    assert ticks[-1]["over"] and ticks[-1]["sources"][0]["name"] == "minion-1"
    assert sum(tick["sources"][0]["outcomes"].get("ok", 0) for tick in ticks if tick["id"] == ticks[-1]["id"]) == 2 * RATE
    refused = web.kubectl("get", "--raw", "/labctl/v1/measurements", "--as", "somebody", check=False)
    assert "forbidden" in refused.stderr.lower()


def test_ctrl_c_keeps_what_was_measured_and_leaves_nothing_on_the_machines(web):
    command = [*web.inside, sys.executable, "-m", "labctl", "measure", "web-service", "--from", "minion-1", "-o", "table"]
    pipe = subprocess.PIPE
    running = subprocess.Popen(command, cwd=web.folder, env=web.environment, stdout=pipe, stderr=pipe, text=True, stdin=subprocess.DEVNULL)
    try:
        seen = [running.stderr.readline() for _ in range(2)]
        assert "   1 s  minion-1 " in seen[1]
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=30 * PATIENCE)
    finally:
        running.kill()
    assert running.returncode == 0 and "Traceback" not in err
    assert "minion-1" in out and "ANSWERED BY" in out
    wait(lambda: "memfd_create" not in web.on("minion-1", "ps", "-eo", "args").stdout, "the load program has ended")


def test_a_source_whose_machine_loses_its_power_keeps_what_it_had_reported(web):
    """The last scenario, as minion-2 is off then."""
    command = [
        *web.inside,
        sys.executable,
        "-m",
        "labctl",
        "measure",
        "web-service",
        "--rate",
        str(RATE),
        "--for",
        f"{SECONDS}s",
        "-o",
        "json",
        "--max-outage",
        "3s",
    ]
    running = subprocess.Popen(command, cwd=web.folder, env=web.environment, stdout=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL)
    try:
        wait(lambda: _seconds(web) >= 1, "it sends")
        begun = time.monotonic()
        web.labctl("fault", "power-off", "minion-2")
        out, _ = running.communicate(timeout=60 * PATIENCE)
    finally:
        running.kill()
    said = json.loads(out)
    survivor, victim = said["summaries"]
    assert survivor["sent"] + survivor["unsent"] == SECONDS * RATE and survivor["ok"] >= (SECONDS - 1) * RATE
    assert RATE / 2 < victim["ok"] < SECONDS * RATE
    [lost] = [source for source in said["sources"] if source.get("trouble", "").startswith("minion-2 lost its power")]
    assert lost["name"] == "minion-2" and time.monotonic() - begun < (SECONDS + 16) * PATIENCE * crowded()


def _seconds(cluster) -> int:
    """How many seconds the newest measurement has told, if it is not over."""
    ticks = json.loads(cluster.kubectl("get", "--raw", "/labctl/v1/measurements").stdout)["items"]
    newest = [tick for tick in ticks if ticks and tick["id"] == ticks[-1]["id"]]
    return 0 if not newest or newest[-1]["over"] else len(newest)
