"""What a machine is, has and lacks, read from the output of look.sh. Nothing is decided from memory: every answer is the machine's own."""

from __future__ import annotations

import msgspec

from labctl.providers.settings import SshMachine, SshSettings
from labctl.providers.ssh import shell

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "riscv64": "riscv64"}
PACKAGES = {
    "crun": "crun",
    "conmon": "conmon",
    "iptables": "iptables",
    "iptables-restore": "iptables",
    "conntrack": "conntrack",
    "ip": "iproute2",
    "pkill": "procps",
    "tar": "tar",
}
"""Each program with the Debian package that has it."""
NETWORK_PACKAGES = {"bgp": {"bird": "bird2"}, "ovs": {"ovs-vsctl": "openvswitch-switch"}}
"""The programs that a `--network` needs besides (provision/packages.NETWORK), each with its package."""
PYTHON = (3, 9)
ROOM_KIB = 1 << 20
CONTROLLERS = ("cpu", "memory", "pids")


class Claim(msgspec.Struct, frozen=True):
    """Which lab a machine belongs to. `boot` is the lab's boot id for it, and is valid while the kernel's own boot id is `kernel`."""

    lab: str
    name: str
    power: str
    kernel: str
    boot: str


class Facts(msgspec.Struct, frozen=True):
    """What one look found."""

    host_key: str
    kernel: str = ""  # its kernel's boot id
    arch: str = ""
    system: str = ""
    python: tuple[int, ...] = ()
    programs: frozenset[str] = frozenset()
    cgroup: str = ""  # "1" or "2"; empty: none is mounted
    controllers: frozenset[str] = frozenset()
    overlay: bool = False
    nat: bool = False
    free_kib: int = 0
    addresses: tuple[str, ...] = ()
    source: str = ""  # the source address of its default route
    claim: Claim | None = None

    @property
    def boot_id(self) -> str:
        """Return the boot id. It changes with every boot of the machine, and with every `up` after a halt."""
        return self.claim.boot if self.claim and self.claim.kernel == self.kernel else self.kernel

    def node_address(self, asked: str) -> str:
        """Return the machine's own address: the one that was asked, or, if a name or a translated address led to it, the one that its
        default route uses.
        """
        return asked if asked in self.addresses else self.source or next(iter(self.addresses), "")

    def packages(self, network: str = "route") -> list[str]:
        """Return Debian's names of the missing packages that apt can install."""
        needed = {**PACKAGES, **NETWORK_PACKAGES.get(network, {})}
        missing = {package for program, package in needed.items() if program not in self.programs}
        return sorted(missing | (set() if self.python >= PYTHON else {"python3"}))

    def lacks(self) -> list[str]:
        """Return what is missing and no package can bring."""
        found = []
        if not self.overlay:
            found.append("a kernel with overlay file systems")
        if not self.cgroup:
            found.append("mounted cgroups")
        elif missing := [name for name in CONTROLLERS if name not in self.controllers]:
            found.append(f"the cgroup controllers {' and '.join(missing)}")
        if "iptables" in self.programs and not self.nat:
            found.append("a kernel with iptables' nat table")
        if self.free_kib < ROOM_KIB:
            found.append(f"space: {self.free_kib >> 10} MiB are free below /var/lib, {ROOM_KIB >> 10} are needed")
        if not self.addresses:
            found.append("an IPv4 address")
        return found

    def sentence(self) -> str:
        """Return a description for the doctor's table."""
        python = ".".join(map(str, self.python)) or "none"
        return f"{self.system}, {self.arch}, python {python}, cgroup v{self.cgroup or '-'}, {self.free_kib >> 20} GiB free"


def look(machine: SshMachine, settings: SshSettings, host_key: str = "") -> Facts:
    """Run look.sh on the machine. Raises what shell.run raises."""
    said = shell.run(machine, settings, shell.script("look"), host_key=host_key)
    return parse(said.stdout, said.host_key)


def parse(text: str, host_key: str) -> Facts:
    words: dict[str, str] = {}
    programs, addresses = set(), []
    for line in text.splitlines():
        word, _, value = line.partition(" ")
        if word == "has":
            programs.add(value)
        elif word == "address":
            addresses.append(value)
        else:
            words[word] = value.strip()
    version, _, controllers = words.get("cgroup", "").partition(" ")
    return Facts(
        host_key=host_key,
        kernel=words.get("kernel", ""),
        arch=ARCHITECTURES.get(words.get("arch", ""), words.get("arch", "")),
        system=words.get("system", "") or "Linux",
        python=tuple(int(part) for part in words.get("python", "").split(".") if part.isdigit()),
        programs=frozenset(programs),
        cgroup=version,
        controllers=frozenset(controllers.replace(",", " ").split()),
        overlay=words.get("overlay") == "yes",
        nat=words.get("nat") == "yes",
        free_kib=int(words.get("free") or 0),
        addresses=tuple(addresses),
        source=words.get("source", ""),
        claim=_claim(words),
    )


def _claim(words: dict[str, str]) -> Claim | None:
    if "claim-lab" not in words:
        return None
    return Claim(*(words.get(f"claim-{name}", "") for name in Claim.__struct_fields__))
