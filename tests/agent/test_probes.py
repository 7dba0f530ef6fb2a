"""Probes ask and say why not, in the kubelet's words."""

import asyncio
import errno

import pytest

from labctl.agent import hooks
from labctl.agent.node import conditions
from labctl.agent.probes import Prober, Settings, Verdict, ask, next_due, port_of
from labctl.agent.runtime.interface import Ran
from labctl.sim.clock import run as virtual

CONTAINER = {"name": "c", "ports": [{"name": "web", "containerPort": 8080}]}


def verdicts(results, **settings):
    verdict = Verdict(Settings.of(settings))
    return [verdict.after(good) for good in results]


def test_thresholds_count_in_a_row():
    assert verdicts([False, False, True, False, False, False], failureThreshold=3) == [None, None, True, None, None, False]
    assert verdicts([True, True, False, True, True], successThreshold=2, failureThreshold=1) == [None, True, False, None, True]


async def asked(probe, status=0, output=b"", address="127.0.0.1"):
    async def run(argv, timeout_s):
        return Ran(status, output)

    return await ask(probe, CONTAINER, address, run, 1)


async def test_exec():
    assert await asked({"exec": {"command": ["true"]}}) == (True, "")
    assert await asked({"exec": {"command": ["false"]}}, 1, b"why not") == (False, "why not")
    assert await asked({"exec": {"command": ["sleep", "9"]}}, -1) == (False, 'command timed out: "sleep 9" timed out after 1s')


@pytest.mark.parametrize(
    ("status", "good", "why"), [(204, True, ""), (302, True, ""), (404, False, "HTTP probe failed with statuscode: 404")]
)
async def test_http(status, good, why):
    seen = []

    async def serve(reader, writer):
        seen.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n".encode())

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        probe = {"httpGet": {"port": port, "path": "healthz?x=1", "httpHeaders": [{"name": "X-A", "value": "b"}]}}
        assert await asked(probe) == (good, why)
    assert seen[0].startswith("GET /healthz?x=1 HTTP/1.1\r\n") and "X-A: b" in seen[0] and "kube-probe" in seen[0]


async def heads_of(action, asking=None):
    """Ask a server as the action says. Return the answer, and the heads that the server got, all that one connection brought each."""
    heads = []

    async def serve(reader, writer):
        heads.append((await reader.read(1 << 16)).decode())
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        action = {"port": server.sockets[0].getsockname()[1], **action}
        answer = await (asked({"httpGet": action}) if asking is None else asking(action))
    return answer, heads


@pytest.mark.parametrize("value", ["a\r\nX-B: c", "a\nX-B: c", "a\rX-B: c", "a\r\n\r\nGET /admin HTTP/1.1\r\nHost: x", "a\0", "\x1b[2J"])
async def test_a_header_of_a_probe_is_one_header(value):
    """A pod's author could have the machine, which others trust more than the pod, send any lines to any port."""
    (good, why), heads = await heads_of({"httpHeaders": [{"name": "X-A", "value": value}]})
    assert not good and why.endswith('net/http: invalid header field value for "X-A"') and not heads


@pytest.mark.parametrize(
    ("path", "sent"),
    [
        ("/a HTTP/1.1\r\nX-B: c", "/a%20HTTP/1.1%0D%0AX-B:%20c"),
        ("/a?b=c d", "/a?b=c%20d"),
        ("/ä%20\0", "/%C3%A4%20%00"),
        ("a%2Fb;c?x=[1]#y", "/a%2Fb;c?x=[1]"),
    ],
)
async def test_a_path_of_a_probe_is_one_path(path, sent):
    answer, [head] = await heads_of({"path": path})
    assert answer == (True, "") and head.startswith(f"GET {sent} HTTP/1.1\r\n")


async def test_headers_of_a_probe_replace_the_usual_ones_as_with_the_kubelet():
    said = [("host", "web.example"), ("user-agent", "mine"), ("Accept", ""), ("X-A", "1"), ("x-a", "2"), ("Connection", "keep-alive")]
    _, [head] = await heads_of({"httpHeaders": [{"name": name, "value": value} for name, value in said]})
    lines = head.strip().split("\r\n")
    assert sorted(lines[1:]) == ["Connection: close", "Host: web.example", "User-Agent: mine", "X-A: 1, 2"]
    _, [head] = await heads_of({})
    assert "Accept: */*" in head and "User-Agent: kube-probe/1.37" in head and head.count("Host: 127.0.0.1:") == 1


async def test_a_hook_says_that_it_is_one():
    async def hook(action):
        return await hooks.act({"httpGet": action}, {}, "127.0.0.1", None, 5.0)

    answer, [head] = await heads_of({}, hook)
    assert answer == (True, "") and "User-Agent: kube-lifecycle/1.37" in head


async def test_nobody_listens():
    assert await asked({"tcpSocket": {"port": 1}}) == (False, "dial tcp 127.0.0.1:1: connect: connection refused")
    assert await asked({"httpGet": {"port": 1}}) == (False, 'Get "http://127.0.0.1:1/": dial tcp 127.0.0.1:1: connect: connection refused')


async def test_tcp_is_good_when_somebody_listens():
    async with await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0) as server:
        assert await asked({"tcpSocket": {"port": server.sockets[0].getsockname()[1]}}) == (True, "")


@pytest.mark.parametrize(("stood_still_s", "told"), [(0, [False, True]), (60, [True])])
def test_a_machine_that_stood_still_proves_nothing_about_a_container(stood_still_s, told):
    results = []

    async def story():
        answers = [-1, 0]

        async def run(argv, timeout_s):
            if len(answers) == 2:
                asyncio.get_running_loop().pass_time(timeout_s + stood_still_s)
            return Ran(answers.pop(0), b"") if answers else await asyncio.sleep(3600)

        probe = {"exec": {"command": ["true"]}, "failureThreshold": 1}
        prober = Prober({"name": "c", "livenessProbe": probe}, 0.0, "127.0.0.1", run, results.append, True)
        await asyncio.sleep(30)
        prober.stop()

    virtual(story())
    assert [result.good for result in results] == told


@pytest.mark.parametrize(
    ("took_s", "asked_at"), [(0.25, [0, 1, 2, 3]), (1.0, [0, 1, 2, 3]), (1.5, [0, 1.5, 3, 4.5]), (3.5, [0, 3.5, 7, 10.5])]
)
def test_a_period_counts_from_question_to_question(took_s, asked_at):
    asked = []

    async def story():
        clock = asyncio.get_running_loop().time
        began_s = clock()

        async def run(argv, timeout_s):
            asked.append(clock() - began_s)
            await asyncio.sleep(took_s)
            return Ran(-1, b"")

        probe = {"exec": {"command": ["true"]}, "periodSeconds": 1, "timeoutSeconds": 4}
        prober = Prober({"name": "c", "readinessProbe": probe}, 0.0, "127.0.0.1", run, lambda _result: None, True)
        while len(asked) < 4:
            await asyncio.sleep(0.1)
        prober.stop()

    virtual(story())
    assert asked == pytest.approx(asked_at)


def test_periods_that_passed_are_not_asked_for_one_by_one():
    assert (next_due(10, 1, 10.2), next_due(10, 1, 11.0), next_due(10, 1, 12.7), next_due(10, 1, 70.5)) == (11, 11, 12, 70)


def test_ports_by_name():
    assert (port_of("web", CONTAINER), port_of(80, CONTAINER), port_of("90", CONTAINER), port_of("none", CONTAINER)) == (8080, 80, 90, 0)


# -- the node's own conditions

CALM = {"MemoryPressure": False, "DiskPressure": False, "PIDPressure": False}


def test_node_conditions_in_the_kubelets_words():
    made = {each["type"]: each for each in conditions([], CALM, "", 0)}
    assert made["Ready"]["reason"] == "KubeletReady" and made["Ready"]["message"] == "kubelet is posting ready status"
    assert made["MemoryPressure"]["reason"] == "KubeletHasSufficientMemory"
    assert {kind: each["status"] for kind, each in made.items()} == {**dict.fromkeys(CALM, "False"), "Ready": "True"}


def test_a_condition_keeps_its_time_until_it_changes():
    before = conditions([], CALM, "", 0)
    after = {each["type"]: each for each in conditions(before, {**CALM, "DiskPressure": True}, "", 1000)}
    assert after["Ready"]["lastTransitionTime"] == "1970-01-01T00:00:00Z" and after["Ready"]["lastHeartbeatTime"] == "1970-01-01T00:16:40Z"
    assert (after["DiskPressure"]["lastTransitionTime"], after["DiskPressure"]["reason"]) == (
        "1970-01-01T00:16:40Z",
        "KubeletHasDiskPressure",
    )


def test_a_node_without_a_pod_range_is_not_ready():
    ready = conditions([], CALM, "no podCIDR assigned", 0)[-1]
    assert (ready["status"], ready["reason"]) == ("False", "KubeletNotReady")


async def test_redirects_to_the_same_host_are_followed_and_others_are_a_warning():
    async def serve(reader, writer):
        path = (await reader.readuntil(b"\r\n\r\n")).split()[1]
        status, location = {b"/near": (302, "/sick"), b"/far": (302, "http://example.com/"), b"/loop": (301, "/loop")}.get(path, (500, ""))
        writer.write(f"HTTP/1.1 {status} X\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode())

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        assert await asked({"httpGet": {"port": port, "path": "/near"}}) == (False, "HTTP probe failed with statuscode: 500")
        assert await asked({"httpGet": {"port": port, "path": "/far"}}) == (True, "Probe terminated redirects: http://example.com/")
        good, why = await asked({"httpGet": {"port": port, "path": "/loop"}})
        assert not good and why.endswith("stopped after 10 redirects")


LINES = b"X-A: " + b"a" * 1000 + b"\r\n"


@pytest.mark.parametrize(
    ("sent", "why"),
    [
        (b"HTTP/1.1 302 X\r\nLocation: http://[\r\n\r\n", 'failed to parse Location header "http://[": Invalid IPv6 URL'),
        (b"HTTP/1.1 302 X\r\nLocation: http://127.0.0.1:99999999/\r\n\r\n", "Port out of range 0-65535"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 5000, "context deadline exceeded"),
        (b"HTTP/1.1 200 OK\r\n" + LINES * 20_000, "context deadline exceeded"),
        (b"HTTP/1.1 " + b"9" * 50_000 + b"\r\n\r\n", "context deadline exceeded"),
        (b"\x16\x03\x01" * 1000 + b"\r\n\r\n", "context deadline exceeded"),
    ],
)
async def test_what_a_hostile_server_answers_is_a_failed_probe(sent, why):
    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        try:
            for at in range(0, len(sent), 65536):
                writer.write(sent[at : at + 65536])
                await writer.drain()
        except ConnectionError:
            pass
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        good, said = await asked({"httpGet": {"port": server.sockets[0].getsockname()[1]}})
    assert not good and why in said
    assert len(said) < 2000


async def test_a_probe_that_raises_has_failed_and_is_asked_again():
    told = []

    async def run(argv, timeout_s):
        raise RuntimeError("a mistake of ours")

    prober = Prober({"name": "c", "readinessProbe": {"exec": {"command": ["x"]}, "periodSeconds": 0.01}}, 0.0, "", run, told.append, True)
    deadline = asyncio.get_running_loop().time() + 10
    while len(told) < 3 and asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(0.01)
    prober.stop()
    assert len(told) >= 3 and told[0].message == "probe errored and resulted in RuntimeError: a mistake of ours"


async def test_a_prober_that_was_stopped_tells_nothing_more_not_even_what_came_in_that_moment(monkeypatch):
    """What kills a container ends its connections, too: the prober's last answer and its end come together."""
    told, answer = [], asyncio.get_running_loop().create_future()
    monkeypatch.setattr(asyncio, "open_connection", lambda host, port: answer)
    prober = Prober({"name": "c", "livenessProbe": {"tcpSocket": {"port": 80}, "failureThreshold": 1}}, 0.0, "", None, told.append, True)
    while not answer._callbacks:
        await asyncio.sleep(0)
    answer.set_exception(ConnectionResetError(errno.ECONNRESET, "reset"))
    prober.stop()
    await asyncio.wait(prober._tasks, timeout=10)
    assert not told and all(task.cancelled() for task in prober._tasks)
