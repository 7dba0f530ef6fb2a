"""What the status of a ResourceClaim may say: which devices it has, who has reserved them, and what their drivers tell of each. Field errors in Kubernetes' words.

Programs write it (a scheduler, drivers); labctl allocates no devices. What was allocated stays as it is until all of it is given back.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence

from labctl.resources import fields, names
from labctl.resources.kind import FieldError, Object
from labctl.resources.kinds import status_rules
from labctl.resources.kinds.resource_v1.requests import opaque_errors
from labctl.resources.kinds.status_rules import status_of
from labctl.resources.kinds.storage_v1.csidriver import driver_name

_MOST_CONSUMERS, _MOST_RESULTS, _MOST_CONFIGS, _MOST_CONDITIONS = 256, 32, 64, 8
_MOST_IPS, _MOST_INTERFACE, _MOST_HARDWARE, _MOST_POOL = 16, 256, 128, 253
_SOURCES = ("FromClaim", "FromClass")
_NO_REQUEST = "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'"
_NO_INTERFACE_ADDRESS = "must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)"


def drop_given_back(new: Object, old: Object) -> None:
    """Drop what was told of devices that the claim has no more."""
    gone = _allocated(status_of(old)) - _allocated(status_of(new))
    said = status_of(new).get("devices") or ()
    if gone and said:
        kept = [each for each in said if _id(each) not in gone]
        new["status"]["devices"] = kept
        if not kept:
            del new["status"]["devices"]


def validate(new: Object, old: Object) -> Iterator[FieldError]:
    now, before = status_of(new), status_of(old)
    consumers = now.get("reservedFor") or ()
    yield from _consumers("status.reservedFor", consumers)
    allocated = _allocated(now)
    told: set[str] = set()
    for index, device in enumerate(now.get("devices") or ()):
        at, identity = f"status.devices[{index}]", _id(device)
        yield from _device(at, device, identity in allocated)
        if identity in told:
            yield fields.duplicate(at, identity)
        told.add(identity)
    allocation, had = now.get("allocation"), before.get("allocation")
    if consumers and allocation is None:
        yield fields.forbidden("status.reservedFor", "may not be specified when `allocated` is not set")
    elif "deletionTimestamp" in new["metadata"] and any(each not in (before.get("reservedFor") or ()) for each in consumers):
        why = "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set"
        yield fields.forbidden("status.reservedFor", why)
    if allocation is not None and had is None:
        yield from _allocation("status.allocation.devices", allocation.get("devices") or {}, _requests(new))
    elif allocation is not None and allocation != had:
        yield fields.invalid("status.allocation", allocation, "field is immutable")


def _allocated(status: Object) -> set[str]:
    return {_id(each) for each in ((status.get("allocation") or {}).get("devices") or {}).get("results") or ()}


def _id(device: Object) -> str:
    whole = "/".join(device.get(part, "") for part in ("driver", "pool", "device"))
    return f"{whole}/{device['shareID']}" if device.get("shareID") else whole


def _requests(claim: Object) -> set[str]:
    """Return the names of the claim's requests, and of the alternatives in them."""
    requests = ((claim.get("spec") or {}).get("devices") or {}).get("requests") or ()
    alternatives = {f"{each.get('name')}/{one.get('name')}" for each in requests for one in each.get("firstAvailable") or ()}
    return {*(each.get("name", "") for each in requests), *alternatives}


def _consumers(path: str, said: Sequence[Object]) -> Iterator[FieldError]:
    if len(said) > _MOST_CONSUMERS:
        yield fields.too_many(path, len(said), _MOST_CONSUMERS)
        return
    seen: set[str] = set()
    for index, each in enumerate(said):
        for part in ("resource", "name", "uid"):
            if not each.get(part):
                yield fields.required(f"{path}[{index}].{part}")
        if each.get("uid", "") in seen:
            yield fields.duplicate(f"{path}[{index}]", each)
        seen.add(each.get("uid", ""))


def _place(path: str, said: Object) -> Iterator[FieldError]:
    """Check which device it is: of which driver, in which pool."""
    yield from driver_name(f"{path}.driver", said.get("driver", ""))
    pool = said.get("pool", "")
    if not pool:
        yield fields.required(f"{path}.pool")
    elif len(pool) > _MOST_POOL:
        yield fields.too_long(f"{path}.pool", _MOST_POOL)
    else:
        for part in pool.split("/"):
            yield from names.checked(f"{path}.pool", part, names.subdomain)
    if not said.get("device"):
        yield fields.required(f"{path}.device")
    else:
        yield from names.checked(f"{path}.device", said["device"], names.label)


def _device(path: str, said: Object, is_allocated: bool) -> Iterator[FieldError]:
    yield from _place(path, said)
    if not is_allocated:
        yield FieldError(path, "FieldValueInvalid", f"Invalid value: {_id(said)}: must be an allocated device in the claim")
    conditions = said.get("conditions") or ()
    if len(conditions) > _MOST_CONDITIONS:
        yield fields.too_many(f"{path}.conditions", len(conditions), _MOST_CONDITIONS)
    yield from status_rules.conditions(f"{path}.conditions", conditions)
    yield from _network(f"{path}.networkData", said.get("networkData") or {})


def _network(path: str, said: Object) -> Iterator[FieldError]:
    for part, most in (("interfaceName", _MOST_INTERFACE), ("hardwareAddress", _MOST_HARDWARE)):
        if len(said.get(part, "")) > most:
            yield fields.too_long(f"{path}.{part}", most)
    addresses = said.get("ips") or ()
    if len(addresses) > _MOST_IPS:
        yield fields.too_many(f"{path}.ips", len(addresses), _MOST_IPS)
        return
    for index, each in enumerate(addresses):
        if not _is_interface_address(each):
            yield fields.invalid(f"{path}.ips[{index}]", each, _NO_INTERFACE_ADDRESS)
        elif each in addresses[:index]:
            yield fields.duplicate(f"{path}.ips[{index}]", each)


def _is_interface_address(text: str) -> bool:
    if not text.partition("/")[2].isdecimal():
        return False
    try:
        ipaddress.ip_interface(text)
    except ValueError:
        return False
    return True


def _allocation(path: str, said: Object, requests: set[str]) -> Iterator[FieldError]:
    for part, most in (("results", _MOST_RESULTS), ("config", _MOST_CONFIGS)):
        if len(said.get(part) or ()) > most:
            yield fields.too_many(f"{path}.{part}", len(said[part]), most)
            return
    for index, result in enumerate(said.get("results") or ()):
        at = f"{path}.results[{index}]"
        if result.get("request", "") not in requests:
            yield fields.invalid(f"{at}.request", result.get("request", ""), _NO_REQUEST)
        yield from _place(at, result)
    for index, config in enumerate(said.get("config") or ()):
        at, source = f"{path}.config[{index}]", config.get("source", "")
        if not source:
            yield fields.required(f"{at}.source")
        elif source not in _SOURCES:
            yield fields.not_supported(f"{at}.source", source, _SOURCES)
        for number, request in enumerate(config.get("requests") or ()):
            if request not in requests:
                yield fields.invalid(f"{at}.requests[{number}]", request, _NO_REQUEST)
        yield from opaque_errors(f"{at}.opaque", config.get("opaque"))
