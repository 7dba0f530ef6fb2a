"""What a lab holds on its minions, set against what the API says: nothing may be left of a pod that is gone."""

import json
from pathlib import Path

LOOK = """
import json, os, re, subprocess
UID = re.compile("[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")

def uids(lines):
    return sorted({uid for line in lines for uid in UID.findall(line)})

def names(folder):
    return os.listdir(folder) if os.path.isdir(folder) else []

def processes():
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            yield open(f"/proc/{pid}/cmdline").read() + open(f"/proc/{pid}/cgroup").read()
        except OSError:
            pass

links = json.loads(subprocess.run(["ip", "-j", "link"], capture_output=True, text=True).stdout)
rules = subprocess.run(["iptables-save"], capture_output=True, text=True).stdout
print(json.dumps({
    "folders": uids(names("/var/lib/labctl/agent/pods")),
    "logs": uids(names("/var/log/pods")),
    "mounts": uids(line for line in open("/proc/self/mounts") if "/agent/pods/" in line),
    "cgroups": uids(path for path, _, _ in os.walk("/sys/fs/cgroup") if "/pods/" in path),
    "processes": uids(line for line in processes() if "/pods/" in line),
    "links": len([link for link in links if link["ifname"].startswith("pod")]),
    "crun": names("/run/labctl/crun"),
    "endpoints": sorted(set(re.findall(r"--to-destination (10\\.246[0-9.]+)", rules))),
}))
"""


def on_minion(cluster, minion: str) -> dict:
    return json.loads(cluster.on(minion, "/usr/bin/python3", "-c", LOOK).stdout)


def too_much(cluster, minions=("minion-1", "minion-2")) -> list[str]:
    """What lies on these minions beside their pods; empty when all is as it should be."""
    pods, services = cluster.items("pods", "-A"), cluster.items("endpoints", "-A")
    served = sorted(
        {a["ip"] for e in services for s in e.get("subsets", []) for a in s.get("addresses", []) if a["ip"].startswith("10.246.")}
    )
    wrong = []
    for minion in minions:
        found, here = on_minion(cluster, minion), [pod for pod in pods if pod["spec"].get("nodeName") == minion]
        wanted = sorted(pod["metadata"]["uid"] for pod in here)
        for kind in ("folders", "logs", "mounts", "cgroups", "processes"):
            if found[kind] != wanted:
                wrong.append(f"{minion}: {kind} of {sorted(set(found[kind]) ^ set(wanted))} (pods: {len(wanted)})")
        if found["links"] != len(wanted):
            wrong.append(f"{minion}: {found['links']} links for {len(wanted)} pods")
        if strange := set(found["crun"]) - known_containers(here):
            wrong.append(f"{minion}: crun holds {strange}")
        if found["endpoints"] != served:
            wrong.append(f"{minion}: rules lead to {found['endpoints']}, endpoints are {served}")
    return wrong


def known_containers(pods) -> set[str]:
    """Those that run, and the one attempt before each that is kept for its logs."""
    statuses = [status for pod in pods for status in pod["status"].get("containerStatuses", [])]
    ids = [status.get("containerID", "") for status in statuses]
    ids += [status.get("lastState", {}).get("terminated", {}).get("containerID", "") for status in statuses]
    return {identity.rpartition("/")[2] for identity in ids}


def lab_processes(cluster) -> dict[int, str]:
    """The lab's processes as the host sees them: pid -> command line. Those of machines are in the lab's control group."""
    identity = json.loads((cluster.folder / ".labctl" / "lab.json").read_text())["id"]
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            line = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            if identity in (process / "cgroup").read_text() or f"--lab {cluster.folder}/" in line:
                found[int(process.name)] = line
        except OSError:
            continue
    return found


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[1])


def children(pid: int) -> list[int]:
    """The processes that it started, and that still are its own."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if parent(int(process.name)) == pid:
                found.append(int(process.name))
        except OSError:
            continue
    return found


def resident_mb(pid: int) -> float:
    return next(int(line.split()[1]) / 1024 for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))


def descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))
