"""exec, logs, attach and port-forward into a real pod by the Python clients that have them: each speaks the WebSocket in a way of its own."""

import asyncio
import json
import threading
import urllib.request
from contextlib import contextmanager

import pytest

from tests.e2e.cluster import PATIENCE, wait
from tests.e2e.test_workloads import pod, running

SAYS = "cat; echo oops >&2; exit 3"
PATIENCE_S = 20 * PATIENCE


@pytest.fixture(scope="module")
def web(cluster):
    """A web server whose log grows with each request, and a pod that only waits."""
    cluster.kubectl("create", "-f", "-", input=json.dumps(pod("waits", "sleep", "1000")))
    cluster.kubectl("create", "-f", "-", input=json.dumps(pod("web", image="nginx", container={"ports": [{"containerPort": 80}]})))
    for name in ("waits", "web"):
        running(cluster, name)
    yield str(cluster.folder / ".labctl" / "kubeconfig")
    cluster.clear()


@contextmanager
def opened(port):
    """The page behind a forwarded port."""
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"http://127.0.0.1:{port}/", timeout=PATIENCE_S) as answer:
        yield answer.read().decode()


def test_the_official_client(web):
    client, config, stream = (
        pytest.importorskip("kubernetes.client"),
        pytest.importorskip("kubernetes.config"),
        pytest.importorskip("kubernetes.stream"),
    )
    core = client.CoreV1Api(config.new_client_from_config(web))
    options = {"stderr": True, "stdin": True, "stdout": True, "tty": False, "_preload_content": False, "_request_timeout": PATIENCE_S}
    session = stream.stream(core.connect_get_namespaced_pod_exec, "waits", "default", command=["sh", "-c", "read x; echo got $x; echo oops >&2; exit 3"], **options)  # fmt: skip
    session.write_stdin("tea\n")
    session.run_forever(timeout=PATIENCE_S)
    assert (session.read_stdout(), session.read_stderr(), session.returncode) == ("got tea\n", "oops\n", 3)
    core = client.CoreV1Api(config.new_client_from_config(web))
    forward = stream.portforward(core.connect_get_namespaced_pod_portforward, "web", "default", ports="80")
    socket = forward.socket(80)
    socket.settimeout(PATIENCE_S)
    socket.sendall(b"GET / HTTP/1.0\r\nHost: web\r\n\r\n")
    said = b""
    while part := socket.recv(65536):
        said += part
    assert said.startswith(b"HTTP/1.1 200") and b"nginx" in said and forward.error(80) is None
    core = client.CoreV1Api(config.new_client_from_config(web))
    assert "GET / HTTP/1.0" in core.read_namespaced_pod_log("web", "default", tail_lines=1)
    followed = core.read_namespaced_pod_log("web", "default", follow=True, _preload_content=False, _request_timeout=PATIENCE_S)
    assert b"GET / HTTP/1.0" in next(iter(followed.stream()))
    followed.close()


async def test_kubernetes_asyncio(web):
    library = pytest.importorskip("kubernetes_asyncio")
    await library.config.load_kube_config(web)
    async with asyncio.timeout(PATIENCE_S), library.stream.WsApiClient() as sockets:
        core = library.client.CoreV1Api(api_client=sockets)
        options = {"stderr": True, "stdin": False, "stdout": True, "tty": False}
        said = await core.connect_get_namespaced_pod_exec("waits", "default", command=["sh", "-c", "echo out; echo err >&2"], **options)
        assert sorted(said.split()) == ["err", "out"]
        opened = await core.connect_get_namespaced_pod_exec("waits", "default", command=["sh", "-c", "exit 3"], _preload_content=False, **options)  # fmt: skip
        async with opened as socket:
            errors = [message.data[1:] async for message in socket if message.data[0] == library.stream.ws_client.ERROR_CHANNEL]
        assert sockets.parse_error_data(errors[0]) == 3


async def test_kr8s(web):
    kr8s = pytest.importorskip("kr8s.asyncio")
    api = await kr8s.api(kubeconfig=web)
    [waits] = [each async for each in api.get("pods", "waits")]
    [server] = [each async for each in api.get("pods", "web")]
    async with asyncio.timeout(PATIENCE_S):
        done = await waits.exec(["sh", "-c", "echo tea; echo oops >&2; exit 3"], check=False)
        assert (done.stdout, done.stderr, done.returncode) == (b"tea\n", b"oops\n", 3)
        async with server.portforward(remote_port=80, local_port="auto") as port:
            page = await asyncio.to_thread(lambda: opened(port).__enter__())
            assert "nginx" in page
        assert any("GET /" in line for line in [each async for each in server.logs(tail_lines=5)])


def test_lightkube(web):
    lightkube = pytest.importorskip("lightkube")
    client = lightkube.Client(lightkube.KubeConfig.from_file(web).get(), namespace="default")
    done = client.exec("waits", command=["sh", "-c", SAYS], stdin="tea", stdout=True, stderr=True, timeout=PATIENCE_S)
    assert (done.stdout, done.stderr, done.exit_code) == ("tea", "oops\n", 3)
    lines, heard = client.log("web", follow=True, tail_lines=1), []
    threading.Thread(target=lambda: heard.append(next(iter(lines))), daemon=True).start()
    wait(lambda: heard, "a line of the log")


def test_pykube(web):
    pykube = pytest.importorskip("pykube")
    api = pykube.HTTPClient(pykube.KubeConfig.from_file(web))
    server = pykube.Pod.objects(api, namespace="default").get_by_name("web")
    assert server.ready and isinstance(server.logs(tail_lines=3, timestamps=True), str)
    service = {"metadata": {"name": "web", "namespace": "default"}, "spec": {"selector": {"run": "web"}, "ports": [{"port": 80}]}}
    pykube.Service(api, service).create()
    server.labels["run"] = "web"
    server.update()
    wait(lambda: b"nginx" in pykube.Service.objects(api).get_by_name("web").proxy_http_get("/", 80).content, "the Service's proxy answers")
