"""What a pod's status may say, and which of its containers may begin again: they are never un-ended against their restart policy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from labctl.resources import fields, names
from labctl.resources.kind import FieldError, Object
from labctl.resources.kinds.status_rules import legacy_address, status_of
from labctl.resources.labels import key_errors

_PLAIN_CONDITIONS = frozenset({"PodScheduled", "Ready", "Initialized"})
_NEGATIVE = "must be a non-negative integer"
_UN_ENDED = "may not be transitioned to non-terminated state"
_MOST_ID = 2**31 - 1


def validate(new: Object, old: Object) -> Iterator[FieldError]:
    now, before, spec = status_of(new), status_of(old), old["spec"]
    yield from _conditions(now.get("conditions") or ())
    yield from _nominated(now.get("nominatedNodeName", ""), before.get("nominatedNodeName", ""), spec.get("nodeName", ""))
    if now.get("observedGeneration", 0) < 0:
        yield fields.invalid("status.observedGeneration", now["observedGeneration"], _NEGATIVE)
    if now.get("qosClass", "") != before.get("qosClass", ""):
        yield fields.invalid("status.qosClass", now.get("qosClass", ""), "field is immutable")
    yield from _states(now, before, spec)
    yield from _claims(now.get("resourceClaimStatuses") or (), spec)
    yield from _addresses(now, before)
    for part in ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"):
        yield from _users(f"status.{part}", now.get(part) or (), (spec.get("os") or {}).get("name", "linux"))


def _conditions(said: Iterable[Object]) -> Iterator[FieldError]:
    for index, condition in enumerate(said):
        at = f"status.conditions[{index}]"
        if condition.get("observedGeneration", 0) < 0:
            yield fields.invalid(f"{at}.observedGeneration", condition["observedGeneration"], _NEGATIVE)
        if condition.get("type") not in _PLAIN_CONDITIONS:
            yield from names.checked(f"{at}.Type", condition.get("type", ""), key_errors)


def _nominated(now: str, before: str, node: str) -> Iterator[FieldError]:
    if not now or now == before:
        return
    yield from names.checked("status.nominatedNodeName", now, names.subdomain)
    if node:
        yield fields.forbidden("status.nominatedNodeName", "may not be set on pods that are already bound to a node")


def _states(now: Object, before: Object, spec: Object) -> Iterator[FieldError]:
    """Checks that nothing that has ended runs again, unless its restart policy lets it."""
    if not before:
        return
    specs = {part: spec.get(part) or () for part in ("containers", "initContainers")}
    rules = (rule for part in specs.values() for container in part for rule in container.get("restartPolicyRules") or ())
    all_may_begin_again = any(rule.get("action") == "RestartAllContainers" for rule in rules)
    for part, of in (("containerStatuses", "containers"), ("initContainerStatuses", "initContainers")):
        if not all_may_begin_again and before.get(part):
            named = {container["name"]: container for container in specs[of]}
            policy = spec.get("restartPolicy", "Always")
            if of == "initContainers" and policy == "OnFailure":
                policy = "Always"  # after a boot of their machine all of them run again, also those that went well
            yield from _un_ended(part, now, before, _restarts(named, policy))
    if before.get("ephemeralContainerStatuses"):
        yield from _un_ended("ephemeralContainerStatuses", now, before, lambda _name, _code: False)


def _restarts(named: Mapping[str, Object], pod_policy: str) -> Callable[[str, int], bool]:
    def restarts(name: str, code: int) -> bool:
        container = named.get(name)
        if container is None:
            return False
        if any(_matches(rule.get("exitCodes") or {}, code) for rule in container.get("restartPolicyRules") or ()):
            return True
        policy = container.get("restartPolicy") or pod_policy
        return policy == "Always" or (policy == "OnFailure" and code != 0)

    return restarts


def _matches(codes: Object, code: int) -> bool:
    return (code in (codes.get("values") or ())) == (codes.get("operator") == "In")


def _un_ended(part: str, now: Object, before: Object, restarts: Callable[[str, int], bool]) -> Iterator[FieldError]:
    alive = {each.get("name") for each in now.get(part) or () if "terminated" not in (each.get("state") or {})}
    for index, each in enumerate(before[part]):
        ended = (each.get("state") or {}).get("terminated")
        if ended is not None and each.get("name") in alive and not restarts(each.get("name", ""), ended.get("exitCode", 0)):
            yield fields.forbidden(f"status.{part}[{index}].state", _UN_ENDED)


def _claims(said: Sequence[Object], spec: Object) -> Iterator[FieldError]:
    known, seen = {claim.get("name") for claim in spec.get("resourceClaims") or ()}, set()
    for index, claim in enumerate(said):
        at, name = f"status.resourceClaimStatuses[{index}]", claim.get("name", "")
        if name not in known:
            yield fields.invalid(f"{at}.name", name, "must match the name of an entry in `spec.resourceClaims`")
        if name in seen:
            yield fields.duplicate(f"{at}.name", name)
        seen.add(name)
        if claim.get("resourceClaimName") is not None:
            yield from names.checked(f"{at}.resourceClaimName", claim["resourceClaimName"], names.subdomain)


def _addresses(now: Object, before: Object) -> Iterator[FieldError]:
    of_pod, hosts = _listed(now, "podIP"), _listed(now, "hostIP")
    if of_pod == _listed(before, "podIP") and hosts == _listed(before, "hostIP") and now.get("hostIP") == before.get("hostIP"):
        return
    yield from _family_each("status.podIPs", of_pod, _listed(before, "podIP"))
    if now.get("hostIPs"):
        if now.get("hostIP", "") != hosts[0]:
            yield fields.invalid("status.hostIPs[0].ip", hosts[0], "must be equal to `hostIP`")
        yield from _family_each("status.hostIPs", hosts, _listed(before, "hostIP"))


def _listed(status: Object, name: str) -> list[str]:
    """Returns the addresses of a list. The single field counts where the two differ, as with older clients."""
    listed = [each.get("ip", "") for each in status.get(f"{name}s") or ()]
    single = status.get(name, "")
    return [single] if name == "podIP" and single and single != (listed or [""])[0] else listed


def _family_each(path: str, addresses: Sequence[str], known: Iterable[str]) -> Iterator[FieldError]:
    wrong = [error for index, each in enumerate(addresses) for error in legacy_address(f"{path}[{index}]", each, known)]
    yield from wrong
    families = {":" in each for each in addresses}
    if not wrong and len(families) < len(addresses):
        yield fields.invalid(path, [{"IP": each} for each in addresses], "may specify no more than one IP for each IP family")


def _users(path: str, said: Iterable[Object], system: str) -> Iterator[FieldError]:
    for index, each in enumerate(said):
        user = (each.get("user") or {}).get("linux")
        if user is None:
            continue
        at = f"{path}[{index}].user.linux"
        if system == "windows":
            yield fields.forbidden(at, "cannot be set for a windows pod")
            continue
        groups = [(f"{at}.supplementalGroups[{number}]", group) for number, group in enumerate(user.get("supplementalGroups") or ())]
        for where, value in ((f"{at}.uid", user.get("uid", 0)), (f"{at}.gid", user.get("gid", 0)), *groups):
            if not 0 <= value <= _MOST_ID:
                yield fields.invalid(where, value, f"must be between 0 and {_MOST_ID}, inclusive")
