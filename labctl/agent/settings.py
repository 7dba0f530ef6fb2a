"""What the agent is told at its start: /etc/labctl/agent.json, written by the join. Keys it does not know are ignored."""

from __future__ import annotations

import json
import os
import socket
import urllib.parse
from dataclasses import dataclass
from typing import Any, Dict, Tuple

PATH = "/etc/labctl/agent.json"


@dataclass(frozen=True)
class Settings:
    node: str
    url: str
    ca_file: str
    certificate_file: str
    key_file: str
    boot_id: str = ""
    address: str = ""  # the node's InternalIP; empty: the one that reaches the API
    relay_address: str = ""  # the master's, which this machine has itself where only a tunnel leads to the master
    state_dir: str = "/var/lib/labctl/agent"
    run_dir: str = "/run/labctl"
    volumes_dir: str = "/var/lib/labctl/volumes"
    pod_logs_dir: str = "/var/log/pods"
    cgroup_root: str = ""
    pod_mtu: int = 1500
    cluster_dns: Tuple[str, ...] = ()
    cluster_domain: str = "cluster.local"
    lease_s: float = 10.0
    lease_duration_s: int = 40
    peers: bool = False  # whether minions hear each other (peers.py); who hears whom the master says
    node_status_s: float = 300.0
    start_retry_s: float = 2.0  # what could not even be started is tried again after this, then doubling
    backoff_first_s: float = 10.0
    backoff_most_s: float = 300.0
    backoff_reset_s: float = 600.0
    image_backoff_first_s: float = 10.0
    drain_s: float = 1.0  # how long an ending pod waits for the proxies to forget it
    log_limit_bytes: int = 10 << 20
    log_files: int = 3
    image_limit_bytes: int = 8 << 30
    housekeeping_s: float = 10.0
    memory_reserved_bytes: int = 100 << 20
    max_pods: int = 110
    pod_pids: int = 1024  # processes and threads of one pod, as a kubelet's podPidsLimit; 0: no bound of its own
    seccomp_default: bool = True  # pods that say nothing get RuntimeDefault, as from a kubelet with --seccomp-default
    cpus: float = 0.0  # 0: what the machine has
    memory_bytes: int = 0


_KEYS = {
    "node": "node", "url": "url", "bootID": "boot_id", "address": "address", "relayAddress": "relay_address", "stateDir": "state_dir", "runDir": "run_dir",
    "volumesDir": "volumes_dir",
    "podLogsDir": "pod_logs_dir", "cgroupRoot": "cgroup_root", "podMTU": "pod_mtu", "clusterDomain": "cluster_domain",
    "leaseSeconds": "lease_s", "leaseDurationSeconds": "lease_duration_s", "peers": "peers", "nodeStatusSeconds": "node_status_s",
    "startRetrySeconds": "start_retry_s", "backoffSeconds": "backoff_first_s", "backoffMaxSeconds": "backoff_most_s", "backoffResetSeconds": "backoff_reset_s",
    "imageBackoffSeconds": "image_backoff_first_s", "drainSeconds": "drain_s", "logLimitBytes": "log_limit_bytes", "logFiles": "log_files",
    "imageLimitBytes": "image_limit_bytes", "housekeepingSeconds": "housekeeping_s", "memoryReservedBytes": "memory_reserved_bytes",
    "maxPods": "max_pods", "podPidsLimit": "pod_pids", "seccompDefault": "seccomp_default", "cpus": "cpus", "memoryBytes": "memory_bytes",
}  # fmt: skip


class BadSettings(Exception):
    """agent.json is not there or not usable."""


def of(told: Dict[str, Any], folder: str) -> Settings:
    """Return the settings. Certificates are in `folder`, unless caFile, certFile and keyFile say otherwise."""
    missing = [key for key in ("node", "url") if not told.get(key)]
    if missing:
        raise BadSettings(f"agent.json lacks {' and '.join(missing)}")
    values = {field: told[key] for key, field in _KEYS.items() if told.get(key) not in (None, "")}
    files = {
        "ca_file": told.get("caFile", "ca.crt"),
        "certificate_file": told.get("certFile", "agent.crt"),
        "key_file": told.get("keyFile", "agent.key"),
    }
    files = {key: os.path.join(folder, name) for key, name in files.items()}
    return Settings(**values, **files, cluster_dns=tuple(told.get("clusterDNS") or ()))


def api_port(settings: Settings) -> int:
    return urllib.parse.urlsplit(settings.url).port or 443


def read(path: str = PATH) -> Settings:
    try:
        with open(path, encoding="utf-8") as file:
            told = json.load(file)
    except (OSError, ValueError) as error:
        raise BadSettings(f"{path}: {error}") from error
    return of(told, os.path.dirname(os.path.abspath(path)))


def boot_id(settings: Settings) -> str:
    """Return the id of this boot of this machine. Namespace minions share a kernel, so theirs is in the settings."""
    if settings.boot_id:
        return settings.boot_id
    for path in ("/etc/labctl/boot_id", "/proc/sys/kernel/random/boot_id"):
        try:
            with open(path, encoding="ascii") as file:
                return file.read(1000).strip()
        except (OSError, ValueError):  # ValueError: other bytes than an id has
            continue
    return ""


def own_address(settings: Settings) -> str:
    """Return this machine's address towards the API, from the routing table. No packet is sent."""
    if settings.address:
        return settings.address
    host = settings.url.split("//", 1)[-1].split("/", 1)[0].rsplit(":", 1)[0].strip("[]")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((host, 9))
            return str(probe.getsockname()[0])
        except OSError:
            return ""
