"""The server offers Kubernetes' API, and labctl's own below `/labctl/v1`, over HTTPS.

Who calls it: `master` starts and stops it. People and their programs connect on loopback, agents on the lab's own network.
What flows: a request becomes a Call (who, what, how), is authorized, and one handler answers it from `resources`; streams reach machines through `remote`.
What it never does: decide what an object may be (`resources` does), or treat people and agents differently, apart from their rights.

All paths go to one handler and its own parser: a router with a pattern for each kind would take longer than most answers do.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from socket import socket

from aiohttp import web

from labctl.api import answer, identity, oldwatches, query, route, status, streaming
from labctl.api.aggregation.aggregation import Aggregation
from labctl.api.aggregation.services import ApiServices
from labctl.api.audit import AuditLog, Record
from labctl.api.authorize import LEASES, Authorizer
from labctl.api.call import Call
from labctl.api.connection import Connection, HttpServer
from labctl.api.deadline import Deadlines
from labctl.api.extensions import Extensions
from labctl.api.health import Checks
from labctl.api.impersonation import Asked, Impersonation
from labctl.api.inflight import COSTLY, LASTING, InFlight
from labctl.api.interference import Interference
from labctl.api.listener import Listener
from labctl.api.metrics import Metrics
from labctl.api.objects import Objects
from labctl.api.paths import Paths
from labctl.api.repeats import Repeats
from labctl.api.reviews import Reviews
from labctl.api.route import Target
from labctl.api.settings import ApiSettings
from labctl.api.tokens import ServiceAccountTokens
from labctl.api.usage import UsageApi
from labctl.clock import Clock
from labctl.errors import ApiError, LabctlError, StoreError
from labctl.remote.interface import Remote
from labctl.resources.plurals import API_SERVICES
from labctl.resources.rbac.holders import Rbac
from labctl.resources.resources import Resources
from labctl.resources.service import MASTERS, User
from labctl.resources.usage import NoUsage, UsageReader
from labctl.tokens import TokenKeys

log = logging.getLogger(__name__)

Handler = Callable[[Call], Awaitable[web.StreamResponse]]

_PUBLIC = frozenset({"/healthz", "/livez", "/readyz", "/version"})
_DASH = "/dash/"
_IMPERSONATE = frozenset({"Impersonate-User", "Impersonate-Group", "Impersonate-Uid"})
_MOST_S = 60.0  # for any deadline, as kube-apiserver
_CHANGING = frozenset({"create", "update", "patch", "delete", "deletecollection"})
_OBJECT_VERBS = {"GET": "get", "HEAD": "get", "PUT": "update", "PATCH": "patch", "DELETE": "delete", "POST": "create"}
_COLLECTION_VERBS = {"GET": "list", "HEAD": "list", "POST": "create", "DELETE": "deletecollection"}


class Server:
    """The API server. `start` takes sockets that listen already; `stop` ends watches at once and lets writes finish."""

    def __init__(
        self,
        resources: Resources,
        tls: ssl.SSLContext,
        clock: Clock,
        *,
        settings: ApiSettings = ApiSettings(),  # noqa: B008 - frozen
        remote: Remote | None = None,
        extensions: Extensions | None = None,
        checks: Checks = tuple,
        tokens: TokenKeys | None = None,
        rbac: Rbac | None = None,
        audit: AuditLog | None = None,
        usage: UsageReader = NoUsage(),  # noqa: B008 - it holds nothing
        dash: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]] | None = None,
        interference: Interference | None = None,
        aggregation: Aggregation | None = None,
    ) -> None:
        self._settings = settings
        self._dash = dash
        self._tls = tls
        self._registry = resources.registry
        self._audit = audit
        self._interference = interference
        self._aggregation = aggregation
        rbac = rbac or Rbac(resources)
        self._authorizer = Authorizer(resources, rbac)
        self._impersonation = Impersonation(self._authorizer)
        self._tokens = ServiceAccountTokens(tokens, resources, clock)
        self._in_flight = InFlight(settings)
        self._metrics = Metrics(resources.registry, resources.store, self._in_flight)
        self._paths = Paths(resources, extensions or Extensions(), checks, self._metrics, self._tokens, aggregation)
        large_bytes = self._settings.gzip_above_bytes
        self._repeats = Repeats(resources, self._authorizer, self._metrics, large_bytes, interference) if audit is None else None
        objects = Objects(resources, self._authorizer, clock, self._repeats)
        self._verbs: dict[str, Handler] = {
            "get": objects.get,
            "list": objects.list,
            "watch": objects.watch,
            "create": objects.create,
            "update": objects.update,
            "patch": objects.patch,
            "delete": objects.delete,
            "deletecollection": objects.delete_collection,
        }
        self._made: Mapping[str, Handler] = {  # by group: kinds whose objects are made when they are asked for
            "metrics.k8s.io": UsageApi(resources, usage).answer,
        }
        self._api_services = ApiServices(resources, clock.wall, self._verbs)
        self._reviews = Reviews(resources, self._authorizer, rbac, self._tokens)
        streams = streaming.handlers(resources, self._authorizer, remote, settings, usage)
        self._special: Mapping[tuple[str, str], Handler] = {**streams, ("serviceaccounts", "token"): self._tokens.create}
        self._http: HttpServer | None = None
        self._listening: list[Listener] = []
        self._deadlines = Deadlines()

    async def start(self, sockets: Sequence[socket]) -> None:
        """Starts to serve on all these sockets. Raises OSError; then it serves on none."""
        self._http = HttpServer(
            self._handle,
            repeats=self._repeats,
            body_limit_bytes=self._settings.body_limit_bytes,
            head_s=self._settings.head_s,
            stall_s=self._settings.answer_stall_s,
            connections_of_one=self._settings.connections_of_one,
            held_bytes_of_one=self._settings.held_bytes_of_one,
            auto_decompress=False,  # nobody sends us compressed bodies, and a pod gets through the proxy what its client sent
            access_log=None,
            keepalive_timeout=self._settings.keepalive_s,
            max_line_size=self._settings.head_limit_bytes,
            max_field_size=self._settings.head_limit_bytes,
        )
        await self.listen(sockets)

    async def listen(self, sockets: Sequence[socket]) -> None:
        """Starts to serve on more sockets: the lab's network may be made after the server started on loopback."""
        assert self._http is not None, "listen comes after start"
        settings = self._settings
        for sock in sockets:
            sock.listen(1024)
            listener = Listener(
                sock,
                self._http,
                self._tls,
                handshake_s=settings.handshake_s,
                most_of_one=settings.handshakes_of_one,
                most=settings.handshakes,
            )
            self._listening.append(listener)

    async def stop(self) -> None:
        """Accepts no new connections, ends watches at once, and waits up to `stop_s` for writes to finish."""
        for listener in self._listening:
            listener.close()
        self._listening.clear()
        if self._http is not None:
            self._http.end_streams()
            self._http.pre_shutdown()
            await self._http.shutdown(self._settings.stop_s)
        await self._deadlines.stop(self._settings.stop_s)

    # -- a request ---------------------------------------------------------------------------------------------------

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if self._audit is None:
            return await self._answer(request, None)
        record, code = Record(self._audit.begin()), 0
        try:
            answered = await self._answer(request, record)
            code = answered.status
            return answered
        finally:
            self._audit.note(request, record, code)

    async def _answer(self, request: web.BaseRequest, record: Record | None) -> web.StreamResponse:
        try:
            return await self._dispatch(request, record)
        except asyncio.CancelledError:
            request.protocol.over()  # type: ignore[attr-defined]  # it is a Connection, and nothing is sent any more
            raise
        except ConnectionError:
            return _connection_lost(request)  # the client disconnected before its answer was complete
        except Exception as error:
            _log_error(request, error)
            if request.writer.output_size:
                return _connection_lost(request)  # a Status can't follow half an answer: the client sees that the answer was cut
            return _refusal(request, status.from_exception(error))

    async def _dispatch(self, request: web.BaseRequest, record: Record | None) -> web.StreamResponse:
        path, _, text = request.raw_path.partition("?")
        connection = request.protocol
        assert isinstance(connection, Connection)
        if self._dash is not None and path.startswith(_DASH):
            return await self._dash(request)  # it has its own guard: browsers have no certificate
        if request.method == "GET":
            connection.must_have_room()
        user = connection.user or identity.of_headers(request.headers, self._tokens.user)
        if user is None:
            if path.rstrip("/") in _PUBLIC:
                return await self._paths.public(path, query.parse(text))
            raise status.unauthorized()
        if record is not None:
            record.caller = user
        caller = user
        if request.method == "GET":
            path, text = oldwatches.today(path, text, self._registry.in_group)
        call = Call(request, user, path, text, self._settings)
        target = route.parse(path)
        if record is not None:
            record.call = call
        verb = ""
        if target is not None:
            call.target = target
            verb = _verb(call)
        if request.headers.keys() & _IMPERSONATE:
            asked = Asked(verb, target, call.method, path, call.query)
            call.user, constraint = self._impersonation.user(caller, request.headers, asked)
            if record is not None:
                record.constraint = constraint
        user = call.user
        if not _never_counted(caller, path, target):
            lasting = verb == "watch" or (target is not None and target.subresource in LASTING)
            whose, leave = self._in_flight.enter(caller.name, lasting=lasting)
            connection.under_way(leave)
            if verb in COSTLY:
                await self._in_flight.turn(whose)
        if self._interference:
            await self._interference.meet(user.name, path, target)
        if target is None:
            self._authorizer.path(user, call.method, path, call.query)
            return await self._paths.serve(call)
        within_s = 0.0
        if "timeout" in call.query and verb != "watch" and (target.resource, target.subresource) not in streaming.STREAMS:
            within_s = query.deadline_s(call.query)
        if record is not None:
            record.verb = verb
        self._authorizer.objects(user, verb, target, call.query)
        kind = self._registry.in_group(target.group, target.version, target.resource)
        if kind is None:
            if self._aggregation and (elsewhere := self._aggregation.find(target.group, target.version)):
                return await self._aggregation.forward(call, elsewhere)
            return self._paths.unknown(target)
        call.kind, call.deprecated = kind, kind.deprecated
        if within_s:
            return await self._deadlines.answer(request, self._counted(call, verb), min(within_s, _MOST_S), changes=verb in _CHANGING)
        return await self._counted(call, verb)

    async def _counted(self, call: Call, verb: str) -> web.StreamResponse:
        try:
            answered = await self._handler(call, verb)(call)
        except ApiError as refused:
            self._metrics.count(call.target, verb, refused.code)
            raise
        self._metrics.count(call.target, verb, answered.status)
        return answered

    def _handler(self, call: Call, verb: str) -> Handler:
        """Returns the handler of this verb for the call's target. Raises 404 and 405 like the routes of a real server."""
        target, kind = call.target, call.kind
        if target.namespace and not kind.namespaced:
            raise status.unknown_path()
        if kind.namespaced and not target.namespace:
            if target.name:
                raise status.unknown_path()
            if verb not in ("list", "watch"):
                raise status.method_not_allowed()
        if target.subresource:
            return self._subresource_handler(call, verb)
        if verb not in kind.verbs or (target.name and verb == "create"):
            raise status.method_not_allowed()
        if kind.resource == API_SERVICES:
            return self._api_services.handler(call, verb)
        if kind.persisted:
            return self._verbs[verb]
        return self._reviews.create if verb == "create" else self._made[kind.group]

    def _subresource_handler(self, call: Call, verb: str) -> Handler:
        name = call.target.subresource
        subresource = next((s for s in call.kind.subresources if s.name == name), None)
        if subresource is None:
            raise status.unknown_path()
        special = self._special.get((call.kind.plural, name))
        if special is not None:
            return special
        if verb not in subresource.verbs or verb not in self._verbs:
            raise status.method_not_allowed()
        return self._verbs[verb]


def _never_counted(user: User, path: str, target: Target | None) -> bool:
    """Tells whose requests are not counted among those under way: what has to be answered whatever others do."""
    if MASTERS in user.groups:
        return True
    if target is None:
        return path.rstrip("/") in _PUBLIC
    return target.resource == "leases" and target.namespace == LEASES and bool(user.node)


def _verb(call: Call) -> str:
    """Returns the verb's name in apimachinery's RequestInfo; empty for a method that has none."""
    if call.target.name:
        return _OBJECT_VERBS.get(call.method, "")
    if call.is_watch and call.method == "GET":
        return "watch"
    return _COLLECTION_VERBS.get(call.method, "")


def _log_error(request: web.BaseRequest, error: Exception) -> None:
    """Logs a failure of the master or of its surroundings. Refused requests are not logged."""
    if isinstance(error, ApiError):
        return
    if isinstance(error, LabctlError | StoreError):
        log.warning("%s %s: %s", request.method, request.raw_path, error)
    else:
        log.error("%s %s", request.method, request.raw_path, exc_info=error)


def _connection_lost(request: web.BaseRequest) -> web.StreamResponse:
    connection = request.protocol
    assert isinstance(connection, Connection)
    connection.force_close()
    return answer.NoResponse()


def _refusal(request: web.BaseRequest, error: ApiError) -> web.StreamResponse:
    lines = {"Retry-After": str(error.retry_after_s)} if error.retry_after_s else {}
    asked = query.parse(request.raw_path.partition("?")[2])
    pretty = asked.first("pretty") if "pretty" in asked else None
    body = answer.as_json(status.encoded(error), pretty, request.headers.get("User-Agent", ""))
    extra = answer.header_lines(lines) + answer.warning_lines(error.warnings)
    return answer.CompleteResponse(body, error.code, extra=extra)
