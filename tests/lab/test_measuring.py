"""Where `labctl measure` sends to, and what it refuses before anything is sent; with an API that answers from a table."""

import signal
import sys
import threading
import time
from types import SimpleNamespace

import pytest

from labctl.errors import LabctlError
from labctl.lab.measuring.running import Running
from labctl.lab.measuring.sources import SourcePlan
from labctl.lab.measuring.target import Asked, Target, resolve
from labctl.measure import program


def service(*ports: dict, address: str = "10.247.0.5") -> dict:
    return {"spec": {"clusterIP": address, "ports": [{"protocol": "TCP", **port} for port in ports]}}


OBJECTS = {
    "/api/v1/namespaces/default/services/web": service({"port": 80, "nodePort": 30080}),
    "/api/v1/namespaces/shop/services/db": service({"name": "pg", "port": 5432}, {"name": "metrics-http", "port": 9187}),
    "/api/v1/namespaces/shop/services/secure": service({"port": 8443}),
    "/api/v1/namespaces/kube-system/services/kube-dns": service(
        {"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns-tcp", "port": 53}
    ),
    "/api/v1/namespaces/default/services/none": service({"port": 80}, address="None"),
    "/apis/labctl.internal/v1/machines": {
        "items": [{"metadata": {"name": "minion-1"}, "spec": {}, "status": {"address": "10.245.1.11", "power": "On"}}]
    },
    "/api/v1/nodes": {"items": [{"spec": {"podCIDR": "10.246.1.0/24"}}]},
}


SETTINGS = {
    "addresses.services": "10.247.0.0/16", "addresses.machines": "10.245.1.0/24", "addresses.load_balancers": "", "provider": "namespace",
}  # fmt: skip


@pytest.fixture
def lab(tmp_path):
    api = SimpleNamespace(find=OBJECTS.get, get=OBJECTS.__getitem__)
    return SimpleNamespace(api=api, settings=SETTINGS, paths=SimpleNamespace(lab=tmp_path))


@pytest.mark.parametrize(
    "target, namespace, place",
    [
        ("web", "default", ("http", "10.247.0.5", 80)),
        ("svc/web", "default", ("http", "10.247.0.5", 80)),
        ("service/web:80", "default", ("http", "10.247.0.5", 80)),
        ("shop/db:pg", "default", ("tcp", "10.247.0.5", 5432)),
        ("svc/shop/db:metrics-http", "default", ("http", "10.247.0.5", 9187)),
        ("db:5432", "shop", ("tcp", "10.247.0.5", 5432)),
        ("secure", "shop", ("https", "10.247.0.5", 8443)),
        ("kube-dns:dns", "kube-system", ("udp", "10.247.0.5", 53)),
        ("kube-dns:dns-tcp", "kube-system", ("tcp", "10.247.0.5", 53)),
        ("http://10.246.1.7/x?y=1", "default", ("http", "10.246.1.7", 80)),
        ("https://web.default.svc.cluster.local", "shop", ("https", "10.247.0.5", 443)),
        ("tcp://minion-1:22", "default", ("tcp", "10.245.1.11", 22)),
        ("udp://localhost:99", "default", ("udp", "127.0.0.1", 99)),
    ],
)
def test_where_requests_go(lab, target, namespace, place):
    found = resolve(lab, Asked(target=target, namespace=namespace))
    assert (found.protocol, found.address, found.port) == place


def test_what_is_asked_for_by_http(lab):
    found = resolve(lab, Asked(target="web", path="/healthz", keepalive=True))
    assert found.request.startswith("GET /healthz HTTP/1.1\r\nHost: web.default.svc\r\n") and "Connection: keep-alive\r\n" in found.request
    assert resolve(lab, Asked(target="http://10.246.1.7:81/x?y=1")).request.startswith("GET /x?y=1 HTTP/1.1\r\nHost: 10.246.1.7:81\r\n")
    assert found.node_port == 30080


@pytest.mark.parametrize(
    "target, said",
    [
        ("nobody", "there is no Service nobody"),
        ("none", "Service none has no virtual IP"),
        ("shop/db", "Service db has several ports: write db:pg, db:metrics-http"),
        ("web:ftp", "Service web has no port ftp: write web:80"),
        ("Web!", "is no Service and no URL"),
        ("http://1.1.1.1", "is no address of this lab"),
        ("http://10.246.2.1", "is no address of this lab"),
        ("http://10.245.1.12", "is no address of this lab"),
        ("http://[::1]/", "is no address of this lab"),
        ("http://0x7f000001/", "is no Service and no machine"),
        ("http://web.default.example.com", "is no Service and no machine"),
        ("http://user:secret@10.246.1.7/", "can't be measured"),
        ("ftp://10.246.1.7/", "can't be measured"),
        ("tcp://10.246.1.7", "names no port"),
        ("http://10.246.1.7:99999/", "is no URL"),
        ("http://10.246.1.7/a b", "has no proper path"),
        ("http://10.246.1.7/\r\nX: y", "has no proper path"),
        ("http:///x", "can't be measured"),
        ("http://[", "is no URL"),
    ],
)
def test_nothing_is_sent_elsewhere_and_bad_input_is_one_line(lab, target, said):
    with pytest.raises(LabctlError) as error:
        resolve(lab, Asked(target=target))
    assert said in str(error.value) and "\n" not in str(error.value)


def test_a_path_can_not_smuggle_a_header_in(lab):
    for path in ("healthz", "/a\r\nX: y", "/a b", "/\u00fc", "/" + "x" * 5000):
        with pytest.raises(LabctlError, match="is no path"):
            resolve(lab, Asked(target="web", path=path))


# -- running, with load programs on this host that ask its loopback


def no_master():
    raise LabctlError("no master runs")


def running(*names: str, port: int = 9, count: int = 100_000, **settings) -> Running:
    """Sources whose program runs here, as the host's. `minion-1` is one whose program stands still on SIGSTOP."""
    argv = (sys.executable, *program.ARGV[1:])
    plans = [SourcePlan(name, argv, machine="", address="127.0.0.1", port=port) for name in names]
    said = {"protocol": "tcp", "request": "", "keepalive": False, "rate": 100.0, "count": count, "deadline_s": 0.5, "in_flight": 100}
    return Running(no_master, Target("tcp://127.0.0.1:9", "tcp", "127.0.0.1", port), plans, {**said, **settings})


def test_sources_go_on_when_one_of_them_is_killed():
    with running("host", "minion-1") as measuring:
        ticks = measuring.ticks()
        next(ticks)
        measuring.sources[1]._process.kill()
        next(ticks)
        next(ticks)
        measurement = measuring.stop()
    survivor, lost = measurement.sources
    assert "connection" not in survivor.trouble and lost.trouble.startswith("its connection ended")
    assert survivor.sent > lost.sent + 50 > 100
    assert {request.outcome for request in measurement.requests} == {"refused"}
    assert measuring.stop() is measurement


def test_a_measurement_ends_by_itself_and_its_ticks_count_every_request():
    with running("host", count=150) as measuring:
        ticks = list(measuring.ticks())
        measurement = measuring.stop()
    assert ticks[-1].over and sum(tick.sources[0].failed for tick in ticks) == 150 == len(measurement.requests)


def test_an_interrupted_stop_can_be_called_again():
    """Ctrl-C while a silent source is waited for, and again."""
    with running("host", "minion-1") as measuring:
        next(measuring.ticks())
        measuring.sources[1]._process.send_signal(signal.SIGSTOP)
        main = threading.get_ident()
        threading.Timer(1.0, lambda: signal.pthread_kill(main, signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt):
            measuring.stop()
        begun = time.monotonic()
        measuring.hurry()
        measurement = measuring.stop()
    assert time.monotonic() - begun < 5
    assert measurement.sources[1].trouble.startswith("nothing was heard of it for ") and len(measurement.requests) > 150


def test_a_source_that_can_not_be_started_is_one_line_and_ends_the_others():
    plans = [SourcePlan("host", (sys.executable, *program.ARGV[1:]), address="127.0.0.1", port=9)]
    plans.append(SourcePlan("minion-1", (sys.executable, "-c", "raise SystemExit('no such machine')"), address="127.0.0.1", port=9))
    settings = {"protocol": "tcp", "request": "", "keepalive": False, "rate": 100.0, "count": 100, "deadline_s": 0.5, "in_flight": 100}
    with pytest.raises(LabctlError) as error:
        Running(no_master, Target("x", "tcp", "127.0.0.1", 9), plans, settings)
    assert str(error.value) == "nothing can be sent from minion-1: its connection ended: no such machine"


HOSTILE = """
import time
print('h {"time": "%s", "in_flight": 1}' % __import__("os").readlink("/proc/self/ns/time"), flush=True)
time.sleep(2)
print("r 0 0 0 0 1 o 200 77", flush=True)
time.sleep(60)
"""


def test_a_machine_that_says_something_else_is_not_believed_and_the_others_go_on():
    plans = [SourcePlan("host", (sys.executable, *program.ARGV[1:]), address="127.0.0.1", port=9)]
    plans.append(SourcePlan("minion-1", (sys.executable, "-c", HOSTILE), address="127.0.0.1", port=9))
    settings = {"protocol": "tcp", "request": "", "keepalive": False, "rate": 100.0, "count": 300, "deadline_s": 0.5, "in_flight": 100}
    with Running(no_master, Target("x", "tcp", "127.0.0.1", 9), plans, settings, ready_s=1.0) as measuring:
        list(measuring.ticks())
        measurement = measuring.stop()
    assert measurement.sources[1].trouble.startswith("it said what no load program says: ")
    assert {request.source for request in measurement.requests} == {"host"} and len(measurement.requests) == 300
