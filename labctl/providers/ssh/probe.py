"""Judges all machines of lab.yml together: whether the provider works with them, and what each has and lacks.

It judges looks already taken; nothing is changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from labctl.errors import LabctlError
from labctl.providers.protocol import Finding, Verdict
from labctl.providers.settings import SshMachine
from labctl.providers.ssh import shell
from labctl.providers.ssh.look import Facts

Looks = Sequence[tuple[SshMachine, Facts | LabctlError]]

LISTED = "add `machines:` to lab.yml, a list with the address of each"
PREPARE = "labctl up --prepare installs them with apt-get"
MENDS = {
    "the cgroup controllers": "add cgroup_enable=memory cgroup_memory=1 to its kernel's command line (on a Raspberry Pi: cmdline.txt) and reboot it",
    "a kernel": "use its distribution's full kernel (Debian: linux-image-amd64 or linux-image-arm64, not a cloud or board vendor's cut one)",
    "space": "free some",
}


def verdict(looks: Looks, prepare: bool, network: str = "route") -> Verdict:
    """Return the verdict about the first machine that can't be used. Missing packages are no obstacle if they are to be installed."""
    if not looks:
        return Verdict(False, "lab.yml names no machines", LISTED)
    for machine, facts in looks:
        for finding in _lacking(machine, facts, network):
            if not (prepare and finding.mend == PREPARE):
                return Verdict(False, finding.found, finding.mend)
    architectures = sorted({facts.arch for _, facts in looks if isinstance(facts, Facts)})
    return Verdict(True, f"{len(looks)} machine{'s' * (len(looks) > 1)} of lab.yml ({', '.join(architectures)}) answer")


def findings(looks: Looks, network: str = "route") -> list[Finding]:
    """Yield a line for each machine as it is, and one for each thing that it lacks."""
    if not looks:
        return [Finding("machines", "error", "lab.yml names none", LISTED)]
    found = []
    for machine, facts in looks:
        if isinstance(facts, Facts):
            lab = f", in use by lab {facts.claim.lab}" if facts.claim else ""
            found.append(Finding(machine.name, "ok", f"{machine.user}@{machine.address}: {facts.sentence()}{lab}"))
        found += _lacking(machine, facts, network)
    return found


def _lacking(machine: SshMachine, facts: Facts | LabctlError, network: str) -> Iterator[Finding]:
    if isinstance(facts, LabctlError):
        yield Finding(machine.name, "error", facts.message, facts.mend)
        return
    packages = facts.packages(network)
    if packages:
        mend = PREPARE if "apt-get" in facts.programs else f"install them there: {' '.join(packages)} (Debian's names)"
        yield Finding(machine.name, "error", f"{shell.where(machine)} lacks the packages {' '.join(packages)}", mend)
    for lack in facts.lacks():
        mend = next((text for word, text in MENDS.items() if lack.startswith(word)), "")
        yield Finding(machine.name, "error", f"{shell.where(machine)} lacks {lack}", mend)
