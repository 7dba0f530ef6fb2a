"""Before a stream to a pod or Service begins, admission is asked about it: Kubernetes' operation CONNECT (exec, attach, portforward, proxy).

What is judged are the request's options, as an object of a kind of their own (PodExecOptions and the like), made of the query or of the path below `proxy`.
A step may refuse the connection, or change the options: then the stream is opened with the changed ones. Nothing is stored, and there is no dry run.

Who runs something in a pod, or connects to it, needs the verb `create`, also for a WebSocket, which is a GET (KEP-4006): `get` on everything is to read only.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from urllib.parse import quote, unquote

import msgspec
from aiohttp import web

from labctl.api import status
from labctl.api.authorize import Authorizer
from labctl.api.call import Call
from labctl.api.query import Query
from labctl.resources import encoding
from labctl.resources.admission import Attributes
from labctl.resources.kind import Object
from labctl.resources.resources import Resources
from labctl.resources.service import WriteOptions

Handler = Callable[[Call], Awaitable[web.StreamResponse]]

_FLAGS = ("stdin", "stdout", "stderr", "tty")
_ALWAYS = {"stdout": True, "stderr": True}  # Kubernetes' defaults of these options, whatever the query says


def admitted(resources: Resources, authorizer: Authorizer, handler: Handler) -> Handler:
    """Return a handler that asks admission first."""

    async def connect(call: Call) -> web.StreamResponse:
        if call.target.subresource != "proxy" and call.method != "POST":
            authorizer.objects(call.user, "create", call.target, call.query)
        call.warnings = await _ask(resources, call)
        return await handler(call)

    return connect


async def _ask(resources: Resources, call: Call) -> list[str]:
    """Asks the steps, and puts what they made of the options in the place of the call's own. Raises ApiError."""
    if "dryRun" in call.query:
        raise status.bad_request("dryRun is not supported")
    target = call.target
    options = {"kind": resources.body_kind(call.kind, target.subresource).kind, "apiVersion": "v1", **_OPTIONS[target.subresource](call)}
    before = encoding.encode(options)
    path = (target.namespace, target.name)
    attributes = Attributes(call.user, "connect", call.kind, None, options, WriteOptions(call.user), target.subresource, path=path)
    await resources.admit(attributes)
    if encoding.encode(options) != before:
        _replace(call, options)
    return attributes.warnings


def _terminal(call: Call) -> Object:
    """Return the options of exec and attach."""
    said: Object = {name: True for name in _FLAGS if call.query.flag(name)} | _ALWAYS
    if container := call.query.first("container"):
        said["container"] = container
    return said


def _exec(call: Call) -> Object:
    return {**_terminal(call), "command": list(call.query.all("command"))}


def _ports(call: Call) -> Object:
    ports = [int(text) for text in call.query.all("ports") if text.isdecimal()]
    return {"ports": ports} if ports else {}


def _path(call: Call) -> Object:
    return {"path": unquote(call.target.rest)} if call.target.rest else {}


_OPTIONS: Mapping[str, Callable[[Call], Object]] = {
    "exec": _exec,
    "attach": _terminal,
    "portforward": _ports,
    "proxy": _path,
}


def _replace(call: Call, options: Object) -> None:
    """Changes what the handlers read: the query, or the path below `proxy`."""
    if call.target.subresource == "proxy":
        rest = quote(str(options.get("path") or "/"), safe="/:@!$&'()*+,;=~-._%")
        call.path = call.path.removesuffix(call.target.rest) + rest
        call.target = msgspec.structs.replace(call.target, rest=rest)
        return
    values: dict[str, list[str]] = {}
    for name, said in options.items():
        if name not in ("kind", "apiVersion"):
            values[name] = [_text(each) for each in (said if isinstance(said, list) else [said])]
    call.query = Query(values)


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
