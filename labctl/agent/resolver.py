"""A pod's /etc/resolv.conf, as the kubelet composes it from dnsPolicy, dnsConfig and the machine's own file. Pure.

    ClusterFirst              the cluster's server and search list; a pod in its node's network gets Default instead
    ClusterFirstWithHostNet   the same for a pod in its node's network, too
    Default                   what the machine itself uses
    None                      nothing but dnsConfig

dnsConfig is added to each of them: servers and search domains at the end, each once; an option replaces the one of its name. Who calls it: podfiles.py.
"""

from __future__ import annotations

from typing import Any, Dict, List, Sequence

NODE_RESOLVER = "/etc/resolv.conf"
KEPT_RESOLVER = "/etc/labctl/resolv.conf"
"""The machine's own file, where labctl has put another in its place (helper/names.py)."""
SERVERS_MAX = 3  # the C library reads no more
SEARCHES_MAX = 32
SEARCH_CHARACTERS_MAX = 2048
Options = Dict[str, str]


class Resolver:
    """What a resolv.conf says."""

    def __init__(self) -> None:
        self.servers: List[str] = []
        self.searches: List[str] = []
        self.options: Options = {}

    def text(self) -> str:
        lines = []
        if self.searches:
            lines.append("search " + " ".join(_bounded(self.searches)))
        lines += [f"nameserver {each}" for each in self.servers[:SERVERS_MAX]]
        if self.options:
            lines.append("options " + " ".join(f"{name}:{value}" if value else name for name, value in self.options.items()))
        return "\n".join(lines) + "\n"


def parsed(text: str) -> Resolver:
    found = Resolver()
    for line in text.splitlines():
        word, *rest = line.split() or [""]
        if word == "nameserver" and rest:
            found.servers.append(rest[0])
        elif word in ("search", "domain"):  # the last line of either counts
            found.searches = rest
        elif word == "options":
            found.options.update(_option(each) for each in rest)
    return found


def resolver(pod: Dict[str, Any], node: str, cluster_dns: Sequence[str], cluster_domain: str) -> str:
    """Return a pod's resolv.conf. `node` is the machine's own. Without a cluster DNS, ClusterFirst means the same as Default."""
    spec = pod["spec"]
    policy, more = spec.get("dnsPolicy", "ClusterFirst"), spec.get("dnsConfig") or {}
    made = Resolver() if policy == "None" else parsed(node)
    if cluster_dns and (policy == "ClusterFirstWithHostNet" or (policy == "ClusterFirst" and not spec.get("hostNetwork"))):
        namespace = pod["metadata"]["namespace"]
        made.servers, made.options = list(cluster_dns), {"ndots": "5"}
        made.searches = _once([f"{namespace}.svc.{cluster_domain}", f"svc.{cluster_domain}", cluster_domain, *made.searches])
    made.servers = _once([*made.servers, *(more.get("nameservers") or ())])
    made.searches = _once([*made.searches, *(more.get("searches") or ())])
    made.options.update((each["name"], each.get("value") or "") for each in more.get("options") or ())
    return made.text()


def _option(word: str) -> "tuple[str, str]":
    name, _, value = word.partition(":")
    return name, value


def _once(words: Sequence[str]) -> List[str]:
    return list(dict.fromkeys(words))


def _bounded(searches: Sequence[str]) -> List[str]:
    kept = list(searches[:SEARCHES_MAX])
    while len(" ".join(kept)) > SEARCH_CHARACTERS_MAX:
        kept.pop()
    return kept
