"""Rules for a pod's own names, and for what goes into its /etc/hosts and /etc/resolv.conf: hostAliases and dnsConfig, with Kubernetes' limits and words."""

from __future__ import annotations

from collections.abc import Iterator

from labctl.resources import fields, names
from labctl.resources.kind import FieldError, Object

_MOST_HOSTNAME = 64  # of the kernel
_MOST_SERVERS, _MOST_SEARCHES, _MOST_SEARCH_CHARACTERS = 3, 32, 2048


def hostnames(path: str, said: Object) -> Iterator[FieldError]:
    """Check hostname and subdomain, and the name that goes before them (KEP-4762)."""
    for name in ("hostname", "subdomain"):
        if said.get(name):
            yield from names.checked(f"{path}.{name}", said[name], names.label)
    at, whole = f"{path}.hostnameOverride", said.get("hostnameOverride")
    if whole is None:
        return
    yield from names.checked(at, whole, names.subdomain)
    if len(whole) > _MOST_HOSTNAME:
        yield fields.invalid(at, whole, f"must be no more than {_MOST_HOSTNAME} characters")
    for other in ("hostNetwork", "setHostnameAsFQDN"):
        if said.get(other):
            yield fields.forbidden(at, f"may not be set when {other} is true")


def host_aliases(path: str, said: Object) -> Iterator[FieldError]:
    """Check each alias's address and names."""
    for index, alias in enumerate(said.get("hostAliases") or ()):
        yield from names.checked(f"{path}[{index}].ip", alias.get("ip", ""), names.address)
        for number, name in enumerate(alias.get("hostnames") or ()):
            yield from names.checked(f"{path}[{index}].hostnames[{number}]", name, names.subdomain)


def dns_config(path: str, said: Object) -> Iterator[FieldError]:
    """Check servers, search domains and options. Policy None needs a server."""
    config = said.get("dnsConfig") or {}
    servers, searches = config.get("nameservers") or (), config.get("searches") or ()
    if said.get("dnsPolicy") == "None" and not config:
        yield fields.required(path, "must provide `dnsConfig` when `dnsPolicy` is None")
    elif said.get("dnsPolicy") == "None" and not servers:
        yield fields.required(f"{path}.nameservers", "must provide at least one DNS nameserver when `dnsPolicy` is None")
    if len(servers) > _MOST_SERVERS:
        yield fields.invalid(f"{path}.nameservers", servers, f"must not have more than {_MOST_SERVERS} nameservers")
    for index, server in enumerate(servers):
        yield from names.checked(f"{path}.nameservers[{index}]", server, names.address)
    if len(searches) > _MOST_SEARCHES:
        yield fields.invalid(f"{path}.searches", searches, f"must not have more than {_MOST_SEARCHES} search paths")
    if len(" ".join(searches)) > _MOST_SEARCH_CHARACTERS:
        why = f"must not have more than {_MOST_SEARCH_CHARACTERS} characters (including spaces) in the search list"
        yield fields.invalid(f"{path}.searches", searches, why)
    for index, search in enumerate(searches):
        if search != ".":
            yield from names.checked(f"{path}.searches[{index}]", search.removesuffix("."), names.search_path)
    for index, option in enumerate(config.get("options") or ()):
        at = f"{path}.options[{index}]"
        if not option.get("name"):
            yield fields.required(at, "must not be empty")
        for field in ("name", "value"):
            if any(not each.isprintable() or each.isspace() for each in option.get(field) or ""):
                yield fields.invalid(f"{at}.{field}", option[field], "must not contain spaces or characters that can't be printed")
