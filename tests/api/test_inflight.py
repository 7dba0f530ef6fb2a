"""Requests under way: of one user and of all together. Whoever has too many is told so, and everybody else is answered."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from labctl.api.inflight import BEGUN_AT_ONCE, CALLERS_KEPT, InFlight
from labctl.api.settings import ApiSettings
from labctl.certificates import Issued
from tests.inprocess import ApiServer

MAPS = "/api/v1/namespaces/default/configmaps"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
BINDINGS = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"
GROUP = "rbac.authorization.k8s.io"
DEADLINE_S = 30.0
FEW = ApiSettings(requests_of_one=5, requests=8, requests_always=2, lasting_of_one=3)
USERS = ("mallory", "alice", "bob")


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[ApiServer]:
    async with ApiServer.running(tmp_path, settings=FEW) as api:
        await allow(api)
        yield api


@pytest.fixture
async def usual(tmp_path: Path) -> AsyncIterator[ApiServer]:
    async with ApiServer.running(tmp_path) as api:
        await allow(api)
        yield api


async def allow(api: ApiServer) -> None:
    """The users may do everything, but they are no admins of the lab."""
    role = {"apiGroup": GROUP, "kind": "ClusterRole", "name": "cluster-admin"}
    subjects = [{"apiGroup": GROUP, "kind": "User", "name": name} for name in USERS]
    async with api.session() as http:
        async with http.post(BINDINGS, json={"metadata": {"name": "users"}, "roleRef": role, "subjects": subjects}) as made:
            assert made.status == 201


async def hanging(api: ApiServer, who: Issued) -> asyncio.StreamWriter:
    """A write whose body does not come."""
    _, writer = await asyncio.open_connection("127.0.0.1", api.port, ssl=api.tls(who))
    writer.write(f"POST {MAPS} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n".encode())
    return writer


async def under_way(api: ApiServer) -> dict[str, int]:
    async with api.session() as http, http.get("/metrics") as answered:
        lines = (await answered.text()).splitlines()
    found = {"short": 0, "lasting": 0, "429": 0}
    for line in lines:
        name, _, value = line.rpartition(" ")
        for key in found:
            if name in (f'labctl_requests_under_way{{kind="{key}"}}', f'apiserver_request_terminations_total{{code="{key}"}}'):
                found[key] = int(float(value))
    return found


async def until(api: ApiServer, **wanted: int) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while wanted.items() - (await under_way(api)).items():
            await asyncio.sleep(0.01)


async def get(api: ApiServer, path: str, who: Issued | str) -> int:
    async with api.session(who) as http, http.get(path) as answered:
        await answered.read()
        return answered.status


async def test_who_has_too_many_is_told_so_and_others_are_served(api: ApiServer) -> None:
    mallory = api.authority.issue("mallory")
    held = [await hanging(api, mallory) for _ in range(5)]
    await until(api, short=5)
    async with api.session(mallory) as http, http.get(MAPS) as refused:
        said = await refused.json()
        assert (refused.status, refused.headers["Retry-After"]) == (429, "1")
        assert (said["kind"], said["status"], said["reason"], said["code"]) == ("Status", "Failure", "TooManyRequests", 429)
    assert (await under_way(api))["429"] == 1
    for path in ("/readyz", "/livez", "/version"):
        assert await get(api, path, mallory) == 200
    assert await get(api, MAPS, "admin") == await get(api, MAPS, api.authority.issue("alice")) == 200
    held.pop().transport.abort()
    await until(api, short=4)
    assert await get(api, MAPS, mallory) == 200
    for writer in held:
        writer.transport.abort()
    await until(api, short=0)


async def test_of_many_users_each_has_a_few(api: ApiServer) -> None:
    """Five and three are all there may be. Whoever has few is served beside them, and an admin is."""
    held = [await hanging(api, api.authority.issue(who)) for who in ("mallory",) * 5 + ("alice",) * 3]
    await until(api, short=8)
    assert await get(api, MAPS, api.authority.issue("alice")) == 429
    bob = api.authority.issue("bob")
    assert await get(api, MAPS, bob) == 200
    held += [await hanging(api, bob) for _ in range(2)]
    await until(api, short=10)
    assert await get(api, MAPS, bob) == 429
    assert await get(api, MAPS, "admin") == 200
    for writer in held:
        writer.transport.abort()
    await until(api, short=0)


async def test_a_node_renews_its_lease_whatever_it_has_under_way(api: ApiServer) -> None:
    async with api.session() as http:
        machine = {"metadata": {"name": "minion-1"}, "spec": {"number": 1, "address": "10.245.1.11"}}
        for path, body in (("/apis/labctl.internal/v1/machines", machine), ("/api/v1/nodes", {"metadata": {"name": "minion-1"}})):
            async with http.post(path, json=body) as made:
                assert made.status == 201
    node = api.authority.node("minion-1")
    lease = {"metadata": {"name": "minion-1"}, "spec": {"holderIdentity": "minion-1"}}
    async with api.session(node) as http:
        async with http.post(LEASES, json=lease) as made:
            assert made.status == 201
        held = [http.get("/api/v1/nodes?watch=1&fieldSelector=metadata.name%3Dminion-1") for _ in range(3)]
        watches = [await each for each in held]
        assert [each.status for each in watches] == [200] * 3
        async with http.get("/api/v1/nodes?watch=1&fieldSelector=metadata.name%3Dminion-1") as refused:
            assert refused.status == 429
        async with http.put(f"{LEASES}/minion-1", json=lease) as renewed:
            assert renewed.status == 200
        for each in watches:
            each.close()


async def test_watches_are_counted_apart(api: ApiServer) -> None:
    async with api.session(api.authority.issue("mallory")) as http:
        watches = [await http.get(f"{MAPS}?watch=1") for _ in range(3)]
        assert [each.status for each in watches] == [200] * 3
        async with http.get(f"{MAPS}?watch=1") as refused:
            assert (refused.status, refused.headers["Retry-After"]) == (429, "1")
        for _ in range(9):
            async with http.get(MAPS) as listed:
                assert listed.status == 200
        assert (await under_way(api))["lasting"] == 3
        for each in watches:
            each.close()
        await until(api, lasting=0, short=0)
        async with http.get(f"{MAPS}?watch=1&timeoutSeconds=1") as watched:
            assert watched.status == 200


async def test_an_answer_that_is_not_read_is_under_way(api: ApiServer) -> None:
    kind = api.resources.registry["configmaps"]
    for number in range(40):
        await api.resources.create(kind, "default", {"metadata": {"name": f"m{number}"}, "data": {"k": "x" * 200_000}})
    mallory = api.authority.issue("mallory")
    held = []
    for _ in range(5):
        _, writer = await asyncio.open_connection("127.0.0.1", api.port, ssl=api.tls(mallory), limit=1024)
        writer.transport.pause_reading()  # type: ignore[attr-defined]  # it is one of sockets
        writer.write(f"GET {MAPS} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        held.append(writer)
    await until(api, short=5)
    assert await get(api, MAPS, mallory) == 429
    for writer in held:
        writer.transport.abort()
    await until(api, short=0)


async def test_a_flood_of_lists_is_bounded_and_the_admin_is_answered(api: ApiServer) -> None:
    kind = api.resources.registry["configmaps"]
    for number in range(300):
        await api.resources.create(kind, "default", {"metadata": {"name": f"m{number}"}, "data": {"k": "x" * 3_000}})
    codes: Counter[int] = Counter()

    async def ask(http: aiohttp.ClientSession) -> None:
        async with http.get(f"{MAPS}?labelSelector=a!%3Db") as answered:
            codes[answered.status] += 1
            await answered.read()

    async with api.session(api.authority.issue("mallory")) as http, api.session() as admin:
        flood = asyncio.gather(*(ask(http) for _ in range(60)))
        while not flood.done():
            async with admin.get(f"{MAPS}/m1") as answered:
                assert answered.status == 200
        await flood
    assert codes[200] >= 5 and codes[429] > 0 and codes[200] + codes[429] == 60
    assert (await under_way(api))["429"] == codes[429]


async def test_what_programs_do_meets_no_limit(usual: ApiServer) -> None:
    """An operator with a hundred informers, each with a list and a watch at once, and 80 writes beside them."""
    async with usual.session(usual.authority.issue("mallory")) as http:

        async def inform() -> None:
            async with http.get(MAPS) as listed:
                assert listed.status == 200
                version = (await listed.json())["metadata"]["resourceVersion"]
            async with http.get(f"{MAPS}?watch=1&timeoutSeconds=2&resourceVersion={version}") as watched:
                assert watched.status == 200
                await watched.read()

        async def write(number: int) -> None:
            async with http.post(MAPS, json={"metadata": {"name": f"m{number}"}}) as made:
                assert made.status == 201

        await asyncio.gather(*(inform() for _ in range(100)), *(write(number) for number in range(80)))
    assert await under_way(usual) == {"short": 0, "lasting": 0, "429": 0}


async def test_who_has_nothing_under_way_is_forgotten_in_the_end() -> None:
    in_flight = InFlight(ApiSettings())
    _, leave = in_flight.enter("mallory", lasting=True)
    for number in range(5 * CALLERS_KEPT):
        in_flight.enter(f"user-{number}", lasting=False)[1]()
    assert len(in_flight._callers) <= CALLERS_KEPT and "mallory" in in_flight._callers
    leave()
    assert (in_flight.short, in_flight.lasting) == (0, 0)


async def test_requests_of_one_user_begin_in_turns() -> None:
    in_flight = InFlight(ApiSettings())
    passes: list[int] = [0]

    async def begin(name: str) -> None:
        caller, leave = in_flight.enter(name, lasting=False)
        try:
            await in_flight.turn(caller)
            passes[-1] += name == "mallory"
        finally:
            leave()

    tasks = [asyncio.create_task(begin("mallory")) for _ in range(50)]
    await asyncio.sleep(0)
    for task in tasks[10:20]:
        task.cancel()  # their clients are gone: they keep nobody waiting
    one = asyncio.create_task(begin("alice"))
    while not all(task.done() for task in tasks):
        passes.append(0)
        await asyncio.sleep(0)
        assert one.done()  # nobody waits for another user
    assert sum(passes) == 40 and max(passes) <= BEGUN_AT_ONCE
    assert in_flight.short == 0
