"""The checks of the level `restricted`: what a pod must say so that it has as little as a pod can have."""

from __future__ import annotations

from collections.abc import Callable

from labctl.admission.podsecurity.baseline import PROFILES, Violation, own_users, seccomp
from labctl.admission.podsecurity.words import containers_named, context, every_container, names, one_or_more, quoted, setters, use, within
from labctl.resources.kind import Object

Check = Callable[[Object, Object], Violation]
_VOLUMES = frozenset(("configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "image", "persistentVolumeClaim", "projected", "secret"))


def not_of_windows(check: Check) -> Check:
    """Since 1.25 these checks pass over pods of Windows, which may not even set the fields."""

    def checked(metadata: Object, spec: Object) -> Violation:
        return None if within(spec, "os", "name") == "windows" else check(metadata, spec)

    return checked


def not_of_own_users(check: Check) -> Check:
    """Since 1.35 these checks pass over pods with a namespace of users of their own: their root is nobody outside."""

    def checked(metadata: Object, spec: Object) -> Violation:
        return None if own_users(spec) else check(metadata, spec)

    return checked


def escalation(_metadata: Object, spec: Object) -> Violation:
    found = names(spec, lambda container: context(container).get("allowPrivilegeEscalation") is not False)
    if not found:
        return None
    return "allowPrivilegeEscalation != false", f"{containers_named(found)} must set securityContext.allowPrivilegeEscalation=false"


def capabilities(_metadata: Object, spec: Object) -> Violation:
    def added(container: Object) -> set[str]:
        return set(within(context(container), "capabilities", "add") or ()) - {"NET_BIND_SERVICE"}

    keeping = names(spec, lambda container: "ALL" not in (within(context(container), "capabilities", "drop") or ()))
    adding = names(spec, added)
    wrong = []
    if keeping:
        wrong.append(f'{containers_named(keeping)} must set securityContext.capabilities.drop=["ALL"]')
    if adding:
        which = sorted(set().union(*(added(container) for container in every_container(spec))))
        wrong.append(f"{containers_named(adding)} must not include {quoted(which)} in securityContext.capabilities.add")
    return ("unrestricted capabilities", "; ".join(wrong)) if wrong else None


def volumes(_metadata: Object, spec: Object) -> Violation:
    found: list[str] = []
    types: set[str] = set()
    for volume in spec.get("volumes") or ():
        sources = [key for key, value in volume.items() if key != "name" and value is not None]
        if not _VOLUMES.intersection(sources):
            found.append(volume.get("name", ""))
            types.add(sources[0] if sources else "unknown")
    if not found:
        return None
    what = one_or_more("restricted volume type", types)
    return "restricted volume types", f"{one_or_more('volume', found)} {quoted(found)} {use(found)} {what} {quoted(sorted(types))}"


def not_root(_metadata: Object, spec: Object) -> Violation:
    reason = "runAsNonRoot != true"
    who = setters(spec, lambda of: of.get("runAsNonRoot") is False)
    if who:
        return reason, f"{' and '.join(who)} must not set securityContext.runAsNonRoot=false"
    if context(spec).get("runAsNonRoot"):
        return None
    silent = names(spec, lambda container: context(container).get("runAsNonRoot") is None)
    return (reason, f"pod or {containers_named(silent)} must set securityContext.runAsNonRoot=true") if silent else None


def user(_metadata: Object, spec: Object) -> Violation:
    who = setters(spec, lambda of: of.get("runAsUser") == 0)
    return ("runAsUser=0", f"{' and '.join(who)} must not set runAsUser=0") if who else None


def seccomp_said(metadata: Object, spec: Object) -> Violation:
    """Of pod or container one must name a profile."""
    wrong = seccomp(metadata, spec)
    if wrong or context(spec).get("seccompProfile"):
        return wrong
    silent = names(spec, lambda container: not context(container).get("seccompProfile"))
    if not silent:
        return None
    choice = " or ".join(f'"{profile}"' for profile in PROFILES)
    return "seccompProfile", f"pod or {containers_named(silent)} must set securityContext.seccompProfile.type to {choice}"
