"""Chooses what runs the machines' processors: the host's own (KVM), or emulation (QEMU's TCG), which is many times slower but works
everywhere.

It is chosen by trying, because some hosts have a /dev/kvm with which a guest's kernel hangs in its first instructions. So the box's own
kernel is booted
with the word `labctl.probe`, at which its initrd prints a line and ends. The result is kept until the host boots again or the box changes.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import msgspec

from labctl.providers.vagrant.box import Box

BOOTS_WITHIN_S = 10.0
SIGN = b"labctl: a kernel boots here"
_QEMU = {"amd64": "qemu-system-x86_64", "arm64": "qemu-system-aarch64"}


class Accelerator(msgspec.Struct, frozen=True):
    """The choice. `driver` is libvirt's domain type: kvm or qemu."""

    driver: str
    why: str


UNTRIED = Accelerator("kvm", "hardware virtualisation is assumed to work, because there is no box of labctl's own to try it with")


def choose(box: Box, cache: Path, device: Path = Path("/dev/kvm")) -> Accelerator:
    """Return the stored result, or try and store a new one."""
    kept, key = cache / "accelerator.json", [_host_boot(), box.name, os.access(device, os.R_OK | os.W_OK)]
    try:
        known = json.loads(kept.read_text())
        if known["key"] == key:
            return Accelerator(known["driver"], known["why"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        pass
    found = _try(box, device)
    cache.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps({"key": key, "driver": found.driver, "why": found.why}))
    return found


def _try(box: Box, device: Path) -> Accelerator:
    if not device.exists():
        return Accelerator("qemu", "emulated: this host has no /dev/kvm")
    if not os.access(device, os.R_OK | os.W_OK):
        return Accelerator("qemu", "emulated: you may not use /dev/kvm (sudo usermod -aG kvm $USER)")
    with tempfile.TemporaryDirectory(prefix="labctl-accelerator-") as scratch:
        return attempt(_command(box, Path(scratch)))


def _command(box: Box, scratch: Path) -> list[str]:
    kernel, initrd = box.kernel(scratch)
    machine = ["-machine", "virt"] if box.arch == "arm64" else []
    qemu = _QEMU.get(box.arch, "qemu-system-x86_64")
    plain = ["-accel", "kvm", "-cpu", "host", "-m", "256", "-nodefaults", "-nographic", "-no-reboot", "-serial", "stdio"]
    return [qemu, *machine, *plain, "-kernel", str(kernel), "-initrd", str(initrd), "-append", "console=ttyS0 quiet labctl.probe"]


def attempt(command: list[str], deadline_s: float = BOOTS_WITHIN_S, which: Callable[[str], str | None] = shutil.which) -> Accelerator:
    """Boot once, and tell whether the kernel printed its line within the deadline."""
    if not which(command[0]):
        return Accelerator("qemu", f"emulated: {command[0]} is not here to try KVM with")
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=deadline_s)
    except subprocess.TimeoutExpired as error:
        if SIGN in (error.stdout or b""):
            return Accelerator("kvm", "hardware virtualisation works")
        return Accelerator("qemu", f"emulated: a kernel hangs on this host's /dev/kvm (nothing for {deadline_s:.0f} s)")
    if SIGN in done.stdout:
        return Accelerator("kvm", "hardware virtualisation works")
    said = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines()
    return Accelerator("qemu", f"emulated: KVM does not work here ({said[-1][:120] if said else 'QEMU ended without a message'})")


def _host_boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
