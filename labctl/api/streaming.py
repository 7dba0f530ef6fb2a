"""Which subresource is served by which stream: what `Server` looks a handler up in. Without a `remote`, none is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web

from labctl.api.call import Call
from labctl.api.settings import ApiSettings
from labctl.api.streams.channels import Channels
from labctl.api.streams.forward import Forward
from labctl.api.streams.logs import Logs
from labctl.api.streams.proxy import Proxy
from labctl.remote.interface import Remote
from labctl.resources.resources import Resources

Handler = Callable[[Call], Awaitable[web.StreamResponse]]


def handlers(resources: Resources, remote: Remote, settings: ApiSettings) -> Mapping[tuple[str, str], Handler]:
    """By (plural, subresource)."""
    channels = Channels(resources, remote)
    proxy = Proxy(resources, remote, settings)
    return {
        ("pods", "exec"): channels.exec,
        ("pods", "attach"): channels.attach,
        ("pods", "log"): Logs(resources, remote).log,
        ("pods", "portforward"): Forward(resources, remote).portforward,
        ("pods", "proxy"): proxy.pod,
        ("services", "proxy"): proxy.service,
    }
