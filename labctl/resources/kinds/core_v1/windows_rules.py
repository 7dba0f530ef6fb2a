"""Rules for `windowsOptions` of a securityContext, and for pods of which containers are processes of a Windows host. In Kubernetes' words."""

from __future__ import annotations

import re
from collections.abc import Iterator

from labctl.resources import fields, names
from labctl.resources.kind import FieldError, Object

_SPEC_KIB = 64
_DOMAIN_BELOW, _USER_MOST = 256, 104
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_NETBIOS = re.compile(r'[^\\/:*?"<>|.][^\\/:*?"<>|]{0,14}')
_DNS = re.compile(r"[a-zA-Z0-9]([-a-zA-Z0-9]*[a-zA-Z0-9])?(\.[a-zA-Z0-9]([-a-zA-Z0-9]*[a-zA-Z0-9])?)*")
_NOT_IN_A_USER = re.compile(r'["/\\:;|=,+*?<>@\[\]]')
_CONTAINERS = ("initContainers", "containers", "ephemeralContainers")


def options(path: str, said: Object | None) -> Iterator[FieldError]:
    """Validates the options of a pod or of a container."""
    if said is None:
        return
    if said.get("gmsaCredentialSpecName") is not None:
        yield from names.checked(f"{path}.gmsaCredentialSpecName", said["gmsaCredentialSpecName"], names.subdomain)
    spec = said.get("gmsaCredentialSpec")
    if spec is not None and not spec:
        yield fields.invalid(f"{path}.gmsaCredentialSpec", spec, "gmsaCredentialSpec cannot be an empty string")
    elif spec is not None and len(spec.encode()) > _SPEC_KIB << 10:
        yield fields.invalid(f"{path}.gmsaCredentialSpec", spec, f"gmsaCredentialSpec size must be under {_SPEC_KIB} KiB")
    if said.get("runAsUserName") is not None:
        at, name = f"{path}.runAsUserName", said["runAsUserName"]
        yield from (fields.invalid(at, name, f"runAsUserName{why}") for why in _wrong_user(name))


def _wrong_user(name: str) -> Iterator[str]:
    """Yields what is wrong with the name of a user, which may have a domain before it: `DOMAIN\\user`."""
    if not name:
        yield " cannot be an empty string"
        return
    if _CONTROL.search(name):
        yield " cannot contain control characters"
        return
    if name.count("\\") > 1:
        yield " cannot contain more than one backslash"
        return
    domain, backslash, user = name.rpartition("\\")
    if len(domain) >= _DOMAIN_BELOW:
        yield f"'s Domain length must be under {_DOMAIN_BELOW} characters"
    if backslash and not (_NETBIOS.fullmatch(domain) or _DNS.fullmatch(domain)):
        yield "'s Domain doesn't match the NetBios nor the DNS format"
    if not user:
        yield "'s User cannot be empty"
    elif len(user) > _USER_MOST:
        yield f"'s User length must not be longer than {_USER_MOST} characters"
    if user and not user.strip(". "):
        yield "'s User cannot contain only periods or spaces"
    if _NOT_IN_A_USER.search(user):
        yield "'s User cannot contain the following characters: \"/\\:;|=,+*?<>@[]"


def host_processes(path: str, said: Object) -> Iterator[FieldError]:
    """Validates which containers are processes of the host (`hostProcess`): all of a pod or none, and only on the host's network."""
    of_pod = _host_process(said)
    found = []
    for part in _CONTAINERS:
        for index, container in enumerate(said.get(part) or ()):
            own = _host_process(container)
            if of_pod is not None and own is not None and own != of_pod:
                at = f"{path}.{part}[{index}].securityContext.windowsOptions.hostProcess"
                why = f"pod hostProcess value must be identical if both are specified, was {str(of_pod).lower()}"
                yield fields.invalid(at, own, why)
            found.append(bool(of_pod if own is None else own))
    if not any(found):
        return
    if not all(found):
        yield fields.invalid(path, "", "If pod contains any hostProcess containers then all containers must be HostProcess containers")
    if not said.get("hostNetwork"):
        yield fields.invalid(f"{path}.hostNetwork", False, "hostNetwork must be true if pod contains any hostProcess containers")


def _host_process(holder: Object) -> bool | None:
    asked: bool | None = ((holder.get("securityContext") or {}).get("windowsOptions") or {}).get("hostProcess")
    return asked
