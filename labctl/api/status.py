"""This is the only place where an error becomes a Kubernetes `Status`.

The messages are those of apimachinery (api/errors/errors.go) and apiserver (endpoints/handlers/responsewriters), because clients compare them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from labctl.errors import ApiError, Compacted, Conflict, LabctlError, Unavailable, Unreachable
from labctl.resources import failures

_encode = msgspec.json.Encoder().encode
_DETAILED = frozenset(
    {"NotFound", "MethodNotAllowed"}
)  # these always have details, also empty ones, because clients read them without a check
_FIELDS = ("name", "group", "kind", "uid", "causes", "retryAfterSeconds")  # as meta/v1 declares them


def failure(code: int, reason: str, message: str, details: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Returns a metav1.Status for a failure."""
    status: dict[str, Any] = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message}
    if reason:
        status["reason"] = reason
    if details is not None:
        status["details"] = in_order(details)
    status["code"] = code
    return status


def in_order(details: Mapping[str, Any]) -> dict[str, Any]:
    """Returns meta/v1's StatusDetails with their fields as Go writes them, as some clients compare or show the bytes of an answer."""
    known = {key: details[key] for key in _FIELDS if key in details}
    return {**known, **{key: value for key, value in details.items() if key not in known}}


def of(error: ApiError) -> dict[str, Any]:
    details = dict(error.details)
    token = details.pop("continue", None)
    if error.retry_after_s:
        details.setdefault("retryAfterSeconds", error.retry_after_s)
    said = failure(error.code, error.reason, str(error), details if details or error.reason in _DETAILED else None)
    return {**said, "metadata": {"continue": token}} if token else said


def encoded(error: ApiError) -> bytes:
    return _encode(of(error))


def from_exception(error: Exception) -> ApiError:
    """Returns the ApiError for an exception that no handler translated."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, Compacted):
        return ApiError(410, "Expired", f"too old resource version: {error.asked} ({error.oldest})")
    if isinstance(error, Conflict):
        return ApiError(409, "Conflict", str(error))
    if isinstance(error, Unavailable):
        return ApiError(503, "ServiceUnavailable", f"the store can't write now: {error}", retry_after_s=1)
    if isinstance(error, Unreachable):
        return ApiError(502, "", f"error dialing backend: {error}")
    if isinstance(error, LabctlError):
        return internal(str(error))
    return internal(f"{type(error).__name__}: {error}")


def internal(text: str) -> ApiError:
    return failures.internal(text)


def bad_request(message: str) -> ApiError:
    return ApiError(400, "BadRequest", message)


def unauthorized() -> ApiError:
    return ApiError(401, "Unauthorized", "Unauthorized")


def forbidden(message: str, details: Mapping[str, Any] | None = None) -> ApiError:
    return ApiError(403, "Forbidden", message, details=dict(details or {}))


def unknown_path() -> ApiError:
    """Returns the error for a path whose group and version are served, but which names no resource of theirs."""
    return ApiError(404, "NotFound", "the server could not find the requested resource")


def method_not_allowed() -> ApiError:
    return ApiError(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")


def not_acceptable(accepted: str) -> ApiError:
    return ApiError(406, "NotAcceptable", f"only the following media types are accepted: {accepted}")


def unsupported_media_type(accepted: str) -> ApiError:
    words = f"the body of the request was in an unknown format - accepted media types include: {accepted}"
    return ApiError(415, "UnsupportedMediaType", words)


def too_large(limit: int) -> ApiError:
    return ApiError(413, "RequestEntityTooLarge", f"Request entity too large: limit is {limit}")


def too_many(why: str) -> ApiError:
    return ApiError(429, "TooManyRequests", why, retry_after_s=1)


def too_slow(limit_s: float) -> ApiError:
    return ApiError(408, "Timeout", f"the request's body did not come within {limit_s:g} s: send it again")


def too_late() -> ApiError:
    """504 for a request whose own deadline is over. What it began may still happen."""
    return ApiError(504, "Timeout", "Timeout: request did not complete within requested timeout - context deadline exceeded")
