"""The HTTP client against a server that answers byte for byte what a test says."""

import asyncio
import json
from contextlib import asynccontextmanager

import pytest

from labctl.agent.client import Api, Delays, Refused, reflect
from labctl.agent.deadlines import wait_for
from labctl.agent.http import Http, Response, Unreachable


class Server:
    """`answers`: one for each request, in order; b"" closes the connection instead. `seen`: (connection number, request)."""

    def __init__(self, answers):
        self.answers, self.seen, self.connections = list(answers), [], 0

    async def serve(self, reader, writer):
        self.connections += 1
        number = self.connections
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = next((int(line.split(":")[1]) for line in head.split("\r\n") if line.lower().startswith("content-length")), 0)
                body = await reader.readexactly(length)
                self.seen.append((number, head.split("\r\n")[0], body))
                answer = self.answers.pop(0)
                if not answer:
                    break
                writer.write(answer)
                if b"Connection: close" in answer:
                    break
        except (asyncio.IncompleteReadError, ConnectionError, IndexError):
            pass
        finally:
            writer.close()


def plain(body=b"{}", status="200 OK", extra=""):
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{extra}\r\n".encode() + body


def chunked(*pieces):
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in pieces) + b"0\r\n\r\n"


@asynccontextmanager
async def serving(*answers):
    server = Server(answers)
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    async with listener:
        yield server, Http(f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}")


async def test_a_connection_is_kept_and_used_again():
    async with serving(plain(b'{"a":1}'), plain(b'{"a":2}')) as (server, http):
        api = Api(http)
        assert [(await api.get("/x"))["a"], (await api.create("/x", {"b": 1}))["a"]] == [1, 2]
        assert server.connections == 1
        assert server.seen[1] == (1, "POST /x HTTP/1.1", b'{"b":1}')


async def test_a_kept_connection_that_was_closed_meanwhile_is_made_anew():
    async with serving(plain(), b"", plain(b'{"a":2}')) as (server, http):
        api = Api(http)
        await api.get("/x")
        assert (await api.get("/y"))["a"] == 2
        assert server.connections == 2


async def test_a_new_connection_that_is_closed_without_an_answer_is_unreachable():
    async with serving(b"") as (_, http):
        with pytest.raises(Unreachable):
            await Api(http).get("/x")


async def test_nobody_listens():
    with pytest.raises(Unreachable, match="GET /x"):
        await Api(Http("http://127.0.0.1:1")).get("/x")


async def test_a_server_that_says_nothing_is_given_up():
    async def silent(reader, writer):
        await reader.read()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as listener:
        http = Http(f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}")
        with pytest.raises(Unreachable, match=r"no answer in 0\.05 s"):
            await Api(http).get("/x", timeout_s=0.05)


async def test_chunks_and_lines_that_do_not_match():
    async with serving(chunked(b'{"n":1}\n{"n"', b":2}\n", b'{"n":3}\n')) as (_, http):
        response = await Api(http).stream("/watch")
        assert [json.loads(line)["n"] async for line in response.lines()] == [1, 2, 3]


async def test_an_answer_that_breaks_off_is_no_answer():
    async with serving(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", b"") as (_, http):
        response = await http.request("GET", "/x")
        task = asyncio.ensure_future(response.read())
        await asyncio.sleep(0.01)
        response.close()
        with pytest.raises(Unreachable, match="broke off"):
            await task


async def test_a_watch_whose_server_is_gone_says_so():
    async with serving(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n2\r\n{}\r\n") as (_, http):
        response = await http.request("GET", "/x")
        with pytest.raises(Unreachable, match="the answer broke off: the other side closed the connection"):
            await response.read()


async def test_a_refusal_speaks_the_servers_words():
    status = json.dumps({"kind": "Status", "reason": "NotFound", "message": 'pods "x" not found'}).encode()
    async with serving(plain(status, "404 Not Found"), plain(b"<html>", "502 Bad Gateway")) as (_, http):
        with pytest.raises(Refused, match='pods "x" not found') as refused:
            await Api(http).get("/x")
        assert (refused.value.code, refused.value.reason) == (404, "NotFound")
        with pytest.raises(Refused, match="<html>"):
            await Api(http).get("/x")


async def test_what_is_no_http_is_unreachable():
    async with serving(b"SSH-2.0-OpenSSH\r\n\r\n") as (_, http):
        with pytest.raises(Unreachable, match="not HTTP"):
            await Api(http).get("/x")


def event(kind, revision):
    return json.dumps({"type": kind, "object": {"kind": "Pod", "metadata": {"resourceVersion": str(revision)}}}).encode() + b"\n"


def listing(revision, *names):
    items = [{"metadata": {"name": name}} for name in names]
    return plain(json.dumps({"metadata": {"resourceVersion": str(revision)}, "items": items}).encode())


async def test_the_reflector_watches_from_where_it_listed_and_lists_again_at_410():
    gone = (
        json.dumps({"type": "ERROR", "object": {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}}).encode() + b"\n"
    )
    answers = [
        listing(5, "a"),
        chunked(event("ADDED", 6), event("BOOKMARK", 9)),
        chunked(gone),
        listing(20, "a", "b"),
        chunked(event("DELETED", 21)),
    ]
    async with serving(*answers) as (server, http):
        heard, done = [], asyncio.Event()

        async def listed(items):
            heard.append([each["metadata"]["name"] for each in items])

        async def told(kind, value):
            heard.append((kind, value["metadata"]["resourceVersion"]))
            if kind == "DELETED":
                done.set()

        work = asyncio.ensure_future(
            reflect(Api(http), "/api/v1/pods", "spec.nodeName=m1", listed, told, lambda text: None, Delays(0.001, 0.01))
        )
        await asyncio.wait_for(done.wait(), 5)
        work.cancel()
    assert heard == [["a"], ("ADDED", "6"), ["a", "b"], ("DELETED", "21")]
    watches = [line for _, line, _ in server.seen if "watch=1" in line]
    assert ["resourceVersion=5" in watches[0], "resourceVersion=9" in watches[1], "resourceVersion=20" in watches[2]] == [True] * 3
    assert all("fieldSelector=spec.nodeName%3Dm1" in line for _, line, _ in server.seen)


async def test_who_was_refused_is_back_as_soon_as_somebody_listens():
    async with serving(plain(b'{"a":1}')) as (server, http):
        address = http._host, http._port
    api = Api(http)
    with pytest.raises(Unreachable):
        await api.get("/x")
    pausing = asyncio.ensure_future(api.pause(3600))
    await api.pause(0.1)  # it is no longer than it was asked for
    assert not pausing.done()
    async with await asyncio.start_server(server.serve, *address):
        await asyncio.wait_for(pausing, 10)
        assert await api.get("/x") == {"a": 1}


async def test_who_was_not_refused_waits_as_long_as_it_was_told():
    async with serving(b"") as (_, http):
        api = Api(http)
        with pytest.raises(Unreachable):
            await api.get("/x")
        pausing = asyncio.ensure_future(api.pause(3600))
        await asyncio.wait([pausing], timeout=0.2)  # many times as long as it takes to see that somebody listens
        assert not pausing.done()
        pausing.cancel()


def test_waits_grow_to_a_bound_and_begin_anew():
    delays = Delays(1.0, 4.0)
    waits = [delays.next() for _ in range(5)]
    assert all(0.7 * base <= wait <= 1.3 * base for wait, base in zip(waits, (1, 2, 4, 4, 4)))
    delays.reset()
    assert delays.next() <= 1.3


@pytest.mark.parametrize("turns", range(1, 9))
async def test_a_request_that_is_cancelled_leaves_no_connection_open(turns):
    """Also in the moment of its answer, which then nobody takes, and before the reading of its body has begun."""
    opened = []

    class Line:
        closed, reader = False, None

        def close(self):
            self.closed = True

    class AnsweredAtOnce(Http):
        async def _request(self, *_):
            opened.append(Line())
            return Response(204, {}, opened[-1], self._kept)

    http = AnsweredAtOnce("http://127.0.0.1:1")
    asking = asyncio.ensure_future(Api(http).get("/x"))
    for _ in range(turns):
        await asyncio.sleep(0)
    asking.cancel()
    await asyncio.wait({asking})
    assert all(line.closed or line in http._kept for line in opened)


@pytest.mark.parametrize("turns", range(1, 6))
async def test_an_answer_that_comes_with_a_cancellation_is_closed(turns):
    closed = []

    async def answer():
        return "connection"

    waiting = asyncio.ensure_future(wait_for(answer(), 5, closed.append))
    for _ in range(turns):
        await asyncio.sleep(0)
    taken = not waiting.cancel()
    await asyncio.wait({waiting})
    began = turns > 1  # before that, nothing had been asked for
    assert taken or not began or closed == ["connection"]
