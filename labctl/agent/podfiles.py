"""/etc/hosts, /etc/hostname and /etc/resolv.conf of a pod, as the kubelet writes them."""

from __future__ import annotations

import os
from typing import Any, Dict, List, Sequence

from . import beneath
from .runtime.interface import Mount

Object = Dict[str, Any]
NODE_RESOLVER = "/etc/resolv.conf"
_HOSTS = """# Kubernetes-managed hosts file.
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::0\tip6-localnet
fe00::0\tip6-mcastprefix
fe00::1\tip6-allnodes
fe00::2\tip6-allrouters
"""


def hosts(pod: Object, address: str, hostname: str, cluster_domain: str, node_hosts: str = "") -> str:
    spec = pod["spec"]
    if spec.get("hostNetwork"):
        text = "# Kubernetes-managed hosts file (host network).\n" + node_hosts
    else:
        names = [hostname]
        if spec.get("subdomain"):
            names.insert(0, f"{hostname}.{spec['subdomain']}.{pod['metadata']['namespace']}.svc.{cluster_domain}")
        text = _HOSTS + f"{address}\t" + "\t".join(names) + "\n"
    aliases = spec.get("hostAliases") or ()
    if aliases:
        text += "\n# Entries added by HostAliases.\n" + "".join(
            each["ip"] + "\t" + "\t".join(each.get("hostnames") or ()) + "\n" for each in aliases
        )
    return text


def resolver(pod: Object, node: str, cluster_dns: Sequence[str], cluster_domain: str) -> str:
    """`node`: the machine's own resolv.conf. Without a cluster DNS, ClusterFirst is what the machine uses."""
    spec = pod["spec"]
    policy, extra = spec.get("dnsPolicy", "ClusterFirst"), spec.get("dnsConfig") or {}
    ours = cluster_dns and (policy == "ClusterFirstWithHostNet" or (policy == "ClusterFirst" and not spec.get("hostNetwork")))
    lines: List[str] = []
    if ours:
        namespace = pod["metadata"]["namespace"]
        lines = [
            f"search {namespace}.svc.{cluster_domain} svc.{cluster_domain} {cluster_domain}",
            *(f"nameserver {each}" for each in cluster_dns),
            "options ndots:5",
        ]
    elif policy != "None":
        lines = [line for line in node.splitlines() if line.strip()]
    lines += [f"nameserver {each}" for each in extra.get("nameservers") or ()]
    if extra.get("searches"):
        lines.append("search " + " ".join(extra["searches"]))
    if extra.get("options"):
        lines.append("options " + " ".join(each["name"] + (":" + each["value"] if each.get("value") else "") for each in extra["options"]))
    return "\n".join(lines) + "\n"


def write(pod: Object, folder: str, address: str, hostname: str, cluster_dns: Sequence[str], cluster_domain: str) -> List[Mount]:
    """Written anew with every container, like the kubelet's: an address may have changed."""
    os.makedirs(folder, exist_ok=True)
    texts = {
        "hosts": hosts(pod, address, hostname, cluster_domain, _read("/etc/hosts")),
        "hostname": hostname + "\n",
        "resolv.conf": resolver(pod, _read(NODE_RESOLVER), cluster_dns, cluster_domain),
    }
    for name, text in texts.items():
        path = os.path.join(folder, name)
        if not _holds(path, text.encode()):
            with open(path, "wb") as file:  # in place: it is bind-mounted into containers that run
                file.write(text.encode())
    return [Mount(os.path.join(folder, name), "/etc/" + name) for name in texts]


def _holds(path: str, content: bytes) -> bool:
    """Whether the file is just that. Containers may write to it, so no more is read than is compared, and no text is expected."""
    try:
        return beneath.read_file(path, len(content) + 1) == content
    except OSError:
        return False


def _read(path: str) -> str:
    """A file of the machine's own; "" if there is none."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(beneath.SMALL_FILE_BYTES)
    except OSError:
        return ""
