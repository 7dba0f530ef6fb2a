"""What can become of a host with a lab on it: it sleeps, or it goes down with everything at once and boots anew. The same words for every provider.

Nothing here asks labctl's master: it may be stopped, or dead. Virtual machines are the whole network and process namespace of tools/vm_env.sh,
where all that libvirt started is ours to end.
"""

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.e2e.remains import children, lab_processes

MINIONS = ("minion-1", "minion-2")
VIRTUAL = os.environ.get("LABCTL_TEST_PROVIDER") == "vagrant"
BOOT_ID = "/proc/sys/kernel/random/boot_id"


def master_of(cluster) -> list[int]:
    """The master's process and those that it started."""
    master = cluster.status()["master"]["pid"]
    return [master, *children(master)]


def freeze(cluster, frozen: bool = True) -> None:
    """All machines stand still, or go on, behind the master's back, as a host's sleep is: it may stand still itself.

    At one time: on a busy host a command takes a second, and the grace that nodes have after the master's wake is three.
    """

    def one(minion: str) -> None:
        if VIRTUAL:
            virsh("suspend" if frozen else "resume", domain(cluster, minion))
        else:
            cluster.labctl("fault", "pause" if frozen else "resume", minion)

    with ThreadPoolExecutor() as pool:
        list(pool.map(one, MINIONS))


@contextlib.contextmanager
def asleep(cluster, *programs: int):
    """The lid is closed, for as long as the block takes. What sleeps beside the lab may be named. The machines are the last to wake."""
    pids = [*master_of(cluster), *programs]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        freeze(cluster)
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
    time.sleep(0.5)  # a master that believed its clock would have judged by now
    freeze(cluster, False)


def crash(cluster) -> None:
    """The host's power is gone: everything ends at one moment, and nobody sees another's end. The disk stays."""
    pids = [*master_of(cluster), *(libvirt() if VIRTUAL else lab_processes(cluster))]
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):  # its parent's end was its own
                os.kill(pid, number)


@contextlib.contextmanager
def next_boot(cluster):
    """What a host has right after it booted, for as long as the block takes: nothing in /run, no device of a lab's, another boot id, libvirt just started."""
    if not VIRTUAL:
        yield
        return
    for link in json.loads(subprocess.run(["ip", "-j", "link", "show", "type", "bridge"], capture_output=True, text=True).stdout):
        subprocess.run(["ip", "link", "delete", link["ifname"]], check=True)
    shutil.rmtree("/run/libvirt", ignore_errors=True)
    for left in Path("/run").glob("*.pid"):
        left.unlink()
    told = cluster.folder / "boot_id"
    told.write_text(f"{uuid.uuid4()}\n")
    subprocess.run(["mount", "--bind", told, BOOT_ID], check=True)
    try:
        start_libvirt()
        yield
    finally:
        subprocess.run(["umount", BOOT_ID], check=True)


@contextlib.contextmanager
def slow_to_boot(cluster, minion: str):
    """A machine that takes long to boot, as on a busy host: it begins when the block is over. Who boots a machine takes its lock first."""
    state = Path(json.loads((cluster.folder / ".labctl" / "lab.json").read_text())["state"])
    with (state / "locks" / (minion if VIRTUAL else f"machine-{minion}")).open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


# -- libvirt's own processes ----------------------------------------------------------------------------------------------------------------


def libvirt() -> list[int]:
    """Its daemons and all that they started: machines, name servers."""
    files = [*Path("/run").glob("*virt*.pid"), *Path("/run").glob("virtlogd.pid"), *Path("/run/libvirt").rglob("*.pid")]
    return sorted({int(file.read_text()) for file in files})


def start_libvirt() -> None:
    for daemon in ("virtlogd", "libvirtd"):
        if not Path(f"/run/{daemon}.pid").exists():
            subprocess.run([daemon, "-d"], check=True)
    deadline = time.monotonic() + 30
    while subprocess.run(["virsh", "-q", "uri"], capture_output=True).returncode:
        assert time.monotonic() < deadline, "libvirtd does not answer"
        time.sleep(0.1)


def stop_libvirtd() -> None:
    file = Path("/run/libvirtd.pid")
    os.kill(int(file.read_text()), signal.SIGTERM)
    while file.exists():
        time.sleep(0.05)


def virsh(*words: str) -> str:
    return subprocess.run(["virsh", "-q", *words], check=True, capture_output=True, text=True).stdout


def domain(cluster, minion: str) -> str:
    return f"{json.loads((cluster.folder / '.labctl' / 'lab.json').read_text())['id']}-{minion}"
