"""What may stand in `resources`: of a container, and of a pod itself (KEP-2837). Field errors in Kubernetes' words and order.

Work on dicts after defaults.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import Any

from labctl.resources import fields, names, quantities
from labctl.resources.kind import FieldError, Object
from labctl.resources.kinds.core_v1 import pod_totals
from labctl.resources.kinds.core_v1.pod_totals import HUGE_PAGES
from labctl.resources.labels import key_errors

_OF_CONTAINERS = ("cpu", "memory", "ephemeral-storage")
_COUNTED = frozenset(
    {
        *("pods", "resourcequotas", "services", "replicationcontrollers", "secrets", "configmaps", "persistentvolumeclaims"),
        *("services.nodeports", "services.loadbalancers"),
    }
)
_STANDARD = _COUNTED | {
    *_OF_CONTAINERS,
    *(f"{part}.{name}" for part in ("requests", "limits") for name in _OF_CONTAINERS),
    *("storage", "requests.storage"),
}
_NOT_NEGATIVE = "must be greater than or equal to 0"
_NOT_STANDARD = "must be a standard resource type or fully qualified"


def extended(name: str) -> bool:
    """True for a resource that is not Kubernetes' own, such as `example.com/gpu`: whole numbers that can't be overcommitted."""
    return "/" in name and "kubernetes.io/" not in name and not name.startswith("requests.") and not key_errors(f"requests.{name}")


def of_container(path: str, value: Object) -> Iterator[FieldError]:
    yield from _requirements(path, value, name_in_container)


def claims(path: str, said: Sequence[Object], of_pod: Collection[str]) -> Iterator[FieldError]:
    """Check which of the pod's `resourceClaims` a container uses: each as a whole, or some of its requests."""
    used: set[str] = set()
    for index, claim in enumerate(said):
        at, name, request = f"{path}[{index}]", claim.get("name", ""), claim.get("request", "")
        if not name:
            yield fields.required(at)
            continue
        key = f"{name}/{request}" if request else name
        if request:
            yield from names.checked(f"{at}.request", request, names.label)
        if name in used or key in used or (not request and any(each.startswith(f"{name}/") for each in used)):
            yield fields.duplicate(at, name if name in used else key)
        used.add(key)
        if name not in of_pod:
            known = f": {', '.join(sorted(of_pod))}" if of_pod else " which is empty"
            missing = fields.not_found(at, name)
            yield replace(missing, message=f"{missing.message}: must be one of the names in pod.spec.resourceClaims{known}")


def of_pod(path: str, spec: Object) -> Iterator[FieldError]:
    """Validates `spec.resources`, which must hold what the containers ask for."""
    value = spec.get("resources")
    if not value:
        return
    at = f"{path}.resources"
    if (spec.get("os") or {}).get("name") == "windows":
        yield fields.forbidden(at, "may not be set for a windows pod")
        return
    if value.get("claims"):
        yield fields.forbidden(f"{at}.claims", "claims may not be set for Resources at pod-level")
    yield from _requirements(at, value, _name_in_pod)
    for part, only in (("requests", ""), ("limits", HUGE_PAGES)):
        said = value.get(part) or {}
        for name, summed in sorted(pod_totals.of_containers(spec, part).items()):
            if name.startswith(only) and name in said and summed > quantities.parse(said[name]):
                why = f"must be greater than or equal to aggregate container {part} of {quantities.text(summed, said[name])}"
                yield fields.invalid(f"{at}.{part}[{name}]", said[name], why)
    most = value.get("limits") or {}
    for index, container in enumerate(spec.get("containers") or ()):
        for name, limit in sorted(((container.get("resources") or {}).get("limits") or {}).items()):
            if name in most and quantities.compare(limit, most[name]) > 0:
                why = f"must be less than or equal to pod limits of {most[name]}"
                yield fields.invalid(f"{at}.containers[{index}][{name}].limits", limit, why)


def _requirements(path: str, value: Object, check_name: Any) -> Iterator[FieldError]:
    limits, requests = value.get("limits") or {}, value.get("requests") or {}
    for name, amount in sorted(limits.items()):
        at = f"{path}.limits[{name}]"
        yield from check_name(at, name)
        yield from _amount(at, name, amount)
    for name, amount in sorted(requests.items()):
        at = f"{path}.requests[{name}]"
        yield from check_name(at, name)
        yield from _amount(at, name, amount)
        yield from _request(path, name, amount, limits.get(name))
    named = {*limits, *requests}
    if any(name.startswith(HUGE_PAGES) for name in named) and not named & {"cpu", "memory"}:
        yield fields.forbidden(path, "HugePages require cpu or memory")


def _request(path: str, name: str, amount: Any, limit: Any) -> Iterator[FieldError]:
    if limit is None:
        if not overcommits(name):
            yield fields.required(f"{path}.limits", "Limit must be set for non overcommitable resources")
    elif not overcommits(name) and quantities.compare(amount, limit):
        yield fields.invalid(f"{path}.requests", amount, f"must be equal to {name} limit of {limit}")
    elif quantities.compare(amount, limit) > 0:
        yield fields.invalid(f"{path}.requests", amount, f"must be less than or equal to {name} limit of {limit}")


def amount(path: str, name: str, said: Any) -> Iterator[FieldError]:
    """Validates an amount of a resource: some are counted in whole numbers only."""
    value = quantities.parse(said)
    if value < 0:
        yield fields.invalid(path, said, _NOT_NEGATIVE)
    if (name in _COUNTED or extended(name)) and value.denominator != 1:
        yield fields.invalid(path, said, "must be an integer")


def _amount(path: str, name: str, said: Any) -> Iterator[FieldError]:
    yield from amount(path, name, said)
    if name.startswith(HUGE_PAGES) and not _whole_pages(name, said):
        yield fields.invalid(path, said, f"{said} is not positive integer multiple of {name}")


def _whole_pages(name: str, amount: Any) -> bool:
    try:
        page = quantities.parse(name.removeprefix(HUGE_PAGES))
    except ValueError:
        return False
    return page > 0 and page.denominator == 1 and (quantities.parse(amount) / page).denominator == 1


def name_of_any(path: str, name: str) -> Iterator[FieldError]:
    """Validates the name of a resource of any object."""
    wrong = tuple(names.checked(path, name, key_errors))
    yield from wrong
    if not wrong and "/" not in name and not _is_standard(name):
        yield fields.invalid(path, name, _NOT_STANDARD)


def _is_standard(name: str) -> bool:
    return name in _STANDARD or name.startswith((HUGE_PAGES, f"requests.{HUGE_PAGES}"))


def name_in_quota(path: str, name: str) -> Iterator[FieldError]:
    """Validates the name of what a ResourceQuota bounds."""
    yield from name_of_any(path, name)
    if not key_errors(name) and "/" not in name and not standard_in_quota(name):
        yield fields.invalid(path, name, "must be a standard resource for quota")


def standard_in_quota(name: str) -> bool:
    """True for what Kubernetes itself lets a quota bound, besides the numbers of objects (`count/...`)."""
    return _is_standard(name) and name != "storage"


def overcommits(name: str) -> bool:
    """True for a resource of which containers may request less than their limit."""
    return ("/" not in name or "kubernetes.io/" in name) and not name.startswith(HUGE_PAGES)


def name_in_container(path: str, name: str) -> Iterator[FieldError]:
    wrong = tuple(names.checked(path, name, key_errors))
    yield from wrong
    if wrong:
        return
    if "/" in name:
        if "kubernetes.io/" not in name and not extended(name):
            yield fields.invalid(path, name, "doesn't follow extended resource name standard")
        return
    huge = name.startswith(HUGE_PAGES)
    if not _is_standard(name):
        yield fields.invalid(path, name, _NOT_STANDARD)
    if name not in _OF_CONTAINERS and not huge:
        yield fields.invalid(path, name, "must be a standard resource for containers")


def _name_in_pod(path: str, name: str) -> Iterator[FieldError]:
    wrong = tuple(names.checked(path, name, key_errors))
    yield from wrong
    if wrong or pod_totals.at_pod_level(name):
        return
    if "/" not in name and name not in _STANDARD:
        yield fields.invalid(path, name, _NOT_STANDARD)
    else:
        yield fields.not_supported(path, name, ("cpu", HUGE_PAGES, "memory"))
