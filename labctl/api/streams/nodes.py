"""Answers `.../nodes/NAME/proxy/PATH`: what a kubelet answers behind the API's proxy. Nobody dials the minion: pods are in the store, figures come over SSH.

Who calls it: tests, tools and scrapers that have the right `nodes/proxy`. A minion that is not connected, or whose agent is silent, has no kubelet to reach.
Paths that change something or run a command in a pod are not served here; pods' own subresources do that.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

from aiohttp import web

from labctl.api import answer
from labctl.api.call import Call
from labctl.api.metrics import CONTENT_TYPE
from labctl.api.query import Query
from labctl.api.route import Target
from labctl.api.streams import node_samples, node_summary, pods
from labctl.api.streams.logs import Logs
from labctl.api.streams.node_reading import Reading
from labctl.api.streams.proxy import split_name
from labctl.errors import ApiError
from labctl.remote.interface import Remote
from labctl.resources.encoding import client_bytes
from labctl.resources.kinds.core_v1.node import Node
from labctl.resources.kinds.core_v1.pod_view import Pod
from labctl.resources.kinds.shared import condition_status
from labctl.resources.plurals import PODS
from labctl.resources.resources import Resources
from labctl.resources.service import ListOptions
from labctl.resources.usage import UsageReader
from labctl.store.interface import Entry

_PORTS = ("", "10250")


class Nodes:
    """Handles the subresource `proxy` of nodes."""

    def __init__(self, resources: Resources, remote: Remote, usage: UsageReader, logs: Logs) -> None:
        self._resources = resources
        self._remote = remote
        self._usage = usage
        self._logs = logs
        self._paths: Mapping[str, Callable[[Node], Awaitable[web.StreamResponse]]] = {
            "/healthz": self._healthz,
            "/pods": self._pods,
            "/stats/summary": self._summary,
            "/metrics/resource": self._resource,
            "/metrics/cadvisor": self._cadvisor,
        }

    async def proxy(self, call: Call) -> web.StreamResponse:
        node = self._node(call)
        path = call.target.rest.rstrip("/")
        parts = path.split("/")[1:]
        handler = self._paths.get(path)
        if handler is None and (parts[:1], len(parts)) != (["containerLogs"], 4):
            return answer.text("404 page not found\n", 404)
        if call.method not in ("GET", "HEAD"):
            return answer.text("405: Method Not Allowed", 405)
        return await (self._container_logs(call, node, *parts[1:]) if handler is None else handler(node))

    def _node(self, call: Call) -> Node:
        """Return the node, whose agent reports. Raises 404, and 503 if there is nothing to reach."""
        _, name, port = split_name(call.target.name)
        node = self._resources.view(self._resources.get(call.kind, "", name))
        assert isinstance(node, Node)
        if port not in _PORTS:
            raise _unavailable(f"no kubelet listens on port {port}")
        if not self._remote.connected(name) or condition_status(node.status.conditions, "Ready") not in ("True", "False"):
            raise _unavailable(f"the agent of {name} does not answer")
        return node

    async def _healthz(self, _node: Node) -> web.StreamResponse:
        return answer.text("ok")

    async def _pods(self, node: Node) -> web.StreamResponse:
        items = b",".join(entry.client_bytes or client_bytes(entry) for entry in self._on(node))
        return answer.CompleteResponse(b'{"kind":"PodList","apiVersion":"v1","metadata":{},"items":[' + items + b"]}")

    async def _summary(self, node: Node) -> web.StreamResponse:
        return answer.CompleteResponse(node_summary.encoded(await self._read(node)))

    async def _resource(self, node: Node) -> web.StreamResponse:
        return answer.CompleteResponse(node_samples.resource(await self._read(node)), 200, CONTENT_TYPE)

    async def _cadvisor(self, node: Node) -> web.StreamResponse:
        return answer.CompleteResponse(node_samples.cadvisor(await self._read(node)), 200, CONTENT_TYPE)

    async def _read(self, node: Node) -> Reading:
        """Return what the minion says of its use, at most 15 s old, with the pods that it has a say about. Raises 503."""
        name = node.metadata.name
        await self._usage.refresh({name})
        use = self._usage.node(name)
        if use is None:
            raise _unavailable(f"{name} does not say what it uses")
        views = [self._resources.view(entry) for entry in self._on(node)]
        return Reading(name, use, tuple(view for view in views if isinstance(view, Pod) and view.metadata.uid in use.pods))

    def _on(self, node: Node) -> Sequence[Entry]:
        options = ListOptions(field_selector=f"spec.nodeName={node.metadata.name}")
        return self._resources.list(self._resources.registry[PODS], "", options).entries

    async def _container_logs(self, call: Call, node: Node, namespace: str, name: str, container: str) -> web.StreamResponse:
        call.kind = self._resources.registry[PODS]
        call.target = Target("", "v1", PODS, namespace, name, "log")
        pod = pods.pod_of(call, self._resources)
        if pod.spec.node_name != node.metadata.name:
            return answer.text(f'pod "{name}" does not exist\n', 404)
        names = ("previous", "follow", "timestamps", "tailLines", "sinceSeconds", "sinceTime", "limitBytes")
        call.query = Query({"container": [container], **{each: call.query.all(each) for each in names if each in call.query}})
        return await self._logs.log(call)


def _unavailable(why: str) -> ApiError:
    return ApiError(503, "ServiceUnavailable", f"error trying to reach service: {why}")
