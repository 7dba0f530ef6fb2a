"""The Runtime's contract, on the fake everywhere and on crun and conmon inside a throwaway machine (tests/agent/room.py)."""

import asyncio
import dataclasses
import os
import pty
import select
import signal
import socket
import subprocess
import sys
import time
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from labctl.agent import forgotten, linux
from labctl.agent.runtime import conmon, userns
from labctl.agent.runtime.conmon import crun_argv
from labctl.agent.runtime.conmon import environment as crun_environment
from labctl.agent.runtime.execs import process_file
from labctl.agent.runtime.interface import (
    BadMount,
    ContainerSpec,
    Limits,
    Mount,
    NoSuchContainer,
    RuntimeFailure,
    SandboxSpec,
    StartRefused,
    State,
)
from labctl.agent.runtime.oci import ALL_CAPABILITIES, DEFAULT_CAPABILITIES
from labctl.sim.runtime import FakeMachine, FakeRuntime
from tests.agent import room, tiny

KINDS = ["crun"] if room.is_inside() else ["fake"]
LAYER = Path("/var/lib/layer")


@pytest.mark.root
@pytest.mark.skipif(room.is_inside() or not room.possible(), reason="needs root, crun and conmon; or runs inside already")
def test_crun_keeps_the_contract():
    room.pytest_inside(__file__)


@pytest.fixture(scope="session")
def layer():
    return tiny.make(LAYER) if room.is_inside() and not LAYER.exists() else str(LAYER)


@pytest.fixture(params=KINDS)
async def again(request, layer):
    """Makes a runtime over the same machine, as an agent does after its restart."""
    if request.param == "fake":
        machine = FakeMachine("10.246.1.0/24")
        yield lambda: FakeRuntime(machine)
        return
    from labctl.agent.addresses import Range
    from labctl.agent.cgroups import Cgroups
    from labctl.agent.runtime.crun import CrunRuntime

    made = []

    def make():
        addresses = Range("/var/lib")
        addresses.set("10.246.1.0/24")
        made.append(CrunRuntime("/var/lib/agent", "/run/labctl", addresses, Cgroups()))
        return made[-1]

    yield make
    for uid in make().pods():
        await made[-1].close(uid)
    for each in made:
        each.forget_watches()


@pytest.fixture
def runtime(again):
    return again()


@pytest.fixture
def spec(layer):
    def make(name="app", attempt=0, argv=("sleep", "1000"), uid="u1", **more):
        return ContainerSpec(uid, name, attempt, "tiny", "tiny@sha256:0", (layer,), tuple(argv), ("PATH=/bin",), **more)

    return make


def sandbox(uid="u1", **more):
    return SandboxSpec(uid, "default", f"pod-{uid}", f"pod-{uid}", **more)


def there(path):
    return path.exists()


def bound_machine(quota_us):
    """The throwaway machine gets two CPUs, as a minion of the namespace provider does."""
    for path, word in (("/sys/fs/cgroup/cpu.max", f"{quota_us} 100000"), ("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", str(quota_us))):
        if room.is_inside() and Path(path).exists():
            Path(path).write_text(word)


@asynccontextmanager
async def hearing(runtime):
    """The runtime's exits, as a queue."""
    heard = asyncio.Queue()

    async def listen():
        async for uid in runtime.exits():
            heard.put_nowait(uid)

    task = asyncio.ensure_future(listen())
    await asyncio.sleep(0)
    yield heard
    task.cancel()


async def ended(runtime, heard, uid, name):
    """The container's last attempt once it has ended; each look follows an exit that was told."""
    while True:
        latest = runtime.pods(uid)[uid].latest(name)
        if latest.state is State.EXITED:
            return latest
        await asyncio.wait_for(heard.get(), 10)


async def test_an_open_pod_has_an_address_of_the_range_and_keeps_it(runtime, again):
    first = await runtime.open(sandbox())
    assert first.address == "10.246.1.2" or first.address.startswith("10.246.1.")
    assert (await runtime.open(sandbox())).address == first.address
    assert (await again().open(sandbox())).address == first.address


async def test_a_freed_address_is_not_the_next_to_be_given(runtime):
    first = await runtime.open(sandbox("u1"))
    await runtime.close("u1")
    second = await runtime.open(sandbox("u2"))
    assert second.address != first.address


async def test_a_pod_on_the_hosts_network_has_no_address_of_its_own(runtime):
    opened = await runtime.open(sandbox(host_network=True))
    assert (opened.address, opened.ready) == ("", True)


async def test_a_started_container_runs_and_a_new_agent_sees_it_so(runtime, again, spec):
    await runtime.open(sandbox())
    started = await runtime.start(spec())
    assert (started.state, started.attempt, started.image_id) == (State.RUNNING, 0, "tiny@sha256:0")
    assert again().pods()["u1"].latest("app") == runtime.pods("u1")["u1"].latest("app") == started


async def test_starting_an_attempt_again_changes_nothing(runtime, spec):
    await runtime.open(sandbox())
    assert await runtime.start(spec()) == await runtime.start(spec())


async def test_an_exit_is_told_and_its_code_kept(runtime, again, spec):
    await runtime.open(sandbox())
    async with hearing(runtime) as heard:
        await runtime.start(spec(argv=["false"]))
        died = await ended(runtime, heard, "u1", "app")
    assert (died.exit_code, died.oom_killed, died.lost) == (1, False, False)
    assert again().pods()["u1"].latest("app") == died


async def test_an_exit_is_told_to_an_agent_that_came_later(runtime, again, spec):
    await runtime.open(sandbox())
    started = await runtime.start(spec())
    later = again()
    async with hearing(later) as heard:
        await later.signal(started.id, signal.SIGKILL)
        assert (await ended(later, heard, "u1", "app")).exit_code == 137


async def test_signalling_the_dead_or_the_unknown_is_no_error(runtime, spec):
    await runtime.open(sandbox())
    async with hearing(runtime) as heard:
        await runtime.start(spec(argv=["true"]))
        died = await ended(runtime, heard, "u1", "app")
    await runtime.signal(died.id, signal.SIGTERM)
    await runtime.signal("0" * 64, signal.SIGTERM)
    assert runtime.pods()["u1"].latest("app") == died


@pytest.mark.skipif(KINDS != ["crun"], reason="it is the kernel's rule that a first process without a handler loses its signals")
async def test_a_signal_waits_for_a_program_that_only_just_began(runtime, spec):
    await runtime.open(sandbox())
    async with hearing(runtime) as heard:
        started = await runtime.start(spec(argv=["sh", "-c", "sleep 0.3; trap 'exit 7' TERM; while :; do sleep 0.05; done"]))
        await runtime.signal(started.id, signal.SIGTERM)
        assert (await ended(runtime, heard, "u1", "app")).exit_code == 7


async def test_a_container_over_its_memory_limit_is_killed_and_said_so(runtime, spec):
    argv = ["sh", "-c", "x=a; while :; do x=$x$x; done"] if KINDS == ["crun"] else ["hog"]
    await runtime.open(sandbox())
    async with hearing(runtime) as heard:
        await runtime.start(spec(argv=argv, memory_limit_bytes=16 << 20))
        died = await ended(runtime, heard, "u1", "app")
    assert (died.oom_killed, died.exit_code) == (True, 137)


async def test_a_program_that_is_not_there_is_on_record_as_an_attempt_that_ended(runtime, again, spec):
    await runtime.open(sandbox())
    with pytest.raises(StartRefused, match="nope.*not found"):
        await runtime.start(spec(argv=["nope"]))
    [refused] = again().pods()["u1"].containers
    assert (refused.state, refused.exit_code, refused.started_s) == (State.EXITED, 128, 0.0)
    assert "nope" in refused.start_error and refused.finished_s >= refused.created_s
    assert (await runtime.start(spec(attempt=1))).state is State.RUNNING
    await runtime.remove(refused.id)
    assert [each.attempt for each in runtime.pods()["u1"].containers] == [1]


async def test_a_cpu_limit_may_exceed_the_machine(runtime, spec):
    try:
        bound_machine(200_000)
    except PermissionError:
        pytest.skip("with version 2 a machine is bounded from outside only")
    await runtime.open(sandbox())
    for attempt, quota_us in enumerate((100_000 * 3000, 10**15)):
        assert (await runtime.start(spec(attempt=attempt, cpu_quota_us=quota_us, cpu_shares=262_144))).state is State.RUNNING


FORKS = "sh -c 'n=0; while [ $n -lt 40 ]; do sleep 1000 & n=$((n+1)); done'; sleep 1000"
"""A shell that can't fork ends, so the one that forks is not the container's first process."""


@pytest.mark.skipif(KINDS != ["crun"], reason="a fake container has no processes")
async def test_a_pod_that_begins_processes_without_end_has_its_own_only(runtime, spec):
    """The first pod has a bound of its own, and all pods together have one: beside them the machine goes on."""
    from labctl.agent.cgroups import Cgroups

    groups = Cgroups()
    groups.bound_all(256 << 20, 40)
    try:
        await runtime.open(sandbox(pids_max=20))
        await runtime.open(sandbox("u2"))
        await runtime.start(spec(argv=["sh", "-c", FORKS]))
        await fills(lambda: len(groups.processes("/pods/u1")) == 20)
        other = await runtime.start(spec(uid="u2", argv=["sleep", "1000"]))
        greedy = await runtime.start(spec("greedy", uid="u2", argv=["sh", "-c", FORKS]))
        await fills(lambda: groups.pids_left() in (0, 1))
        assert len(groups.processes("/pods/u1")) == 20 and linux.start_ticks(other.pid)
        await runtime.remove(greedy.id)
        assert (await runtime.run(other.id, ["true"], timeout_s=5)).status == 0
    finally:
        groups.bound_all(1 << 40, 1 << 20)


async def fills(look):
    deadline = time.monotonic() + 20
    while not look():
        assert time.monotonic() < deadline, "it never came to it"
        await asyncio.sleep(0.01)


@pytest.mark.skipif(KINDS != ["crun"], reason="a fake container has no processes")
async def test_a_container_and_what_is_run_in_it_are_killed_as_soon_as_they_should_be(runtime, spec):
    await runtime.open(sandbox())
    for number, asked in enumerate((1000, 950)):
        started = await runtime.start(spec(attempt=number, oom_score_adj=asked))
        assert word(f"/proc/{started.pid}/oom_score_adj") == str(asked)
        assert (await runtime.run(started.id, ["cat", "/proc/self/oom_score_adj"], timeout_s=5)).output == f"{asked}\n".encode()


ADVERTISE = """
import socket, struct
mine, all_nodes = (socket.inet_pton(socket.AF_INET6, each) for each in ("fe80::1", "ff02::1"))
prefix = struct.pack("!BBBBIII16s", 3, 4, 64, 0xC0, 86400, 86400, 0, socket.inet_pton(socket.AF_INET6, "fd99::"))
told = bytearray(struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0) + prefix)
total = sum(struct.unpack(f"!{20 + len(told) // 2}H", mine + all_nodes + struct.pack("!II", len(told), 58) + told))
while total > 0xFFFF:
    total = (total & 0xFFFF) + (total >> 16)
told[2:4] = struct.pack("!H", total ^ 0xFFFF)
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind(("eth0", 0))
frame = bytes.fromhex("333300000001" "0a580af60102" "86dd") + struct.pack("!IHBB", 6 << 28, len(told), 58, 255) + mine + all_nodes
s.send(frame + told)
"""
PRETEND = """
import socket, struct, sys
s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
for sender, to in (pair.split("/") for pair in sys.argv[1:]):
    udp = struct.pack("!HHHH", 5555, 7777, 8 + len(sender), 0) + sender.encode()
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0)
    s.sendto(head + socket.inet_aton(sender) + socket.inet_aton(to) + udp, (to, 0))
"""


@pytest.mark.skipif(KINDS != ["crun"], reason="a fake pod has no network")
async def test_a_pod_sends_with_its_own_address_only_and_gives_its_machine_no_route(runtime, spec):
    write("/proc/sys/net/ipv4/ip_forward", "1")
    evil, victim = [await runtime.open(sandbox(uid)) for uid in ("u1", "u2")]
    started = {each.uid: await runtime.start(spec(uid=each.uid)) for each in (evil, victim)}
    heard = in_network_of(started["u2"].pid, lambda: bound_socket(7777))
    attacker = started["u1"].pid
    if there(
        Path("/proc/net/if_inet6")
    ):  # the pod's end has an address once the kernel knows that the wire is up, and so has the machine's
        await fills(lambda: "eth0" in word(f"/proc/{attacker}/net/if_inet6"))
        said_in_network_of(attacker, sys.executable, "-c", ADVERTISE)
    routes = said_in_network_of(1, "ip", "-6", "route")
    assert "default" not in routes and "fd99" not in routes, routes
    pretended = [f"{each}/{victim.address}" for each in (victim.address, "10.246.1.99", "8.8.8.8", "127.0.0.1")]
    said_in_network_of(attacker, sys.executable, "-c", PRETEND, *pretended, f"{evil.address}/{victim.address}")
    assert heard.recvfrom(100)[1] == (evil.address, 5555), "only the last one, which is true, arrived"
    assert not select.select([heard], [], [], 0)[0]
    heard.close()


def word(path):
    return Path(path).read_text().strip()


def write(path, text):
    Path(path).write_text(text)


def said_in_network_of(pid, *argv):
    return subprocess.run(["nsenter", "-t", str(pid), "-n", "--", *argv], capture_output=True, text=True, check=True).stdout


def bound_socket(port):
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.bind(("0.0.0.0", port))
    made.settimeout(10)
    return made


def in_network_of(pid, make):
    """What `make` makes in the network of another process."""
    made = []

    def work():
        with open(f"/proc/{pid}/ns/net") as namespace:
            assert linux._libc.setns(namespace.fileno(), linux.CLONE_NEWNET) == 0
        made.append(make())

    linux.in_own_thread("network", work)
    return made[0]


async def test_no_container_starts_in_a_pod_that_is_not_open(runtime, spec):
    with pytest.raises(RuntimeFailure, match="not open"):
        await runtime.start(spec())


async def test_a_command_runs_inside_and_its_end_is_told(runtime, spec):
    await runtime.open(sandbox())
    started = await runtime.start(spec())
    assert (await runtime.run(started.id, ["true"], timeout_s=10)).status == 0
    assert (await runtime.run(started.id, ["false"], timeout_s=10)).status == 1
    assert (await runtime.run(started.id, ["sleep", "1000"], timeout_s=0.2)).status == -1


async def test_no_command_runs_in_a_container_that_does_not(runtime, spec):
    await runtime.open(sandbox())
    started = await runtime.start(spec())
    await runtime.remove(started.id)
    with pytest.raises(NoSuchContainer):
        await runtime.run(started.id, ["true"], timeout_s=10)


async def test_attempts_lie_side_by_side_until_they_are_removed(runtime, spec):
    await runtime.open(sandbox())
    async with hearing(runtime) as heard:
        first = await runtime.start(spec(argv=["true"], delay_s=3.0))
        await ended(runtime, heard, "u1", "app")
    second = await runtime.start(spec(attempt=1))
    assert [(each.attempt, each.delay_s) for each in runtime.pods()["u1"].containers] == [(0, 3.0), (1, 0.0)]
    await runtime.remove(first.id)
    await runtime.remove(first.id)
    assert runtime.pods()["u1"].containers == (second,)


async def test_closing_kills_all_and_forgets_all(runtime, again, spec):
    await runtime.open(sandbox())
    await runtime.start(spec("a"))
    await runtime.start(spec("b"))
    await runtime.close("u1")
    assert runtime.pods() == again().pods() == {}
    await runtime.close("u1")


async def test_closing_may_keep_how_containers_ended(runtime, again, spec):
    await runtime.open(sandbox())
    async with hearing(runtime) as heard:
        await runtime.start(spec(argv=["false"]))
        died = await ended(runtime, heard, "u1", "app")
    await runtime.close("u1", keep_records=True)
    kept = again().pods()["u1"]
    assert (kept.latest("app").exit_code, kept.sandbox.ready) == (died.exit_code, False)
    with pytest.raises(RuntimeFailure, match="not open"):
        await runtime.start(spec(attempt=1))


@pytest.mark.skipif(KINDS != ["crun"], reason="a fake machine has no disk")
async def test_a_closed_pod_keeps_no_data(runtime, spec):
    """What its containers wrote, its volumes, and the keys of its certificates are nobody's any more; its object may stay for long."""
    await runtime.open(sandbox())
    data, key = (Path(runtime.records.pod_dir("u1")) / each for each in ("volumes/v/data", "certificates/v-0.json"))
    filled(data)
    filled(key)
    await runtime.start(spec(argv=["sh", "-c", "echo data > /data; sleep 1000"], mounts=(Mount(str(data.parent), "/v"),)))
    await runtime.close("u1", keep_records=True)
    assert not there(data.parent.parent) and not there(key.parent) and not there(Path(runtime.records.bundle("u1", "app", 0)) / "upper")
    assert runtime.pods("u1")["u1"].latest("app").exit_code == 137


def filled(path):
    path.parent.mkdir(parents=True)
    path.write_text("data")


async def test_a_closed_pod_can_be_opened_anew(runtime, spec):
    first = await runtime.open(sandbox())
    await runtime.close("u1", keep_records=True)
    second = await runtime.open(sandbox())
    assert second.ready
    assert second.address != first.address
    assert (await runtime.start(spec())).state is State.RUNNING


@pytest.mark.skipif(not room.is_inside(), reason="about real mounts")
async def test_a_sub_path_shows_what_is_below_and_its_end_takes_nothing_along(runtime, spec, tmp_path):
    await runtime.open(sandbox())
    volume = tmp_path / "volume"
    (volume / "a b").mkdir(parents=True)
    (volume / "a b" / "file").write_text("kept")
    mounts = (Mount(str(volume), "/w", below="a b"), Mount(str(volume), "/f", below="a b/file"), Mount(str(volume), "/new", below="x/y"))
    started = await runtime.start(spec(mounts=mounts))
    shown = await runtime.run(started.id, ["cat", "/w/file", "/f"], timeout_s=5)
    assert shown.output == b"keptkept"
    assert (await runtime.run(started.id, ["touch", "/new/made"], timeout_s=5)).status == 0
    await runtime.close("u1")
    assert (volume / "a b" / "file").read_text() == "kept" and (volume / "x/y/made").exists()
    assert linux.mounts_below(runtime.records.pod_dir("u1")) == []


@pytest.mark.skipif(not room.is_inside(), reason="about real mounts")
async def test_the_end_of_a_sub_path_ends_no_mount_of_a_machine_whose_mounts_are_shared(runtime, spec, tmp_path):
    """As all are where systemd is the init."""
    volume = tmp_path / "shared"
    volume.mkdir()
    linux.mount("tmpfs", str(volume), "tmpfs")
    linux.mount("", str(volume), None, linux.MS_SHARED)
    (volume / "a" / "b").mkdir(parents=True)
    linux.mount("tmpfs", str(volume / "a" / "b"), "tmpfs")
    try:
        await runtime.open(sandbox())
        await runtime.start(spec(mounts=(Mount(str(volume), "/w", below="a"),)))
        await runtime.close("u1")
        assert linux.mounts_below(str(volume)) == [str(volume / "a" / "b")]
    finally:
        for target in (*linux.mounts_below(str(volume)), str(volume)):
            linux.unmount(target)


@pytest.fixture
def shared(tmp_path):
    """A folder with mounts of its own that are shared, as all of a machine's are."""
    folder = tmp_path / "shared"
    folder.mkdir()
    linux.mount("tmpfs", str(folder), "tmpfs")
    linux.mount("", str(folder), None, linux.MS_SHARED)
    yield folder
    for target in (*linux.mounts_below(str(folder)), str(folder)):
        linux.unmount(target)


def mounted(folder):
    """Mount something with a file in it."""
    folder.mkdir(parents=True, exist_ok=True)
    linux.mount("tmpfs", str(folder), "tmpfs")
    (folder / "file").write_text("seen")


@pytest.mark.skipif(not room.is_inside(), reason="about real mounts")
async def test_a_container_sees_later_mounts_of_its_machine_if_it_asks_for_them(runtime, spec, shared):
    await runtime.open(sandbox())
    (shared / "a").mkdir()
    mounts = [Mount(str(shared), f"/{each}", propagation=each) for each in ("private", "slave", "shared")]
    mounts += [Mount(str(shared), "/below", below="a", propagation="slave"), Mount(str(shared), "/ro", read_only=True, propagation="slave")]
    started = await runtime.start(spec(mounts=tuple(mounts), capabilities=ALL_CAPABILITIES, privileged=True))
    mounted(shared / "a" / "later")

    async def seen():
        places = ("/private/a", "/slave/a", "/shared/a", "/below", "/ro/a")
        return [place for place in places if not (await runtime.run(started.id, ["cat", f"{place}/later/file"], timeout_s=5)).status]

    assert await seen() == ["/slave/a", "/shared/a", "/below", "/ro/a"]
    linux.unmount(str(shared / "a" / "later"))
    assert await seen() == []


@pytest.mark.skipif(not room.is_inside(), reason="about real mounts")
@pytest.mark.parametrize("below", ["", "a"])
async def test_only_a_shared_mount_shows_the_machine_what_its_container_mounts(runtime, spec, shared, below):
    """It stays when the container and its pod end, as it does in Kubernetes; the machine's own mounts do, too."""
    await runtime.open(sandbox())
    mounted(shared / "a" / "own")
    mounts = tuple(Mount(str(shared), f"/{each}", below=below, propagation=each) for each in ("private", "slave", "shared"))
    started = await runtime.start(spec(mounts=mounts, capabilities=ALL_CAPABILITIES, privileged=True))
    for each in ("private", "slave", "shared"):
        script = f"mkdir -p /{each}/{each} && mount -t tmpfs t /{each}/{each} && touch /{each}/{each}/file"
        ran = await runtime.run(started.id, ["sh", "-c", script], timeout_s=5)
        assert ran.status == 0, ran.output
    top = shared / below
    assert [each for each in ("private", "slave", "shared") if (top / each / "file").exists()] == ["shared"]
    await runtime.close("u1")
    assert linux.mounts_below(runtime.records.pod_dir("u1")) == []
    assert sorted(linux.mounts_below(str(shared))) == sorted([str(shared / "a" / "own"), str(top / "shared")])


@pytest.mark.skipif(not room.is_inside(), reason="about real mounts")
async def test_what_a_container_mounted_in_a_volume_of_its_pod_ends_with_the_pod(runtime, spec, shared):
    await runtime.open(sandbox())
    volume = Path(runtime.records.pod_dir("u1"), "volumes", "v")
    os.makedirs(volume)
    linux.mount(str(shared), str(volume), None, linux.MS_BIND)
    mounts = (Mount(str(volume), "/v", propagation="shared"),)
    started = await runtime.start(spec(mounts=mounts, capabilities=ALL_CAPABILITIES, privileged=True))
    ran = await runtime.run(started.id, ["sh", "-c", "mkdir /v/m && mount -t tmpfs t /v/m && touch /v/m/file"], timeout_s=5)
    assert ran.status == 0 and (volume / "m" / "file").exists(), ran.output
    await runtime.close("u1")
    assert linux.mounts_below(runtime.records.root) == []


@pytest.mark.skipif(not room.is_inside(), reason="about real mounts")
async def test_a_machine_that_tells_nobody_of_its_mounts_says_so(runtime, spec, tmp_path):
    await runtime.open(sandbox())
    linux.mount("tmpfs", str(tmp_path), "tmpfs")
    linux.mount("", str(tmp_path), None, linux.MS_PRIVATE)
    for kind, words in (("slave", "a shared or slave mount"), ("shared", "a shared mount")):
        with pytest.raises(RuntimeFailure, match=f'path "{tmp_path}" is mounted on "{tmp_path}" but it is not {words}'):
            await runtime.start(spec(mounts=(Mount(str(tmp_path), "/m", propagation=kind),)))
    assert runtime.pods()["u1"].containers == ()
    linux.unmount(str(tmp_path))


@pytest.mark.skipif(not room.is_inside(), reason="about real mounts")
async def test_a_sub_path_that_is_removed_while_its_container_starts_is_a_bad_mount(runtime, spec, tmp_path, monkeypatch):
    """Nothing of the container's own failed, so no attempt of it is on record, and its start is tried again soon."""
    await runtime.open(sandbox())
    create = conmon.create

    async def slow(*arguments, **more):
        (tmp_path / "x").rmdir()
        return await create(*arguments, **more)

    monkeypatch.setattr(conmon, "create", slow)
    with pytest.raises(BadMount, match="'x': was removed while the container started"):
        await runtime.start(spec(mounts=(Mount(str(tmp_path), "/w", below="x"),)))
    assert runtime.pods()["u1"].containers == ()
    monkeypatch.setattr(conmon, "create", create)
    assert (await runtime.start(spec(mounts=(Mount(str(tmp_path), "/w", below="x"),)))).state is State.RUNNING


async def test_no_two_open_pods_have_a_user_in_common_if_they_have_their_own(runtime, again):
    opened = await asyncio.gather(*(runtime.open(sandbox(uid, own_users=True)) for uid in ("u1", "u2", "u3")))
    firsts = [each.first_user for each in opened]
    assert sorted(firsts) == [65_536, 131_072, 196_608]
    assert again().pods()["u2"].sandbox.first_user == firsts[1], "a later agent knows them"
    assert (await runtime.open(sandbox("u2", own_users=True))).first_user == firsts[1]
    await runtime.close("u2")
    assert (await runtime.open(sandbox("u4", own_users=True))).first_user == firsts[1], "what nobody has any more is given again"
    assert (await runtime.open(sandbox("u5"))).first_user == 0


@pytest.mark.skipif(not room.is_inside(), reason="about real users")
async def test_the_root_of_a_pod_of_its_own_users_is_nobody_on_the_machine(runtime, again, spec, tmp_path):
    held = await runtime.open(sandbox(own_users=True))
    volume = tmp_path / "volume"
    (volume / "sub").mkdir(parents=True)
    volume.chmod(0o777)
    (volume / "mine").write_text("of 5")
    os.chown(volume / "mine", 5, 6)
    mounts = (Mount(str(volume), "/v"), Mount(str(volume), "/s", below="sub"), Mount(str(volume / "mine"), "/etc/mine"))
    started = await runtime.start(spec(mounts=mounts, capabilities=DEFAULT_CAPABILITIES, oom_score_adj=-997))

    async def said(*argv):
        ran = await runtime.run(started.id, argv, timeout_s=5)
        return ran.output.decode().split()

    assert await said("cat", "/proc/self/uid_map") == ["0", str(held.first_user), "65536"]
    assert await said("id", "-u") == ["0"]
    assert (await said("ls", "-ln", "/v/mine"))[2:4] == (await said("ls", "-ln", "/etc/mine"))[2:4] == ["5", "6"]
    assert (await said("ls", "-ln", "/bin/sh"))[2:4] == ["0", "0"], "what its image holds is its root's"
    await said("sh", "-c", "touch /v/made /s/made /tmp/made /dev/shm/made; echo > /v/mine")
    for made in (volume / "made", volume / "sub" / "made"):
        assert (made.stat().st_uid, made.stat().st_gid) == (0, 0), "on the disk as without such users"
    bundle = Path(runtime.records.bundle("u1", "app", 0))
    assert (bundle / "upper/tmp/made").stat().st_uid == held.first_user
    assert os.stat(f"/proc/{started.pid}").st_uid == held.first_user
    assert await said("hostname") == ["pod-u1"]
    assert await said("cat", "/proc/sys/net/ipv4/ip_unprivileged_port_start") == ["0"]
    again_seen = again().pods("u1")["u1"]
    assert again_seen.sandbox.first_user == held.first_user and again_seen.running()
    await runtime.close("u1")
    assert linux.mounts_below(runtime.records.root) == []


@pytest.mark.skipif(not room.is_inside(), reason="about real users")
async def test_all_layers_of_an_image_are_its_pods_own(runtime, spec, layer, tmp_path):
    """So many that their own names would not fit into one mount's options."""
    await runtime.open(sandbox(own_users=True))
    more = [tmp_path / str(number) for number in range(40)]
    for each in more:
        (each / "etc").mkdir(parents=True)
        (each / "etc" / each.name).write_text(each.name)
        (each / "etc" / "last").write_text(each.name)
    started = await runtime.start(dataclasses.replace(spec(), layers=(layer, *map(str, more))))
    ran = await runtime.run(started.id, ["sh", "-c", "cat /etc/0 /etc/39 /etc/last; ls -ln /etc/7; echo > /etc/last"], timeout_s=5)
    assert ran.output.startswith(b"03939-rw-r--r-- 1 0 0 ") and ran.status == 0
    assert len([each for each in linux.mounts_below(runtime.records.root) if "/layers/" in each]) == 41
    assert (more[39] / "etc" / "last").read_text() == "39"


@pytest.mark.skipif(not room.is_inside(), reason="about real users")
async def test_capabilities_of_own_users_end_with_the_pods_namespaces(runtime, spec):
    await runtime.open(sandbox(own_users=True))
    started = await runtime.start(spec(capabilities=ALL_CAPABILITIES, privileged=True))

    async def does(script):
        return (await runtime.run(started.id, ["sh", "-c", script], timeout_s=5)).status == 0

    assert await does("mount -t tmpfs t /tmp && hostname other && echo 1 > /proc/sys/net/ipv4/ip_forward")
    for script in ("echo 1 > /proc/sys/vm/stat_interval", "echo h > /proc/sysrq-trigger", "mount -t ext4 /dev/null /tmp", "cat /proc/kmsg"):
        assert not await does(script), script


@pytest.mark.skipif(not room.is_inside(), reason="about real users")
async def test_containers_of_a_pod_of_its_own_users_share_its_namespaces_and_start_again(runtime, spec):
    await runtime.open(sandbox(own_users=True))
    first = await runtime.start(spec())
    await runtime.start(spec("other", uid="u1"))
    debugger = await runtime.start(spec("debugger", sees_processes_of="app"))
    links = [os.readlink(f"/proc/{runtime.pods('u1')['u1'].latest(name).pid}/ns/user") for name in ("app", "other", "debugger")]
    assert len(set(links)) == 1 and links[0] != os.readlink("/proc/self/ns/user")
    seen = await runtime.run(debugger.id, ["cat", "/proc/1/cmdline"], timeout_s=5)
    assert seen.output == b"sleep\x001000\x00"
    async with hearing(runtime) as heard:
        await runtime.signal(first.id, signal.SIGKILL)
        assert (await ended(runtime, heard, "u1", "app")).exit_code == 137
    assert (await runtime.start(spec(attempt=1))).state is State.RUNNING
    await runtime.open(sandbox("u2", own_users=True, share_pid=True))
    free = {"capabilities": ALL_CAPABILITIES, "privileged": True}
    both = [await runtime.start(spec(name, uid="u2", **free)) for name in ("one", "two")]
    assert len({os.readlink(f"/proc/{each.pid}/ns/pid") for each in both}) == 1
    script = "cat /proc/2/cmdline /proc/3/cmdline; ls -lnd /proc/1; mount -t proc p /tmp"
    ran = await runtime.run(both[0].id, ["sh", "-c", script], timeout_s=5)
    sleeping = b"sleep\x001000\x00" * 2
    assert ran.output.startswith(sleeping) and ran.output[len(sleeping) :].split()[2] == b"0" and ran.status == 0, ran.output
    await runtime.close("u2")
    assert not [pid for pid in linux.processes_with(b"unshare") if linux.start_ticks(pid)]


@pytest.mark.skipif(not room.is_inside(), reason="about real mounts")
async def test_what_can_not_be_given_to_other_users_is_said(runtime, spec, tmp_path):
    await runtime.open(sandbox(own_users=True))
    folders = [tmp_path / name for name in ("lower", "upper", "work", "root")]
    for each in folders:
        each.mkdir()
    linux.mount("overlay", str(folders[3]), "overlay", 0, "lowerdir={},upperdir={},workdir={}".format(*folders))
    with pytest.raises(RuntimeFailure, match=f"failed to map the owners of {folders[3]} for /m: Invalid argument"):
        await runtime.start(spec(mounts=(Mount(str(folders[3]), "/m"),)))
    assert runtime.pods()["u1"].containers == ()
    linux.unmount(str(folders[3]))


@pytest.mark.skipif(not room.is_inside(), reason="about real mounts")
def test_a_machine_knows_whether_pods_may_have_users_of_their_own(tmp_path):
    assert userns.possible("/var/lib")
    assert linux.mounts_below("/var/lib") == [] and not [name for name in os.listdir("/var/lib") if name.startswith(".users")]
    assert not userns.possible("/proc")


@pytest.mark.skipif(not room.is_inside(), reason="about real mounts")
async def test_only_a_recursive_mount_keeps_what_lies_below_it_from_being_written(runtime, spec, tmp_path):
    await runtime.open(sandbox())
    (tmp_path / "volume" / "below").mkdir(parents=True)
    linux.mount("tmpfs", str(tmp_path / "volume" / "below"), "tmpfs")
    volume = str(tmp_path / "volume")
    plain, recursive = Mount(volume, "/p", read_only=True), Mount(volume, "/r", read_only=True, recursive=True)
    started = await runtime.start(spec(mounts=(plain, recursive)))
    writable = [
        path
        for path in ("/p", "/p/below", "/r", "/r/below")
        if not (await runtime.run(started.id, ["touch", f"{path}/x"], timeout_s=5)).status
    ]
    await runtime.close("u1")
    linux.unmount(str(tmp_path / "volume" / "below"))
    assert writable == (["/p/below"] if linux.has_mount_setattr() else ["/p/below", "/r/below"])


@pytest.mark.skipif(not room.is_inside(), reason="about real mounts")
@pytest.mark.parametrize("link", ["/", "/etc", "..", "../.."])
async def test_a_sub_path_that_leads_out_starts_nothing(runtime, spec, tmp_path, link):
    await runtime.open(sandbox())
    (tmp_path / "volume").mkdir()
    (tmp_path / "volume" / "x").symlink_to(link)
    with pytest.raises(BadMount, match='failed to prepare subPath for volumeMount "/w" of container "app": \'x\': leaves its folder'):
        await runtime.start(spec(mounts=(Mount(str(tmp_path / "volume"), "/w", below="x"),)))
    assert runtime.pods()["u1"].containers == ()


@pytest.mark.skipif(not room.is_inside(), reason="about real files")
async def test_a_pod_that_nests_folders_without_end_can_be_closed(runtime, spec, tmp_path):
    await runtime.open(sandbox())
    hundred = "/".join("d" * 100)  # at once: a process for each of 3,000 folders takes a busy host too long
    nest = f"i=0; while [ $i -lt 30 ]; do mkdir -p {hundred}; cd -P {hundred}; i=$((i+1)); done"
    started = await runtime.start(spec(argv=["sh", "-c", f"cd /tmp && {nest}; sleep 1000"]))
    assert started.state is State.RUNNING
    deep = Path(runtime.records.bundle("u1", "app", 0), "upper/tmp" + "/d" * 1500)
    for _ in range(500):
        if there(deep):
            break
        await asyncio.sleep(0.02)
    assert there(deep)
    await runtime.close("u1")
    assert runtime.pods() == {} and not there(Path(runtime.records.pod_dir("u1")))


NAMESPACE_CALLS = ["unshare --user true", "unshare --net true", "mount -t proc proc /tmp", "mount -t tmpfs t /tmp"]


@pytest.mark.skipif(not room.is_inside(), reason="about the kernel")
async def test_the_default_profile_refuses_what_containers_do_not_need_and_nothing_else(runtime, spec):
    await runtime.open(sandbox())
    tools = (Mount("/usr/bin", "/tools", read_only=True), Mount("/usr/lib", "/usr/lib", read_only=True))
    confined = await runtime.start(spec("confined", mounts=tools, seccomp="RuntimeDefault", capabilities=tuple(DEFAULT_CAPABILITIES)))
    free = await runtime.start(spec("free", mounts=tools, capabilities=tuple(DEFAULT_CAPABILITIES)))

    async def said(container, command):
        ran = await runtime.run(container.id, ["sh", "-c", f"PATH=/bin:/tools; {command}"], timeout_s=10)
        return ran.status, ran.output.decode()

    assert "Seccomp:\t2" in (await said(confined, "cat /proc/1/status"))[1]
    assert "Seccomp:\t0" in (await said(free, "cat /proc/1/status"))[1]
    assert (await said(free, "unshare --user true"))[0] == 0
    for command in NAMESPACE_CALLS:
        status, words = await said(confined, command)
        assert status != 0 and ("ermitted" in words or "ermission" in words), (command, words)
    assert await said(confined, "(cat /etc/passwd | head -c 4 & wait) && chown 1:1 /tmp") == (0, "root")


@pytest.mark.skipif(not room.is_inside(), reason="about the kernel")
async def test_sysctls_of_the_pod_are_set(runtime, spec):
    await runtime.open(sandbox())
    started = await runtime.start(spec(sysctls=(("net.ipv4.ip_unprivileged_port_start", "7"), ("kernel.shm_rmid_forced", "1"))))
    shown = await runtime.run(
        started.id, ["sh", "-c", "cd /proc/sys; cat net/ipv4/ip_unprivileged_port_start kernel/shm_rmid_forced"], timeout_s=10
    )
    assert shown.output.split() == [b"7", b"1"]


@pytest.mark.skipif(not room.is_inside(), reason="about the kernel")
async def test_no_pod_with_a_network_of_its_own_needs_root_to_bind_a_port_or_to_ping(runtime, spec):
    async def shown(uid, **network):
        await runtime.open(sandbox(uid, **network))
        started = await runtime.start(spec(uid=uid))
        ran = await runtime.run(
            started.id, ["sh", "-c", "cd /proc/sys/net/ipv4; cat ip_unprivileged_port_start ping_group_range"], timeout_s=10
        )
        return ran.output.split()

    assert await shown("own") == [b"0", b"0", b"2147483647"]
    assert (await shown("shared", host_network=True))[0] == b"1024"  # the machine's own


@pytest.mark.skipif(not room.is_inside(), reason="about the kernel")
async def test_a_privileged_container_sees_all_of_its_machine(runtime, spec):
    await runtime.open(sandbox())
    started = await runtime.start(spec(privileged=True, capabilities=tuple(ALL_CAPABILITIES)))
    ran = await runtime.run(started.id, ["sh", "-c", "cat /proc/self/mounts; cat /proc/1/status"], timeout_s=10)
    mounts = [line.split() for line in ran.output.decode().splitlines() if line.startswith(("proc", "sysfs"))]
    assert all("rw" in line[3].split(",") for line in mounts) and not any(line[1].startswith("/proc/") for line in mounts)
    assert "Seccomp:\t0" in ran.output.decode()


async def seen_by(runtime, container):
    ran = await runtime.run(container.id, ["sh", "-c", "for each in /proc/[0-9]*; do cat $each/cmdline; done"], timeout_s=10)
    return ran.output.replace(b"\0", b" ").decode()


@pytest.mark.skipif(KINDS != ["crun"], reason="a fake container has no processes")
async def test_containers_of_a_pod_share_their_processes_if_it_wants(runtime, again, spec):
    await runtime.open(sandbox(share_pid=True))
    first = await runtime.start(spec("first", argv=["sh", "-c", "sleep 1111 & exit 0"]))
    second = await runtime.start(spec("second", argv=["sleep", "2222"]))
    words = await seen_by(again(), second)
    assert "sleep infinity" in words and "sleep 2222" in words and "sleep 1111" in words, "a child outlives its container, as anywhere"
    await again().remove(first.id)
    assert "sleep 1111" not in await seen_by(runtime, second), "but not the container's removal"
    await again().close("u1")
    assert not linux.processes_with(b"2222") and not linux.processes_with(b"infinity")


@pytest.mark.skipif(KINDS != ["crun"], reason="a fake container has no processes")
async def test_a_pod_of_the_machines_namespaces_sees_the_machine_and_ends_whole(runtime, spec):
    await runtime.open(sandbox(host_network=True, host_pid=True, host_ipc=True))
    started = await runtime.start(spec(argv=["sh", "-c", "sleep 3333 & sleep 4444"]))
    words = await seen_by(runtime, started)
    assert "conmon" in words and "sleep 3333" in words
    await runtime.close("u1")
    assert not linux.processes_with(b"3333") and not linux.processes_with(b"4444")


@pytest.mark.skipif(KINDS != ["crun"], reason="a fake container has no processes")
@pytest.mark.parametrize("tty", [False, True])
async def test_a_command_that_ignores_signals_does_not_outlive_its_client(runtime, spec, tty):
    """Nor do the commands of other clients end with it, nor what a command left running in its container on purpose."""
    await runtime.open(sandbox())
    started = await runtime.start(spec())
    stubborn = "trap '' HUP TERM INT PIPE; sleep 8888 & echo up; while :; do sleep 0.1; done"
    gone, stays = executed(runtime, started, stubborn, tty), executed(runtime, started, stubborn, tty)
    assert forgotten.end_all(runtime.crun_root) == 0
    os.close(gone[1])
    await fills(lambda: forgotten.end_all(runtime.crun_root) == 1)
    await fills(lambda: gone[0].poll() is not None)
    assert forgotten.end_all(runtime.crun_root) == 0 and stays[0].poll() is None
    assert len(linux.processes_with(b"8888")) >= 2
    os.close(stays[1])
    await fills(lambda: forgotten.end_all(runtime.crun_root) == 1)
    await fills(lambda: stays[0].poll() is not None)


def executed(runtime, container, script, tty):
    """A command as sshd begins it: (crun, the end of its output that the client reads). It has said that it is up."""
    process = process_file(runtime.records.bundle("u1", "app", 0), ["sh", "-c", script])
    mine, its = pty.openpty() if tty else os.pipe()
    argv = crun_argv(runtime.crun_root, "exec", "--process", f"/proc/self/fd/{process}", container.id)
    began = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=its, stderr=its, pass_fds=(process,), env=crun_environment())
    os.close(its)
    os.close(process)
    assert os.read(mine, 100).startswith(b"up")
    return began, mine


async def test_a_container_sees_another_ones_processes_while_that_runs(runtime, spec):
    await runtime.open(sandbox())
    app = await runtime.start(spec(argv=["sleep", "5555"]))
    debugger = await runtime.start(spec("debugger", argv=["sleep", "6666"], sees_processes_of="app"))
    if KINDS == ["crun"]:
        words = await seen_by(runtime, debugger)
        assert "sleep 5555" in words and "sleep 6666" in words
    await runtime.remove(app.id)
    with pytest.raises(RuntimeFailure, match="unable to find target container app"):
        await runtime.start(spec("late", sees_processes_of="app"))


async def test_specs_are_values(spec):
    assert dataclasses.replace(spec(), attempt=2) == spec(attempt=2)


async def test_limits_change_while_a_container_runs(runtime, again, spec):
    await runtime.open(sandbox(memory_limit_bytes=64 << 20, cpu_quota_us=50_000))
    started = await runtime.start(spec(memory_limit_bytes=64 << 20, cpu_shares=100, cpu_quota_us=20_000))
    assert started.limits == Limits(100, 20_000, 64 << 20)
    if room.is_inside():
        assert kernel_limits("/pods/u1") == (50_000, 64 << 20)
    for wanted in (Limits(200, 40_000, 128 << 20), Limits(200, 40_000, 128 << 20), Limits(50, 0, 32 << 20)):
        await runtime.resize("u1", Limits(wanted.cpu_shares, 0, wanted.memory_limit_bytes), {started.id: wanted})
        found = again().pods("u1")["u1"].latest("app")
        assert found.state is State.RUNNING and found.limits == wanted
        if room.is_inside():
            assert kernel_limits("/pods/u1/app-0") == (wanted.cpu_quota_us or -1, wanted.memory_limit_bytes)
            assert kernel_limits("/pods/u1")[1] == wanted.memory_limit_bytes
    with pytest.raises(NoSuchContainer):
        await runtime.resize("u1", Limits(), {"0" * 64: Limits()})


def kernel_limits(group):
    """The CPU quota (-1: none) and the memory limit of a control group, as the kernel has them."""
    root = Path("/sys/fs/cgroup")
    if (root / "cgroup.controllers").exists():
        quota = (root / group[1:] / "cpu.max").read_text().split()[0]
        return -1 if quota == "max" else int(quota), int((root / group[1:] / "memory.max").read_text())
    quota = (root / "cpu" / group[1:] / "cpu.cfs_quota_us").read_text()
    return int(quota), int((root / "memory" / group[1:] / "memory.limit_in_bytes").read_text())
