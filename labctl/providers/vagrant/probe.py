"""Finds out whether virtual machines work here, and what of `up`'s needs is missing, each with the command that mends it.

Nothing is changed.
"""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from ipaddress import IPv4Network
from pathlib import Path

from labctl.errors import ProviderError
from labctl.providers.protocol import Finding, Verdict
from labctl.providers.settings import VagrantSettings
from labctl.providers.vagrant.box import Box
from labctl.providers.vagrant.command import Vagrant
from labctl.providers.vagrant.hypervisor import Hypervisor

POOL = Path("/var/lib/libvirt/images")
ROOM_BYTES = 3 << 30


def probe(hypervisor: Hypervisor, box: Box, settings: VagrantSettings) -> Verdict:
    """Return the first thing that does not work, or that all does."""
    for found in findings(hypervisor, box, settings):
        if found.level == "error":
            return Verdict(False, found.found, found.mend)
    return Verdict(True, "vagrant, vagrant-libvirt and libvirtd work")


def findings(hypervisor: Hypervisor, box: Box, settings: VagrantSettings) -> Iterator[Finding]:
    """Yield the findings in the order in which `up` needs the things."""
    if not shutil.which("vagrant"):
        yield Finding("vagrant", "error", "vagrant is not installed", "apt-get install vagrant vagrant-libvirt")
        return
    if importlib.util.find_spec("libvirt") is None:
        yield Finding(
            "libvirt-python", "error", "libvirt-python is missing", "apt-get install libvirt-dev, then pip install 'labctl[libvirt]'"
        )
        return
    try:
        hypervisor.domains()
        yield Finding("libvirtd", "ok", "answers")
        missing = "vagrant-libvirt" not in Vagrant(Path("/")).plugins()
    except ProviderError as error:
        yield Finding("libvirtd", "error", error.message, error.mend)
        return
    if missing:
        yield Finding("vagrant-libvirt", "error", "vagrant-libvirt is missing", "apt-get install vagrant-libvirt")
    yield from _box(box, settings.box)
    yield from _addresses(hypervisor, settings.network)
    yield from _memory(settings.machines_bytes, Path("/proc/meminfo").read_text())
    if POOL.is_dir() and shutil.disk_usage(POOL).free < ROOM_BYTES:
        yield Finding("disk", "warning", f"less than {ROOM_BYTES >> 30} GiB free in {POOL}", "free some space there")


def _box(box: Box, chosen_box: str) -> Iterator[Finding]:
    if chosen_box:
        yield Finding("box", "ok", chosen_box)
    elif box.path().exists():
        yield Finding("box", "ok", box.name)
    elif shutil.which("mmdebstrap") and shutil.which("qemu-img"):
        yield Finding("box", "ok", f"{box.name} is not built yet: `labctl up` does it, or labctl box build")
    else:
        yield Finding(
            "box", "error", f"there is no box for {box.arch}, and none can be built here", "apt-get install mmdebstrap qemu-utils"
        )


def _addresses(hypervisor: Hypervisor, network: str) -> Iterator[Finding]:
    """Look for networks with the same addresses. libvirt reports that too, but only when half of the lab is made."""
    try:
        user = hypervisor.same_addresses(network)
    except ProviderError as error:
        yield Finding("addresses", "error", error.message, error.mend)
        return
    said = subprocess.run(["ip", "-json", "-4", "route", "show"], capture_output=True, text=True).stdout
    user = user or routed(network, said, hypervisor.bridge)
    if user:
        mend = "set addresses.machines in lab.yml, or end what uses them"
        yield Finding("addresses", "error", f"{user} on this host has addresses of {network}", mend)


def routed(network: str, routes: str, own: str) -> str:
    """Return the interface behind which this host already has a route to some of these addresses, from `ip -json route`.

    Empty if there is none.
    """
    wanted = IPv4Network(network)
    for route in json.loads(routes or "[]"):
        known = route["dst"] != "default" and IPv4Network(route["dst"], strict=False)
        if known and known.overlaps(wanted) and route.get("dev") != own:
            return str(route.get("dev", ""))
    return ""


def _memory(wanted: int, meminfo: str) -> Iterator[Finding]:
    """Compare the wanted memory with the free. Too little is no error, because a machine takes only what it uses."""
    there = re.search(r"^MemAvailable:\s+(\d+) kB", meminfo, re.M)
    free = int(there[1]) << 10 if there else wanted
    if free < wanted:
        found = f"the machines want {wanted >> 20} MiB of memory, and {free >> 20} MiB are free"
        yield Finding("memory", "warning", found, "labctl up --memory 512M, or fewer --minions")
