"""Which checks a level has as of a release, and what they find in a pod."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from labctl.admission.podsecurity import baseline, restricted
from labctl.admission.podsecurity.levels import BASELINE, PRIVILEGED, Standard
from labctl.admission.podsecurity.restricted import Check, not_of_own_users, not_of_windows
from labctl.resources.kind import Object


class Versioned(NamedTuple):
    """A check through the releases: each of `since` is a minor version and the check from then on. `instead_of` is the milder check that it makes needless."""

    name: str
    since: tuple[tuple[int, Check], ...]
    instead_of: str = ""


_BASELINE = (
    Versioned("appArmorProfile", ((0, baseline.app_armor),)),
    Versioned("capabilities_baseline", ((0, baseline.capabilities),)),
    Versioned("hostNamespaces", ((0, baseline.host_namespaces),)),
    Versioned("hostPathVolumes", ((0, baseline.host_path),)),
    Versioned("hostPorts", ((0, baseline.host_ports),)),
    Versioned("hostProbesAndHostLifecycle", ((34, baseline.probe_hosts),)),
    Versioned("privileged", ((0, baseline.privileged),)),
    Versioned("procMount", ((0, baseline.proc_mount), (35, baseline.proc_mount_of_users))),
    Versioned("seLinuxOptions", ((0, baseline.selinux), (31, baseline.selinux_31))),
    Versioned("seccompProfile_baseline", ((0, baseline.seccomp_notes), (19, baseline.seccomp))),
    Versioned("sysctls", baseline.SYSCTLS),
    Versioned("windowsHostProcess", ((0, baseline.host_process),)),
)
_RESTRICTED = (
    Versioned("allowPrivilegeEscalation", ((8, restricted.escalation), (25, not_of_windows(restricted.escalation)))),
    Versioned(
        "capabilities_restricted",
        ((22, restricted.capabilities), (25, not_of_windows(restricted.capabilities))),
        instead_of="capabilities_baseline",
    ),
    Versioned("procMount_restricted", ((35, baseline.proc_mount),), instead_of="procMount"),
    Versioned("restrictedVolumes", ((0, restricted.volumes),), instead_of="hostPathVolumes"),
    Versioned("runAsNonRoot", ((0, restricted.not_root), (35, not_of_own_users(restricted.not_root)))),
    Versioned("runAsUser", ((23, restricted.user), (35, not_of_own_users(restricted.user)))),
    Versioned(
        "seccompProfile_restricted",
        ((19, restricted.seccomp_said), (25, not_of_windows(restricted.seccomp_said))),
        instead_of="seccompProfile_baseline",
    ),
)


def violations(standard: Standard, metadata: Object, spec: Object) -> list[tuple[str, str]]:
    """Returns what is wrong with a pod, each with where it is."""
    found = (check(metadata, spec) for check in _checks(standard))
    return [violation for violation in found if violation is not None]


@cache
def _checks(standard: Standard) -> tuple[Check, ...]:
    if standard.level == PRIVILEGED:
        return ()
    stricter = [] if standard.level == BASELINE else [(each, check) for each in _RESTRICTED if (check := _as_of(each, standard.minor))]
    needless = {each.instead_of for each, _check in stricter}
    milder = [check for each in _BASELINE if each.name not in needless and (check := _as_of(each, standard.minor))]
    return (*milder, *(check for _each, check in stricter))


def _as_of(check: Versioned, minor: int) -> Check | None:
    return next((one for since, one in reversed(check.since) if since <= minor), None)
