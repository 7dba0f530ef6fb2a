"""This module carries out the verbs on objects: it passes a Call to `Resources` and turns the result into an answer. The server has chosen the verb."""

from __future__ import annotations

import msgspec
from aiohttp import web

from labctl.api import answer, bodies, negotiate, query, watches
from labctl.api.authorize import Authorizer
from labctl.api.call import Call
from labctl.api.lists import ALL, Lists
from labctl.api.negotiate import Format
from labctl.api.repeats import Repeats
from labctl.api.shapes import Shape
from labctl.clock import Clock
from labctl.decoding import from_json
from labctl.resources.encoding import client_bytes
from labctl.resources.generic import GenericObject
from labctl.resources.kinds.scale import SCALE
from labctl.resources.resources import Resources
from labctl.resources.service import WriteResult
from labctl.resources.verbs.patch import is_apply
from labctl.store.interface import Entry

_encode = msgspec.json.Encoder().encode
_scale_view = GenericObject.decoder()


class Objects:
    """Handles get, list, watch, create, update, patch, delete and deletecollection, also on the subresources status, scale, binding and eviction."""

    def __init__(self, resources: Resources, authorizer: Authorizer, clock: Clock, repeats: Repeats | None = None) -> None:
        self._resources = resources
        self._authorizer = authorizer
        self._clock = clock
        self._repeats = repeats
        self._lists = Lists(resources)

    async def get(self, call: Call) -> web.StreamResponse:
        target = call.target
        form = call.format
        not_older = call.query.first("resourceVersion")
        entry = self._resources.get(call.kind, target.namespace, target.name, target.subresource, not_older)
        if target.subresource != "scale":
            entry = await self._converted(call, entry)
        if self._repeats is not None and form == negotiate.PLAIN and not target.subresource:
            self._repeats.learn(call)
        if not form.shape:
            return await call.answer(client_bytes(entry), form=form)
        return await call.answer(self._shape(call, form, scale=target.subresource == "scale").one(entry), form=form)

    async def list(self, call: Call) -> web.StreamResponse:
        form = call.format
        options = query.list_options(call.query)
        if options in ALL and not form.shape and call.kind.conversion is None:
            objects = self._lists.objects(call.kind, call.target.namespace)
            metadata = {"resourceVersion": str(self._resources.store.revision)}
            return await call.answer_list(self._shape(call, form).plain_list(metadata, objects), form=form)
        listed = await self._resources.list_converted(call.kind, call.target.namespace, options)
        return await call.answer_list(await self._shape(call, form).many(listed), form=form)

    async def watch(self, call: Call) -> web.StreamResponse:
        return await watches.serve(call, self._resources, self._shape(call, call.format), query.list_options(call.query))

    async def create(self, call: Call) -> web.StreamResponse:
        target = call.target
        self._may_send(call, "create")
        body = await bodies.read(call)
        written = await self._resources.create(call.kind, target.namespace, body, call.write_options(), target.name, target.subresource)
        return await self._answer_write(call, written, 201)

    async def update(self, call: Call) -> web.StreamResponse:
        target = call.target
        self._may_send(call, "update")
        body = await bodies.read(call)
        written = await self._resources.update(call.kind, target.namespace, target.name, body, call.write_options(), target.subresource)
        return await self._answer_write(call, written)

    async def patch(self, call: Call) -> web.StreamResponse:
        target = call.target
        content_type = negotiate.patch_type(call.request.headers.get("Content-Type", ""))
        self._may_send(call, "patch")
        body = await bodies.read_patch(call, content_type)
        options = call.write_options(apply=is_apply(content_type))
        written = await self._resources.patch(call.kind, target.namespace, target.name, body, content_type, options, target.subresource)
        return await self._answer_write(call, written)

    async def delete(self, call: Call) -> web.StreamResponse:
        target = call.target
        self._may_send(call, "delete")
        options = query.delete_options(call.query, await bodies.read_if_any(call))
        written = await self._resources.delete(call.kind, target.namespace, target.name, options, call.user)
        if written.gone and not call.kind.returned_when_deleted:
            return await call.answer(_deleted(call, written.entry), extra=answer.warning_lines(written.warnings))
        return await self._answer_write(call, written)

    async def delete_collection(self, call: Call) -> web.StreamResponse:
        options = query.delete_options(call.query, await bodies.read_if_any(call))
        selected = query.list_options(call.query)
        listed = await self._resources.delete_collection(call.kind, call.target.namespace, selected, options, call.user)
        listed = msgspec.structs.replace(listed, entries=await self._resources.converted(call.kind, listed.entries))
        return await call.answer_list(await self._shape(call, call.format).many(listed), form=call.format)

    async def _converted(self, call: Call, entry: Entry) -> Entry:
        return entry if call.kind.conversion is None else (await self._resources.converted(call.kind, [entry]))[0]

    def _may_send(self, call: Call, verb: str) -> None:
        """Checks, before the body is read, whether the user may send one of its type. Raises 403."""
        self._authorizer.body(call.user, verb, call.target, call.request.headers.get("Content-Type", ""))

    async def _answer_write(self, call: Call, written: WriteResult, created: int = 200) -> web.StreamResponse:
        code = 201 if written.created else created
        form = call.format
        # Binding, eviction and scale answer with another object than the one that was written.
        whole = call.target.subresource in _WHOLE
        entry = await self._converted(call, written.entry) if whole else written.entry
        body = self._shape(call, form).one(entry) if form.shape and not call.target.subresource else client_bytes(entry)
        extra = answer.warning_lines(written.warnings) if written.warnings else b""
        return await call.answer(body, code, form=form, extra=extra)

    def _shape(self, call: Call, form: Format, *, scale: bool = False) -> Shape:
        if scale:
            return Shape(SCALE, form, call.query.first("includeObject"), lambda entry: _scale_view(client_bytes(entry)), self._clock.wall)
        return Shape(call.kind, form, call.query.first("includeObject"), self._resources.seen, self._clock.wall)


_WHOLE = ("", "status", "finalize", "approval", "ephemeralcontainers", "resize")
"""The subresources whose writes are answered with the object itself."""


class _Identity(msgspec.Struct, frozen=True):
    uid: str = ""


class _Named(msgspec.Struct, frozen=True):
    metadata: _Identity = _Identity()


def _deleted(call: Call, entry: Entry) -> bytes:
    """Returns the Status that answers a complete deletion."""
    details = {"name": call.target.name, "group": call.kind.group, "kind": call.kind.plural}
    if not call.kind.group:
        del details["group"]
    if entry.value:
        details["uid"] = from_json(entry.value, _Named).metadata.uid
    return _encode({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})
