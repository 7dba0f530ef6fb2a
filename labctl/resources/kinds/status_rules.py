"""Rules that the status of several kinds shares: counts, conditions, and addresses of load balancers. Field errors in Kubernetes' words.

What a controller writes is checked like what a person writes, because others act upon it. Used as `validate` of the subresource `status`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from labctl.resources import fields, names
from labctl.resources.fields import not_negative
from labctl.resources.kind import FieldError, Object, Subresource
from labctl.resources.labels import key_errors

_REASON = r"[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?"
_is_reason = re.compile(_REASON, re.ASCII).fullmatch
_WRONG_REASON = (
    "a condition reason must start with alphabetic character, optionally followed by a string of alphanumeric characters or '_,:', and must "
    "end with an alphanumeric character or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName',  or 'ReasonA,ReasonB',  or 'ReasonA:ReasonB', "
    f"regex used for validation is '{_REASON}')"
)
_MOST_REASON, _MOST_MESSAGE = 1024, 32768


def status_of(obj: Object | None) -> Object:
    status: Object = (obj or {}).get("status") or {}
    return status


def subresource(validate: Callable[[Object, Object], Iterable[FieldError]], **more: Any) -> Subresource:
    """Returns the subresource `status` of a kind whose status has rules."""
    return Subresource("status", ("get", "patch", "update"), validate=validate, **more)


def not_decremented(new: Object, old: Object) -> Iterator[FieldError]:
    """Checks status.collisionCount: names of ReplicaSets and revisions are made of it, so that an old number would make names that are taken."""
    now, before = status_of(new).get("collisionCount"), status_of(old).get("collisionCount")
    if before is not None and (now is None or now < before):
        yield fields.invalid("status.collisionCount", now or 0, "cannot be decremented")


def replicas(status: Mapping[str, Any], *counts: str, ready: str = "readyReplicas") -> Iterator[FieldError]:
    """Checks that each of these counts is a part of status.replicas, and that what is available is ready. `ready` is how an error calls the latter."""
    yield from not_negative("status", status, "replicas", *counts, "terminatingReplicas", "observedGeneration", "collisionCount")
    for name in counts:
        if status.get(name, 0) > status.get("replicas", 0):
            yield fields.invalid(f"status.{name}", status.get(name, 0), "cannot be greater than status.replicas")
    if status.get("availableReplicas", 0) > status.get("readyReplicas", 0):
        yield fields.invalid("status.availableReplicas", status.get("availableReplicas", 0), f"cannot be greater than {ready}")


def conditions(path: str, said: Iterable[Object]) -> Iterator[FieldError]:
    """Checks a list of metav1.Condition."""
    seen = set()
    for index, condition in enumerate(said):
        at, type_ = f"{path}[{index}]", condition.get("type", "")
        yield from names.checked(f"{at}.type", type_, key_errors)
        if type_ and type_ in seen:
            yield fields.duplicate(f"{at}.type", type_)
        seen.add(type_)
        if condition.get("status") not in ("True", "False", "Unknown"):
            yield fields.not_supported(f"{at}.status", condition.get("status", ""), ("False", "True", "Unknown"))
        if condition.get("observedGeneration", 0) < 0:
            yield fields.invalid(f"{at}.observedGeneration", condition["observedGeneration"], "must be greater than or equal to zero")
        if not condition.get("lastTransitionTime"):
            yield fields.required(f"{at}.lastTransitionTime", "must be set")
        yield from _reason(f"{at}.reason", condition.get("reason", ""))
        if len(condition.get("message", "").encode()) > _MOST_MESSAGE:
            yield fields.too_long(f"{at}.message", _MOST_MESSAGE)


def _reason(at: str, reason: str) -> Iterator[FieldError]:
    if not reason:
        yield fields.required(at, "must be set")
    elif not _is_reason(reason):
        yield fields.invalid(at, reason, _WRONG_REASON)
    elif len(reason) > _MOST_REASON:
        yield fields.too_long(at, _MOST_REASON)


def legacy_address(path: str, address: str, known: Iterable[str] = ()) -> Iterator[FieldError]:
    """Checks an address in a field that is older than today's rules (KEP-4858): what is there already may stay."""
    if address not in known:
        yield from names.checked(path, address, names.address)


def host_name(path: str, name: str) -> Iterator[FieldError]:
    yield from names.checked(path, name, names.subdomain)
    if not names.address(name):
        yield fields.invalid(path, name, "must be a DNS name, not an IP address")
