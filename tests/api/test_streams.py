"""exec, attach, logs, port-forward and proxy: the real kubectl on one side, a fake minion behind the API on the other."""

from __future__ import annotations

import asyncio
import ssl
import struct
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from labctl.sim.remote import FakeHost, FakeRemote, Shell
from tests.api import minions
from tests.inprocess import ApiServer, ended

Lab = tuple[ApiServer, FakeHost, FakeRemote]
EXEC = "/api/v1/namespaces/default/pods/web/exec"


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with minions.lab(tmp_path) as made:
        yield made


async def until(condition: Any, deadline_s: float = 5.0) -> None:
    async with asyncio.timeout(deadline_s):
        while not condition():
            await asyncio.sleep(0.005)


async def test_exec_carries_output_and_exit_status(lab: Lab) -> None:
    api, host, _ = lab
    assert await api.kubectl("exec", "web", "--", "echo", "two  words", "$HOME") == (0, "two  words $HOME\n", "")
    uid = api.resources.view(api.resources.get(api.resources.registry["pods"], "default", "web")).metadata.uid
    wanted = ["/usr/bin/python3", "/opt/labctl/agent", "exec", "--pod", uid, "--container", "nginx", "--", "echo", "two  words", "$HOME"]
    assert host.ran[-1] == wanted
    ran = await api.kubectl("exec", "web", "--", "complain")
    assert (ran.code, ran.out, ran.err) == (3, "out\n", "err\ncommand terminated with exit code 3\n")
    assert (await api.kubectl("exec", "web", "--", "nothing")).code == 127


async def test_exec_carries_input_to_its_end(lab: Lab) -> None:
    api, _, _ = lab
    text = "".join(f"line {n}\n" for n in range(20_000))
    assert await api.kubectl("exec", "-i", "web", "--", "cat", stdin=text) == (0, text, "")


async def test_a_command_that_reads_ends_at_once_where_the_client_gives_no_input(lab: Lab) -> None:
    api, _, _ = lab
    async with asyncio.timeout(20):
        assert await api.kubectl("exec", "web", "--", "cat") == (0, "", "")


async def test_a_terminal_and_its_size(lab: Lab) -> None:
    api, _, _ = lab
    async with api.session() as http:
        path = f"{EXEC}?command=size&tty=true&stdin=true&stdout=true"
        async with http.ws_connect(path, protocols=("v4.channel.k8s.io",)) as socket:
            await socket.send_bytes(b'\x04{"Width":132,"Height":50}')
            assert (await socket.receive(5)).data == b"\x01(132, 50) True\n"
            assert (await socket.receive(5)).data == b'\x03{"metadata":{},"status":"Success"}'


async def test_a_client_that_goes_ends_the_command(lab: Lab) -> None:
    api, host, _ = lab
    async with api.session() as http, http.ws_connect(f"{EXEC}?command=yes&stdout=true", protocols=("v5.channel.k8s.io",)) as socket:
        await socket.receive(5)
        assert host.running
    await until(lambda: not host.running)


@pytest.mark.parametrize("protocol", ["v4.channel.k8s.io", "v5.channel.k8s.io"])
async def test_what_a_client_sent_before_it_went_arrives(lab: Lab, protocol: str) -> None:
    """In v4 a client can't end the command's input but by going, as fabric8 does when it uploads a file."""
    api, host, _ = lab
    data = bytes(range(256)) * 8000
    path = f"{EXEC}?command=keep&command=/file&stdin=true&stdout=true"
    async with api.session() as http, http.ws_connect(path, protocols=(protocol,)) as socket:
        for start in range(0, len(data), 50_000):
            await socket.send_bytes(b"\x00" + data[start : start + 50_000])
    await until(lambda: not host.running)
    assert host.files.get("/file") == data


async def test_attach(lab: Lab) -> None:
    api, _, _ = lab
    async with api.session() as http:
        path = "/api/v1/namespaces/default/pods/web/attach?stdin=true&stdout=true"
        async with http.ws_connect(path, protocols=("v5.channel.k8s.io",)) as socket:
            assert (await socket.receive(5)).data == b"\x01attached\n"
            await socket.send_bytes(b"\x00hello")
            assert (await socket.receive(5)).data == b"\x01HELLO"
            await socket.send_bytes(b"\xff\x00")
            assert b"Success" in (await socket.receive(5)).data


async def test_words_of_exec(lab: Lab) -> None:
    api, _, remote = lab
    await minions.make_pod(api, "two", "a", "b")
    await minions.make_pod(api, "waiting", "a", status={"phase": "Pending"})
    await minions.make_pod(api, "nowhere", "a", node="")
    for arguments, words in (
        (["two"], None),  # kubectl itself takes the first container
        (["two", "-c", "c"], "container c is not valid for pod two"),
        (["waiting"], 'error: unable to upgrade connection: container not found ("a")'),
    ):
        ran = await api.kubectl("exec", *arguments, "--", "echo")
        assert (ran.code == 0) if words is None else (words in ran.err), ran.err
    async with api.session() as http, http.get(f"{EXEC}?command=echo") as answered:
        assert answered.status == 400
    remote.hosts[minions.ADDRESS].up = False
    remote.cut("minion-1")
    ran = await api.kubectl("exec", "web", "--", "echo")
    assert ran.code == 1 and "error dialing backend" in ran.err


async def test_logs(lab: Lab) -> None:
    api, host, _ = lab
    assert (await api.kubectl("logs", "web")).out == "line 0\nline 1\nline 2\n"
    assert (await api.kubectl("logs", "web", "--tail=1")).out == "line 2\n"
    options = ["--timestamps", "--since=5m", "--limit-bytes=99"]
    assert (await api.kubectl("logs", "web", *options)).out.endswith("line 2\nfrom its standard error\n")
    assert (await api.kubectl("logs", "web", "--tail=0", *options)).out == "from its standard error\n"
    assert host.ran[-2][-5:] == ["--timestamps", "--since-seconds", "300", "--limit-bytes", "99"]


async def test_following_a_log_until_the_client_goes(lab: Lab) -> None:
    api, host, _ = lab
    process = await api.start_kubectl("logs", "-f", "web")
    assert process.stdout is not None
    async with asyncio.timeout(10):
        lines = [await process.stdout.readline() for _ in range(5)]
    assert lines[:4] == [b"line 0\n", b"line 1\n", b"line 2\n", b"more\n"]
    await ended(process)
    await until(lambda: not host.running)


async def test_words_of_logs(lab: Lab) -> None:
    api, _, _ = lab

    def waiting(reason: str) -> dict[str, Any]:
        state = {"waiting": {"reason": reason}}
        return {
            "phase": "Pending",
            "containerStatuses": [{"name": "a", "ready": False, "restartCount": 0, "image": "x", "imageID": "", "state": state}],
        }

    await minions.make_pod(api, "two", "a", "b")
    await minions.make_pod(api, "creating", "a", status=waiting("ContainerCreating"))
    await minions.make_pod(api, "pulling", "a", status=waiting("ImagePullBackOff"))
    await minions.make_pod(api, "nowhere", "a", node="")
    logs = "/api/v1/namespaces/default/pods/{}/log"
    async with api.session() as http:
        for path, code, words in (
            (logs.format("two"), 400, "a container name must be specified for pod two, choose one of: [a b]"),
            (logs.format("two") + "?container=c", 400, "container c is not valid for pod two"),
            (logs.format("creating"), 400, 'container "a" in pod "creating" is waiting to start: ContainerCreating'),
            (logs.format("pulling"), 400, 'container "a" in pod "pulling" is waiting to start: trying and failing to pull image'),
            (logs.format("web") + "?previous=true", 400, 'previous terminated container "nginx" in pod "web" not found'),
            (logs.format("web") + "?tailLines=-1", 422, 'PodLogOptions "web" is invalid: tailLines: Invalid value: -1: must be greater than or equal to 0'),
            (logs.format("gone"), 404, 'pods "gone" not found'),
        ):  # fmt: skip
            async with http.get(path) as answered:
                assert (answered.status, (await answered.json())["message"]) == (code, words)
        async with http.get(logs.format("nowhere")) as answered:
            assert (answered.status, await answered.text()) == (200, "")


async def test_an_agent_that_says_no_is_an_error(lab: Lab) -> None:
    api, _, _ = lab
    ended = {"name": "nginx", "ready": True, "restartCount": 1, "image": "x", "imageID": "", "state": {"running": {}}}
    ended["lastState"] = {"terminated": {"exitCode": 1}}
    merge = "application/merge-patch+json"
    patch = {"status": {"containerStatuses": [ended]}}
    await api.resources.patch(api.resources.registry["pods"], "default", "web", patch, merge, subresource="status")
    for options in ([], ["--follow", "--pod-running-timeout=1s"]):  # so long kubectl itself tries again
        ran = await api.kubectl("logs", "web", "--previous", *options)
        assert (ran.code, ran.out) == (1, "") and "the agent says no" in ran.err


async def test_port_forward_as_kubectl_does_it(lab: Lab) -> None:
    api, host, _ = lab
    host.ports[minions.POD_IP, 80] = minions.http(lambda line, headers, body: ("200 OK", line.encode()))
    process = await api.start_kubectl("port-forward", "pod/web", ":80")
    assert process.stdout is not None
    try:
        async with asyncio.timeout(10):
            said = (await process.stdout.readline()).decode()
        port = int(said.split("127.0.0.1:")[1].split(" ")[0])
        for path in ("/a", "/b"):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            answered = await asyncio.wait_for(reader.readuntil(b"HTTP/1.1" + b""), 5) + await asyncio.wait_for(reader.read(1 << 16), 5)
            assert answered.endswith(f"GET {path} HTTP/1.1".encode())
            writer.close()
    finally:
        await ended(process)
    await until(lambda: not host.running)


async def test_port_forward_carries_much_both_ways(lab: Lab) -> None:
    api, host, _ = lab
    host.ports[minions.POD_IP, 7] = minions.echo
    process = await api.start_kubectl("port-forward", "pod/web", ":7")
    assert process.stdout is not None
    try:
        port = int((await asyncio.wait_for(process.stdout.readline(), 10)).decode().split("127.0.0.1:")[1].split(" ")[0])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        sent = bytes(range(256)) * 8192

        async def send() -> None:
            writer.write(sent)
            await writer.drain()
            writer.write_eof()

        sending = asyncio.create_task(send())
        got = await asyncio.wait_for(reader.readexactly(len(sent)), 20)
        await sending
        assert got == sent
        assert await asyncio.wait_for(reader.read(), 5) == b""  # the pod closed, so did kubectl
        writer.close()
    finally:
        await ended(process)


async def test_port_forward_to_a_port_where_nothing_listens(lab: Lab) -> None:
    api, _, _ = lab
    process = await api.start_kubectl("port-forward", "pod/web", ":81")
    assert process.stdout is not None and process.stderr is not None
    try:
        port = int((await asyncio.wait_for(process.stdout.readline(), 10)).decode().split("127.0.0.1:")[1].split(" ")[0])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert await asyncio.wait_for(reader.read(), 5) == b""
        assert b"connection refused" in await asyncio.wait_for(process.stderr.readline(), 5)
        writer.close()
    finally:
        await ended(process)


async def test_port_forward_as_the_python_client_does_it(lab: Lab) -> None:
    api, host, _ = lab
    host.ports[minions.POD_IP, 7] = minions.echo
    path = "/api/v1/namespaces/default/pods/web/portforward?ports=7"
    async with api.session() as http, http.ws_connect(path, protocols=("v4.channel.k8s.io",)) as socket:
        first = {(await socket.receive(5)).data for _ in range(2)}
        assert first == {b"\x00" + struct.pack("<H", 7), b"\x01" + struct.pack("<H", 7)}
        await until(lambda: host.running)
        await socket.send_bytes(b"\x00hello")
        assert (await socket.receive(5)).data == b"\x00hello"


async def test_proxy_to_a_pod(lab: Lab) -> None:
    api, host, _ = lab
    seen: list[Any] = []

    def answer(line: str, headers: dict[str, str], body: bytes) -> tuple[str, bytes]:
        seen.append((line, body))
        assert "connection" not in headers or headers["connection"] == "close"
        return "201 Created\r\nX-Own: yes\r\nContent-Type: text/html", b"<h1>nginx</h1>" if body else b'<a href="/x">x</a>'

    host.ports[minions.POD_IP, 80] = host.ports[minions.POD_IP, 8080] = minions.http(answer)
    base = "/api/v1/namespaces/default/pods"
    async with api.session() as http:
        async with http.post(f"{base}/web/proxy/a/b%20c?x=%20y", data=b"body") as answered:
            assert (answered.status, answered.headers["X-Own"], await answered.text()) == (201, "yes", "<h1>nginx</h1>")
        assert seen.pop() == ("POST /a/b%20c?x=%20y HTTP/1.1", b"body")
        async with http.get(f"{base}/http:web:8080/proxy/") as answered:
            assert (answered.status, await answered.text()) == (201, f'<a href="{base}/http:web:8080/proxy/x">x</a>')
        async with http.get(f"{base}/web/proxy", allow_redirects=False) as answered:
            assert (answered.status, answered.headers["Location"]) == (301, f"{base}/web/proxy/")
        async with http.get(f"{base}/web:81/proxy/") as answered:
            assert answered.status == 503
            assert "error trying to reach service" in (await answered.json())["message"]
    await until(lambda: not host.running)


async def test_a_pod_does_not_learn_who_asks(lab: Lab) -> None:
    """Its server could ask the API in the visitor's name."""
    api, host, _ = lab
    seen: list[dict[str, str]] = []

    def answer(_line: str, headers: dict[str, str], _body: bytes) -> tuple[str, bytes]:
        seen.append(headers)
        return "200 OK", b""

    host.ports[minions.POD_IP, 80] = minions.http(answer)
    secret = {"Authorization": "Bearer secret", "Impersonate-User": "x", "Impersonate-Group": "system:masters", "Cookie": "a=b"}
    async with api.session() as http, http.get("/api/v1/namespaces/default/pods/web/proxy/", headers=secret) as answered:
        assert answered.status == 200, await answered.text()
    (headers,) = seen
    assert headers["cookie"] == "a=b"
    assert not [name for name in headers if name.lower().startswith(("authorization", "impersonate"))]


async def test_a_pod_hears_only_what_the_client_said(lab: Lab) -> None:
    api, host, _ = lab
    seen: list[dict[str, str]] = []

    def answer(_line: str, headers: dict[str, str], _body: bytes) -> tuple[str, bytes]:
        seen.append(headers)
        return "200 OK", b""

    host.ports[minions.POD_IP, 80] = minions.http(answer)
    ours = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
    async with (
        api.session() as http,
        http.post("/api/v1/namespaces/default/pods/web/proxy/", data=b"{}", skip_auto_headers=ours) as answered,
    ):
        assert answered.status == 200, await answered.text()
    (headers,) = seen
    assert not {"accept", "accept-encoding", "content-type", "user-agent"} & {name.lower() for name in headers}


@pytest.mark.parametrize("port", ["²", "99999", "9" * 5000, "٣", "-1"])
async def test_a_port_that_is_none_is_said(lab: Lab, port: str) -> None:
    api, _, _ = lab
    async with api.session() as http, http.get(f"/api/v1/namespaces/default/pods/web:{port}/proxy/") as answered:
        assert answered.status == 400 and "a pod's is a number" in (await answered.json())["message"]


async def test_proxy_to_a_service(lab: Lab) -> None:
    api, host, _ = lab
    host.ports[minions.POD_IP, 80] = minions.http(lambda line, headers, body: ("302 Found\r\nLocation: /moved", b""))
    ports = [{"name": "http", "port": 8000, "targetPort": 80}]
    await minions.create(api, "services", {"metadata": {"name": "web-service"}, "spec": {"selector": {"name": "nginx"}, "ports": ports}})
    base = "/api/v1/namespaces/default/services"
    async with api.session() as http:
        async with http.get(f"{base}/web-service:http/proxy/") as answered:
            assert answered.status == 503
            assert (await answered.json())["message"] == 'no endpoints available for service "web-service"'
        subset = {"addresses": [minions.ENDPOINT], "ports": [{"name": "http", "port": 80}]}
        await minions.create(api, "endpoints", {"metadata": {"name": "web-service"}, "subsets": [subset]})
        for name in ("web-service:http", "web-service:8000", "http:web-service:http"):
            async with http.get(f"{base}/{name}/proxy/", allow_redirects=False) as answered:
                assert (answered.status, answered.headers["Location"]) == (302, f"{base}/{name}/proxy/moved")
        async with http.get(f"{base}/web-service:9/proxy/") as answered:
            assert (await answered.json())["message"] == 'no service port 9 found for service "web-service"'


async def test_proxy_to_what_speaks_tls(lab: Lab) -> None:
    """The pod's certificate is its own, and is not checked, as in Kubernetes."""
    api, host, _ = lab
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(api.directory / "pki" / "server.crt", api.directory / "pki" / "server.key")

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = (await reader.readuntil(b"\r\n\r\n")).partition(b"\r\n")[0]
        head = f"HTTP/1.1 302 Found\r\nLocation: https://{minions.POD_IP}:8443/moved\r\nContent-Length: {len(line)}\r\n\r\n"
        writer.write(head.encode() + line)
        writer.close()

    async def plain(shell: Shell) -> int:
        """What speaks no TLS takes a hello for a bad request, as nginx does."""
        await shell.read()
        await shell.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        return 0

    async with await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context) as server:
        host.ports[minions.POD_IP, 8443] = minions.to_loopback(server.sockets[0].getsockname()[1])
        host.ports[minions.POD_IP, 80] = plain
        await minions.create(api, "services", {"metadata": {"name": "web-service"}, "spec": {"ports": [{"name": "s", "port": 443}]}})
        subset = {"addresses": [minions.ENDPOINT], "ports": [{"name": "s", "port": 8443}]}
        await minions.create(api, "endpoints", {"metadata": {"name": "web-service"}, "subsets": [subset]})
        base = "/api/v1/namespaces/default"
        async with api.session() as http:
            for path in ("pods/https:web:8443", "services/https:web-service:443", "services/https:web-service:s"):
                async with http.get(f"{base}/{path}/proxy/a?b", allow_redirects=False) as answered:
                    assert (answered.status, await answered.text()) == (302, "GET /a?b HTTP/1.1")
                    assert answered.headers["Location"] == f"{base}/{path}/proxy/moved"
            async with http.get(f"{base}/pods/https:web:80/proxy/") as answered:
                assert answered.status == 503
                assert "error trying to reach service" in (await answered.json())["message"]
            for wrong in ("ftp:web:80", "https:web:80:1", "https::80", ":"):
                async with http.get(f"{base}/pods/{wrong}/proxy/") as answered:
                    assert answered.status == 400
    await until(lambda: not host.running)


async def test_a_lab_without_machines_says_so(api: ApiServer) -> None:
    await minions.make_pod(api, "web", "nginx")
    ran = await api.kubectl("exec", "web", "--", "ls")
    assert ran.code == 1 and "this lab has no machines to reach" in ran.err


async def test_stopping_ends_every_stream_at_once(lab: Lab) -> None:
    api, host, _ = lab
    async with api.session() as http, http.ws_connect(f"{EXEC}?command=yes&stdout=true", protocols=("v5.channel.k8s.io",)) as socket:
        await socket.receive(5)
        async with asyncio.timeout(1):
            await api.server.stop()
        assert not host.running


async def test_a_service_in_a_browser_through_kubectl_proxy(lab: Lab) -> None:
    api, host, _ = lab
    host.ports[minions.POD_IP, 80] = minions.http(
        lambda line, headers, body: ("200 OK\r\nContent-Type: text/html", b"<h1>Welcome to nginx!</h1>")
    )
    await minions.create(api, "services", {"metadata": {"name": "web-service"}, "spec": {"ports": [{"port": 80}]}})
    subset = {"addresses": [minions.ENDPOINT], "ports": [{"port": 80}]}
    await minions.create(api, "endpoints", {"metadata": {"name": "web-service"}, "subsets": [subset]})
    process = await api.start_kubectl("proxy", "--port=0")
    assert process.stdout is not None
    try:
        address = (await asyncio.wait_for(process.stdout.readline(), 10)).decode().split()[-1]
        async with aiohttp.ClientSession() as http:
            async with http.get(f"http://{address}/api/v1/namespaces/default/services/web-service/proxy/") as answered:
                assert "Welcome to nginx!" in await answered.text()
    finally:
        await ended(process)


async def test_an_answer_that_breaks_off_is_seen_to(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    api, host, _ = lab

    async def half(shell: Shell) -> int:
        await shell.read()
        await shell.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        return 0

    host.ports[minions.POD_IP, 80] = half
    async with api.session() as http, http.get("/api/v1/namespaces/default/pods/web/proxy/") as answered:
        assert answered.status == 200
        with pytest.raises(aiohttp.ClientPayloadError):
            await answered.read()
    assert not caplog.records


async def test_a_client_that_goes_in_the_middle_makes_no_noise(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    api, host, _ = lab

    async def endless(shell: Shell) -> int:
        await shell.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            await shell.write(b"x" * 10_000)

    host.ports[minions.POD_IP, 80] = endless
    async with api.session() as http, http.get("/api/v1/namespaces/default/pods/web/proxy/") as answered:
        await answered.content.read(100_000)
        answered.close()
    await until(lambda: not host.running)
    assert not caplog.records


@pytest.mark.parametrize("protocol", ["", "channel.k8s.io", "base64.channel.k8s.io", "v4.base64.channel.k8s.io", "v4.channel.k8s.io"])
async def test_exec_in_every_form_of_a_websocket(lab: Lab, protocol: str) -> None:
    """Older forms hear of failures alone, as text; base64 forms are text messages: a digit, then the bytes."""
    api, _, _ = lab
    text = "base64" in protocol

    def form(channel: int, data: bytes) -> str | bytes:
        return f"{channel}{b64encode(data).decode()}" if text else bytes((channel,)) + data

    async with api.session() as http:
        path = f"{EXEC}?command=complain&stdout=true&stderr=true"
        async with http.ws_connect(path, protocols=(protocol,) if protocol else ()) as socket:
            assert socket.protocol == (protocol or None)
            assert [(await socket.receive(5)).data for _ in range(2)] == [form(1, b"out\n"), form(2, b"err\n")]
            said = (await socket.receive(5)).data
            ended = b64decode(said[1:]) if text else said[1:]
            words = b"command terminated with non-zero exit code: exit status 3"
            assert words in ended and (protocol.startswith("v4") == ended.startswith(b"{"))
        async with http.ws_connect(f"{EXEC}?command=echo&command=hi&stdout=true", protocols=(protocol,) if protocol else ()) as socket:
            assert (await socket.receive(5)).data == form(1, b"hi\n")
            last = await socket.receive(5)
            assert (last.type is aiohttp.WSMsgType.CLOSE) == (not protocol.startswith("v4"))
        async with http.ws_connect(f"{EXEC}?command=cat&stdin=true&stdout=true", protocols=(protocol,) if protocol else ()) as socket:
            sent = form(0, b"\x00typed\xff")
            await (socket.send_str(sent) if isinstance(sent, str) else socket.send_bytes(sent))
            assert (await socket.receive(5)).data == form(1, b"\x00typed\xff")


async def test_what_is_no_base64_ends_the_stream(lab: Lab) -> None:
    api, host, _ = lab
    path = f"{EXEC}?command=cat&stdin=true&stdout=true"
    async with api.session() as http, http.ws_connect(path, protocols=("base64.channel.k8s.io",)) as socket:
        await socket.send_str("0###")
        assert (await socket.receive(5)).type is aiohttp.WSMsgType.CLOSE
    await until(lambda: not host.running)


async def test_a_terminal_follows_each_resize_and_no_nonsense(lab: Lab) -> None:
    api, host, _ = lab
    sizes: list[tuple[int, int]] = []

    async def program(shell: Shell) -> int:
        shell.sizes = sizes
        return 0 if await shell.read() else 1

    host.programs["python3"] = program
    async with api.session() as http:
        path = f"{EXEC}?command=x&tty=true&stdin=true&stdout=true"
        async with http.ws_connect(path, protocols=("v5.channel.k8s.io",)) as socket:
            for said in (b'{"Width":132,"Height":50}', b"[]", b"{", b'{"Width":-1,"Height":5}', b'{"Width":99999999999,"Height":5}',
                         b'{"Width":0,"Height":0}', b"\xff", b'{"Width":80,"Height":24}'):  # fmt: skip
                await socket.send_bytes(b"\x04" + said)
            await socket.send_bytes(b"\x00end")
            assert b"Success" in (await socket.receive(5)).data
    assert sizes == [(132, 50), (80, 24)]


async def test_a_subprotocol_that_nobody_speaks(lab: Lab) -> None:
    api, _, _ = lab
    async with api.session() as http:
        for path in (
            f"{EXEC}?command=x",
            "/api/v1/namespaces/default/pods/web/portforward?ports=7",
            "/api/v1/namespaces/default/pods/web/log",
        ):
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await http.ws_connect(path, protocols=("v9.channel.k8s.io",))
            assert refused.value.status == 400


@pytest.mark.parametrize("protocol", ["", "v4.channel.k8s.io", "v4.base64.channel.k8s.io"])
async def test_port_forward_keeps_what_comes_before_the_pod_is_dialled(lab: Lab, protocol: str) -> None:
    api, host, remote = lab
    host.ports[minions.POD_IP, 7] = host.ports[minions.POD_IP, 8] = minions.echo
    may_open, opened = asyncio.Event(), remote.open

    async def later(name: str, argv: Sequence[str], **options: Any) -> Any:
        await may_open.wait()
        return await opened(name, argv, **options)

    remote.open = later  # type: ignore[method-assign]
    text = "base64" in protocol

    def form(channel: int, data: bytes) -> str | bytes:
        return f"{channel}{b64encode(data).decode()}" if text else bytes((channel,)) + data

    path = "/api/v1/namespaces/default/pods/web/portforward?ports=7&ports=8"
    async with api.session() as http, http.ws_connect(path, protocols=(protocol,) if protocol else ()) as socket:
        for channel, port in ((0, 7), (1, 7), (2, 8), (3, 8)):
            assert (await socket.receive(5)).data == form(channel, struct.pack("<H", port))
        for part in (b"early ", b"bytes"):
            await (socket.send_str(form(2, part)) if text else socket.send_bytes(form(2, part)))  # type: ignore[arg-type]
        may_open.set()
        got = b""
        while len(got) < 11:
            data = (await socket.receive(5)).data
            assert data[:1] == form(2, b"")[:1]
            got += b64decode(data[1:]) if text else data[1:]
        assert got == b"early bytes"


async def test_a_pod_that_reads_nothing_bounds_what_is_kept_and_a_pod_that_ends_holds_up_nobody(lab: Lab) -> None:
    api, host, _ = lab
    end = asyncio.Event()

    async def deaf(shell: Shell) -> int:
        await end.wait()
        return 0

    host.ports[minions.POD_IP, 7], host.ports[minions.POD_IP, 8] = deaf, minions.echo
    path = "/api/v1/namespaces/default/pods/web/portforward?ports=7,8"
    async with api.session() as http, http.ws_connect(path, protocols=("v4.channel.k8s.io",)) as socket:
        for _ in range(4):
            await socket.receive(5)
        sending = asyncio.create_task(_send_much(socket, 64 << 20))
        await asyncio.wait([sending], timeout=0.5)
        assert not sending.done(), "the client is held up, not the master's memory"
        end.set()
        await asyncio.wait_for(sending, 20)
        await socket.send_bytes(b"\x02hello")
        assert (await socket.receive(5)).data == b"\x02hello"


async def _send_much(socket: aiohttp.ClientWebSocketResponse, size: int) -> None:
    for _ in range(size >> 20):
        await socket.send_bytes(b"\x00" + b"x" * (1 << 20))


@pytest.mark.parametrize("protocol", ["", "binary.k8s.io", "base64.binary.k8s.io"])
async def test_logs_over_a_websocket(lab: Lab, protocol: str) -> None:
    """An empty message says that it begins, as from a real server."""
    api, host, _ = lab
    path = "/api/v1/namespaces/default/pods/web/log"
    async with api.session() as http:
        async with http.ws_connect(path, protocols=(protocol,) if protocol else ()) as socket:
            assert socket.protocol == (protocol or None)
            said = [message.data async for message in socket]
            assert len(said[0]) == 0
            parts = [b64decode(part) if protocol.startswith("base64") else part for part in said]
            assert b"".join(parts) == b"line 0\nline 1\nline 2\n"
        async with http.ws_connect(f"{path}?follow=true", protocols=(protocol,) if protocol else ()) as socket:
            for _ in range(6):
                await socket.receive(5)
            assert host.running
        await until(lambda: not host.running)
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await http.ws_connect(f"{path}?container=c")
        assert refused.value.status == 400
