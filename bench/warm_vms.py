"""Warm start of virtual machines, which go on where they were: see warm.py. For a host whose libvirt may be used, as vms.py."""

from __future__ import annotations

from bench import warm
from bench.figures import Report


def measure(report: Report) -> None:
    warm.compare(report, "vagrant", "vm-")
