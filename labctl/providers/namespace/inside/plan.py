"""The plans that the programs in this folder get, as JSON. They are plain values, because every decision was made before.

They are no dataclasses: importing those is a fifth to a quarter of what each of these programs takes to start.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

SSHD_KEEPER = "keep-sshd"
"""The name ($0) of the shell that starts a machine's sshd again, by which it is found among the machine's processes."""


class CgroupPlan(NamedTuple):
    """How a machine's init enters its cgroups.

    `join` are the cgroup.procs files of the machine's own cgroup, which its cgroup namespace takes as root; `init` are those of the child to which its init
    then moves; `after` are (file, value) pairs that are written after that; `mounts` are (folder below /sys/fs/cgroup, type, options); `refused` are calls
    that the machine's filter refuses because the group can't judge them.
    """

    join: list[str]
    init: list[str]
    after: list[list[str]]
    mounts: list[list[str]]
    refused: Sequence[str] = ()


class LabPlan(NamedTuple):
    """The plan of the lab's init. `held` is a descriptor of a network namespace that outlived an earlier init, or -1."""

    alive: str
    gateway: str
    prefix_length: int
    mtu: int
    cgroup_join: list[str]
    held: int = -1


class BootPlan(NamedTuple):
    """The plan of one boot of one machine.

    `folder` has upper/, work/, root/, storage/ and console.log; `lab_init` is a process id as the host numbers it.
    With `resume` the machine comes out of a snapshot: it runs /opt/labctl/agent-resume, if it has that.
    """

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
    fields = plan._asdict()
    if isinstance(plan, BootPlan):
        fields["cgroup"] = plan.cgroup._asdict()
    return json.dumps(fields)


def load_lab(text: str) -> LabPlan:
    return LabPlan(**json.loads(text))


def load_boot(text: str) -> BootPlan:
    fields: dict[str, Any] = json.loads(text)
    return BootPlan(**{**fields, "cgroup": CgroupPlan(**fields["cgroup"])})
