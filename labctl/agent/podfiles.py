"""/etc/hosts, /etc/hostname and /etc/resolv.conf of a pod, as the kubelet writes them."""

from __future__ import annotations

import os
from typing import Any, Dict, List, Sequence

from . import beneath
from .resolver import KEPT_RESOLVER, NODE_RESOLVER, resolver
from .runtime.interface import Mount

Object = Dict[str, Any]
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
        if spec.get("subdomain") and not spec.get("hostnameOverride"):
            names.insert(0, f"{hostname}.{spec['subdomain']}.{pod['metadata']['namespace']}.svc.{cluster_domain}")
        text = _HOSTS + f"{address}\t" + "\t".join(names) + "\n"
    aliases = spec.get("hostAliases") or ()
    if aliases:
        text += "\n# Entries added by HostAliases.\n" + "".join(
            each["ip"] + "\t" + "\t".join(each.get("hostnames") or ()) + "\n" for each in aliases
        )
    return text


def write(pod: Object, folder: str, address: str, hostname: str, cluster_dns: Sequence[str], cluster_domain: str) -> List[Mount]:
    """Written anew with every container, like the kubelet's: an address may have changed."""
    os.makedirs(folder, exist_ok=True)
    node = _read(KEPT_RESOLVER) if os.path.exists(KEPT_RESOLVER) else _read(NODE_RESOLVER)
    texts = {
        "hosts": hosts(pod, address, hostname, cluster_domain, _read("/etc/hosts")),
        "hostname": hostname + "\n",
        "resolv.conf": resolver(pod, node, cluster_dns, cluster_domain),
    }
    for name, text in texts.items():
        path = os.path.join(folder, name)
        if not _holds(path, text.encode()):
            with open(path, "wb") as file:  # in place: it is bind-mounted into containers that run
                file.write(text.encode())
    return [Mount(os.path.join(folder, name), "/etc/" + name) for name in texts]


def _holds(path: str, content: bytes) -> bool:
    """Tell whether the file has exactly this content. Containers may write to it, so no more is read than is compared, and any bytes may come."""
    try:
        return beneath.read_file(path, len(content) + 1) == content
    except OSError:
        return False


def _read(path: str) -> str:
    """Return a file of the machine's own, or "" if there is none."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(beneath.SMALL_FILE_BYTES)
    except OSError:
        return ""
