"""The agent on a container's machine reads its log; this module passes the bytes on as they come, over HTTP or a WebSocket."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from contextlib import suppress

from aiohttp import ClientConnectionResetError, WSCloseCode, web

from labctl.api import answer, status, websockets
from labctl.api.call import Call
from labctl.api.query import Query
from labctl.api.streams import pods
from labctl.api.streams.websocket import choose_protocol
from labctl.clock import parse_rfc3339
from labctl.errors import ApiError, LabctlError
from labctl.remote.interface import Remote, Stream
from labctl.resources.resources import Resources

PROTOCOLS = ("binary.k8s.io", "base64.binary.k8s.io")
_HEADERS = {"Content-Type": "text/plain; charset=utf-8", "Cache-Control": "no-cache, private", "X-Content-Type-Options": "nosniff"}
_COMPLAINT_MAX = 4096  # bytes
_CLOSE_REASON_MAX = 123  # bytes: a close frame holds no more


class Logs:
    """Handles the subresource `log` of pods."""

    def __init__(self, resources: Resources, remote: Remote) -> None:
        self._resources = resources
        self._remote = remote

    async def log(self, call: Call) -> web.StreamResponse:
        if call.method != "GET":
            raise status.method_not_allowed()
        options = _options(call.query, call.target.name)
        pod = pods.pod_of(call, self._resources)
        container = pods.container_of(pod, call.query.first("container"))
        if not pod.spec.node_name:
            return answer.text("")  # the pod is on no node yet; a real server answers an empty log, too
        pods.must_have_logs(pod, container, call.query.flag("previous"))
        machine = pods.machine_of(pod)
        protocol = choose_protocol(call, PROTOCOLS) if call.is_websocket else ""
        stream = await self._remote.open(machine, [*pods.AGENT, "logs", "--pod", pod.metadata.uid, "--container", container, *options])
        try:
            with call.connection.streaming():
                return await (_to_websocket(call, stream, protocol) if call.is_websocket else _pass_on(call, stream))
        finally:
            await stream.close()


def _options(query: Query, pod: str) -> list[str]:
    """Turns PodLogOptions into the agent's flags. Raises 422 as a real server does."""
    options = []
    for name in ("previous", "follow", "timestamps"):
        if query.flag(name):
            options.append(f"--{name}")
    for name, flag, least in (("tailLines", "--tail", 0), ("sinceSeconds", "--since-seconds", 1), ("limitBytes", "--limit-bytes", 1)):
        value = query.integer(name)
        if value is None:
            continue
        if value < least:
            raise _invalid(pod, name, f"Invalid value: {value}: must be greater than {'or equal to 0' if least == 0 else '0'}")
        options += [flag, str(value)]
    since = query.first("sinceTime")
    if since:
        if query.first("sinceSeconds"):
            raise _invalid(pod, "", "Forbidden: at most one of `sinceTime` or `sinceSeconds` may be specified")
        _check_time(since)
        options += ["--since-time", since]
    return options


def _check_time(text: str) -> None:
    try:
        parse_rfc3339(text)
    except ValueError:
        raise status.bad_request(f'parsing time "{text}" as "2006-01-02T15:04:05Z07:00": cannot parse "{text}"') from None


def _invalid(pod: str, field: str, words: str) -> ApiError:
    message = f'PodLogOptions "{pod}" is invalid: {field + ": " if field else ""}{words}'
    return ApiError(422, "Invalid", message, details={"name": pod, "kind": "PodLogOptions", "causes": [{"message": words, "field": field}]})


async def _pass_on(call: Call, stream: Stream) -> web.StreamResponse:
    """Passes the log on as it comes. The answer begins with the log's first bytes, as the kubelet's does. The agent reports failures on standard error."""
    response = web.StreamResponse(headers=_HEADERS)
    complaint = b""
    try:
        async for number, data in stream.read():
            if number == 2:
                complaint = (complaint + data)[:_COMPLAINT_MAX]
                continue
            if not response.prepared:
                await response.prepare(call.request)
            await response.write(data)
        if await stream.status() and not response.prepared:
            raise status.internal(complaint.decode(errors="replace").strip() or "the agent could not read the log")
    except ClientConnectionResetError:
        return response
    return response if response.prepared else answer.CompleteResponse(b"", content_type=_HEADERS["Content-Type"])


async def _to_websocket(call: Call, stream: Stream, protocol: str) -> web.StreamResponse:
    """Sends the log in messages of any length, after an empty one. Messages of the client are ignored; if it closes the WebSocket, the log ends."""
    socket = websockets.new((protocol,) if protocol else ())
    await socket.prepare(call.request)
    sending = asyncio.create_task(_messages(socket, stream, text=protocol.startswith("base64")))
    listening = asyncio.create_task(_until_closed(socket))
    try:
        await asyncio.wait((sending, listening), return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (sending, listening):
            task.cancel()
        await asyncio.gather(sending, listening, return_exceptions=True)
    return socket


async def _messages(socket: web.WebSocketResponse, stream: Stream, *, text: bool) -> None:
    complaint = b""
    with suppress(ClientConnectionResetError):
        await (socket.send_str("") if text else socket.send_bytes(b""))
        try:
            async for number, data in stream.read():
                if number == 2:
                    complaint = (complaint + data)[:_COMPLAINT_MAX]
                else:
                    await (socket.send_str(b64encode(data).decode()) if text else socket.send_bytes(data))
            failed = bool(await stream.status())
        except LabctlError as error:
            failed, complaint = True, str(error).encode()
        code = WSCloseCode.INTERNAL_ERROR if failed else WSCloseCode.OK
        await socket.close(code=code, message=complaint[:_CLOSE_REASON_MAX] if failed else b"")


async def _until_closed(socket: web.WebSocketResponse) -> None:
    async for _message in websockets.incoming(socket):
        pass
