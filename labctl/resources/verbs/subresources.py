"""What hangs below an object and is no part of it: a pod's binding and eviction, a controller's scale, a namespace's finalize."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from labctl.clock import rfc3339
from labctl.errors import ApiError
from labctl.resources import encoding, failures, fields, isolation
from labctl.resources.admission import Attributes, mutate
from labctl.resources.conditions import with_condition
from labctl.resources.kind import Kind, Object, ScalePaths
from labctl.resources.service import WriteOptions, WriteResult
from labctl.resources.verbs import meta
from labctl.resources.verbs.context import Context
from labctl.resources.verbs.eviction import evict
from labctl.resources.verbs.write import decoded, rewrite
from labctl.store.interface import Entry

_SUCCESS = encoding.encode({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201})


def body_kind(kind: Kind, subresource: str) -> Kind:
    """Returns the kind of the body of a subresource: a special one (Binding, Scale, ...), or the object's (status)."""
    for sub in kind.subresources:
        if sub.name == subresource:
            if not sub.kind:
                return kind
            version = sub.version or "v1"
            return Kind(sub.group, version, sub.kind, kind.plural, kind.singular, kind.namespaced, kind.view)
    raise ApiError(404, "NotFound", "the server could not find the requested resource")


async def post(
    ctx: Context, kind: Kind, namespace: str, name: str, subresource: str, body: bytes | Object, options: WriteOptions
) -> WriteResult:
    """Carries out a POST to a subresource that is no stream (the api room serves exec, attach and proxy)."""
    sent, warnings = await decoded(ctx, body_kind(kind, subresource), body, options)
    given = sent.get("metadata", {}).get("name", "")
    if given and given != name:
        raise failures.bad_request(f"name in URL does not match name in {sent['kind']} object")
    for steps in (ctx.admission.mutating(kind, "post"), ctx.admission.validating(kind, "post")):
        if steps:
            attributes = Attributes(options.user, "post", kind, None, sent, options, subresource, path=(namespace, name))
            warnings = [*warnings, *await mutate(steps, attributes)]
    if subresource == "binding":
        return await bind(ctx, kind, namespace, name, sent, options, warnings)
    if subresource == "eviction":
        written = await evict(ctx, kind, namespace, name, sent, options)
        return _succeeded(msgspec.structs.replace(written, warnings=[*warnings, *written.warnings]), created=True)
    raise failures.method_not_allowed(kind, "create")


async def bind(
    ctx: Context, kind: Kind, namespace: str, name: str, binding: Object, options: WriteOptions, warnings: Sequence[str] = ()
) -> WriteResult:
    """Binds a pod to a node. A pod that has a node keeps it: binding it again is an error. It is given the Binding's labels and annotations."""
    target = binding.get("target", {})
    node, uid = target.get("name", ""), binding.get("metadata", {}).get("uid", "")
    if not node:
        raise failures.invalid_of("Binding", "", name, [fields.required("target.name")])
    if target.get("kind") not in ("", None, "Node"):
        error = fields.not_supported("target.kind", target["kind"], ("Node", "<empty>"))
        raise failures.invalid_of("Binding", "", name, [error])
    condition = {"type": "PodScheduled", "status": "True", "lastTransitionTime": rfc3339(ctx.clock.wall())}

    def assign(pod: Object) -> tuple[Object, Sequence[str]]:
        metadata, spec = pod["metadata"], pod["spec"]
        if uid and uid != metadata["uid"]:
            raise failures.other_uid(kind, metadata["namespace"], name, uid, metadata["uid"])
        if "deletionTimestamp" in metadata:
            raise _not_bound(name, f"pod {name} is being deleted, cannot be assigned to a host")
        if spec.get("nodeName"):
            raise _not_bound(name, f'pod {name} is already assigned to node "{spec["nodeName"]}"')
        if spec.get("schedulingGates"):
            raise _not_bound(name, f"pod {name} has non-empty .spec.schedulingGates")
        spec["nodeName"] = node
        for part in ("labels", "annotations"):
            if given := binding.get("metadata", {}).get(part):
                metadata[part] = {**(metadata.get(part) or {}), **given}
        status = pod.setdefault("status", {})
        status.pop("nominatedNodeName", None)  # it has a node now (KEP-5278)
        observed = {"observedGeneration": metadata["generation"]} if metadata.get("generation") else {}
        status["conditions"] = with_condition(status.get("conditions", ()), {**condition, **observed})
        isolation.await_rules(pod, ctx)
        return pod, warnings

    return _succeeded(await rewrite(ctx, kind, namespace, name, assign, options, subresource="binding"), created=True)


def _succeeded(written: WriteResult, *, created: bool) -> WriteResult:
    """Replaces the object in the answer by a Status "Success", as Kubernetes does for these subresources."""
    entry = written.entry
    status = Entry(entry.key, _SUCCESS, entry.revision, entry.created, client_bytes=_SUCCESS)
    return msgspec.structs.replace(written, entry=status, created=created, changed=entry)


def _not_bound(name: str, why: str) -> ApiError:
    return ApiError(
        409, "Conflict", f'Operation cannot be fulfilled on pods/binding "{name}": {why}', details={"name": name, "kind": "pods/binding"}
    )


def scale_of(kind: Kind, entry: Entry) -> Entry:
    """Returns the autoscaling/v1 Scale of a stored object. Raises 500 if the object has no number of replicas."""
    obj = encoding.decoded(entry)
    if why := unscaled(kind.stored, obj):
        raise failures.internal(why)
    body = encoding.encode(scale_object(kind.stored, obj))
    return Entry(entry.key, body, entry.revision, entry.created, client_bytes=body)


def unscaled(kind: Kind, obj: Object) -> str:
    """Returns why an object has no Scale to read: nobody has set the number yet, which only an object of a custom kind may lack. Who sets it finds 0."""
    path = _scale_paths(kind).replicas
    return "" if _at(obj, path) is not None else f'the spec replicas field ".{path}" does not exist'


def scale_object(kind: Kind, obj: Object) -> Object:
    """Returns the autoscaling/v1 Scale of an object. Its kind says in which fields the numbers are."""
    paths, metadata = _scale_paths(kind), obj["metadata"]
    kept = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {name: metadata[name] for name in kept if name in metadata},
        "spec": {"replicas": _at(obj, paths.replicas) or 0},
        "status": {"replicas": _at(obj, paths.current) or 0, "selector": paths.selector(obj)},
    }


def _scale_paths(kind: Kind) -> ScalePaths:
    assert kind.scale is not None, f"{kind.resource} has the subresource scale, but its file does not say where the numbers are"
    return kind.scale


def _at(obj: Object, path: str) -> Any:
    value: Any = obj
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def scale_config(kind: Kind, name: str, scale: Object) -> Object:
    """Returns the apply configuration of an object that says as much as one of its Scale: the number of replicas."""
    meta.refuse_other_name({"name": name} | (scale.get("metadata") or {}), name)
    config: Object = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": {"name": name}}
    replicas = scale.get("spec", {}).get("replicas")
    if replicas is not None:
        *parents, last = _scale_paths(kind).replicas.split(".")
        parent = config
        for step in parents:
            parent = parent.setdefault(step, {})
        parent[last] = replicas
    return config


def rescaled(kind: Kind, obj: Object, scale: Object) -> Object:
    """Returns the object with the number of replicas from a Scale, and with the Scale's resourceVersion."""
    name = obj["metadata"]["name"]
    replicas = scale.get("spec", {}).get("replicas", 0)
    if not isinstance(replicas, int) or replicas < 0:
        raise failures.invalid_of(
            "Scale", "autoscaling", name, [fields.invalid("spec.replicas", replicas, "must be greater than or equal to 0")]
        )
    metadata = scale.get("metadata") or {}
    meta.refuse_other_name(metadata, name)
    for field in ("uid", "resourceVersion"):
        if metadata.get(field):
            obj["metadata"][field] = metadata[field]
    *parents, last = _scale_paths(kind).replicas.split(".")
    parent = obj
    for step in parents:
        parent = parent.setdefault(step, {})
    parent[last] = replicas
    return obj
