"""What `agent fault` does to containers and control groups, on real ones inside a throwaway machine (room.py); nothing may be left when it is healed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from labctl.agent import linux
from labctl.agent.cgroups import Cgroups
from labctl.agent.faults import burn, clock, disk, keeper, machine, main, processes, removal, request
from labctl.agent.helper.check import Refused
from labctl.agent.runtime.interface import ContainerSpec, SandboxSpec
from labctl.agent.settings import Settings
from labctl.machines import zipapp
from tests.agent import room, tiny

LAYER, PROGRAM, CONFIG = Path("/var/lib/layer"), Path("/var/lib/agent.pyz"), Path("/var/lib/agent.json")
SETTINGS = Settings("minion-1", "https://x", "", "", "", state_dir="/var/lib/agent", run_dir="/run/labctl")
inside = pytest.mark.skipif(not room.is_inside(), reason="runs inside the throwaway machine")


@pytest.mark.root
@pytest.mark.skipif(room.is_inside() or not room.possible(), reason="needs root, crun and conmon; or runs inside already")
def test_faults_hit_real_containers():
    room.pytest_inside(__file__)


def ask(type_, do, for_s=0, fault="f1", **parameters):
    """In this process, where tests may exchange the clock."""
    return main.answer({"type": type_, "do": do, "fault": fault, "forSeconds": for_s, "parameters": parameters}, SETTINGS)


def run(type_, do, for_s=0, fault="f1", **parameters):
    """As the master does it: a process, JSON on standard input and output."""
    PROGRAM.exists() or PROGRAM.write_bytes(zipapp.build().data)
    CONFIG.write_text(json.dumps({"node": "minion-1", "url": "https://x", "stateDir": SETTINGS.state_dir, "runDir": SETTINGS.run_dir}))
    told = json.dumps({"type": type_, "do": do, "fault": fault, "forSeconds": for_s, "parameters": parameters})
    done = subprocess.run(
        [sys.executable, PROGRAM, "fault", CONFIG], input=told, capture_output=True, text=True, timeout=20 * room.PATIENCE
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def until(look, what, timeout_s=10.0):
    deadline = time.monotonic() + timeout_s * room.PATIENCE
    while not (found := look()):
        assert time.monotonic() < deadline, what
        time.sleep(0.01)
    return found


def a_layer():
    return str(LAYER) if LAYER.exists() else tiny.make(LAYER)


def nothing_is_left():
    return not os.path.exists(keeper.RUN)


def others_run_for(cpu_s):
    """Until this process had so much of a CPU: whoever could run had time to."""
    until = time.process_time() + cpu_s
    while time.process_time() < until:
        pass


@pytest.fixture
async def started():
    """Starts containers of pod u1; all is removed afterwards, and nothing of a fault may be left then."""
    from labctl.agent.addresses import Range
    from labctl.agent.runtime.crun import CrunRuntime

    layer = a_layer()
    addresses = Range("/var/lib")
    addresses.set("10.246.1.0/24")
    runtime = CrunRuntime(SETTINGS.state_dir, SETTINGS.run_dir, addresses, Cgroups())
    await runtime.open(SandboxSpec("u1", "default", "pod", "pod"))

    async def start(*argv, **more):
        spec = ContainerSpec("u1", "app", 0, "tiny", "tiny@sha256:0", (layer,), argv, ("PATH=/bin",), **more)
        return await runtime.start(spec)

    start.runtime = runtime
    yield start
    await runtime.close("u1")
    runtime.forget_watches()
    assert keeper.faults() == [] and not linux.processes_with(b"agent fault") and nothing_is_left()


def group():
    """The processes of the container's group that live."""
    return [pid for pid in Cgroups().processes("/pods/u1/app-0") if linux.start_ticks(pid)]


def cpu_ticks(pid):
    with open(f"/proc/{pid}/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    return int(fields[11]) + int(fields[12])


def group_cpu_s():
    for path, parse in (("/sys/fs/cgroup/cpuacct/pods/u1/app-0/cpuacct.usage", lambda text: int(text) / 1e9),):
        if os.path.exists(path):
            return parse(Path(path).read_text())
    return int(Path("/sys/fs/cgroup/pods/u1/app-0/cpu.stat").read_text().split()[1]) / 1e6


TARGET = {"uid": "u1", "container": "app"}
SPIN = ("sh", "-c", "while :; do :; done")


@inside
async def test_a_killed_container_ends_and_its_successor_is_not_killed_by_a_repetition(started):
    first = await started("sleep", "1000")
    assert run("kill-container", "look", **TARGET) == {"refused": ""}
    run("kill-container", "inject", **TARGET, id=first.id)
    until(lambda: not group(), "it ended")
    until(lambda: run("kill-container", "look", **TARGET)["refused"] == "container app does not run", "its end is known")
    assert "ended already" in run("kill-container", "inject", **TARGET, id=first.id)["done"][0]
    (seen,) = started.runtime.pods("u1")["u1"].containers
    assert seen.exit_code == 137


@inside
async def test_a_stopped_container_uses_no_cpu_until_it_is_healed(started):
    await started("sh", "-c", "while :; do :; done & while :; do :; done")
    until(lambda: len(group()) == 2, "both run")
    run("stop-container", "inject", **TARGET)
    before = [cpu_ticks(pid) for pid in group()]
    others_run_for(0.3)
    assert [cpu_ticks(pid) for pid in group()] == before
    run("stop-container", "inject", **TARGET)
    assert "resumed 2" in run("stop-container", "heal", **TARGET)["done"][0]
    until(lambda: all(now > then for now, then in zip([cpu_ticks(p) for p in group()], before, strict=True)), "they go on")
    assert "no process" in run("stop-container", "heal", **TARGET)["done"][0]


@inside
async def test_a_stopped_container_can_be_removed(started):
    await started(*SPIN)
    run("stop-container", "inject", **TARGET)
    await started.runtime.close("u1")
    assert not group() and "no process" in run("stop-container", "heal", **TARGET)["done"][0]


@inside
async def test_cpu_is_burnt_in_the_containers_group_until_it_is_healed(started):
    await started("sleep", "1000")
    before, began = group_cpu_s(), time.monotonic()
    run("burn-cpu", "inject", cpus=1.5, **TARGET)
    assert len(group()) == 3
    run("burn-cpu", "inject", cpus=1.5, **TARGET)
    assert len(group()) == 3, "a repetition burns no more"
    until(lambda: group_cpu_s() - before > 0.3, "the container's group is charged")
    assert group_cpu_s() - before < (time.monotonic() - began) * 1.9
    assert run("burn-cpu", "heal", **TARGET)["done"] == ["the processes that burnt were ended"]
    assert len(group()) == 1 and keeper.record("f1") is None
    assert run("burn-cpu", "heal", **TARGET)["done"] == ["nothing burnt any more"]


@inside
async def test_a_burn_ends_when_its_time_is_over(started):
    await started("sleep", "1000")
    assert "1 processes burn" in run("burn-cpu", "inject", for_s=1, cpus=1, **TARGET)["done"][0]
    until(lambda: len(group()) == 1 and keeper.record("f1") is None, "it ended by itself")


@inside
async def test_a_burn_ends_with_its_container(started):
    await started("sleep", "1000")
    run("burn-cpu", "inject", cpus=1, **TARGET)
    run("kill-container", "inject", **TARGET)
    until(lambda: not group() and keeper.record("f1") is None, "nothing burns any more")


@inside
async def test_a_burn_whose_keeper_was_killed_is_healed(started):
    container = await started("sleep", "1000")
    before = likeliness(container)
    run("burn-memory", "inject", bytes=8 << 20, **TARGET)
    assert likeliness(container) == "1000\n"
    os.kill(keeper.record("f1")["pid"], signal.SIGKILL)
    until(lambda: len(group()) == 1, "its workers end with it")
    run("burn-memory", "heal", **TARGET)
    assert keeper.record("f1") is None and likeliness(container) == before


@inside
async def test_memory_is_taken_within_the_limit(started):
    await started("sleep", "1000", memory_limit_bytes=64 << 20)
    run("burn-memory", "inject", percent=50, **TARGET)
    until(lambda: memory_used() > 32 << 20, "it is charged to the container")
    assert len(group()) == 5
    run("burn-memory", "heal", **TARGET)
    until(lambda: memory_used() < 16 << 20, "it is given back")
    assert len(group()) == 1


@inside
async def test_memory_beyond_the_limit_ends_the_container(started):
    await started("sleep", "1000", memory_limit_bytes=64 << 20)
    run("burn-memory", "inject", percent=150, **TARGET)
    until(lambda: not group() and keeper.record("f1") is None, "the kernel ended the container, and the burn with it")
    until(lambda: started.runtime.pods("u1")["u1"].containers[0].exit_code == 137, "it was killed")
    run("burn-memory", "heal", **TARGET)


@inside
async def test_a_burn_whose_container_ends_before_it_is_watched_ends_with_it(started):
    container = await started("sleep", "1000")
    asked = request.parse({"type": "burn-cpu", "do": "inject", "fault": "f1", "parameters": TARGET}, SETTINGS)
    told = []

    def end_it():
        os.kill(container.pid, signal.SIGKILL)
        signal.pause()

    burn._burn(asked, container, [end_it, signal.pause, signal.pause], lambda: told.append("ready"))
    assert told and set(told) == {"ready"}
    until(lambda: not group(), "none of its workers is left")
    with pytest.raises(OSError, match="container app does not run any more"):
        burn._burn(asked, container, [signal.pause], lambda: told.append("again"))
    assert "again" not in told and not group()


@pytest.mark.root
def test_what_happens_after_a_keeper_was_ready_is_no_part_of_its_answer(monkeypatch, tmp_path):
    monkeypatch.setattr(keeper, "RUN", str(tmp_path / "faults"))
    undone = tmp_path / "undone"

    def work(ready):
        ready()
        raise OSError("what it worked on has gone")

    for _ in range(20):  # both may be read at once, or not
        keeper.begin("f1", {}, work, lambda _found: undone.write_text(""))
        until(lambda: undone.exists() and keeper.record("f1") is None, "it was undone")
        undone.unlink()


@pytest.mark.root
def test_a_keeper_that_could_not_begin_says_why(monkeypatch, tmp_path):
    monkeypatch.setattr(keeper, "RUN", str(tmp_path / "faults"))

    def work(_ready):
        raise OSError("no such container")

    with pytest.raises(OSError, match="^no such container$"):
        keeper.begin("f1", {}, work, lambda _found: None)
    assert keeper.record("f1") is None


def likeliness(container):
    """How likely the kernel chooses its first process when memory is short."""
    return Path(f"/proc/{container.pid}/oom_score_adj").read_text()


def memory_used():
    for path in ("/sys/fs/cgroup/memory/pods/u1/app-0/memory.usage_in_bytes", "/sys/fs/cgroup/pods/u1/app-0/memory.current"):
        if os.path.exists(path):
            return int(Path(path).read_text())
    return 0


@inside
async def test_a_share_of_no_limit_and_more_than_the_machine_has_are_refused(started):
    await started("sleep", "1000")
    assert "no memory limit" in run("burn-memory", "look", percent=50, **TARGET)["refused"]
    assert "MiB only" in run("burn-memory", "look", bytes=60 << 30, **TARGET)["refused"]


@inside
@pytest.mark.skipif(Cgroups().v2, reason="version 1 has a limit for each group")
async def test_a_slow_disk_limits_also_containers_that_start_later(started):
    await started("sleep", "1000")
    assert run("slow-disk", "look", bytesPerSecond=1 << 20) == {"refused": ""}
    run("slow-disk", "inject", bytesPerSecond=1 << 20)
    later = a_group()
    files = [each / f"blkio.throttle.{way}_bps_device" for each in (later.parent / "app-0", later) for way in ("read", "write")]
    until(lambda: all("1048576" in each.read_text() for each in files), "all groups are limited")
    run("slow-disk", "heal", bytesPerSecond=1 << 20)
    assert all("1048576" not in each.read_text() for each in files)
    os.rmdir(later)


def a_group():
    later = Path("/sys/fs/cgroup/blkio/pods/u1/later")
    later.mkdir()
    return later


@inside
def test_a_disk_is_filled_up_to_what_is_to_stay_free_and_emptied(monkeypatch, tmp_path):
    small = Path("/var/lib/small")
    small.mkdir()
    linux.mount("tmpfs", str(small), "tmpfs", 0, "size=48m")
    monkeypatch.setattr(sys.modules[__name__], "SETTINGS", Settings("m", "u", "", "", "", state_dir=f"{small}/agent"))
    (small / "agent").mkdir()
    assert "host's disk" in ask("fill-disk", "look", percent=10)["refused"]
    with pytest.raises(OSError, match="host's disk"):
        ask("fill-disk", "inject", percent=10)
    monkeypatch.setattr(machine, "is_container", lambda: False)
    assert ask("fill-disk", "look", percent=10) == {"refused": ""}
    for _ in range(2):
        ask("fill-disk", "inject", percent=10)
        free = os.statvfs(small).f_bfree * os.statvfs(small).f_frsize
        assert 0 <= free - (48 << 20) // 10 < 2 * disk.CHUNK_BYTES_LEAST
    ask("fill-disk", "inject", fault="f2", bytes=0)
    with pytest.raises(OSError, match="No space left"):
        (small / "agent" / "more").write_bytes(b"x" * (disk.FREE_BYTES_LEAST + (1 << 20)))
    (small / "agent" / "more").unlink()
    assert "already" in ask("fill-disk", "look", fault="f3", percent=20)["refused"]
    for fault in ("f1", "f2", "f1"):
        ask("fill-disk", "heal", fault=fault, percent=10)
    assert os.listdir(small) == ["agent"] and os.listdir(small / "agent") == []
    linux.unmount(str(small))


@inside
async def test_cleaning_the_machine_heals_what_no_master_healed(started):
    container = await started("sleep", "1000")
    before = likeliness(container)
    run("burn-cpu", "inject", fault="a", cpus=1, **TARGET)
    run("burn-memory", "inject", fault="b", bytes=8 << 20, **TARGET)
    filling = Path(SETTINGS.state_dir).parent / f"{disk.FILL_PREFIX}c"
    write(filling)
    assert removal.remove(SETTINGS) == [] == removal.remove(SETTINGS)
    assert len(group()) == 1 and nothing_is_left() and not there(filling) and likeliness(container) == before


def write(path):
    path.write_bytes(b"x")


def there(path):
    return path.exists()


@inside
def test_a_clock_that_is_the_hosts_is_not_moved():
    assert "its host's" in ask("skew-clock", "look", offsetSeconds=30)["refused"]
    with pytest.raises(OSError, match="its host's"):
        ask("skew-clock", "inject", offsetSeconds=30)
    assert ask("skew-clock", "heal", offsetSeconds=30)["done"] == ["the clock was not moved any more"]


class OwnClock:
    """A clock of its own, and the monotonic one beside it."""

    CLOCK_REALTIME = time.CLOCK_REALTIME

    def __init__(self):
        self.wall, self.killed = 5000.0, False

    def time(self):
        return self.wall

    def monotonic(self):
        return 100.0

    def clock_settime(self, _clock, value):
        if self.killed:
            raise KeyboardInterrupt
        self.wall = value


@inside
@pytest.mark.parametrize("killed", ["never", "in the middle of the deed", "in the middle of healing"])
def test_a_moved_clock_is_moved_back_by_as_much_wherever_it_was_broken_off(monkeypatch, killed):
    own = OwnClock()
    monkeypatch.setattr(clock, "time", own)
    monkeypatch.setattr(machine, "is_container", lambda: False)
    monkeypatch.setattr(machine, "may_set_clock", lambda: True)
    for do, moment in (("inject", "in the middle of the deed"), ("heal", "in the middle of healing")):
        own.killed = killed == moment
        try:
            ask("skew-clock", do, offsetSeconds=-30)
        except KeyboardInterrupt:
            own.killed = False
        ask("skew-clock", do, offsetSeconds=-30)
        assert own.wall == (4970.0 if do == "inject" else 5000.0)
        assert clock.offset() == (-30.0 if do == "inject" else 0.0)
    assert not os.path.exists(clock.OFFSET)


@inside
def test_a_process_is_killed_once_though_the_deed_is_repeated(monkeypatch):
    monkeypatch.setitem(processes.WORDS, "agent", (b"-c", b"import time; time.sleep(1000)"))
    first, second = (subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"]) for _ in range(2))
    try:
        deadline = time.monotonic() + 10
        while not all(Path(f"/proc/{each.pid}/cmdline").read_bytes() for each in (first, second)) and time.monotonic() < deadline:
            time.sleep(0.01)  # Popen returns when the program is being executed; it has its words a moment later
        assert ask("kill-process", "look", process="agent", ageSeconds=0) == {"refused": ""}
        assert "0 processes" in ask("kill-process", "inject", process="agent", ageSeconds=1000)["done"][0]
        assert "2 processes" in ask("kill-process", "inject", process="agent", ageSeconds=0)["done"][0]
        assert first.wait(5) == second.wait(5) == -signal.SIGKILL
        assert "no agent runs" in ask("kill-process", "look", process="agent", ageSeconds=0)["refused"]
    finally:
        first.kill(), second.kill()


HOSTILE = [
    {"type": "fill-disk", "do": "inject", "fault": "../../etc/x", "parameters": {"percent": 1}},
    {"type": "fill-disk", "do": "inject", "fault": "f", "parameters": {"percent": 101}},
    {"type": "fill-disk", "do": "inject", "fault": "f", "parameters": {"bytes": "1"}},
    {"type": "fill-disk", "do": "inject", "fault": "f", "parameters": {}},
    {"type": "kill-container", "do": "inject", "fault": "f", "parameters": {"uid": "../u", "container": "app"}},
    {"type": "kill-container", "do": "inject", "fault": "f", "parameters": {"uid": "u1", "container": "app/.."}},
    {"type": "kill-container", "do": "inject", "fault": "f", "parameters": {"uid": "u1", "container": "app", "id": "x"}},
    {"type": "burn-cpu", "do": "look", "fault": "f", "parameters": {"uid": "u1", "container": "app", "cpus": 1e9}},
    {"type": "burn-cpu", "do": "look", "fault": "f", "parameters": {"uid": "u1", "container": "app", "cpus": True}},
    {"type": "kill-process", "do": "inject", "fault": "f", "parameters": {"process": "init", "ageSeconds": 0}},
    {"type": "flush-rules", "do": "inject", "fault": "f", "parameters": {"table": "nat\n-F"}},
    {"type": "skew-clock", "do": "look", "fault": "f", "parameters": {"offsetSeconds": float("nan")}},
    {"type": "fail-dns", "do": "inject", "fault": "f", "parameters": {"mode": "explode"}},
    {"type": "fail-dns", "do": "explode", "fault": "f", "parameters": {}},
    {"type": "explode", "do": "inject", "fault": "f", "parameters": {}},
    {"type": "burn-cpu", "do": "heal", "fault": "f", "forSeconds": -1},
    [],
]


@pytest.mark.parametrize("told", HOSTILE, ids=str)
def test_what_no_master_sends_is_refused(told):
    with pytest.raises(Refused):
        main.answer(told, SETTINGS)
