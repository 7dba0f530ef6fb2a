"""A request whose head is known is not parsed again, and has the answer that it would have had: nothing is remembered of who asks, or of what he may."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest

from labctl.api.audit import AuditLog
from labctl.api.heads import Heads, Known
from labctl.api.interference import ApiFault, Interference
from labctl.api.settings import ApiSettings
from labctl.clock import SystemClock
from tests.api.test_repeats import Wire, request, wired
from tests.inprocess import ApiServer, client_tls

MAPS = "/api/v1/namespaces/default/configmaps"
RBAC = "/apis/rbac.authorization.k8s.io/v1/namespaces/default"
GROUP = "rbac.authorization.k8s.io"
DEADLINE_S = 10.0


def new(name: str, *lines: str, path: str = MAPS, method: str = "POST", version: str = "1.1") -> bytes:
    """All that name objects with texts of one length have the same head."""
    body = json.dumps({"metadata": {"name": name}, "data": {"a": name}}).encode()
    return request(path, *lines, method=method, body=body, version=version)


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The requests whose heads were known."""
    seen: list[bytes] = []
    whole = Heads.find

    def find(self: Heads, sent: bytes) -> Known | None:
        found = whole(self, sent)
        if found is not None:
            seen.append(sent)
        return found

    monkeypatch.setattr(Heads, "find", find)
    return seen


@asynccontextmanager
async def disturbed(path: Path, **settings: Any) -> AsyncIterator[tuple[ApiServer, Interference]]:
    """A server whose requests can be made to wait."""
    interference = Interference(Random(1))
    async with ApiServer.running(path, interference=interference, settings=ApiSettings(**settings)) as api:
        yield api, interference


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.sleep(0.01)


def stored(api: ApiServer, name: str) -> Any:
    return api.resources.store.get(f"configmaps/default/{name}")


async def test_each_body_makes_its_own_object(api: ApiServer, known: list[bytes]) -> None:
    async with wired(api) as one, wired(api) as other:
        for number in range(10, 20):
            code, body = await (one if number % 2 else other).ask(new(f"m-{number}"))
            assert code == 201 and json.loads(body)["data"] == {"a": f"m-{number}"}
        assert len(known) == 9  # on the other connection, too
        code, body = await one.ask(new("m-10"))
        assert code == 409 and b"already exists" in body
        code, body = await one.ask(new("M-99"))
        assert code == 422 and b"RFC 1123" in body
        changed = new("m-11", path=f"{MAPS}/m-11", method="PUT").replace(b'"a": "m-11"', b'"a": "else"')
        assert [json.loads((await one.ask(changed))[1])["data"]["a"] for _ in range(2)] == ["else", "else"]
        assert len(known) == 12


async def test_what_is_asked_of_somebody_who_may_not_is_refused(api: ApiServer, known: list[bytes]) -> None:
    async with wired(api) as admin, wired(api, api.authority.issue("somebody", ["people"])) as other:
        assert [(await admin.ask(new(f"m-{number}")))[0] for number in range(3)] == [201] * 3
        code, body = await other.ask(new("m-4"))
        assert code == 403 and b"cannot create resource" in body
        assert len(known) == 3 and stored(api, "m-4") is None


async def test_a_right_that_is_taken_away_ends_with_the_next_request(api: ApiServer, known: list[bytes]) -> None:
    async def send(method: str, path: str, body: Any = None) -> None:
        async with api.session() as http, http.request(method, RBAC + path, json=body) as answered:
            assert answered.status < 300, await answered.text()

    rules = [{"verbs": ["create"], "apiGroups": [""], "resources": ["configmaps"]}]
    role = {"apiGroup": GROUP, "kind": "Role", "name": "maker"}
    binding = {"metadata": {"name": "maker"}, "roleRef": role, "subjects": [{"apiGroup": GROUP, "kind": "User", "name": "alice"}]}
    await send("POST", "/roles", {"metadata": {"name": "maker"}, "rules": rules})
    await send("POST", "/rolebindings", binding)
    async with wired(api, api.authority.issue("alice")) as alice:
        assert [(await alice.ask(new(f"m-{number}")))[0] for number in range(3)] == [201] * 3
        await send("DELETE", "/rolebindings/maker")
        assert (await alice.ask(new("m-4")))[0] == 403
        await send("POST", "/rolebindings", binding)
        assert (await alice.ask(new("m-5")))[0] == 201
    assert sum(MAPS.encode() in sent for sent in known) == 4 and stored(api, "m-4") is None


async def test_a_token_ends_with_its_account_and_a_connection_without_one_is_nobodys(api: ApiServer, known: list[bytes]) -> None:
    async def send(method: str, path: str, body: Any = None) -> Any:
        async with api.session() as http, http.request(method, path, json=body) as answered:
            assert answered.status < 300, await answered.text()
            return await answered.json()

    accounts = "/api/v1/namespaces/default/serviceaccounts"
    await send("POST", accounts, {"metadata": {"name": "robot"}})
    token = (await send("POST", f"{accounts}/robot/token", {"spec": {}}))["status"]["token"]
    role = {"apiGroup": GROUP, "kind": "ClusterRole", "name": "edit"}
    subject = {"kind": "ServiceAccount", "name": "robot", "namespace": "default"}
    await send("POST", f"{RBAC}/rolebindings", {"metadata": {"name": "robot"}, "roleRef": role, "subjects": [subject]})
    tls = client_tls(api.authority, None, api.directory)
    wire = Wire(*await asyncio.open_connection("127.0.0.1", api.port, ssl=tls))
    bearer = f"Authorization: Bearer {token}"
    assert [(await wire.ask(new(f"m-{number}", bearer)))[0] for number in range(3)] == [201] * 3
    assert len(known) == 2
    assert (await wire.ask(new("m-4")))[0] == 401  # without the token
    assert (await wire.ask(new("m-4", bearer[:-1] + "x")))[0] == 401
    await send("DELETE", f"{accounts}/robot")
    assert (await wire.ask(new("m-4", bearer)))[0] == 401
    assert len(known) == 3 and stored(api, "m-4") is None
    wire.writer.close()


@pytest.mark.parametrize(
    ("lines", "version", "code"),
    [
        (["Connection: close"], "1.1", b" 201 "),
        ([], "1.0", b" 201 "),
        (["Upgrade: websocket", "Connection: Upgrade"], "1.1", b" 201 "),
        ([f"X-Long: {'x' * 3000}"], "1.1", b" 201 "),
        (["Impersonate-User: nobody"], "1.1", b" 403 "),
    ],
)
async def test_what_says_how_to_go_on_and_what_is_refused_is_parsed(
    api: ApiServer, known: list[bytes], lines: list[str], version: str, code: bytes
) -> None:
    for number in range(2):
        async with wired(api) as wire:
            wire.writer.write(new(f"m-{number}", *lines, version=version))
            async with asyncio.timeout(DEADLINE_S):
                assert code in await wire.reader.readuntil(b"\r\n\r\n")
    assert not known


async def test_bodies_in_pieces_and_several_requests_at_once_are_kept_apart(api: ApiServer, known: list[bytes]) -> None:
    async with wired(api) as wire:
        assert [(await wire.ask(new(f"a-{number}")))[0] for number in range(2)] == [201, 201]
        piece = new("a-2")
        assert (await wire.ask(piece[:-5], piece[-5:]))[0] == 201
        assert (await wire.ask(new("a-3")))[0] == 201
        wire.writer.write(new("a-4") + new("a-5") + new("a-6"))
        assert [json.loads((await wire.answer())[1])["metadata"]["name"] for _ in range(3)] == ["a-4", "a-5", "a-6"]
        assert len(known) == 2
    async with wired(api) as wire:
        chunked = request(MAPS, "Transfer-Encoding: chunked", "Content-Type: application/json", method="POST")
        body = b'{"metadata":{"name":"c-1"}}'
        assert (await wire.ask(chunked + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)))[0] == 201
        assert (await wire.ask(new("a-7")))[0] == 201
        assert len(known) == 2


async def test_what_comes_meanwhile_is_answered_in_its_turn(tmp_path: Path, known: list[bytes]) -> None:
    async with disturbed(tmp_path) as (api, interference), wired(api) as wire:
        assert [(await wire.ask(new(f"a-{number}")))[0] for number in range(2)] == [201, 201]
        interference.put(ApiFault("slow", "labctl-admin", delay_s=0.2))
        wire.writer.write(new("a-2"))
        await until(lambda: len(known) == 2)
        get = request(f"{MAPS}/a-2")
        for part in (new("a-3")[:20], new("a-3")[20:] + get[:10], get[10:] + new("a-4")):
            wire.writer.write(part)
            await asyncio.sleep(0.02)
        answers = [await wire.answer() for _ in range(4)]
        assert [code for code, _ in answers] == [201, 201, 200, 201]
        assert [json.loads(body)["metadata"]["name"] for _, body in answers] == ["a-2", "a-3", "a-2", "a-4"]


async def test_a_write_goes_on_without_its_client(tmp_path: Path, known: list[bytes]) -> None:
    async with disturbed(tmp_path) as (api, interference):
        async with wired(api) as wire:
            assert (await wire.ask(new("a-0")))[0] == 201
            interference.put(ApiFault("slow", "labctl-admin", delay_s=0.2))
            wire.writer.write(new("a-1"))
            await until(lambda: known)
        await until(lambda: stored(api, "a-1"))
        interference.remove("slow")
        async with wired(api) as wire:
            assert (await wire.ask(new("a-2")))[0] == 201


async def test_a_server_that_stops_waits_for_the_write_that_is_under_way(tmp_path: Path, known: list[bytes]) -> None:
    async with disturbed(tmp_path) as (api, interference), wired(api) as wire:
        assert (await wire.ask(new("a-0")))[0] == 201
        interference.put(ApiFault("slow", "labctl-admin", delay_s=0.3))
        wire.writer.write(new("a-1"))
        await until(lambda: known)
        await api.server.stop()
        assert (await wire.answer())[0] == 201
        assert await wire.reader.read() == b""


async def test_a_connection_with_a_request_under_way_is_not_idle_and_one_without_is(tmp_path: Path, known: list[bytes]) -> None:
    async with disturbed(tmp_path, keepalive_s=0.4) as (api, interference), wired(api) as wire:
        assert (await wire.ask(new("a-0")))[0] == 201
        interference.put(ApiFault("slow", "labctl-admin", delay_s=1.0))
        assert (await wire.ask(new("a-1")))[0] == 201
        assert known
        async with asyncio.timeout(DEADLINE_S):
            assert await wire.reader.read() == b""


async def test_requests_with_known_heads_count_as_under_way(tmp_path: Path, known: list[bytes]) -> None:
    async with disturbed(tmp_path, requests_of_one=1) as (api, interference):
        role = {"apiGroup": GROUP, "kind": "ClusterRole", "name": "edit"}
        subject = {"apiGroup": GROUP, "kind": "User", "name": "alice"}
        body = {"metadata": {"name": "alice"}, "roleRef": role, "subjects": [subject]}
        async with api.session() as http, http.post(f"{RBAC}/rolebindings", json=body) as answered:
            assert answered.status == 201
        alice = api.authority.issue("alice")
        async with wired(api, alice) as one, wired(api, alice) as other:
            assert (await one.ask(new("a-0")))[0] == (await other.ask(new("a-1")))[0] == 201
            interference.put(ApiFault("slow", "alice", delay_s=0.3))
            one.writer.write(new("a-2"))
            await until(lambda: len(known) == 2)
            assert (await other.ask(new("a-3")))[0] == 429
            assert (await one.answer())[0] == 201
            interference.remove("slow")
            assert (await other.ask(new("a-3")))[0] == 201
            assert len(known) == 4


async def test_audit_has_a_line_for_each(tmp_path: Path, known: list[bytes]) -> None:
    log = AuditLog(tmp_path / "audit.log", SystemClock())
    async with ApiServer.running(tmp_path, audit=log) as api, wired(api) as wire:
        assert [(await wire.ask(new(f"a-{number}")))[0] for number in range(3)] == [201] * 3
        await log.close()
    lines = [json.loads(line) for line in (tmp_path / "audit.log").read_bytes().splitlines()]
    assert len(known) == 2 and [line["verb"] for line in lines if line["requestURI"] == MAPS] == ["create"] * 3


async def test_the_heads_are_bounded(api: ApiServer) -> None:
    async with wired(api) as wire:
        for number in range(1000, 2100):
            assert (await wire.ask(new(f"m-{number}", f"X: {number}")))[0] == 201
    assert api.server._http is not None
    assert 0 < len(api.server._http.heads._known) <= 1024
