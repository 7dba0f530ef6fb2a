"""What a pod's answer, a pod's status or hand-made endpoints may not do through the API's proxy to whoever asks, and to where the master connects."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from labctl.sim.remote import FakeHost, FakeRemote, Shell
from tests.api import minions
from tests.inprocess import ApiServer

Lab = tuple[ApiServer, FakeHost, FakeRemote]
BASE = "/api/v1/namespaces/default"
POD = f"{BASE}/pods/web/proxy"
SERVICE = f"{BASE}/services/web-service/proxy"


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with minions.lab(tmp_path) as made:
        yield made


def says(host: FakeHost, answer: bytes, address: str = minions.POD_IP) -> list[bytes]:
    """Let whoever is connected to there say this, whatever it is asked. Return the list of what it is asked."""
    asked: list[bytes] = []

    async def program(shell: Shell) -> int:
        asked.append(await shell.read())
        await shell.write(answer)
        return 0

    host.ports[address, 80] = program
    return asked


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "127.8.9.1", "0.0.0.0", "169.254.169.254", "224.0.0.1", "239.1.2.3", "::1", "fe80::1"],
)
async def test_a_pod_whose_status_names_no_address_of_a_pod_is_not_connected_to(lab: Lab, address: str) -> None:
    """Its machine's own programs, which trust their machine, would be asked."""
    api, host, _ = lab
    asked = says(host, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", address)
    status = minions.running("liar", "nginx") | {"podIP": address, "podIPs": [{"ip": address}]}
    await minions.make_pod(api, "liar", "nginx", status=status)
    await _serve(api, {"ip": minions.POD_IP, "targetRef": {"kind": "Pod", "namespace": "default", "name": "liar"}})
    async with api.session() as http:
        async with http.get(f"{BASE}/pods/liar/proxy/") as answered:
            assert (answered.status, (await answered.json())["message"]) == (400, "address not allowed")
        async with http.get(f"{SERVICE}/") as answered:
            assert answered.status == 503
    assert not asked


async def _serve(api: ApiServer, address: dict[str, Any]) -> None:
    await minions.create(api, "services", {"metadata": {"name": "web-service"}, "spec": {"ports": [{"port": 80}]}})
    subset = {"addresses": [address], "ports": [{"port": 80}]}
    await minions.create(api, "endpoints", {"metadata": {"name": "web-service"}, "subsets": [subset]})


@pytest.mark.parametrize(
    "address",
    [
        {"ip": minions.POD_IP, "nodeName": "minion-1"},
        {"ip": "10.245.0.1", "nodeName": "minion-1", "targetRef": {"kind": "Pod", "namespace": "default", "name": "web"}},
        {"ip": minions.POD_IP, "targetRef": {"kind": "Pod", "namespace": "default", "name": "absent"}},
        {"ip": minions.POD_IP, "targetRef": {"kind": "Pod", "namespace": "other", "name": "web"}},
    ],
    ids=["of nobody", "another address", "no such pod", "another namespace"],
)
async def test_hand_made_endpoints_lead_the_proxy_to_pods_of_their_namespace_only(lab: Lab, address: dict[str, Any]) -> None:
    """Who may write Endpoints, and ask a Service through the API, would reach what only the machines reach, past every NetworkPolicy."""
    api, host, _ = lab
    await minions.create(api, "namespaces", {"metadata": {"name": "other"}})
    await minions.create(api, "pods", {"metadata": {"name": "web"}, "spec": {"containers": [{"name": "a", "image": "x"}]}}, "other")
    asked = says(host, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", address["ip"])
    await _serve(api, address)
    async with api.session() as http, http.get(f"{SERVICE}/") as answered:
        assert (answered.status, (await answered.json())["message"]) == (503, 'no endpoints available for service "web-service"')
    assert not asked


async def test_the_machine_of_an_endpoint_is_its_pods_whatever_the_endpoint_says(lab: Lab) -> None:
    api, host, _ = lab
    asked = says(host, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    await _serve(api, minions.ENDPOINT | {"nodeName": "elsewhere"})
    async with api.session() as http, http.get(f"{SERVICE}/") as answered:
        assert answered.status == 200 and len(asked) == 1


async def test_a_pods_answer_says_nothing_about_other_origins_and_has_the_usual_reason(lab: Lab) -> None:
    api, host, _ = lab
    cors = b"".join(b"access-CONTROL-allow-%s: *\r\n" % what for what in (b"Origin", b"Credentials", b"Methods", b"Headers"))
    says(host, b"HTTP/1.1 200 \x1b[2J You are hacked\r\n" + cors + b"X-Own: yes\r\nContent-Length: 0\r\n\r\n")
    async with api.session() as http, http.get(f"{POD}/") as answered:
        assert (answered.status, answered.reason, answered.headers["X-Own"]) == (200, "OK", "yes")
        assert not [name for name in answered.headers if name.lower().startswith("access-control")]


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nX-A: \x1b[2J\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nSet-Cookie: a[]=\x01b; Path=/\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nX-A: a\x7fb\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nbytes",
        b"HTTP/1.1 000 Odd\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 099 Odd\r\nContent-Length: 2\r\n\r\nok",
    ],
)
async def test_an_answer_that_is_none_is_an_error_and_makes_no_noise(lab: Lab, answer: bytes, caplog: pytest.LogCaptureFixture) -> None:
    api, host, _ = lab
    says(host, answer)
    async with api.session() as http:
        async with http.get(f"{POD}/") as answered:
            assert answered.status == 503
            assert "error trying to reach service: malformed HTTP response" in (await answered.json())["message"]
        async with http.get(f"{BASE}/pods/web") as answered:
            assert answered.status == 200 and (await answered.json())["metadata"]["name"] == "web"
    assert not caplog.records


@pytest.mark.parametrize("path", ["a%0d%0aX-Remote-User:%20admin", "%00", "%1b%5b2J", "%c3%a9%ff"])
async def test_a_path_becomes_no_header(lab: Lab, path: str, caplog: pytest.LogCaptureFixture) -> None:
    api, host, _ = lab
    asked = says(host, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    from yarl import URL

    async with api.session() as http, http.get(URL(f"{POD}/{path}", encoded=True), headers={"X-Remote-User": "forged"}) as answered:
        assert answered.status == 200, await answered.text()
    [head] = asked
    assert head.startswith(b"GET /" + path.encode() + b" HTTP/1.1\r\n")
    assert b"x-remote-user" not in head.lower().partition(b"\r\n")[2].replace(b"%0d%0ax-remote-user", b"") and not caplog.records


@pytest.mark.parametrize(
    ("location", "becomes"),
    [
        ("https://{own}/api/v1/namespaces/default/secrets/x", "{proxy}/api/v1/namespaces/default/secrets/x"),
        ("http://{own}/x", "{proxy}/x"),
        ("//{own}/x?a=b", "{proxy}/x?a=b"),
        ("https://{own}{proxy}/x", "{proxy}/x"),
        ("https://{own}", "{proxy}/"),
        (f"http://{minions.POD_IP}:80/x", "{proxy}/x"),
        (f"http://{minions.POD_IP}", "{proxy}/"),
        ("/api/v1/secrets", "{proxy}/api/v1/secrets"),
        ("///x", "{proxy}///x"),
        ("http://example.com/api", "http://example.com/api"),
        ("https://[::1", "https://[::1"),
        ("x", "x"),
    ],
)
async def test_a_redirect_to_this_servers_own_address_stays_below_the_pods_path(lab: Lab, location: str, becomes: str) -> None:
    """A pod may send its client to itself and to others, but not to an object of the API in the client's name."""
    api, host, _ = lab
    async with api.session() as http:
        said = location.format(own="the.api:6443", proxy=POD)
        says(host, f"HTTP/1.1 307 Moved\r\nLocation: {said}\r\nContent-Length: 0\r\n\r\n".encode())
        async with http.put(f"{POD}/a", allow_redirects=False, headers={"Host": "the.api:6443"}) as answered:
            assert (answered.status, answered.headers["Location"]) == (307, becomes.format(proxy=POD))
