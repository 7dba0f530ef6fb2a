"""This module says which handler serves which streaming subresource. `Server` looks its handlers up here."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web

from labctl.api.authorize import Authorizer
from labctl.api.call import Call
from labctl.api.settings import ApiSettings
from labctl.api.streams.channels import Channels
from labctl.api.streams.connect import admitted
from labctl.api.streams.forward import Forward
from labctl.api.streams.logs import Logs
from labctl.api.streams.nodes import Nodes
from labctl.api.streams.proxy import Proxy
from labctl.errors import ApiError
from labctl.remote.interface import Remote
from labctl.resources.resources import Resources
from labctl.resources.usage import UsageReader

LOG = ("pods", "log")  # a read like others; the rest are connections, about which admission is asked
STREAMS = (("pods", "exec"), ("pods", "attach"), LOG, ("pods", "portforward"), ("pods", "proxy"), ("services", "proxy"), ("nodes", "proxy"))

Handler = Callable[[Call], Awaitable[web.StreamResponse]]


def handlers(
    resources: Resources, authorizer: Authorizer, remote: Remote | None, settings: ApiSettings, usage: UsageReader
) -> Mapping[tuple[str, str], Handler]:
    """Returns the handlers by (plural, subresource). In a lab without machines (`remote` is None) each of them answers that there are none."""
    made = dict.fromkeys(STREAMS, _no_machines) if remote is None else _handlers(resources, remote, settings, usage)
    return {stream: handler if stream == LOG else admitted(resources, authorizer, handler) for stream, handler in made.items()}


def _handlers(resources: Resources, remote: Remote, settings: ApiSettings, usage: UsageReader) -> Mapping[tuple[str, str], Handler]:
    channels = Channels(resources, remote)
    proxy = Proxy(resources, remote, settings)
    logs = Logs(resources, remote)
    return {
        ("pods", "exec"): channels.exec,
        ("pods", "attach"): channels.attach,
        LOG: logs.log,
        ("pods", "portforward"): Forward(resources, remote).portforward,
        ("pods", "proxy"): proxy.pod,
        ("services", "proxy"): proxy.service,
        ("nodes", "proxy"): Nodes(resources, remote, usage, logs).proxy,
    }


async def _no_machines(_call: Call) -> web.StreamResponse:
    raise ApiError(503, "ServiceUnavailable", "this lab has no machines to reach")
