"""API servers of others behind this API: a real one over TLS on loopback, registered as people register theirs, asked by the real kubectl."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from labctl.certificates import Authority
from labctl.errors import LabctlError

GROUP, VERSION = "wardle.example.com", "v1alpha1"
BASE = f"/apis/{GROUP}/{VERSION}"
VERBS = ["create", "get", "list", "watch"]


class Wardle:
    """A small API server of the kind Flunder. It believes the X-Remote-* headers of whoever has a certificate of the front proxy's CA."""

    def __init__(self, folder: Path, front_ca: str, name: str) -> None:
        self.authority = Authority.create(folder)
        self.authority.server([name], [])
        self.tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cadata=front_ca)
        self.tls.verify_mode = ssl.CERT_REQUIRED
        self.tls.load_cert_chain(folder / "server.crt", folder / "server.key")
        self.flunders: dict[str, dict[str, Any]] = {}
        self.seen: list[dict[str, list[str]]] = []
        self.discovery: Any = None  # what it answers instead of its discovery document
        self.openapi_v2: bytes | None = None
        self.verbs = VERBS
        self.deleted_by: list[str] = []
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._ready, self._thread = threading.Event(), threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()
        assert self._ready.wait(10)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())
        self._ready.set()
        self._loop.run_forever()
        self._loop.run_until_complete(self._runner.cleanup())

    async def _serve(self) -> None:
        app = web.Application()
        app.router.add_get(BASE, self._discover)
        app.router.add_get(f"/openapi/v3{BASE}", self._openapi)
        app.router.add_get("/openapi/v2", self._openapi_v2)
        app.router.add_route("*", f"{BASE}/namespaces/{{namespace}}/flunders", self._collection)
        app.router.add_route("*", f"{BASE}/namespaces/{{namespace}}/flunders/{{name}}", self._one)
        app.router.add_get(f"{BASE}/namespaces/{{namespace}}/flunders/{{name}}/shell", self._shell)
        self._runner = web.AppRunner(app, shutdown_timeout=0.5)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=self.tls).start()
        self.port = self._runner.addresses[0][1]

    async def _discover(self, request: web.Request) -> web.StreamResponse:
        if self.discovery is not None:
            return web.Response(body=self.discovery)
        flunder = {
            "name": "flunders",
            "singularName": "flunder",
            "namespaced": True,
            "kind": "Flunder",
            "verbs": self.verbs,
            "shortNames": ["fl"],
        }
        return web.json_response(
            {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": f"{GROUP}/{VERSION}", "resources": [flunder]}
        )

    async def _openapi(self, request: web.Request) -> web.StreamResponse:
        kind = {"group": GROUP, "version": VERSION, "kind": "Flunder"}
        schema = {"type": "object", "description": "A flunder of the test.", "x-kubernetes-group-version-kind": [kind]}
        path = {"get": {"x-kubernetes-group-version-kind": kind, "responses": {"200": {"description": "OK"}}}}
        paths = {f"{BASE}/namespaces/{{namespace}}/flunders": path}
        info = {"title": "wardle", "version": "1"}
        return web.json_response({"openapi": "3.0.0", "info": info, "paths": paths, "components": {"schemas": {"Flunder": schema}}})

    async def _openapi_v2(self, request: web.Request) -> web.StreamResponse:
        if self.openapi_v2 is None:
            return web.Response(status=404)
        if request.headers.get("If-None-Match") == '"1"':
            return web.Response(status=304)
        return web.Response(body=self.openapi_v2, headers={"ETag": '"1"'})

    async def _collection(self, request: web.Request) -> web.StreamResponse:
        self.seen.append({key.lower(): request.headers.getall(key) for key in request.headers})
        if request.method == "POST":
            made = await request.json()
            made["metadata"] |= {"uid": "1", "resourceVersion": "1", "creationTimestamp": "2026-01-01T00:00:00Z"}
            self.flunders[made["metadata"]["name"]] = made
            return web.json_response(made, status=201)
        if request.method == "DELETE":
            self._delete(request)
            return web.json_response({"kind": "Status", "apiVersion": "v1", "status": "Success"})
        if request.query.get("watch"):
            response = web.StreamResponse(headers={"Content-Type": "application/json"})
            await response.prepare(request)
            for each in self.flunders.values():
                await response.write(json.dumps({"type": "ADDED", "object": each}).encode() + b"\n")
            await asyncio.sleep(60)
            return response
        items = list(self.flunders.values())
        return web.json_response(
            {"kind": "FlunderList", "apiVersion": f"{GROUP}/{VERSION}", "metadata": {"resourceVersion": "1"}, "items": items}
        )

    async def _shell(self, request: web.Request) -> web.StreamResponse:
        """Answer over a WebSocket with what comes, in capitals. Refuse whoever asks for none."""
        self.seen.append({key.lower(): request.headers.getall(key) for key in request.headers})
        socket = web.WebSocketResponse(protocols=("v5.channel.k8s.io",))
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(message.data.upper())
        return socket

    def _delete(self, request: web.Request) -> None:
        """Delete what the request names, but nothing that has a finalizer."""
        self.deleted_by.append(request.headers["X-Remote-User"])
        names = [request.match_info["name"]] if "name" in request.match_info else list(self.flunders)
        for name in names:
            if not self.flunders[name]["metadata"].get("finalizers"):
                del self.flunders[name]

    async def _one(self, request: web.Request) -> web.StreamResponse:
        found = self.flunders.get(request.match_info["name"])
        if found is not None and request.method == "DELETE":
            self._delete(request)
        if found is None:
            told = {
                "kind": "Status",
                "apiVersion": "v1",
                "status": "Failure",
                "reason": "NotFound",
                "code": 404,
                "message": "no such flunder",
            }
            return web.json_response(told, status=404)
        return web.json_response(found)


@pytest.fixture
def wardle(labctl_api: Any, tmp_path: Path) -> Iterator[Wardle]:
    """The server, registered. Its Service leads to loopback."""
    config = json.loads(labctl_api.kubectl("get", "-n", "kube-system", "configmap", "extension-apiserver-authentication", "-o", "json"))
    assert json.loads(config["data"]["requestheader-allowed-names"]) == ["front-proxy-client"]
    server = Wardle(tmp_path / "wardle", config["data"]["requestheader-client-ca-file"], f"wardle.{labctl_api.namespace}.svc")
    server.start()
    labctl_api.apply(service_of("wardle"))
    labctl_api.apply(registration(labctl_api, server))
    try:
        yield server
    finally:
        server.stop()


def service_of(name: str) -> dict[str, Any]:
    """A Service that leads to loopback."""
    return {
        "kind": "Service",
        "apiVersion": "v1",
        "metadata": {"name": name},
        "spec": {"type": "ExternalName", "externalName": "localhost"},
    }


def registration(api: Any, server: Wardle, service: str = "wardle", group: str = GROUP, version: str = VERSION) -> dict[str, Any]:
    reference = {"name": service, "namespace": api.namespace, "port": server.port}
    bundle = base64.b64encode(server.authority.certificate_pem).decode()
    spec = {
        "group": group,
        "version": version,
        "groupPriorityMinimum": 2000,
        "versionPriority": 200,
        "service": reference,
        "caBundle": bundle,
    }
    return {"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": f"{version}.{group}"}, "spec": spec}


def available(api: Any) -> dict[str, Any]:
    found = json.loads(api.kubectl("get", "apiservice", f"{VERSION}.{GROUP}", "-o", "json"))
    return next(iter((found.get("status") or {}).get("conditions", ())), {})


FLUNDER = {"apiVersion": f"{GROUP}/{VERSION}", "kind": "Flunder", "metadata": {"name": "one"}, "spec": {"size": 3}}


@pytest.mark.labctl(fresh=True)
def test_its_kinds_are_as_our_own(labctl_api: Any, wardle: Wardle) -> None:
    labctl_api.kubectl("wait", "--for=condition=Available", f"apiservice/{VERSION}.{GROUP}", "--timeout=20s")
    assert f"flunders   fl   {GROUP}/{VERSION}   true   Flunder" in "   ".join(
        labctl_api.kubectl("api-resources", f"--api-group={GROUP}").split()
    )
    labctl_api.kubectl("create", "--validate=false", "-f", "-", input=json.dumps(FLUNDER))
    assert labctl_api.kubectl("get", "fl", "-o", "jsonpath={.items[*].spec.size}") == "3"
    assert "A flunder of the test." in labctl_api.kubectl("explain", "flunders")
    watched = labctl_api.kubectl("get", "flunders", "--watch-only", "-o", "name", "--request-timeout=3s", check=False)
    assert "flunder.wardle.example.com/one" in watched
    with pytest.raises(LabctlError, match="no such flunder"):
        labctl_api.kubectl("get", "flunder", "absent")
    rows = labctl_api.kubectl("get", "apiservices").splitlines()
    [row] = [row.split() for row in rows if GROUP in row]
    assert row[:3] == [f"{VERSION}.{GROUP}", f"{labctl_api.namespace}/wardle", "True"]
    assert [row.split()[1:3] for row in rows if row.startswith("v1.apps ")] == [["Local", "True"]]


@pytest.mark.labctl(fresh=True)
def test_it_is_told_who_asks_and_only_those_who_may_ask_it(labctl_api: Any, wardle: Wardle) -> None:
    labctl_api.kubectl("wait", "--for=condition=Available", f"apiservice/{VERSION}.{GROUP}", "--timeout=20s")
    jane = labctl_api.kubeconfig_of("jane", "people")
    with pytest.raises(LabctlError, match='User "jane" cannot list resource "flunders"'):
        labctl_api.kubectl("get", "flunders", f"--kubeconfig={jane}")
    assert not wardle.seen, "nobody who is refused here reaches the server"
    labctl_api.kubectl("create", "role", "flunders", "--verb=list", f"--resource=flunders.{GROUP}")
    labctl_api.kubectl("create", "rolebinding", "flunders", "--role=flunders", "--user=jane")
    labctl_api.kubectl("get", "flunders", f"--kubeconfig={jane}")
    told = wardle.seen[-1]
    assert told["x-remote-user"] == ["jane"]
    assert told["x-remote-group"] == ["people", "system:authenticated"]
    assert "authorization" not in told
    path = f"{BASE}/namespaces/{labctl_api.namespace}/flunders"
    token = labctl_api.kubectl("create", "token", "default").strip()
    labctl_api.kubectl("create", "rolebinding", "others", "--role=flunders", f"--serviceaccount={labctl_api.namespace}:default")
    forged = {"Authorization": f"Bearer {token}", "X-Remote-User": "admin", "X-Remote-Group": "system:masters", "X-Remote-Extra-a": "b"}
    status, _ = request(labctl_api, path, forged)
    told = wardle.seen[-1]
    assert status == 200 and told["x-remote-user"] == [f"system:serviceaccount:{labctl_api.namespace}:default"]
    assert "system:masters" not in told["x-remote-group"] and "x-remote-extra-a" not in told and "authorization" not in told
    assert "accept" not in told and "content-type" not in told, "a body whose type nobody said is JSON to it"


def request(api: Any, path: str, headers: dict[str, str]) -> tuple[int, bytes]:
    """Ask without a client certificate."""
    import urllib.error
    import urllib.request

    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with urllib.request.urlopen(urllib.request.Request(api.url + path, headers=headers), context=context, timeout=20) as answered:
            return answered.status, answered.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


@pytest.mark.labctl(fresh=True)
@pytest.mark.parametrize(
    "discovery", [b"[" * 100_000, b'{"resources": "many"}', b"x" * (5 << 20), b"{}"], ids=["deep", "wrong", "large", "empty"]
)
def test_one_that_answers_nonsense_is_unavailable_and_harms_nobody(labctl_api: Any, wardle: Wardle, discovery: bytes) -> None:
    wardle.discovery = discovery
    labctl_api.wait(lambda: available(labctl_api).get("status") == ("True" if discovery == b"{}" else "False"), 40)
    if discovery != b"{}":
        assert available(labctl_api)["reason"] == "FailedDiscoveryCheck"
    assert "deployments" in labctl_api.kubectl("api-resources", "--api-group=apps")
    assert labctl_api.kubectl("get", "namespaces", "default", "-o", "name") == "namespace/default\n"


@pytest.mark.labctl(fresh=True)
def test_one_that_ends_is_unavailable_until_it_is_back(labctl_api: Any, wardle: Wardle) -> None:
    labctl_api.kubectl("wait", "--for=condition=Available", f"apiservice/{VERSION}.{GROUP}", "--timeout=20s")
    labctl_api.kubectl("delete", "service", "wardle")
    with pytest.raises(LabctlError, match="service unavailable|currently unable"):
        labctl_api.kubectl("get", "flunders")
    changed = {"spec": {"versionPriority": 201}}  # a change is looked at at once
    labctl_api.kubectl("patch", "apiservice", f"{VERSION}.{GROUP}", "--type=merge", "-p", json.dumps(changed))
    labctl_api.wait(lambda: available(labctl_api).get("reason") == "ServiceNotFound", 20)
    assert available(labctl_api)["message"] == f'service/wardle in "{labctl_api.namespace}" is not present'
    service = {
        "kind": "Service",
        "apiVersion": "v1",
        "metadata": {"name": "wardle"},
        "spec": {"type": "ExternalName", "externalName": "localhost"},
    }
    labctl_api.apply(service)
    labctl_api.wait(lambda: available(labctl_api).get("status") == "True", 20)
    labctl_api.kubectl("delete", "apiservice", f"{VERSION}.{GROUP}")
    with pytest.raises(LabctlError, match="could not find the requested resource|doesn't have a resource type"):
        labctl_api.kubectl("get", "flunders")


@pytest.mark.labctl(fresh=True)
def test_a_service_that_leads_outside_is_not_asked_and_our_own_groups_stay_ours(labctl_api: Any, wardle: Wardle) -> None:
    outside = {
        "kind": "Service",
        "apiVersion": "v1",
        "metadata": {"name": "outside"},
        "spec": {"type": "ExternalName", "externalName": "example.com"},
    }
    labctl_api.apply(outside)
    told = registration(labctl_api, wardle)
    told["metadata"]["name"], told["spec"]["group"] = f"{VERSION}.outside.example.com", "outside.example.com"
    told["spec"]["service"] = {**told["spec"]["service"], "name": "outside"}
    labctl_api.apply(told)
    look = ("get", "apiservice", told["metadata"]["name"], "-o", "jsonpath={.status.conditions[0].message}")
    labctl_api.wait(lambda: "only localhost" in labctl_api.kubectl(*look), 20)
    ours = registration(labctl_api, wardle)
    ours["metadata"]["name"], ours["spec"]["group"], ours["spec"]["version"] = "v1.apps", "apps", "v1"
    with pytest.raises(LabctlError, match='"v1.apps" already exists'):
        labctl_api.kubectl("create", "-f", "-", input=json.dumps(ours))
    with pytest.raises(LabctlError, match="this server's own"):
        labctl_api.kubectl("delete", "apiservice", "v1.apps")
    wrong = registration(labctl_api, wardle)
    wrong["metadata"]["name"], wrong["spec"]["insecureSkipTLSVerify"] = "v2.other", True
    with pytest.raises(LabctlError) as refused:
        labctl_api.kubectl("create", "-f", "-", input=json.dumps(wrong))
    assert "metadata.name" in str(refused.value) and "may not be true if caBundle is present" in str(refused.value)


def rest_of(api: Any) -> tuple[str, dict[str, str]]:
    """Return a flunder's path, and the credentials of somebody who may do everything with it."""
    api.kubectl("create", "rolebinding", "all", "--clusterrole=cluster-admin", f"--serviceaccount={api.namespace}:default")
    token = api.kubectl("create", "token", "default").strip()
    return f"{BASE}/namespaces/{api.namespace}/flunders/one", {"Authorization": f"Bearer {token}"}


@pytest.mark.labctl(fresh=True)
async def test_a_websocket_leads_to_the_server_of_its_group(labctl_api: Any, wardle: Wardle) -> None:
    path, headers = await asyncio.to_thread(rest_of, labctl_api)
    async with aiohttp.ClientSession(labctl_api.url, connector=aiohttp.TCPConnector(ssl=False), headers=headers) as http:
        async with http.ws_connect(f"{path}/shell?command=x", protocols=("v5.channel.k8s.io",)) as socket:
            assert socket.protocol == "v5.channel.k8s.io"
            for word in ("hello", "w" * 300_000):
                await socket.send_str(word)
                assert (await socket.receive(10)).data == word.upper()
        told = wardle.seen[-1]
        assert told["x-remote-user"] == [f"system:serviceaccount:{labctl_api.namespace}:default"] and "authorization" not in told
        upgrade = {"Connection": "Upgrade", "Upgrade": "websocket"}  # without a key: the server's own refusal arrives whole
        async with http.get(f"{path}/shell", headers=upgrade, timeout=aiohttp.ClientTimeout(10)) as refused:
            assert refused.status == 400 and "Unsupported version" in await refused.text()


@pytest.mark.labctl(fresh=True)
async def test_other_protocols_are_passed_on_byte_for_byte_and_a_silent_server_costs_its_client_alone(
    labctl_api: Any, wardle: Wardle, monkeypatch: pytest.MonkeyPatch
) -> None:
    heads: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        if b"/silent" in heads[-1]:
            await reader.read()
        elif b"Upgrade" not in heads[-1]:  # it is asked for its discovery document
            writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        elif b"/large" in heads[-1]:
            writer.write(b"x" * (1 << 20))
        else:
            writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: SPDY/3.1\r\nConnection: Upgrade\r\n\r\nfirst")
            while data := await reader.read(1000):
                writer.write(data[::-1])
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=wardle.tls) as server:
        told = registration(labctl_api, wardle)
        told["spec"]["service"]["port"] = server.sockets[0].getsockname()[1]
        await asyncio.to_thread(labctl_api.apply, told)
        path, headers = await asyncio.to_thread(rest_of, labctl_api)
        host, _, port = labctl_api.url.removeprefix("https://").partition(":")
        context = ssl._create_unverified_context()

        async def ask(subresource: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
            reader, writer = await asyncio.open_connection(host, int(port), ssl=context)
            lines = [f"POST {path}/{subresource} HTTP/1.1", "Host: x", "Connection: Upgrade", "Upgrade: SPDY/3.1", "Content-Length: 0"]
            lines += [f"{name}: {value}" for name, value in headers.items()]
            writer.write("\r\n".join(lines).encode() + b"\r\n\r\n")
            return reader, writer

        reader, writer = await ask("stream")
        async with asyncio.timeout(20):
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
            assert await reader.readexactly(5) == b"first"
            writer.write(b"\0\1\2")
            assert await reader.readexactly(3) == b"\2\1\0"
            [head] = [each for each in heads if b"/stream HTTP" in each]
            assert b"X-Remote-User: system:serviceaccount:" in head and b"Bearer" not in head
            writer.close()
            reader, writer = await ask("large")
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 503 ")
            writer.close()
            _, silent = await ask("silent")
            assert await asyncio.to_thread(labctl_api.kubectl, "get", "namespaces", "default", "-o", "name") == "namespace/default\n"
            silent.close()


@pytest.mark.labctl(fresh=True)
def test_what_others_write_into_its_status_stays(labctl_api: Any, wardle: Wardle) -> None:
    name = f"{VERSION}.{GROUP}"
    labctl_api.kubectl("wait", "--for=condition=Available", f"apiservice/{name}", "--timeout=20s")
    found = json.loads(labctl_api.kubectl("get", "apiservice", name, "-o", "json", "--subresource=status"))
    assert found["spec"]["service"]["port"] == wardle.port
    found["status"]["conditions"].append({"type": "StatusUpdated", "status": "True", "reason": "E2E", "message": "Set by a test"})
    labctl_api.kubectl("replace", "--subresource=status", "-f", "-", input=json.dumps(found))
    labctl_api.kubectl("patch", "apiservice", name, "--type=merge", "-p", '{"spec":{"versionPriority":400}}')
    labctl_api.kubectl("label", "apiservice", name, "e2e=yes")
    labctl_api.kubectl("delete", "service", "wardle")
    labctl_api.kubectl("patch", "apiservice", name, "--type=merge", "-p", '{"spec":{"versionPriority":401}}')
    labctl_api.wait(lambda: available(labctl_api).get("status") == "False", 20)
    conditions = json.loads(labctl_api.kubectl("get", "apiservice", name, "-o", "json"))["status"]["conditions"]
    assert [each["type"] for each in conditions] == ["Available", "StatusUpdated"]
    path = "/apis/apiregistration.k8s.io/v1/apiservices?labelSelector=e2e%3Dyes"
    labctl_api.kubectl("delete", "apiservices", "-l", "e2e=yes")
    assert json.loads(labctl_api.kubectl("get", "--raw", path))["items"] == []


META = "io.k8s.apimachinery.pkg.apis.meta.v1."


def swagger() -> dict[str, Any]:
    """The document of a server that has definitions of Kubernetes' names: one as ours, one with another content."""
    kind = {"group": GROUP, "version": VERSION, "kind": "Flunder"}
    own = "com.example.wardle.v1alpha1.Flunder"
    properties = {"size": {"type": "integer", "description": "How large it is."}, "metadata": {"$ref": f"#/definitions/{META}ObjectMeta"}}
    definitions = {
        own: {"type": "object", "description": "A flunder of v2.", "properties": properties, "x-kubernetes-group-version-kind": [kind]},
        META + "ObjectMeta": {"type": "object", "properties": {"name": {"type": "string"}}},
        META + "Time": {"description": "A time.", "type": "string", "format": "date-time"},
        "unused": {"type": "string"},
    }
    definitions[own]["properties"]["at"] = {"$ref": f"#/definitions/{META}Time"}
    get = {
        "operationId": "readFlunder",
        "parameters": [{"$ref": "#/parameters/pretty"}],
        "responses": {"200": {"description": "OK", "schema": {"$ref": f"#/definitions/{own}"}}},
        "x-kubernetes-group-version-kind": kind,
    }
    named = {"name": "name", "in": "path", "type": "string", "required": True}
    item = {"get": get, "parameters": [named]}
    paths = {f"{BASE}/namespaces/{{namespace}}/flunders/{{name}}": item, "/api/v1/pods": {"get": {**get, "operationId": "mine"}}}
    shared = {"pretty": {"name": "pretty", "in": "query", "type": "string"}}
    return {"swagger": "2.0", "info": {"title": "wardle", "version": "1"}, "paths": paths, "definitions": definitions, "parameters": shared}


@pytest.mark.labctl(fresh=True)
def test_its_openapi_v2_is_part_of_ours(labctl_api: Any, wardle: Wardle) -> None:
    alone = json.loads(labctl_api.kubectl("get", "--raw", "/openapi/v2"))
    wardle.openapi_v2 = json.dumps(swagger()).encode()
    labctl_api.kubectl("patch", "apiservice", f"{VERSION}.{GROUP}", "--type=merge", "-p", '{"spec":{"versionPriority":201}}')
    labctl_api.wait(lambda: BASE in labctl_api.kubectl("get", "--raw", "/openapi/v2"), 20)
    both = json.loads(labctl_api.kubectl("get", "--raw", "/openapi/v2"))
    [added] = both["paths"].keys() - alone["paths"].keys()
    assert both["paths"][added]["get"]["parameters"] == [
        {"name": "pretty", "in": "query", "type": "string", "uniqueItems": False},
        {"name": "name", "in": "path", "required": True, "type": "string", "uniqueItems": False},
    ]
    assert both["definitions"].keys() - alone["definitions"].keys() == {"com.example.wardle.v1alpha1.Flunder", META + "ObjectMeta_v2"}
    flunder = both["definitions"]["com.example.wardle.v1alpha1.Flunder"]["properties"]
    assert flunder["metadata"]["$ref"] == f"#/definitions/{META}ObjectMeta_v2" and flunder["at"]["$ref"] == f"#/definitions/{META}Time"
    assert {**both["paths"], **alone["paths"]} == both["paths"] and {**both["definitions"], **alone["definitions"]} == both["definitions"]
    explained = labctl_api.kubectl("explain", "flunders", "--output=plaintext-openapiv2")
    assert "A flunder of v2." in explained and "How large it is." in explained
    assert "pods" not in labctl_api.kubectl("explain", "deployment.spec.replicas", "--output=plaintext-openapiv2").split()


def conditions(api: Any, namespace: str) -> dict[str, tuple[str, str]]:
    found = json.loads(api.kubectl("get", "namespace", namespace, "-o", "json"))
    return {each["type"]: (each["status"], each["message"]) for each in found["status"].get("conditions", ())}


@pytest.mark.labctl(fresh=True)
@pytest.mark.parametrize("verb", ["delete", "deletecollection"])
def test_a_deleted_namespace_is_emptied_there_too(labctl_api: Any, wardle: Wardle, verb: str) -> None:
    wardle.verbs = [*VERBS, "delete", verb]
    wardle.flunders = {name: {**FLUNDER, "metadata": {"name": name}} for name in ("one", "two")}
    wardle.flunders["two"]["metadata"]["finalizers"] = ["example.com/mine"]
    labctl_api.kubectl("patch", "apiservice", f"{VERSION}.{GROUP}", "--type=merge", "-p", '{"spec":{"versionPriority":201}}')
    labctl_api.kubectl("wait", "--for=condition=Available", f"apiservice/{VERSION}.{GROUP}", "--timeout=20s")
    labctl_api.kubectl("create", "namespace", "leaving")
    labctl_api.kubectl("delete", "namespace", "leaving", "--wait=false")
    labctl_api.wait(lambda: conditions(labctl_api, "leaving").get("NamespaceFinalizersRemaining", ("",))[0] == "True", 20)
    told = conditions(labctl_api, "leaving")
    assert told["NamespaceContentRemaining"][1] == f"Some resources are remaining: flunders.{GROUP} has 1 resource instances"
    assert "example.com/mine in 1 resource instances" in told["NamespaceFinalizersRemaining"][1]
    assert set(wardle.flunders) == {"two"} and set(wardle.deleted_by) == {"system:serviceaccount:kube-system:namespace-controller"}
    del wardle.flunders["two"]["metadata"]["finalizers"]
    labctl_api.kubectl("wait", "--for=delete", "namespace/leaving", "--timeout=20s")
    assert not wardle.flunders


@pytest.mark.labctl(fresh=True)
def test_a_server_that_does_not_answer_keeps_a_deleted_namespace_and_its_conditions_say_so(labctl_api: Any, wardle: Wardle) -> None:
    wardle.discovery = b"nonsense"
    name = f"{VERSION}.{GROUP}"
    labctl_api.kubectl("patch", "apiservice", name, "--type=merge", "-p", '{"spec":{"versionPriority":201}}')
    labctl_api.wait(lambda: available(labctl_api).get("status") == "False", 20)
    labctl_api.kubectl("create", "namespace", "leaving")
    labctl_api.kubectl("create", "configmap", "in-it", "-n", "leaving")
    labctl_api.kubectl("delete", "namespace", "leaving", "--wait=false")
    labctl_api.wait(lambda: conditions(labctl_api, "leaving").get("NamespaceDeletionDiscoveryFailure", ("",))[0] == "True", 20)
    told = conditions(labctl_api, "leaving")
    assert f"{GROUP}/{VERSION}: stale GroupVersion discovery" in told["NamespaceDeletionDiscoveryFailure"][1]
    labctl_api.wait(lambda: "in-it" not in labctl_api.kubectl("get", "configmaps", "-n", "leaving", "-o", "name"), 20)
    labctl_api.kubectl("delete", "apiservice", name)
    labctl_api.kubectl("wait", "--for=delete", "namespace/leaving", "--timeout=20s")
