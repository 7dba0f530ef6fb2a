"""kill -9 of anything at any step; then `up` and `destroy_lab` work, and nothing is left."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from labctl.providers import locks
from labctl.providers.namespace import cgroup
from labctl.providers.protocol import Power
from tests.namespaces import Lab, needs_root

pytestmark = [pytest.mark.root, needs_root]

_OPERATION = """
import sys
from pathlib import Path
import msgspec
from labctl.providers.namespace.provider import NamespaceProvider
from labctl.providers.protocol import MachineSpec
lab, state, cache, operation, spec = sys.argv[1:]
provider = NamespaceProvider(lab, Path(state), Path(cache))
spec = msgspec.json.decode(spec, type=MachineSpec)
print("begin", flush=True)
{"up": lambda: provider.up(spec), "power_off": lambda: provider.power_off(spec.name), "halt": lambda: provider.halt(spec.name),
 "destroy": lambda: provider.destroy(spec.name), "reset": lambda: provider.reset(spec.name), "destroy_lab": provider.destroy_lab}[operation]()
"""


def begin(lab: Lab, operation: str) -> subprocess.Popen[str]:
    """The operation in a process of its own, which has just begun it."""
    import msgspec

    arguments = [lab.id, str(lab.state), str(lab.cache), operation, msgspec.json.encode(lab.spec()).decode()]
    process = subprocess.Popen([sys.executable, "-c", _OPERATION, *arguments], stdout=subprocess.PIPE, text=True, stderr=subprocess.DEVNULL)
    assert process.stdout
    assert process.stdout.readline() == "begin\n"
    return process


def family(pid: int) -> list[int]:
    """A process and all below it, as they are now."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            children.setdefault(int(path.read_text().rpartition(") ")[2].split()[1]), []).append(int(path.parent.name))
        except OSError:
            continue
    found, todo = [], [pid]
    while todo:
        found.append(todo.pop())
        todo += children.get(found[-1], [])
    return found


def inits(lab: Lab) -> list[int]:
    paths = [lab.state / "locks" / "init", *lab.state.glob("machines/*/alive")]
    return [pid for path in paths if (pid := locks.holder(path))]


def kill_something(lab: Lab, process: subprocess.Popen[str], chance: random.Random) -> str:
    victims = [("operation", process.pid)]
    victims += [("helper", pid) for pid in family(process.pid)[1:]]
    victims += [("init", pid) for pid in inits(lab)]
    what, pid = chance.choice(victims)
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        what += " (gone already)"
    return what


@pytest.mark.parametrize("seed", range(16))
def test_whatever_is_killed_the_next_up_works_and_destroy_leaves_nothing(lab: Lab, seed: int) -> None:
    chance = random.Random(seed)
    if chance.random() < 0.5:
        lab.provider().up(lab.spec())
    for _ in range(3):
        operation = chance.choice(["up", "up", "power_off", "halt", "destroy", "reset", "destroy_lab"])
        process = begin(lab, operation)
        time.sleep(chance.random() * (0.14 if operation in ("up", "reset") else 0.03))  # what is tested is that no moment is special
        what = kill_something(lab, process, chance)
        process.wait(30)
        print(f"seed {seed}: {operation}, killed its {what}")
    machine = lab.provider().up(lab.spec())
    assert machine.power is Power.ON
    assert lab.ssh("minion-1", "cat /etc/labctl/boot_id").stdout.strip() == machine.boot_id
    assert lab.leftovers()
    lab.provider().destroy_lab()
    assert lab.leftovers() == []


@pytest.mark.parametrize("seed", range(6))
def test_destroy_alone_clears_up_after_a_kill(lab: Lab, seed: int) -> None:
    chance = random.Random(seed)
    process = begin(lab, "up")
    time.sleep(chance.random() * 0.14)
    what = kill_something(lab, process, chance)
    process.wait(30)
    print(f"seed {seed}: killed its {what}")
    lab.provider().destroy_lab()
    assert lab.leftovers() == []


def test_killing_the_labs_init_ends_every_machine_and_up_brings_them_back(lab: Lab) -> None:
    provider = lab.provider()
    first = [provider.up(lab.spec(number)) for number in (1, 2)]
    os.kill(locks.holder(lab.state / "locks" / "init"), signal.SIGKILL)
    deadline = time.monotonic() + 5
    while inits(lab) and time.monotonic() < deadline:
        time.sleep(0.005)
    assert {machine.power for machine in provider.machines().values()} == {Power.OFF}
    second = [provider.up(lab.spec(number)) for number in (1, 2)]
    assert {machine.boot_id for machine in first}.isdisjoint(machine.boot_id for machine in second)
    assert lab.ssh("minion-2", "exec 3<>/dev/tcp/10.245.1.11/22 && head -c4 <&3").stdout == "SSH-"


@pytest.mark.parametrize("then", ["destroy_lab", "up"])
def test_a_lab_whose_state_folder_was_removed_is_found_again(lab: Lab, then: str) -> None:
    provider = lab.provider()
    provider.up(lab.spec(1))
    provider.up(lab.spec(2))
    shutil.rmtree(lab.state)
    if then == "up":
        assert lab.provider().up(lab.spec(1)).power is Power.ON
        assert lab.ssh("minion-1", "timeout 1 bash -c 'echo > /dev/tcp/10.245.1.12/22'").returncode != 0
    lab.provider().destroy_lab()
    assert lab.leftovers() == []


def test_a_paused_machine_whose_lab_was_killed_boots_anew(lab: Lab) -> None:
    provider = lab.provider()
    first = provider.up(lab.spec())
    provider.pause("minion-1")
    os.kill(locks.holder(lab.state / "locks" / "init"), signal.SIGKILL)
    deadline = time.monotonic() + 5
    while locks.holder(lab.state / "locks" / "init"):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    second = lab.provider().up(lab.spec())
    assert (second.power, second.boot_id != first.boot_id) == (Power.ON, True)
    assert lab.ssh("minion-1", "hostname").stdout == "minion-1\n"


def test_what_is_left_is_named_and_what_has_ended_is_not_left(lab: Lab) -> None:
    """An orphan that has ended waits for the host's init to ask how. It is a process of the lab no more, once its cgroup could be removed."""
    cgroups = cgroup.detect(lab.id)
    join = cgroups.make("minion-1", 64 << 20, 1.0).join
    process = subprocess.Popen(["cat", "-"], stdin=subprocess.PIPE)
    assert process.stdin
    try:
        for path in join:
            Path(path).write_text(str(process.pid))
        [named] = [line for line in lab.leftovers() if line.startswith(f"process {process.pid} (")]
        assert "cat -" in named and f"/labctl/{lab.id}/minion-1" in named
    finally:
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and nobody has asked how
    cgroups.remove_lab(deadline_s=5)
    assert Path(f"/proc/{process.pid}/cmdline").read_bytes() == b""
    assert lab.leftovers() == []
    process.communicate()
