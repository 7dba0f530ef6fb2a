"""What ResourceClaims and their templates have in common: requests for devices, their defaults and their rules."""

from __future__ import annotations

from collections.abc import Iterator

from labctl.resources import fields, names
from labctl.resources.kind import FieldError, Object, TypeDefaults

NO_DEVICES = "labctl stores objects of dynamic resource allocation, but allocates no devices"
_MOST_REQUESTS, _MOST_ALTERNATIVES = 32, 8
_MODES = ("All", "ExactCount")
_DEFINITION = "io.k8s.api.resource.v1."


def _count_defaults(request: Object) -> None:
    if not request.get("allocationMode"):
        request["allocationMode"] = "ExactCount"
    if request["allocationMode"] == "ExactCount" and not request.get("count"):
        request["count"] = 1


DEFAULTS = {
    _DEFINITION + "ExactDeviceRequest": TypeDefaults(function=_count_defaults),
    _DEFINITION + "DeviceSubRequest": TypeDefaults(function=_count_defaults),
}


def claim_errors(path: str, spec: Object) -> Iterator[FieldError]:
    """Checks the spec of a claim."""
    devices = spec.get("devices") or {}
    requests = devices.get("requests") or ()
    if len(requests) > _MOST_REQUESTS:
        yield fields.too_many(f"{path}.devices.requests", len(requests), _MOST_REQUESTS)
    seen: set[str] = set()
    for index, request in enumerate(requests[:_MOST_REQUESTS]):
        at = f"{path}.devices.requests[{index}]"
        yield from _named(at, request, seen)
        exactly, alternatives = request.get("exactly"), request.get("firstAvailable") or ()
        if (exactly is None) == (not alternatives):
            why = "exactly one of `exactly` or `firstAvailable` is required"
            yield fields.required(at, why) if exactly is None else fields.invalid(at, request, why)
        elif exactly is not None:
            yield from _devices(f"{at}.exactly", exactly)
        if len(alternatives) > _MOST_ALTERNATIVES:
            yield fields.too_many(f"{at}.firstAvailable", len(alternatives), _MOST_ALTERNATIVES)
        inside: set[str] = set()
        for number, alternative in enumerate(alternatives[:_MOST_ALTERNATIVES]):
            yield from _named(f"{at}.firstAvailable[{number}]", alternative, inside)
            yield from _devices(f"{at}.firstAvailable[{number}]", alternative)
    known = {*seen, *(f"{r.get('name')}/{a.get('name')}" for r in requests for a in r.get("firstAvailable") or ())}
    for index, each in enumerate(devices.get("config") or ()):
        yield from opaque_errors(f"{path}.devices.config[{index}].opaque", each.get("opaque"))
    for name in ("constraints", "config"):
        for index, each in enumerate(devices.get(name) or ()):
            for number, request in enumerate(each.get("requests") or ()):
                if request not in known:
                    why = "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'"
                    yield fields.invalid(f"{path}.devices.{name}[{index}].requests[{number}]", request, why)


def opaque_errors(path: str, config: Object | None) -> Iterator[FieldError]:
    """Check what is said to a driver in words of its own."""
    if config is None:
        yield fields.required(path)
        return
    if not config.get("driver"):
        yield fields.required(f"{path}.driver")
    else:
        yield from names.checked(f"{path}.driver", config["driver"].lower(), names.subdomain)
    if config.get("parameters") is None:
        yield fields.required(f"{path}.parameters")


def _named(path: str, request: Object, seen: set[str]) -> Iterator[FieldError]:
    name = request.get("name", "")
    if not name:
        yield fields.required(f"{path}.name")
    else:
        yield from names.checked(f"{path}.name", name, names.label)
    if name in seen:
        yield fields.duplicate(f"{path}.name", name)
    seen.add(name)


def _devices(path: str, request: Object) -> Iterator[FieldError]:
    if not request.get("deviceClassName"):
        yield fields.required(f"{path}.deviceClassName")
    else:
        yield from names.checked(f"{path}.deviceClassName", request["deviceClassName"], names.subdomain)
    mode, count = request.get("allocationMode"), request.get("count", 0)
    if mode not in _MODES:
        yield fields.not_supported(f"{path}.allocationMode", mode, _MODES)
    elif mode == "All" and count:
        yield fields.invalid(f"{path}.count", count, "must not be specified when allocationMode is 'All'")
    elif mode == "ExactCount" and count < 1:
        yield fields.invalid(f"{path}.count", count, "must be greater than zero")
