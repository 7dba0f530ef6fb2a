"""Where requests come from: a minion, a pod (in its network namespace, from its minion: its image needs no python), or the host.

The host sends only inside the lab's network, and only to machines' addresses: as a client outside of the cluster, it has no way to pods and virtual IPs.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from labctl.errors import LabctlError, UsageError
from labctl.lab import machines
from labctl.lab.measuring.target import Target, is_balanced
from labctl.lab.ssh import ssh_command
from labctl.measure import program
from labctl.providers import locks

if TYPE_CHECKING:
    from labctl.lab.folder import LabFolder

HOST = "host"
_NAMESPACES = "/var/lib/labctl/agent/pods/{uid}/ns/net"
"""Where the agent keeps a pod's network namespace (agent/settings.py, agent/runtime)."""
_POD = re.compile(r"pod/(?:([a-z0-9-]{1,63})/)?([a-z0-9.-]{1,253})\Z")


class SourcePlan(msgspec.Struct, frozen=True):
    """A source and how its load program is started. `machine` is empty for the host; `namespace` is a path on the machine."""

    name: str
    argv: tuple[str, ...]
    machine: str = ""
    boot_id: str = ""
    our_kernel: bool = True  # its clocks are ours, unless it is in another time namespace
    namespace: str = ""
    address: str = ""
    port: int = 0


def plan(lab: LabFolder, wanted: Sequence[str], target: Target, namespace: str) -> list[SourcePlan]:
    """Returns the sources that were named; without names, every machine that is on. Raises LabctlError before anything is started."""
    found = {machine["metadata"]["name"]: machine for machine in machines.list_machines(lab)}
    on = [name for name, machine in found.items() if machine.get("status", {}).get("power") == "On"]
    if not wanted and not on:
        raise LabctlError("no machine of this lab is on", mend="labctl up")
    plans = [_source(lab, name, found, target, namespace) for name in dict.fromkeys(wanted or on)]
    return list({each.name: each for each in plans}.values())


def _source(lab: LabFolder, name: str, found: dict[str, Any], target: Target, namespace: str) -> SourcePlan:
    if name == HOST:
        return _host(lab, found, target)
    if match := _POD.match(name):
        return _pod(lab, match[1] or namespace, match[2], found, target)
    if name not in found:
        raise UsageError(f"there is no source {name[:100]!r}", mend=f"write {', '.join(found) or 'a minion'}, pod/NAMESPACE/NAME or host")
    return _machine(lab, name, name, found, target)


def _machine(lab: LabFolder, machine: str, name: str, found: dict[str, Any], target: Target, path: str = "") -> SourcePlan:
    status = found[machine].get("status", {})
    if status.get("power") != "On":
        raise LabctlError(
            f"{machine} is {status.get('power', '').lower() or 'not there yet'}: nothing can be sent from it", mend="labctl up"
        )
    command = program.ARGV if _user(lab, machine) == "root" else ("sudo", "-n", "--", *program.ARGV)
    argv = ssh_command(lab, machine, command)
    our_kernel = lab.record["kept"].get("provider") == "namespace"
    return SourcePlan(name, tuple(argv), machine, status.get("bootID", ""), our_kernel, path, target.address, target.port)


def _pod(lab: LabFolder, namespace: str, name: str, found: dict[str, Any], target: Target) -> SourcePlan:
    pod = lab.api.find(f"/api/v1/namespaces/{namespace}/pods/{name}")
    if pod is None:
        raise LabctlError(f"there is no pod {name} in namespace {namespace}", mend=f"labctl get pods -n {namespace}")
    node = pod["spec"].get("nodeName", "")
    if node not in found or not pod.get("status", {}).get("podIP"):
        raise LabctlError(f"pod {name} does not run yet: nothing can be sent from it", mend=f"labctl why pod/{name} -n {namespace}")
    path = "" if pod["spec"].get("hostNetwork") else _NAMESPACES.format(uid=pod["metadata"]["uid"])
    return _machine(lab, node, f"pod/{namespace}/{name}", found, target, path)


def _host(lab: LabFolder, found: dict[str, Any], target: Target) -> SourcePlan:
    provider = lab.record["kept"].get("provider", "")
    addresses = [machine["status"]["address"] for machine in found.values() if machine.get("status", {}).get("power") == "On"]
    if target.address in addresses or target.address.startswith("127.") or is_balanced(lab, target.address):
        place = (target.address, target.port)
    elif target.node_port and addresses:
        place = (addresses[0], target.node_port)
    else:
        raise LabctlError(
            f"the host has no way to {target.address}, only to machines",
            mend="make it a Service of type NodePort, or measure from minions and pods",
        )
    command: tuple[str, ...] = (sys.executable, *program.ARGV[1:])
    if provider == "namespace":
        if os.geteuid() != 0:
            raise LabctlError("the lab's network is root's", mend="run this as root")
        init = locks.holder(str(lab.paths.state / "locks" / "init"))
        if not init:
            raise LabctlError("the lab's machines do not run", mend="labctl up")
        command = ("nsenter", f"--net=/proc/{init}/ns/net", "--", *command)
    elif provider != "vagrant":
        raise LabctlError(f"provider {provider} gives the host no network of the lab's", mend="measure from minions and pods")
    return SourcePlan(HOST, command, address=place[0], port=place[1])


def _user(lab: LabFolder, machine: str) -> str:
    """Returns the user that the lab's ssh_config names for a machine."""
    block = re.search(rf"^Host {re.escape(machine)}$(.*?)(?=^Host |\Z)", lab.paths.ssh_config.read_text(), re.MULTILINE | re.DOTALL)
    user = re.search(r"^\s*User (\S+)$", block[1], re.MULTILINE) if block else None
    return user[1] if user else "root"
