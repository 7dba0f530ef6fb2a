"""What namespace machines are, beyond the contract: isolated, limited, reachable, and gone without a trace."""

from __future__ import annotations

import base64
import os
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from labctl.errors import ProviderError
from labctl.machines import zipapp
from labctl.providers import locks
from labctl.providers.namespace import cgroup, guards
from labctl.providers.protocol import MachineEvent, Power
from tests.namespaces import Lab, needs_root

pytestmark = [pytest.mark.root, needs_root]


def eventually(condition: Callable[[], bool], within_s: float = 5.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_ssh_reaches_a_machine_with_its_pinned_key_and_it_knows_who_it_is(lab: Lab) -> None:
    machine = lab.provider().up(lab.spec())
    said = lab.ssh(
        "minion-1",
        "hostname; cat /etc/labctl/boot_id /proc/sys/kernel/random/boot_id; cat /etc/machine-id | wc -c; ls /proc | grep -c '^[0-9]'",
    )
    name, boot_id, seen_boot_id, width, processes = said.stdout.split()
    assert (name, boot_id, seen_boot_id, width) == ("minion-1", machine.boot_id, machine.boot_id, "33")
    assert int(processes) < 20


def test_a_machine_knows_that_its_next_boot_has_the_same_kernel(lab: Lab) -> None:
    """The agent's state is on the host's disk, in the host's cache: nothing of it is lost when the machine's power is cut."""
    provider = lab.provider()
    provider.up(lab.spec())
    (lab.state / "machines/minion-1/storage/agent.pyz").write_bytes(zipapp.build().data)

    def ask(boot_id: str, program: str) -> str:
        begin = f"import sys; sys.path[0] = '/var/lib/labctl/agent.pyz'; from agent.boot import Boot; boot = Boot('/root', '{boot_id}')"
        return lab.ssh("minion-1", f'python3 -c "{begin}; {program}"').stdout.strip()

    ask("first", "boot.note()")
    provider.reset("minion-1")
    assert ask("second", "print(boot.same, boot.same_kernel)") == "False True"


def test_machines_lie_apart_on_the_disk(lab: Lab) -> None:
    """So that one is copied quickly right after another was removed, which ext4 alone needs to be told."""
    lab.provider().up(lab.spec())
    kind = subprocess.run(["stat", "-f", "-c", "%T", str(lab.state)], capture_output=True, text=True, check=True).stdout.strip()
    if kind != "ext2/ext3":
        pytest.skip(f"{kind} is not ext4")
    said = subprocess.run(["lsattr", "-d", str(lab.state / "machines")], capture_output=True, text=True, check=True).stdout
    assert "T" in said.split()[0]


def test_files_last_over_a_power_cut_and_not_over_a_destroy(lab: Lab) -> None:
    provider = lab.provider()
    provider.up(lab.spec())
    lab.ssh("minion-1", "echo kept > /root/file; echo kept > /var/lib/labctl/file; echo gone > /run/file; sync")
    provider.reset("minion-1")
    assert lab.ssh("minion-1", "cat /root/file /var/lib/labctl/file; ls /run/file").stdout == "kept\nkept\n"
    provider.destroy("minion-1")
    provider.up(lab.spec())
    assert lab.ssh("minion-1", "ls /root /var/lib/labctl").stdout == "/root:\n\n/var/lib/labctl:\n"


@pytest.mark.parametrize(
    "command",
    [
        "echo 1 > /proc/sys/kernel/panic",
        "date -s 2020-01-01",
        f"mknod /root/disk b {os.major(os.stat('/').st_dev)} {os.minor(os.stat('/').st_dev)} && head -c1 /root/disk",
        "mknod /root/mem c 1 1 && head -c1 /root/mem",
        "touch /sys/kernel/x",
        "dmesg -C",
        "mount -o remount,bind,rw /proc/sys && echo 1 > /proc/sys/vm/stat_interval",
        "mount -t proc proc /mnt && echo 1 > /mnt/sys/vm/stat_interval",
        "umount -l /proc/sys; umount -l /proc/sys; echo 1 > /proc/sys/vm/stat_interval",
        "unshare -m sh -c 'mount -t proc proc /proc && echo 1 > /proc/sys/vm/stat_interval'",
        "mkdir -p /tmp/u && mount -t cgroup2 none /tmp/u && echo $$ > /tmp/u/cgroup.procs; mount -t proc proc /mnt && echo 1 > /mnt/sys/vm/stat_interval",
    ],
)
def test_what_belongs_to_the_host_is_out_of_reach(lab: Lab, command: str) -> None:
    lab.provider().up(lab.spec())
    done = lab.ssh("minion-1", command)
    assert done.returncode not in (0, 255), done
    assert any(word in done.stderr for word in ("ermitted", "ermission denied", "Read-only file system", "I/O error")), done.stderr


A_FILE_OF_SYS = "mount -t sysfs sysfs /mnt; mount -o remount,rw /mnt && file=$(find /mnt/kernel /mnt/module -type f -perm -200 | head -n 1)"
REMOUNT = (
    "import ctypes; l = ctypes.CDLL(None, use_errno=True); print(l.mount(None, b'/var/lib/labctl', None, 32, b''), ctypes.get_errno())"
)
KPROBE = """
import ctypes, os, struct
code = ctypes.create_string_buffer(struct.pack('=QQ', 0xB7, 0x95))
words = ctypes.create_string_buffer(b'GPL')
asked = ctypes.create_string_buffer(struct.pack('=IIQQ', 5, 2, ctypes.addressof(code), ctypes.addressof(words)), 128)
libc = ctypes.CDLL(None, use_errno=True)
print(libc.syscall({'x86_64': 321, 'aarch64': 280}[os.uname().machine], 5, asked, 128), ctypes.get_errno())
"""


@pytest.fixture
def guarded() -> None:
    if not guards.of_host().kernel:
        pytest.skip("this host's kernel does not ask BPF programs at its security hooks")


@pytest.mark.parametrize(
    "command",
    [
        "mount -t proc proc /mnt && file=$(ls /mnt/sysrq-trigger /mnt/irq/default_smp_affinity 2>/dev/null | head -n 1) && exec 3>>$file",
        "mount -o remount,rw /sys; file=$(find /sys/kernel /sys/module -type f -perm -200 | head -n 1) && exec 3>>$file",
        f"{A_FILE_OF_SYS} && exec 3>>$file",
        f"{A_FILE_OF_SYS} && chmod 666 $file",
        "unshare -m sh -c 'mount -t proc proc /proc && chmod 644 /proc/version'",
        *(
            f"modprobe {kind} 2>/dev/null; mount -t {kind} none /mnt"
            for kind in ("debugfs", "tracefs", "securityfs", "configfs", "devtmpfs", "fusectl")
        ),
    ],
)
def test_the_hosts_kernel_is_out_of_reach(lab: Lab, guarded: None, command: str) -> None:
    lab.provider().up(lab.spec())
    done = lab.ssh("minion-1", command)
    assert done.returncode not in (0, 255), done
    assert any(word in done.stderr for word in ("ermitted", "ermission denied", "unknown filesystem", "not found")), done


def test_the_hosts_file_system_gets_no_new_options(lab: Lab, guarded: None) -> None:
    lab.provider().up(lab.spec())
    assert lab.ssh("minion-1", f"python3 -c {shlex.quote(REMOUNT)}").stdout == "-1 1\n"
    own = "mount -o remount,size=32m /tmp && mount -o remount,ro / && ! touch /x 2>/dev/null && mount -o remount,rw / && touch /x"
    assert lab.ssh("minion-1", own).returncode == 0, "its own are its own"


def test_the_kernels_memory_is_out_of_reach(lab: Lab) -> None:
    """By the kernel's hooks, or else by the machine's filter."""
    if isinstance(cgroup.detect("x"), cgroup.V2) and not guards.of_host().kernel:
        pytest.skip("the container runtime needs programs for devices, and this host's kernel can't tell them apart")
    lab.provider().up(lab.spec())
    assert lab.ssh("minion-1", f"python3 -c {shlex.quote(KPROBE)}").stdout == "-1 1\n"


def test_what_belongs_to_the_machine_can_be_changed_and_the_host_sees_none_of_it(lab: Lab) -> None:
    host = Path("/proc/sys/net/ipv4/conf/all/forwarding").read_text()
    lab.provider().up(lab.spec())
    commands = (
        "echo $((1 - $(cat /proc/sys/net/ipv4/ip_forward))) > /proc/sys/net/ipv4/ip_forward && ip link add d0 type bridge && iptables -t nat -N X && mount -t tmpfs t /mnt"
        " && mkdir -p /sys/fs/cgroup/memory/pods && mknod /dev/null2 c 1 3 && echo x > /dev/null2 && chown 1:1 /tmp"
    )
    done = lab.ssh("minion-1", commands)
    assert (done.returncode, done.stderr) == (0, "")
    assert Path("/proc/sys/net/ipv4/conf/all/forwarding").read_text() == host


def test_what_is_namespaced_can_be_written_through_any_proc(lab: Lab) -> None:
    lab.provider().up(lab.spec())
    done = lab.ssh(
        "minion-1",
        "mount -t proc proc /mnt && cd /mnt/sys && echo 1 > net/ipv4/ip_forward && echo 9000 > kernel/shmmni && echo m > kernel/hostname && hostname",
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "m\n", "")


def test_memory_is_limited(lab: Lab) -> None:
    lab.provider().up(lab.spec(memory_bytes=64 << 20))
    done = lab.ssh("minion-1", "python3 -c 'b = bytearray(200 << 20)'; echo ended $?")
    assert done.stdout.strip() == "ended 137"
    assert lab.ssh("minion-1", "echo alive").stdout == "alive\n"


KNOCK = """import socket, time
held = []
for _ in range(150):
    try:
        held.append(socket.create_connection(("127.0.0.1", 22), timeout=5))
        held[-1].recv(1)
    except OSError:
        pass
open("/tmp/held", "w").close()
time.sleep(60)
"""


def test_who_only_knocks_keeps_nobody_out(lab: Lab) -> None:
    """Each connection without a login costs an sshd of 1.5 MB and a place of a hundred. One address, such as a pod's, has few of them."""
    lab.provider().up(lab.spec())
    begin = f"python3 -c {shlex.quote(KNOCK)} >/dev/null 2>&1 & until [ -e /tmp/held ]; do sleep 0.1; done; pgrep -xc sshd"
    assert 10 < int(lab.ssh("minion-1", begin).stdout) < 60
    assert [lab.ssh("minion-1", "echo in").stdout for _ in range(3)] == ["in\n"] * 3


def test_its_root_lifts_no_limit_of_a_machine(lab: Lab) -> None:
    """What it writes in the group that is its root binds only itself; and a process of its root has no more devices than its others."""
    lab.provider().up(lab.spec(memory_bytes=64 << 20))
    lift = """cd /sys/fs/cgroup
    for file in memory/memory.memsw.limit_in_bytes memory/memory.limit_in_bytes cpu/cpu.cfs_quota_us; do [ ! -e $file ] || echo -1 > $file; done
    [ ! -e memory.max ] || { echo max > memory.max; echo max > cpu.max; }
    [ ! -e memory ] || echo $$ > memory/cgroup.procs
    python3 -c 'b = bytearray(200 << 20)'; echo ended $?"""
    assert lab.ssh("minion-1", lift).stdout.strip() == "ended 137"
    number = os.stat("/").st_dev
    disk = f"""cd /sys/fs/cgroup; d={os.major(number)}:{os.minor(number)}
    mknod /root/disk b {os.major(number)} {os.minor(number)}
    if [ -e devices ]; then echo "b $d rwm" > devices/devices.allow; echo $$ > devices/cgroup.procs; fi
    head -c 1 /root/disk | wc -c"""
    assert lab.ssh("minion-1", disk).stdout.strip() == "0"


def test_cpu_time_is_limited(lab: Lab) -> None:
    lab.provider().up(lab.spec(cpus=0.2))
    burn = "import time, resource; e = time.monotonic() + 1\nwhile time.monotonic() < e: pass\nprint(resource.getrusage(resource.RUSAGE_SELF).ru_utime)"
    assert float(lab.ssh("minion-1", f"python3 -c '{burn}'").stdout) < 0.5


def test_a_container_runtime_works_inside(lab: Lab) -> None:
    """An overlay in the machine's storage, and crun with cgroups of its own."""
    lab.provider().up(lab.spec())
    script = """set -e
    mkdir -p /var/lib/labctl/t/rootfs /var/lib/labctl/t/up /var/lib/labctl/t/work; cd /var/lib/labctl/t
    mount -t overlay overlay -o lowerdir=/,upperdir=up,workdir=work rootfs
    crun spec
    sed -i 's#"sh"#"sleep", "600"#; s#"terminal": true#"terminal": false#' config.json
    crun --cgroup-manager=cgroupfs run --detach --pid-file pid box </dev/null >log 2>&1 || { cat log >&2; exit 1; }
    cat "/proc/$(cat pid)/cgroup"  # seen from outside: on version 2 the container has a namespace of its own, and is its root
    crun delete --force box"""
    done = lab.ssh("minion-1", script)
    assert done.returncode == 0, done.stderr
    assert "/box" in done.stdout


def test_machines_reach_each_other_until_the_link_is_cut(lab: Lab) -> None:
    provider = lab.provider()
    for number in (1, 2):
        provider.up(lab.spec(number))
    look = "timeout 1 bash -c 'exec 3<>/dev/tcp/10.245.1.12/22 && head -c4 <&3'"
    assert lab.ssh("minion-1", look).stdout == "SSH-"
    provider.cut("minion-2")
    assert lab.ssh("minion-1", look).returncode != 0
    assert provider.machines()["minion-2"].power is Power.ON
    provider.restore("minion-2")
    eventually(lambda: lab.ssh("minion-1", look).stdout == "SSH-")


def test_the_uplink_is_reached_from_machines_and_outlives_the_labs_init(lab: Lab) -> None:
    provider = lab.provider()
    uplink = provider.uplink(6443)
    (listening,) = uplink.sockets
    listening.setblocking(True)
    listening.settimeout(10)
    try:
        for _ in range(2):
            provider.up(lab.spec())
            call = threading.Thread(target=lab.ssh, args=("minion-1", f"echo > /dev/tcp/{uplink.host}/{uplink.port}"))
            call.start()
            connection, (address, _port) = listening.accept()
            connection.close()
            call.join()
            assert address == "10.245.1.11"
            os.kill(locks.holder(lab.state / "locks" / "init"), signal.SIGKILL)
            eventually(lambda: provider.machines()["minion-1"].power is Power.OFF)
    finally:
        listening.close()


def test_a_process_may_enter_the_labs_network_by_the_uplinks_path(lab: Lab) -> None:
    provider = lab.provider()
    uplink = provider.uplink(6443)
    try:
        shown = subprocess.run(["nsenter", f"--net={uplink.network_namespace}", "ip", "-o", "address"], capture_output=True, text=True)
        assert "10.245.1.1/24" in shown.stdout
    finally:
        for each in uplink.sockets:
            each.close()


def test_the_uplinks_port_may_be_taken_only_once(lab: Lab) -> None:
    provider = lab.provider()
    uplink = provider.uplink(6443)
    try:
        with pytest.raises(ProviderError, match="cannot listen on 10.245.1.1:6443 in the lab's network: Address already in use"):
            provider.uplink(6443)
    finally:
        for each in uplink.sockets:
            each.close()


def test_another_process_is_told_at_once(lab: Lab) -> None:
    """The master watches; a person's command cuts the power."""
    lab.provider().up(lab.spec())
    told: list[tuple[float, MachineEvent]] = []
    stop = lab.provider().watch(lambda event: told.append((time.monotonic(), event)))
    eventually(lambda: len(told) == 1)
    began = time.monotonic()
    lab.provider().power_off("minion-1")
    eventually(lambda: len(told) == 2)
    stop()
    when, event = told[1]
    assert (event.power, event.intended, event.reason) == (Power.OFF, False, "its power was cut")
    assert when - began < 0.5


def test_an_init_that_somebody_killed_is_told_as_that(lab: Lab) -> None:
    provider = lab.provider()
    machine = provider.up(lab.spec())
    told: list[MachineEvent] = []
    stop = provider.watch(told.append)
    eventually(lambda: len(told) == 1)
    os.kill(locks.holder(lab.state / "machines" / "minion-1" / "alive"), signal.SIGKILL)
    eventually(lambda: len(told) == 2)
    stop()
    assert told[1] == MachineEvent("minion-1", Power.OFF, machine.boot_id, "its init was killed", False)


def test_a_machine_that_is_told_off_runs_nothing_any_more(lab: Lab) -> None:
    """Processes that ignore every signal, in sessions and process namespaces of their own, are gone when the event comes."""
    provider = lab.provider()
    provider.up(lab.spec())
    stubborn = "trap '' TERM HUP INT; while :; do sleep 0.01; done"
    lab.ssh("minion-1", f'for i in 1 2 3 4; do setsid unshare --pid --fork sh -c "{stubborn}" </dev/null >/dev/null 2>&1 & done')
    running: list[int] = []
    off = threading.Event()

    def tell(event: MachineEvent) -> None:
        if event.power is Power.OFF:
            running.extend(_processes_of(lab))
            off.set()

    stop = provider.watch(tell)
    assert _processes_of(lab)
    os.kill(locks.holder(lab.state / "machines" / "minion-1" / "alive"), signal.SIGKILL)
    assert off.wait(5)
    stop()
    assert running == []


def _processes_of(lab: Lab) -> list[int]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"/labctl/{lab.id}/minion-1" in (process / "cgroup").read_text() and "State:\tZ" not in (process / "status").read_text():
                found.append(int(process.name))
        except OSError:
            continue
    return found


def test_halt_lets_processes_end_in_order(lab: Lab) -> None:
    provider = lab.provider()
    provider.up(lab.spec())
    tidy = "trap 'echo tidy > /root/ended; exit' TERM; touch /root/ready; while :; do sleep 0.02; done"
    lab.ssh("minion-1", f'setsid sh -c "{tidy}" </dev/null >/dev/null 2>&1 &')
    upper = lab.state / "machines" / "minion-1" / "upper" / "root"
    eventually((upper / "ready").exists)
    provider.halt("minion-1", grace_s=5)
    assert (upper / "ended").read_text() == "tidy\n"


def test_halt_waits_no_longer_than_its_grace(lab: Lab) -> None:
    provider = lab.provider()
    provider.up(lab.spec())
    stubborn = "setsid sh -c \"trap '' TERM; : >/run/deaf; while :; do sleep 0.02; done\" </dev/null >/dev/null 2>&1 &"
    lab.ssh("minion-1", f"{stubborn} until [ -e /run/deaf ]; do sleep 0.01; done")
    began = time.monotonic()
    provider.halt("minion-1", grace_s=0.3)
    assert 0.3 <= time.monotonic() - began < 2
    assert provider.machines()["minion-1"].power is Power.OFF


def test_two_labs_share_nothing(make_lab: Callable[[], Lab]) -> None:
    one, two = make_lab(), make_lab()
    for each in (one, two):
        each.provider().up(each.spec())
    assert one.provider().machines()["minion-1"].host_key != two.provider().machines()["minion-1"].host_key
    two.provider().destroy_lab()
    assert one.ssh("minion-1", "hostname").stdout == "minion-1\n"


def test_a_boot_that_fails_says_why_and_the_next_works(lab: Lab) -> None:
    provider = lab.provider()
    provider.up(lab.spec())
    provider.power_off("minion-1")
    config = lab.state / "machines" / "minion-1" / "upper" / "etc" / "ssh" / "sshd_config.d"
    config.mkdir(exist_ok=True)
    (config / "wrong.conf").write_text("NoSuchOption yes\n")
    with pytest.raises(ProviderError, match="minion-1: its init ended before sshd answered.*; it last said: .*"):
        provider.up(lab.spec())
    assert provider.machines()["minion-1"].power is Power.OFF
    (config / "wrong.conf").unlink()
    assert provider.up(lab.spec()).power is Power.ON


@pytest.mark.parametrize(
    "command",
    [
        "rm -r /etc/labctl; ln -s {host} /etc/labctl",
        "rm -r /root/.ssh; ln -s {host} /root/.ssh",
        "rm -r /root; ln -s {host} /root",
        "mv /etc/ssh /etc/was; ln -s {host} /etc/ssh; cp /etc/was/* {host}; true",
        "rm /etc/hostname; ln -s {host}/kept /etc/hostname; ln -s {host}/kept /etc/.hostname.new",
        "rm /etc/hostname; mkdir -p /etc/hostname/a /etc/.hosts.new/b",
        "rm -r /etc/labctl; mkfifo /etc/labctl",
        "rm -r /etc/labctl /root",
        "chown -R 1000 /root; chmod 777 /root /root/.ssh",
        "unshare -m sh -c 'umount -l /tmp; rmdir /tmp; ln -s {host} /tmp'",
        "unshare -m sh -c 'umount -l /run; rm -r /run; ln -s {host} /run'",
        "unshare -m sh -c 'umount -l /var/lib/labctl; mv /var/lib /var/was; ln -s {host} /var/lib'",
        "unshare -m sh -c 'umount -l /sys; rmdir /sys; ln -s / /sys'",
        "unshare -m sh -c 'umount -R -l /dev; rm -r /dev; ln -s {host} /dev'",
    ],
)
def test_what_its_root_leaves_in_its_files_harms_neither_the_host_nor_its_next_boot(lab: Lab, tmp_path: Path, command: str) -> None:
    """The host's root writes names and keys into a machine's files before each boot, and mounts below them."""
    host = tmp_path / "host"
    host.mkdir(mode=0o751)
    (host / "kept").write_text("the host's")
    provider = lab.provider()
    provider.up(lab.spec())
    lab.ssh("minion-1", command.format(host=host))
    provider.power_off("minion-1")
    provider.up(lab.spec())
    asked = "cat /etc/hostname; stat -c %F /etc/labctl /root/.ssh /tmp /run /var/lib/labctl /sys /dev; cat /etc/labctl/boot_id | wc -l; ls /proc/1/comm"
    assert lab.ssh("minion-1", asked).stdout.split("\n") == ["minion-1", *["directory"] * 7, "1", "/proc/1/comm", ""]
    assert [(path.name, path.read_text()) for path in host.iterdir()] == [("kept", "the host's")]
    assert host.stat().st_mode & 0o777 == 0o751


def test_an_address_outside_of_the_labs_network_is_refused(lab: Lab) -> None:
    import msgspec

    with pytest.raises(ProviderError, match="minion-1: 10.9.9.9 is not in the lab's network 10.245.1.0/24"):
        lab.provider().up(msgspec.structs.replace(lab.spec(), address="10.9.9.9"))


@pytest.mark.parametrize("name", ["", "..", "../x", "A", "a/b", "-a", "a" * 64, ".init"])
def test_what_is_no_name_never_becomes_a_folder(lab: Lab, name: str) -> None:
    with pytest.raises(ProviderError, match="is no machine's name"):
        lab.provider().destroy(name)
    assert lab.leftovers() == []


def test_ten_machines_come_up_side_by_side_and_go_without_a_trace(lab: Lab) -> None:
    provider = lab.provider()
    threads = [threading.Thread(target=provider.up, args=(lab.spec(number),)) for number in range(1, 11)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    machines = provider.machines()
    assert [machine.power for machine in machines.values()] == [Power.ON] * 10
    links = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True).stdout
    assert not any(machine.boot_id[:6] in links for machine in machines.values())
    assert str(lab.state) not in Path("/proc/self/mountinfo").read_text()
    assert lab.leftovers()
    provider.destroy_lab()
    assert lab.leftovers() == []


def test_the_proxy_command_says_when_there_is_no_lab(lab: Lab) -> None:
    from labctl.providers.namespace.inside import command

    done = subprocess.run(command("dial", str(lab.state / "locks" / "init"), "10.245.1.11", "22"), capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "the lab is not running\n")


FREEZE = """
for root in /sys/fs/cgroup/freezer /sys/fs/cgroup; do
    [ -e $root/cgroup.procs ] || continue
    mkdir -p $root/ice/below
    for pid in $(ls /proc | grep '^[0-9]'); do [ $pid = $$ ] || echo $pid >$root/ice/below/cgroup.procs; done
    for group in $root/ice/below $root/ice $root; do echo FROZEN >$group/freezer.state; echo 1 >$group/cgroup.freeze; done
done 2>/dev/null
"""


@pytest.mark.parametrize("end", ["reset", "power_off", "destroy"])
def test_a_machine_whose_root_froze_it_ends_all_the_same(lab: Lab, end: str) -> None:
    """A process in a frozen group of version 1 does not die by SIGKILL: only the machine's own group was thawed, not those that its root made below it."""
    provider = lab.provider()
    before = provider.up(lab.spec()).boot_id
    script = base64.b64encode(FREEZE.encode()).decode()
    lab.ssh("minion-1", f"echo {script} | base64 -d >/tmp/freeze; setsid sh /tmp/freeze </dev/null >/dev/null 2>&1 &")
    states = [
        Path(f"/sys/fs/cgroup/{path}") / state
        for path, state in (
            (f"freezer/labctl/{lab.id}/minion-1/own", "freezer.state"),
            (f"labctl/{lab.id}/minion-1/own/ice", "cgroup.freeze"),
        )
    ]
    eventually(lambda: any(state.exists() and state.read_text() in ("FROZEN\n", "FREEZING\n", "1\n") for state in states), within_s=20)
    getattr(provider, end)("minion-1")
    found = provider.machines().get("minion-1")
    if end == "destroy":
        assert found is None
    else:
        assert found and found.boot_id != before and found.power is (Power.ON if end == "reset" else Power.OFF)
    provider.destroy_lab()
    assert lab.leftovers() == []


def test_the_proxy_command_ends_quietly_by_an_interrupt(lab: Lab) -> None:
    """A person's Ctrl-C reaches all programs of the terminal: nobody wants to read where each of them was."""
    machine = lab.provider().up(lab.spec())
    dial = subprocess.Popen(
        ["sh", "-c", f"exec {machine.proxy_command}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert dial.stdout and dial.stdout.read(4) == b"SSH-"
    dial.send_signal(signal.SIGINT)
    assert dial.communicate(timeout=20)[1] == b""
    assert dial.returncode == -signal.SIGINT


def test_sshd_is_started_again_however_it_was_killed(lab: Lab) -> None:
    provider = lab.provider()
    machine = provider.up(lab.spec())
    for signal_ in ("KILL", "TERM", "KILL"):
        before = lab.ssh("minion-1", f"pgrep -o -x sshd; kill -{signal_} $(pgrep -o -x sshd)").stdout.split()[0]

        def again(before: str = before) -> bool:
            done = lab.ssh("minion-1", "pgrep -o -x sshd")
            return done.returncode == 0 and done.stdout.split()[0] != before

        eventually(again, within_s=10)
        assert provider.machines()["minion-1"].boot_id == machine.boot_id and provider.machines()["minion-1"].power is Power.ON
    provider.halt("minion-1", 5.0)
    assert provider.machines()["minion-1"].power is Power.OFF


def test_a_machines_console_is_bounded(lab: Lab) -> None:
    provider = lab.provider()
    provider.up(lab.spec())
    stop = provider.watch(lambda _event: None)
    try:
        lab.ssh("minion-1", "head -c 9000000 /dev/zero | tr '\\0' x > /proc/1/fd/1")
        console = lab.state / "machines" / "minion-1" / "console.log"
        eventually(lambda: console.stat().st_size < 1 << 20, within_s=10)
        assert 0 < console.with_name("console.log.1").stat().st_size <= 8 << 20
    finally:
        stop()
