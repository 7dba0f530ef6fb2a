"""Where `labctl measure` sends to, and what it refuses before anything is sent; with an API that answers from a table."""

from types import SimpleNamespace

import pytest

from labctl.errors import LabctlError
from labctl.lab.measuring.target import Asked, resolve


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


@pytest.fixture
def lab(tmp_path):
    api = SimpleNamespace(find=OBJECTS.get, get=OBJECTS.__getitem__)
    return SimpleNamespace(api=api, settings={"addresses.services": "10.247.0.0/16"}, paths=SimpleNamespace(lab=tmp_path))


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
