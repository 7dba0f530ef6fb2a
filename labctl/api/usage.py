"""Answers metrics.k8s.io: how much pods and nodes use. What the minions said last is asked anew if it is old; nothing is stored."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from aiohttp import web

from labctl.api import query, status
from labctl.api.call import Call
from labctl.clock import rfc3339
from labctl.resources import failures
from labctl.resources.kind import Object
from labctl.resources.kinds.core_v1.node import Node
from labctl.resources.kinds.core_v1.pod_view import Pod
from labctl.resources.plurals import NODES, PODS
from labctl.resources.resources import Resources
from labctl.resources.service import ListOptions
from labctl.resources.usage import ContainerUse, NodeUse, UsageReader

_encode = msgspec.json.Encoder().encode


class UsageApi:
    """`answer` carries out get and list of NodeMetrics and PodMetrics."""

    def __init__(self, resources: Resources, usage: UsageReader) -> None:
        self._resources = resources
        self._usage = usage

    async def answer(self, call: Call) -> web.StreamResponse:
        if call.is_watch:
            raise status.method_not_allowed()
        resource = PODS if call.kind.namespaced else NODES
        kind, target = self._resources.registry[resource], call.target
        if target.name:
            try:
                views = [self._resources.view(self._resources.get(kind, target.namespace, target.name))]
            except status.ApiError as error:
                raise failures.not_found(call.kind, _title(target.namespace, target.name)) if error.code == 404 else error from None
        else:
            asked = query.list_options(call.query)
            options = ListOptions(label_selector=asked.label_selector, field_selector=asked.field_selector)
            listed = self._resources.list(kind, target.namespace, options)
            views = [self._resources.view(entry) for entry in listed.entries]
        await self._usage.refresh({_node_of(view) for view in views} - {""})
        items = list(self._items(views))
        if target.name:
            if not items:
                raise failures.not_found(call.kind, _title(target.namespace, target.name))
            return await call.answer(_encode({"kind": call.kind.kind, "apiVersion": call.kind.api_version, **items[0]}), form=call.format)
        whole = {"kind": f"{call.kind.kind}List", "apiVersion": call.kind.api_version, "metadata": {}, "items": items}
        return await call.answer(_encode(whole), form=call.format)

    def _items(self, views: list[Pod | Node]) -> Iterator[Object]:
        for view in views:
            read = self._usage.node(_node_of(view))
            if read is None:
                continue
            if isinstance(view, Node):
                yield {**_head(view, read), "usage": _amounts(read.machine)}
            elif view.status.phase == "Running" and view.metadata.uid in read.pods:
                containers = [{"name": name, "usage": _amounts(used)} for name, used in read.pods[view.metadata.uid].items()]
                yield {**_head(view, read), "containers": containers}


def _node_of(view: Pod | Node) -> str:
    return view.metadata.name if isinstance(view, Node) else view.spec.node_name


def _title(namespace: str, name: str) -> str:
    return f"{namespace}/{name}" if namespace else name


def _head(view: Pod | Node, read: NodeUse) -> Object:
    metadata = {"name": view.metadata.name, "creationTimestamp": rfc3339(read.at_s), "labels": dict(view.metadata.labels)}
    if view.metadata.namespace:
        metadata["namespace"] = view.metadata.namespace
    return {"metadata": metadata, "timestamp": rfc3339(read.at_s), "window": f"{read.window_s:.3f}s"}


def _amounts(used: ContainerUse) -> dict[str, str]:
    return {"cpu": f"{used.nanocores}n", "memory": f"{used.memory_bytes // 1024}Ki"}
