"""What the host must have, in one place. `labctl doctor`, `up` and `make setup` read it.

`python -m labctl.lab.requirements` prints the Debian packages, so the Makefile lists none of its own. With `--only namespace` it prints
those of one provider.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass


@dataclass(frozen=True)
class Tool:
    """A program on the host, the Debian package that has it, and who needs it."""

    program: str
    package: str
    needed_by: str


TOOLS: tuple[Tool, ...] = (
    Tool("ip", "iproute2", "namespace"),
    Tool("nsenter", "util-linux", "namespace"),
    Tool("unshare", "util-linux", "namespace"),
    Tool("mmdebstrap", "mmdebstrap", "namespace"),
    Tool("ssh", "openssh-client", "ssh"),
    Tool("skopeo", "skopeo", "image pull"),
)

TEST_PACKAGES = (
    "conmon", "conntrack", "crun", "curl", "docker-registry", "iptables", "nftables", "openssh-server", "procps", "catatonit", "apache2-utils",
    "chromium", "fonts-dejavu-core",
)  # fmt: skip
"""What the tests run on the host itself: real runtimes, real sshd, real iptables, and a browser that looks at our pages."""


VM_PACKAGES = (
    "qemu-system-x86", "qemu-utils", "libvirt-daemon-system", "libvirt-clients", "libvirt-dev", "dnsmasq-base", "vagrant", "vagrant-libvirt",
    "e2fsprogs", "gcc", "pkg-config", "python3-dev",
)  # fmt: skip
"""What virtual machines need; the last three and libvirt-dev build libvirt-python, which has no wheel. The provider's own checks say what is missing."""


def missing(*needed_by: str) -> list[Tool]:
    """Return the tools that `needed_by` needs and that are not on PATH."""
    return [tool for tool in TOOLS if tool.needed_by in needed_by and not shutil.which(tool.program)]


def install_command(tools: list[Tool]) -> str:
    """Return the command that installs the tools."""
    return "apt-get install -y " + " ".join(sorted({tool.package for tool in tools}))


if __name__ == "__main__":
    import sys

    packages = {tool.package for tool in TOOLS if "--only" not in sys.argv or tool.needed_by in sys.argv}
    packages |= set(TEST_PACKAGES) if "--tests" in sys.argv else set()
    packages |= set(VM_PACKAGES) if "--vm" in sys.argv else set()
    print(" ".join(sorted(packages)))  # noqa: T201 - a list for the Makefile
