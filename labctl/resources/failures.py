"""This module makes ApiErrors with a real API server's messages. There is one function for each reason, so that each message is written in one place.

Kinds are named as in Kubernetes: by the qualified resource (`leases.coordination.k8s.io`) if an object is missing or in conflict,
by the qualified kind (`Lease.coordination.k8s.io`) if it is invalid.
"""

from __future__ import annotations

from collections.abc import Sequence

from labctl.errors import ApiError, Unavailable
from labctl.resources.kind import FieldError, Kind

MOST_CAUSES = 1_000
MOST_OF_A_CAUSE = 20_000
"""Errors of one answer, and characters of one: a body of 3 MB may be wrong in a hundred thousand places."""


def not_found(kind: Kind, name: str) -> ApiError:
    return ApiError(404, "NotFound", f'{kind.resource} "{name}" not found', details=_details(kind, name))


def already_exists(kind: Kind, name: str) -> ApiError:
    return ApiError(409, "AlreadyExists", f'{kind.resource} "{name}" already exists', details=_details(kind, name))


def conflict(kind: Kind, name: str, why: str = "") -> ApiError:
    why = why or "the object has been modified; please apply your changes to the latest version and try again"
    return ApiError(409, "Conflict", f'Operation cannot be fulfilled on {kind.resource} "{name}": {why}', details=_details(kind, name))


_STORED_AS = {
    "endpoints": "services/endpoints",
    "ingresses.networking.k8s.io": "ingress",
    "nodes": "minions",
    "replicationcontrollers": "controllers",
    "services": "services/specs",
}
"""Kinds that Kubernetes keeps below another name than their own."""


def other_uid(kind: Kind, namespace: str, name: str, given: str, uid: str) -> ApiError:
    """Return the error for a write that means another object of this name, as Kubernetes' store words it: clients look for its beginning."""
    below = _STORED_AS.get(kind.resource, kind.plural if kind.decoder is None else f"{kind.group}/{kind.plural}")
    key = "/".join(part for part in ("/registry", below, namespace, name) if part)
    why = f"Precondition failed: UID in precondition: {given}, UID in object meta: {uid}"
    return conflict(kind, name, f"StorageError: invalid object, Code: 4, Key: {key}, ResourceVersion: 0, AdditionalErrorMsg: {why}")


def precondition(kind: Kind, name: str, why: str) -> ApiError:
    """Return the error for a deletion that means another object, or another state of it. Kubernetes says the kind's name there, not the resource's."""
    details = {"name": name, "kind": kind.kind, **({"group": kind.group} if kind.group else {})}
    called = f"{kind.kind}.{kind.group}" if kind.group else kind.kind
    return ApiError(409, "Conflict", f'Operation cannot be fulfilled on {called} "{name}": {why}', details=details)


def internal(why: str) -> ApiError:
    return ApiError(500, "InternalError", f"Internal error occurred: {why}", details={"causes": [{"message": why}]})


def forbidden(kind: Kind, name: str, why: str, causes: Sequence[dict[str, str]] = ()) -> ApiError:
    details = _details(kind, name)
    if causes:
        details["causes"] = list(causes)
    return ApiError(403, "Forbidden", f'{kind.resource} "{name}" is forbidden: {why}', details=details)


def terminating(kind: Kind, name: str, namespace: str) -> ApiError:
    """Returns the error for a create in a namespace that is being deleted."""
    cause = {
        "reason": "NamespaceTerminating",
        "message": f"namespace {namespace} is being terminated",
        "field": "metadata.namespace",
    }
    return forbidden(kind, name, f"unable to create new content in namespace {namespace} because it is being terminated", [cause])


def invalid(kind: Kind, name: str, errors: Sequence[FieldError]) -> ApiError:
    """Returns a 422 with every cause. The message has one cause as it is, and several in brackets."""
    return invalid_of(kind.kind, kind.group, name, errors)


def invalid_of(kind: str, group: str, name: str, errors: Sequence[FieldError]) -> ApiError:
    left, shown = len(errors) - MOST_CAUSES, [_shortened(error) for error in errors[:MOST_CAUSES]]
    if left > 0:
        shown.append(FieldError("<nil>", "FieldValueInvalid", f"{left} more errors are not shown"))
    texts = list(dict.fromkeys(f"{e.field}: {e.message}" for e in shown))
    message = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
    qualified = f"{kind}.{group}" if group else kind
    causes = [{"reason": e.type, "message": e.message, "field": e.field} for e in shown]
    details = {"name": name, "group": group, "kind": kind, "causes": causes}
    return ApiError(422, "Invalid", f'{qualified} "{name}" is invalid: {message}', details={k: v for k, v in details.items() if v})


def _shortened(error: FieldError) -> FieldError:
    if len(error.field) + len(error.message) <= MOST_OF_A_CAUSE:
        return error
    field, message = error.field[:MOST_OF_A_CAUSE], error.message[:MOST_OF_A_CAUSE]
    return FieldError(
        f"{field}..." if field != error.field else field, error.type, f"{message}..." if message != error.message else message
    )


def bad_request(message: str) -> ApiError:
    return ApiError(400, "BadRequest", message)


def method_not_allowed(kind: Kind, verb: str, message: str = "") -> ApiError:
    message = message or f'{verb} is not supported on resources of kind "{kind.resource}"'
    details = {"group": kind.group, "kind": kind.plural}
    return ApiError(405, "MethodNotAllowed", message, details={key: value for key, value in details.items() if value})


def expired(message: str, continue_token: str = "") -> ApiError:
    """Returns a 410: that part of the history is no longer kept. With a token a list can go on at the current revision, but is then inconsistent."""
    return ApiError(410, "Expired", message, details={"continue": continue_token} if continue_token else None)


def too_old(asked: int, oldest: int) -> ApiError:
    return expired(f"too old resource version: {asked} ({oldest})")


def object_too_large(limit: int, size: int) -> ApiError:
    return ApiError(413, "RequestEntityTooLarge", f"Request entity too large: limit is {limit}, the object would have {size} bytes")


def too_large(asked: int, current: int) -> ApiError:
    """Returns the error for a revision that this store has not reached: the client has it from a store that was replaced, or from another lab."""
    cause = {"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}
    details = {"causes": [cause], "retryAfterSeconds": 1}
    return ApiError(504, "Timeout", f"Too large resource version: {asked}, current: {current}", details=details, retry_after_s=1)


def unavailable(error: Unavailable) -> ApiError:
    """Returns the error for a refused write: nothing was written, and the client may try again."""
    return ApiError(503, "ServiceUnavailable", str(error), details={"retryAfterSeconds": 1}, retry_after_s=1)


def _details(kind: Kind, name: str) -> dict[str, object]:
    details: dict[str, object] = {"name": name, "kind": kind.plural}
    if kind.group:
        details["group"] = kind.group
    return details
