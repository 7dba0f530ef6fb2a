"""exec, attach and port-forward into real containers, as clients other than kubectl speak them."""

import asyncio
import base64
import json
import re
import ssl
import subprocess
import urllib.request

import aiohttp
import pytest
import yaml

from tests.e2e.cluster import PATIENCE, wait
from tests.e2e.test_workloads import pod, running

SIZES = "while true; do stty size; sleep 0.1; done"


@pytest.fixture(scope="module")
def terminals(cluster):
    """Pods that print the size of their terminal: one asked by exec, one by attach."""
    cluster.kubectl("create", "-f", "-", input=json.dumps(pod("waits", "sleep", "1000")))
    talks = pod("talks", "sh", "-c", SIZES, container={"tty": True, "stdin": True})
    cluster.kubectl("create", "-f", "-", input=json.dumps(talks))
    for name in ("waits", "talks"):
        running(cluster, name)
    yield cluster
    cluster.clear()


def session(cluster) -> aiohttp.ClientSession:
    """An HTTP client with the kubeconfig's server and certificate."""
    config = yaml.safe_load((cluster.folder / ".labctl" / "kubeconfig").read_text())
    server, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    pem = cluster.folder / "client.pem"
    pem.write_bytes(base64.b64decode(user["client-certificate-data"]) + base64.b64decode(user["client-key-data"]))
    context = ssl.create_default_context(cadata=base64.b64decode(server["certificate-authority-data"]).decode())
    context.load_cert_chain(pem)
    return aiohttp.ClientSession(server["server"], connector=aiohttp.TCPConnector(ssl=context))


async def until_said(socket: aiohttp.ClientWebSocketResponse, wanted: str) -> None:
    """Reads until the terminal's size is printed. All that came is in the failure."""
    said = b""
    try:
        async with asyncio.timeout(15 * PATIENCE):
            while not re.search(rf"\b{wanted}\b", said.decode(errors="replace")):
                message = await socket.receive()
                assert message.type is aiohttp.WSMsgType.BINARY, (message, said)
                said += message.data[1:]
    except TimeoutError:
        raise AssertionError(f"{wanted} never came: {said[-300:]!r}") from None


@pytest.mark.parametrize("protocol", ["v4.channel.k8s.io", "v5.channel.k8s.io"])
@pytest.mark.parametrize(
    "path", [f"waits/exec?command=sh&command=-c&command={SIZES.replace(' ', '%20').replace(';', '%3B')}", "talks/attach?"]
)
async def test_a_terminal_follows_its_window(terminals, path, protocol):
    path = f"/api/v1/namespaces/default/pods/{path}&tty=true&stdin=true&stdout=true"
    async with session(terminals) as http, http.ws_connect(path, protocols=(protocol,)) as socket:
        for rows, columns in ((41, 101), (50, 132), (24, 80)):
            await socket.send_bytes(b"\x04" + json.dumps({"Width": columns, "Height": rows}).encode())
            await until_said(socket, f"{rows} {columns}")


def test_kubectl_over_spdy(terminals, tmp_path):
    """As kubectl before 1.29 does it: the newest one still can, told so."""
    environment = {**terminals.environment, "KUBECONFIG": str(terminals.folder / ".labctl" / "kubeconfig")}
    environment |= {"KUBECTL_REMOTE_COMMAND_WEBSOCKETS": "false", "KUBECTL_PORT_FORWARD_WEBSOCKETS": "false"}
    assert terminals.kubectl("exec", "waits", "--", "echo", "hello", env=environment).stdout == "hello\n"
    failed = terminals.kubectl("exec", "waits", "--", "sh", "-c", "exit 7", env=environment, check=False)
    assert failed.returncode == 7
    (tmp_path / "file").write_bytes(bytes(range(256)) * 4096)
    terminals.kubectl("cp", str(tmp_path / "file"), "waits:/tmp/file", env=environment)
    terminals.kubectl("cp", "waits:/tmp/file", str(tmp_path / "back"), env=environment)
    assert (tmp_path / "back").read_bytes() == (tmp_path / "file").read_bytes()


LOOPBACK = "mkdir /tmp/page && echo from inside >/tmp/page/index.html && exec httpd -f -p 127.0.0.1:8080 -h /tmp/page"


def started(cluster, *arguments: str) -> subprocess.Popen:
    environment = {**cluster.environment, "KUBECONFIG": str(cluster.folder / ".labctl" / "kubeconfig")}
    return subprocess.Popen(["kubectl", *arguments], env=environment, stdout=subprocess.PIPE, text=True)


def ended(process: subprocess.Popen) -> None:
    process.kill()
    process.wait()
    process.stdout.close()


def test_port_forward_reaches_what_listens_on_the_pods_loopback_alone(terminals):
    answers = {"exec": {"command": ["wget", "-q", "-O-", "http://127.0.0.1:8080/"]}, "periodSeconds": 1}
    inside = pod("inside", "sh", "-c", LOOPBACK, container={"readinessProbe": answers})
    terminals.kubectl("create", "-f", "-", input=json.dumps(inside))
    running(terminals, "inside")
    forward = started(terminals, "port-forward", "pod/inside", ":8080")
    try:
        port = forward.stdout.readline().split("127.0.0.1:")[1].split(" ")[0]
        assert urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=20 * PATIENCE).read() == b"from inside\n"
    finally:
        ended(forward)


def test_clients_that_go_leave_nothing_on_the_machine_though_the_pod_is_silent(terminals):
    node = terminals.get("pod", "waits")["spec"]["nodeName"]

    def agents() -> list[str]:
        listed = terminals.on(node, "ps", "-eo", "args").stdout
        return [line for line in listed.splitlines() if "/opt/labctl/agent attach" in line or "/opt/labctl/agent logs" in line]

    for arguments in (("logs", "-f", "waits"), ("attach", "waits")):
        client = started(terminals, *arguments)
        try:
            wait(agents, f"{arguments[0]} has begun")
        finally:
            ended(client)
        wait(lambda: not agents(), f"nothing of {arguments[0]} is left")


def test_an_attachment_ends_with_its_input_where_the_containers_input_stays_open(terminals):
    """`kubectl run -i --leave-stdin-open` comes back, and the container goes on with all that was said."""
    run = ("run", "stays", "--image=busybox", "--restart=OnFailure", "-i", "--leave-stdin-open", "--", "sh", "-c", "cat && echo closed")
    said = terminals.kubectl(*run, input="abcd1234\n", timeout_s=60)
    assert "closed" not in said.stdout
    wait(lambda: terminals.kubectl("logs", "stays").stdout == "abcd1234\n", "the container heard it")
    assert terminals.kubectl("attach", "-q", "-i", "stays", input="more\n", timeout_s=60).returncode == 0
    wait(lambda: terminals.kubectl("logs", "stays").stdout == "abcd1234\nmore\n", "and what came later")
    assert terminals.get("pod", "stays")["status"]["phase"] == "Running"


def test_a_command_without_standard_input_has_none(terminals):
    assert terminals.kubectl("exec", "waits", "--", "wc", "-c", timeout_s=60).stdout.strip() == "0"


async def test_a_file_is_uploaded_whole_by_a_client_that_can_end_it_only_by_going(terminals):
    """As fabric8 does, over v4: it writes the file into `cat`, closes the WebSocket, and looks at the file's size later."""
    data = bytes(range(256)) * 10_000
    path = "/api/v1/namespaces/default/pods/waits/exec?command=sh&command=-c&command=cat%20%3E/up%3B%20mv%20/up%20/uploaded&stdin=true&stdout=true"
    async with session(terminals) as http, http.ws_connect(path, protocols=("v4.channel.k8s.io",)) as socket:
        for start in range(0, len(data), 8192):
            await socket.send_bytes(b"\x00" + data[start : start + 8192])
    wait(lambda: terminals.kubectl("exec", "waits", "--", "ls", "/uploaded", check=False).returncode == 0, "the command has ended")
    assert terminals.kubectl("exec", "waits", "--", "wc", "-c", "/uploaded").stdout.split()[0] == str(len(data))
