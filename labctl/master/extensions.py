"""Serves under /labctl/v1 what labctl's own commands and agents need from the master beyond Kubernetes' API."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from labctl.api.extensions import ExtensionHandler, ExtensionRequest, Extensions, File
from labctl.errors import ApiError
from labctl.master.timelines import add_routes as add_timeline_routes
from labctl.master.wanted import add_routes as add_wanted_routes
from labctl.resources.plurals import PODS, SERVICES
from labctl.supervisor import Supervisor

if TYPE_CHECKING:
    from labctl.images.gate import PullGate
    from labctl.images.images import Images
    from labctl.journal import MemoryJournal
    from labctl.proxy.proxy import Proxy
    from labctl.reconcile.plan import Key, View
    from labctl.reconcile.runner import Runner
    from labctl.resources.registry import Registry
    from labctl.tokens import TokenKeys


class Placing(Protocol):
    """The part of the scheduler that `labctl why` asks: why a waiting pod is on none of the nodes, and why a pod is not on one."""

    def refusals(self, view: View, key: Key) -> Sequence[str]: ...
    def refusal(self, view: View, key: Key, node: str) -> Sequence[str] | None: ...


def extensions(
    registry: Registry,
    runner: Runner,
    journal: MemoryJournal,
    images: Images | None,
    snapshot: Callable[[], Awaitable[int]],
    supervisor: Supervisor,
    placing: Placing,
    tokens: TokenKeys | None = None,
    peers: ExtensionHandler | None = None,
    pulls: PullGate | None = None,
    proxy: Proxy | None = None,
) -> Extensions:
    routes = Extensions()
    routes.add("POST", "/labctl/v1/snapshot", lambda _request: _snapshot(snapshot))
    routes.add(
        "GET",
        "/labctl/v1/why/{kind}/{namespace}/{name}",
        lambda request: _why(registry, runner, journal, supervisor, placing, proxy, request),
    )
    add_timeline_routes(routes, runner.view, journal)
    routes.add("GET", "/labctl/v1/health", lambda _request: _health(supervisor))
    if proxy:
        add_wanted_routes(routes, runner.view, proxy)
    if tokens:
        routes.add("POST", "/labctl/v1/token-keys", lambda request: _rotate(tokens, request))
    if peers:
        routes.add("GET", "/labctl/v1/peers", peers)
    if images:
        routes.add("GET", "/labctl/v1/images/resolve", lambda request: _resolve(images, pulls, request))
        routes.add("GET", "/labctl/v1/blobs/{digest}", lambda request: _blob(images, pulls, request))
    return routes


async def _snapshot(snapshot: Callable[[], Awaitable[int]]) -> dict[str, int]:
    """Copy the store as it is now into the file where the lab's other commands look for it."""
    return {"revision": await snapshot()}


async def _rotate(tokens: TokenKeys, request: ExtensionRequest) -> dict[str, Any]:
    """Sign ServiceAccounts' tokens with a new key. With ?revoke=true, tokens of the older keys are not valid any more."""
    name = tokens.rotate(revoke=request.query.flag("revoke"))
    return {"signsWith": name, "keys": [key["kid"] for key in tokens.public()]}


async def _health(supervisor: Supervisor) -> dict[str, Any]:
    """Return the master's long-lived tasks and where errors of ours were caught, for `labctl status`."""
    return {"trouble": supervisor.trouble(), "tasks": [msgspec.to_builtins(one) for one in supervisor.health() if one.noteworthy]}


async def _why(
    registry: Registry,
    runner: Runner,
    journal: MemoryJournal,
    supervisor: Supervisor,
    placing: Placing,
    proxy: Proxy | None,
    request: ExtensionRequest,
) -> dict[str, Any]:
    """Explain an object's state. Every name that kubectl knows for a kind is taken: pod, pods, po."""
    from labctl.controllers.explain import explain, explain_not_on

    word, name = request.params["kind"], request.params["name"]
    kind = next((k for k in registry if word in (k.plural, k.singular, k.kind, k.resource, *k.short_names)), None)
    if kind is None:
        raise ApiError(404, "NotFound", f'the server doesn\'t have a resource type "{word}"')
    key = f"{request.params['namespace']}/{name}" if kind.namespaced else name
    elsewhere = request.query.first("notOn")
    if elsewhere and kind.resource != PODS:
        raise ApiError(400, "BadRequest", f"notOn: only a pod is on a node, {kind.resource} are not")
    if elsewhere:
        lines = explain_not_on(runner.view, journal, key, elsewhere, placing.refusal)
    else:
        lines = explain(runner.view, journal, kind.resource, key, placing.refusals)
        lines += _behind(proxy, key, name) if proxy and lines and kind.resource == SERVICES else []
    if not lines:
        raise ApiError(404, "NotFound", f'{kind.resource} "{name}" not found, and the journal has nothing about it')
    trouble = supervisor.trouble()
    return {"lines": [*lines, *([f"The master itself is in trouble, which may be why: {trouble}"] if trouble else [])]}


def _behind(proxy: Proxy, key: Key, name: str) -> list[str]:
    """Name the minions that do not have a Service's newest rules."""
    late = [minion for minion, has in proxy.programmed(key).items() if not has]
    return [f"{minion} does not have its newest rules yet: labctl trace {name} --from {minion}" for minion in late]


async def _resolve(images: Images, pulls: PullGate | None, request: ExtensionRequest) -> Any:
    query = request.query
    if pulls:
        pulls.check(request.user.name, f'image "{query.first("name")}"')
    return await images.resolve(query.first("name"), query.first("platform"), query.first("pull") or "IfNotPresent")


async def _blob(images: Images, pulls: PullGate | None, request: ExtensionRequest) -> File:
    if pulls:
        pulls.check(request.user.name, f"blob {request.params['digest']}")
    return File(images.blob(request.params["digest"]))
