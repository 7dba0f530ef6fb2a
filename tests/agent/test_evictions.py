"""Pods that take too much of the disk are ended: whose volume outgrew its limit, and whoever has most when the machine's disk is nearly full."""

import os

import pytest

from labctl.agent import evictions, linux, node, quantities
from labctl.agent.evictions import Evictions, measured
from labctl.agent.settings import Settings

MIB = 1 << 20


def fill(folder, size):
    with open(os.path.join(folder, "data"), "wb") as file:
        file.write(b"x" * size)


class Worker:
    """A pod that has written so many bytes."""

    def __init__(self, folder, name, written=0, limit=None, priority=0, **volume):
        empty = {**({"sizeLimit": limit} if limit else {}), **volume}
        spec = {"priority": priority, "volumes": [{"name": "v", "emptyDir": empty}], "containers": [{"name": "c"}]}
        self.pod = {"metadata": {"name": name, "namespace": "default", "uid": name}, "spec": spec}
        self.admitted, self.said = True, []
        where = os.path.join(folder, "pods", name, "volumes", "v")
        os.makedirs(where)
        os.makedirs(os.path.join(folder, "pods", name, "containers", "c", "0", "upper"))
        fill(where, written)

    def evict(self, message, *, disrupted=False):
        self.admitted, self.disrupted = False, disrupted
        self.said.append(message)


def looking(folder, *workers, missing=(0, 0), measure=measured, memory_missing=0):
    settings = Settings("minion-1", "", "", "", "", state_dir=str(folder), pod_logs_dir=str(folder / "logs"))
    return Evictions(settings, lambda: workers, print, measure, lambda _: missing, lambda: memory_missing)


async def test_a_pod_whose_volume_outgrew_its_limit_is_evicted(tmp_path):
    greedy, modest = Worker(tmp_path, "greedy", 3 * MIB, "2Mi"), Worker(tmp_path, "modest", MIB, "2Mi")
    free, memory = Worker(tmp_path, "free", 3 * MIB), Worker(tmp_path, "memory", 3 * MIB, "2Mi", medium="Memory")
    looks = looking(tmp_path, greedy, modest, free, memory)
    await looks.look()
    await looks.look()
    assert greedy.said == ['Usage of EmptyDir volume "v" exceeds the limit "2Mi". ']
    assert not modest.said and not free.said and not memory.said


@pytest.mark.parametrize(
    ("missing", "expected"),
    [((MIB, 0), "much"), ((3 * MIB, 0), "much"), ((6 * MIB, 0), "more"), ((99 * MIB, 0), ""), ((0, 0), ""), ((0, 1), "much")],
)
async def test_a_full_disk_ends_the_pod_that_matters_least_of_those_whose_end_helps(tmp_path, missing, expected):
    workers = [Worker(tmp_path, "little"), Worker(tmp_path, "much", 4 * MIB), Worker(tmp_path, "more", 8 * MIB, priority=10)]
    await looking(tmp_path, *workers, missing=missing).look()
    evicted = [each.pod["metadata"]["name"] for each in workers if each.said]
    if missing[1]:  # inodes: all have about the same
        assert len(evicted) == 1 and "inodes" in str([each.said for each in workers])
    else:
        assert evicted == ([expected] if expected else [])
    assert all(each.disrupted for each in workers if each.said), "it did nothing wrong"


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="mounts")
@pytest.mark.parametrize(("missing", "expected"), [(0, []), (MIB, ["memory"]), (4 * MIB, [])])
async def test_a_volume_in_memory_that_others_need_goes_with_its_pod(tmp_path, missing, expected):
    """A killed container frees no file in memory. A pod that has none, or one on the disk, is not what helps."""
    workers = [
        Worker(tmp_path, "memory", medium="Memory"),
        Worker(tmp_path, "disk", 8 * MIB),
        Worker(tmp_path, "bare", 8 * MIB, medium="Memory"),
    ]
    volume = str(tmp_path / "pods" / "memory" / "volumes" / "v")
    linux.mount("tmpfs", volume, "tmpfs", 0, "size=8m")
    try:
        fill(volume, 3 * MIB)
        await looking(tmp_path, *workers, memory_missing=missing).look()
    finally:
        linux.unmount(volume)
    assert [each.pod["metadata"]["name"] for each in workers if each.said] == expected


async def test_what_cannot_be_measured_ends_nobody(tmp_path):
    async def never(_folders, _inodes):
        return None

    worker = Worker(tmp_path, "greedy", 3 * MIB, "2Mi")
    await looking(tmp_path, worker, missing=(1, 1), measure=never).look()
    assert not worker.said


async def test_names_do_not_confuse_the_measure_and_time_ends_it(tmp_path, monkeypatch):
    for name in (b"9999999999\ttotal", b"a\n9999999999\ttotal", b"\xff"):
        os.makedirs(os.fsencode(tmp_path) + b"/v/" + name)
    os.symlink("/", tmp_path / "v" / "root")
    assert 0 < await measured([str(tmp_path / "v")], False) < MIB
    assert await measured([str(tmp_path / "v")], True) == 5
    assert await measured([], False) == 0
    monkeypatch.setattr(evictions, "MEASURE_S", 0.0)
    assert await measured(["/"], True) is None


def test_pressure_is_what_is_missing(tmp_path, monkeypatch):
    settings = Settings("minion-1", "", "", "", "", state_dir=str(tmp_path))
    monkeypatch.setattr(node, "DISK_PRESSURE_SHARE", 0.0)
    assert node.disk_missing(settings) == (0, 0) and not node.pressures(settings)["DiskPressure"]
    monkeypatch.setattr(node, "DISK_PRESSURE_SHARE", 1.0)
    assert node.disk_missing(settings)[0] > 0 and node.pressures(settings)["DiskPressure"]


def bounded(worker, limits, inits=()):
    def of(name, limit):
        return {"name": name, "resources": {"limits": {"ephemeral-storage": limit}} if limit else {}}

    worker.pod["spec"]["containers"] = [of(name, limit) for name, limit in limits.items()]
    worker.pod["spec"]["initContainers"] = [of(f"i{number}", limit) for number, limit in enumerate(inits)]
    return worker


async def test_a_pod_that_writes_more_than_its_containers_may_is_evicted(tmp_path):
    """Volumes count for the pod, layers and logs for their container as well."""
    pods = {
        "volume": bounded(Worker(tmp_path, "volume", 3 * MIB), {"c": "1Mi", "d": "1Mi"}),
        "layer": bounded(Worker(tmp_path, "layer"), {"c": "1Mi", "d": "9Mi"}),
        "logs": bounded(Worker(tmp_path, "logs"), {"c": "1Mi", "d": "9Mi"}),
        "init": bounded(Worker(tmp_path, "init", 3 * MIB), {"c": "1Mi", "d": ""}, inits=["8Mi"]),
        "other": bounded(Worker(tmp_path, "other"), {"d": "1Mi", "c": "9Mi"}),
        "free": bounded(Worker(tmp_path, "free", 3 * MIB), {"c": ""}),
        "critical": bounded(Worker(tmp_path, "critical", 3 * MIB, priority=2_000_001_000), {"c": "1Mi"}),
    }
    for name in ("layer", "other"):
        fill(tmp_path / "pods" / name / "containers" / "c" / "0" / "upper", 2 * MIB)
    (tmp_path / "logs" / "default_logs_logs" / "c").mkdir(parents=True)
    fill(tmp_path / "logs" / "default_logs_logs" / "c", 2 * MIB)
    await looking(tmp_path, *pods.values()).look()
    one = 'Container c exceeded its local ephemeral storage limit "1Mi". '
    assert {name: each.said for name, each in pods.items() if each.said} == {
        "volume": ["Pod ephemeral local storage usage exceeds the total limit of containers 2Mi. "],
        "layer": [one],
        "logs": [one],
    }
    assert not any(each.disrupted for each in pods.values() if each.said)


@pytest.mark.parametrize(
    ("texts", "total"), [(["1Mi", "1Gi"], "1025Mi"), (["1G", "1G"], "2G"), (["1", "2"], "3"), ([], "0"), (["512Ki", "512Ki"], "1Mi")]
)
def test_sums_of_quantities_are_shown_in_their_own_units(texts, total):
    assert quantities.summed(texts) == total
