"""These are the keys of the taints that Kubernetes' controllers put on nodes."""

from __future__ import annotations

from collections.abc import Mapping

_DOMAIN = "node.kubernetes.io/"

NOT_READY = _DOMAIN + "not-ready"
UNREACHABLE = _DOMAIN + "unreachable"
UNSCHEDULABLE = _DOMAIN + "unschedulable"
OUT_OF_SERVICE = _DOMAIN + "out-of-service"
NETWORK_UNAVAILABLE = _DOMAIN + "network-unavailable"
MEMORY_PRESSURE = _DOMAIN + "memory-pressure"
DISK_PRESSURE = _DOMAIN + "disk-pressure"
PID_PRESSURE = _DOMAIN + "pid-pressure"

PRESSURES: Mapping[str, str] = {"MemoryPressure": MEMORY_PRESSURE, "DiskPressure": DISK_PRESSURE, "PIDPressure": PID_PRESSURE}
"""The node condition that leads to each of the pressure taints."""
