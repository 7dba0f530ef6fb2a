"""What the programs in here are told, as JSON. Plain values: every decision was made outside."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

SSHD_KEEPER = "keep-sshd"
"""$0 of the shell that starts a machine's sshd again: how it is found among the machine's processes."""


@dataclass(frozen=True)
class CgroupPlan:
    """`join`: cgroup.procs files of the machine's own cgroup, which its cgroup namespace takes as root; `init`: of the child its init
    then moves to; `after`: (file, value) written when it has; `mounts`: (folder below /sys/fs/cgroup, type, options)."""

    join: list[str]
    init: list[str]
    after: list[list[str]]
    mounts: list[list[str]]


@dataclass(frozen=True)
class LabPlan:
    """The lab's init. `held`: a descriptor of a network namespace that outlived an earlier init, or -1."""

    alive: str
    gateway: str
    prefix_length: int
    mtu: int
    cgroup_join: list[str]
    held: int = -1


@dataclass(frozen=True)
class BootPlan:
    """One boot of one machine. `folder` has upper/, work/, root/, storage/ and console.log; `lab_init` is a process id in the host's numbering.
    With `resume` the machine comes out of a snapshot: it runs /opt/labctl/agent-resume, if it has that."""

    name: str
    boot_id: str
    lab_init: int
    folder: str
    lower: str
    link: str
    address: str
    prefix_length: int
    gateway: str
    mtu: int
    deadline_s: float
    cgroup: CgroupPlan
    resume: bool = False


def dump(plan: LabPlan | BootPlan) -> str:
    return json.dumps(asdict(plan))


def load_lab(text: str) -> LabPlan:
    return LabPlan(**json.loads(text))


def load_boot(text: str) -> BootPlan:
    fields: dict[str, Any] = json.loads(text)
    return BootPlan(**{**fields, "cgroup": CgroupPlan(**fields["cgroup"])})
