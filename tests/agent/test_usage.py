"""What an agent's machine says of use, from made-up control groups of both versions."""

from labctl.agent import usage


def write(folder, **files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text + "\n")


def test_version_one(tmp_path):
    for name, cpu, memory, idle in (("web-0", 10, 900, 100), ("web-1", 20, 500, 100), ("side-car-0", 7, 50, 60), ("pod", 1, 1, 0)):
        write(tmp_path / "cpuacct/lab/pods/u1" / name, cpuacct__usage=str(cpu))
        stat = f"inactive_file 1\ntotal_inactive_file {idle}"
        write(tmp_path / "memory/lab/pods/u1" / name, memory__usage_in_bytes=str(memory), memory__stat=stat)
    (tmp_path / "cpuacct/lab/pods/empty").mkdir()
    write(tmp_path / "cpuacct", cpuacct__usage="123")
    said = usage.read("lab", str(tmp_path))
    assert said["pods"] == {"u1": {"web": {"cpu_ns": 20, "memory_bytes": 400}, "side-car": {"cpu_ns": 7, "memory_bytes": 0}}}
    assert said["machine"]["cpu_ns"] == 123 and said["machine"]["memory_bytes"] > 0


def test_version_two(tmp_path):
    write(tmp_path, cgroup__controllers="cpu memory", cpu__stat="usage_usec 9\nuser_usec 1")
    write(tmp_path / "pods/u1/web-0", cpu__stat="usage_usec 5", memory__current="700", memory__stat="inactive_file 200")
    said = usage.read("", str(tmp_path))
    assert said["pods"] == {"u1": {"web": {"cpu_ns": 5000, "memory_bytes": 500}}}
    assert said["machine"]["cpu_ns"] == 9000


def test_a_machine_without_groups(tmp_path):
    said = usage.read("", str(tmp_path))
    assert said["pods"] == {} and said["machine"]["cpu_ns"] > 0
