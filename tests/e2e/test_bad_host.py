"""A host that can't give what a lab needs: one clear line with the mend, and nothing lost or half done."""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture
def lab(request, new_cluster):
    cluster = new_cluster(request.node.name.replace("test_", "")[:24])
    yield cluster
    cluster.destroy()


def said(done: subprocess.CompletedProcess) -> str:
    """The one line that a failed command ends with."""
    assert done.returncode in (1, 2), (done.returncode, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr, done.stderr
    return done.stderr.strip().splitlines()[-1]


def test_a_busy_port(lab):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = said(lab.labctl("up", "--minions", "0", "--api-port", str(port), check=False))
    assert f"port {port} on loopback can't be used: Address already in use" in line and "--api-port 0" in line
    lab.labctl("up", "--minions", "0", "--api-port", "0")
    assert lab.items("namespaces")


def test_without_root_and_without_sudo(lab, tmp_path):
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("ip", "ssh", "mmdebstrap", "nsenter", "unshare", "kubectl"):
        if found := shutil.which(name, path=lab.environment["PATH"]):
            (tools / name).symlink_to(found)
    # a user namespace without a mapping: our own files stay readable, and root is nobody
    argv = ["unshare", "--user", sys.executable, "-m", "labctl", "up"]
    lab.folder.chmod(0o777)
    done = subprocess.run(argv, cwd=lab.folder, env={**lab.environment, "PATH": str(tools)}, text=True, capture_output=True)
    assert said(done) == "labctl: namespace machines need root: run this as root, or install sudo"
    assert not (lab.folder / ".labctl").exists()


def test_missing_programs_are_named_with_their_packages(lab, tmp_path):
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "ssh").symlink_to(shutil.which("ssh"))
    done = lab.labctl("up", check=False, env={**lab.environment, "PATH": str(tools)})
    assert "apt-get install" in said(done) and "iproute2" in said(done)
    doctor = lab.labctl("doctor", "-o", "json", check=False, env={**lab.environment, "PATH": str(tools)})
    assert doctor.returncode == 1
    mends = {check["name"]: check["mend"] for check in json.loads(doctor.stdout) if check["level"] == "error"}
    assert mends["mmdebstrap"] == "apt-get install -y mmdebstrap"


def test_a_full_disk_refuses_writes_and_loses_nothing(lab, tmp_path):
    """On a small file system of its own, in a mount namespace of its own."""
    script = f"""
        set -e
        mkdir -p {tmp_path}/small && mount -t tmpfs -o size=4m none {tmp_path}/small
        export LABCTL_STATE_HOME={tmp_path}/small
        labctl() {{ {sys.executable} -m labctl "$@"; }}
        labctl up --minions 0 >/dev/null 2>&1
        labctl create configmap precious --from-literal=a=b
        head -c 700000 /dev/zero | tr '\\0' x >{tmp_path}/blob
        for i in 1 2 3 4 5 6 7 8; do labctl create configmap big-$i --from-file={tmp_path}/blob || break; done
        test $i -lt 8
        labctl get configmap precious -o 'jsonpath={{.data.a}}'
        mount -o remount,size=64m {tmp_path}/small
        labctl create configmap after
        labctl destroy --yes >/dev/null 2>&1
        """
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script], cwd=lab.folder, env=lab.environment, text=True, capture_output=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "full" in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert "configmap/precious created" in done.stdout and "\nbconfigmap/after created" in done.stdout


def test_a_second_master_is_refused(lab):
    lab.labctl("up", "--minions", "0")
    done = subprocess.run(
        [sys.executable, "-m", "labctl.master", "--lab", lab.folder / ".labctl"],
        env=lab.environment,
        text=True,
        capture_output=True,
        timeout=30,
    )
    assert said(done) == "this lab's master is running already: labctl status"
    assert lab.items("namespaces")


def test_a_lab_record_that_was_damaged(lab):
    lab.labctl("up", "--minions", "0")
    (lab.folder / ".labctl" / "lab.json").write_text('{"id": ')
    assert "lab.json is damaged" in said(lab.labctl("status", check=False))
    pid = next(pid for pid in os.listdir("/proc") if pid.isdigit() and str(lab.folder).encode() in _command_line(pid))
    os.kill(int(pid), 15)


def _command_line(pid: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


IN_A_CHROOT = 'mkdir -p "$0" && mount --rbind / "$0" && exec chroot "$0" sh -c \'cd "$0" && exec "$@"\' "$PWD" "$@"'
ENTERED = "import ctypes, os; print(ctypes.CDLL(None).setns(os.open('/proc/self/ns/mnt', 0), 0x20000), open('/etc/hostname').read())"


def test_a_chroot(lab, images, tmp_path):
    """There a process's root is not its mount namespace's. Who enters a machine's namespace must stand in the machine, as `kubectl exec` and root on it do."""
    inside = ("unshare", "--mount", "--propagation", "private", "sh", "-c", IN_A_CHROOT, str(tmp_path / "root"))
    lab.inside = [*inside]
    lab.labctl("up", "--minions", "1")
    lab.kubectl("run", "box", "--image=busybox", "--", "sleep", "1000")
    lab.kubectl("wait", "--for=condition=Ready", "pod/box", "--timeout=60s")
    assert lab.kubectl("exec", "box", "--", "busybox", "cat", "/etc/hostname").stdout.strip() == "box"
    assert lab.on("minion-1", "python3", "-c", ENTERED).stdout.split() == ["0", "minion-1"]
    lab.labctl("destroy", "--yes")
