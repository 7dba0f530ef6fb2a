"""The vandal: what root on a minion may do to it. A deed is a shell script, and the table of them is one thing, what becomes of the lab another.

`test_vandal.py` plays them on minion-1. Here is what they do, and what of the host and of the lab is looked at before and after.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import time
from pathlib import Path

PRELUDE = """
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
AGENT=/var/lib/labctl/agent
own_cgroups() { for f in /sys/fs/cgroup /sys/fs/cgroup/*; do [ -e "$f/cgroup.procs" ] && echo "$f"; done; }
"""

API = """
import http.client, json, ssl, sys, threading, time, urllib.parse
told = json.load(open("/etc/labctl/agent.json"))
url, node = urllib.parse.urlsplit(told["url"]), told["node"]
tls = ssl.create_default_context(cafile="/etc/labctl/ca.crt")
tls.check_hostname = False
tls.load_cert_chain("/etc/labctl/agent.crt", "/etc/labctl/agent.key")
end = time.monotonic() + 3
connection = None

def ask(method, path, body, kind="application/json"):
    global connection
    if connection is None:
        connection = http.client.HTTPSConnection(url.hostname, url.port, timeout=5, context=tls)
    try:
        connection.request(method, path, json.dumps(body), {"Content-Type": kind})
        answer = connection.getresponse()
        answer.read()
        return answer.status
    except (OSError, http.client.HTTPException):
        connection = None

"""
"""The agent's own certificate, in the vandal's hands."""

EVENTS = """
for number in range(10_000):
    if time.monotonic() > end:
        break
    about = {"kind": "Pod", "namespace": "default", "name": f"p{number}"}
    ask("POST", "/api/v1/namespaces/default/events", {"kind": "Event", "apiVersion": "v1", "metadata": {"name": f"e{number}", "namespace": "default"},
        "involvedObject": about, "reason": "x", "message": "\\x1b]0;owned\\x07\\x1b[2J" + "y" * 900, "type": "Normal"})
"""

STATUSES = """
big = {"k%d" % n: "v" * 200 for n in range(5000)}
names = ["../x", "\\x1b[2J", "A" * 300, "minion-2", "x/y", "%00", "x" * 253, node]
while time.monotonic() < end:
    for name in names:
        ask("POST", "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases", {"metadata": {"name": name}, "spec": {"holderIdentity": name}})
        ask("PATCH", "/api/v1/nodes/" + urllib.parse.quote(name, "") + "/status", {"metadata": {"annotations": big}}, "application/merge-patch+json")
        conditions = [{"type": "c%d" % n, "status": "True", "reason": "\\x1b[2J", "message": "m" * 190} for n in range(5000)]
        ask("PATCH", f"/api/v1/nodes/{node}/status", {"status": {"conditions": conditions}}, "application/merge-patch+json")
"""

IMPOSTOR = r"""
import json, os, runpy, sys, time
if sys.argv[1:2] != ["helper"]:
    runpy.run_path("/opt/labctl/agent.real", run_name="__main__")
    sys.exit()
def say(body):
    os.write(1, len(body).to_bytes(4, "big") + body)
HOW
"""
"""An agent whose helper says what HOW says."""

HELPERS = {
    "megabytes": "while True: os.write(1, (32 << 20).to_bytes(4, 'big') + b'[' * (32 << 20))",
    "garbage": "while True: os.write(1, os.urandom(4000)); time.sleep(.01)",
    "never": "time.sleep(10 ** 6)",
    "slowly": "for byte in (30 << 20).to_bytes(4, 'big') + b' ' * (30 << 20): os.write(1, bytes([byte])); time.sleep(.05)",
    "digests": "while True: say(json.dumps({'method': 'digest', 'params': {'rules': 'x' * 100, 'routes': 'lost', 'dns': 'lost', 'forwarder': 'lost'}}).encode())",
    "escapes": r"""os.write(2, b"\x1b]0;owned\x07\x1b[2J" * 1000); sys.exit(3)""",
    "yes": """while True:
    size = int.from_bytes(sys.stdin.buffer.read(4), 'big'); asked = json.loads(sys.stdin.buffer.read(size))
    say(json.dumps({'id': asked['id'], 'result': None}).encode())""",
    "refuses": r"""while True:
    size = int.from_bytes(sys.stdin.buffer.read(4), 'big'); asked = json.loads(sys.stdin.buffer.read(size))
    say(json.dumps({'id': asked['id'], 'error': '\x1b[2J' + 'x' * 10 ** 6}).encode())""",
}


def false_helper(how: str) -> str:
    body = IMPOSTOR.replace("HOW", HELPERS[how])
    return (
        "mv /opt/labctl/agent /opt/labctl/agent.real\n"
        f"cat >/opt/labctl/agent <<'END'\n{body}\nEND\nchmod 755 /opt/labctl/agent; pkill -f 'agent helper'; sleep 2"
    )


def false_agent(program: str) -> str:
    return f"cat >/tmp/false_agent.py <<'END'\n{API}{program}\nEND\n/usr/bin/python3 /tmp/false_agent.py"


def false_program(path: str, body: str) -> str:
    """A script in the place of a program that labctl starts."""
    return f"rm -f {path}; printf '%s\\n' '#!/bin/sh' {_quoted(body)} >{path}; chmod 755 {path}"


def profile(text: str) -> str:
    """Whatever a login may read says this."""
    files = "/root/.bashrc /root/.profile /root/.bash_profile /etc/profile /etc/bash.bashrc /etc/ssh/sshrc /root/.ssh/rc /root/.zshenv"
    return f"for f in {files}; do printf '%s\\n' {_quoted(text)} >$f; done; printf 'BASH_ENV=/root/.bashrc\\nENV=/root/.bashrc\\n' >>/etc/environment"


def in_the_place_of(paths: str, make: str) -> str:
    """`make` makes something at "$f" for each of the paths, which are removed first."""
    return f"for f in {paths}; do rm -rf $f; {make}; done"


def sitecustomize(line: str) -> str:
    """Python does this first, whoever starts it."""
    folders = "/usr/lib/python3/dist-packages /usr/local/lib/python3*/dist-packages"
    return f"for d in {folders}; do printf '%s\\n' {_quoted(line)} >$d/sitecustomize.py; done; pkill -9 -f agent"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


LABCTLS = "/opt/labctl/agent /opt/labctl/agent-run /etc/labctl/agent.json /etc/labctl/agent.crt /etc/labctl/agent.key /etc/labctl/ca.crt /etc/labctl/boot_id"
RECORDS = (
    "/var/lib/labctl/agent/* /var/log/labctl /var/log/pods /run/labctl-agent.pid /run/labctl-agent.stamp /run/labctl /opt/labctl/stamp"
)
SSHDS = "/etc/ssh/sshd_config /etc/ssh/labctl_host_ed25519_key /root/.ssh/authorized_keys /root/.ssh /etc/passwd /etc/hosts /etc/hostname"
KILL_AGENT = "end=$(($(date +%s) + 6)); while [ $(date +%s) -lt $end ]; do pkill -9 -f /opt/labctl/agent; sleep 0.05; done"

DEEDS: dict[str, str] = {
    # the network
    "rules flushed": "for t in iptables iptables-legacy; do for k in filter nat mangle raw; do $t -t $k -F; $t -t $k -X; done; done; nft flush ruleset",
    "rules that drop all": "iptables -P INPUT DROP; iptables -P OUTPUT DROP; iptables -I INPUT -j DROP; iptables -I OUTPUT -j DROP",
    "links deleted": "for l in $(ls /sys/class/net); do ip link delete $l; done",
    "links down": "for l in $(ls /sys/class/net); do ip link set $l down; done",
    "addresses flushed": "ip address flush dev lo; for l in $(ls /sys/class/net); do ip address flush dev $l; done",
    "routes flushed": "ip route flush table main; ip route flush table local; ip rule flush",
    "another's address": "for l in $(ls /sys/class/net | grep -v lo); do ip address add 10.245.1.3/16 dev $l; ip link set $l address 02:00:00:00:00:03; done",
    "named networks gone": "for n in $(ls /run/netns); do ip netns delete $n; done; rm -rf /run/netns",
    "forwarding off": "echo 0 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv4/conf/all/rp_filter",
    # processes
    "all killed": "kill -9 -1",
    "init killed": "kill -9 1; kill -TERM 1; kill -INT 1",
    "sshd killed": "pkill -9 sshd",
    "sshd killed again and again": "end=$(($(date +%s) + 6)); while [ $(date +%s) -lt $end ]; do pkill -9 sshd; sleep 0.05; done",
    "agent killed again and again": KILL_AGENT,
    "all stopped": "kill -STOP -1",
    "poweroff": "poweroff -f; halt -f; reboot -f; systemctl poweroff; kill -9 $(pgrep -o sshd)",
    "reboot": "reboot; reboot -f; python3 -c 'import ctypes; ctypes.CDLL(None).reboot(0x1234567)'",
    "fork bomb": "timeout 8 sh -c 'b() { b | b & }; b; sleep 8'; sleep 1",
    "open files used up": (
        "timeout 20 python3 -c 'import os,time\nfor _ in range(40):\n if os.fork() == 0:\n  try:\n   while True: os.open(\"/dev/null\", 0)\n"
        "  except OSError: time.sleep(6); os._exit(0)\ntime.sleep(6)'"
    ),
    # disks
    "tmp full": "head -c 3G /dev/zero >/tmp/full; head -c 1G /dev/zero >/run/full; head -c 1G /dev/zero >/dev/full_; head -c 1G /dev/zero >/dev/shm/full",
    "run full of files": "cd /run && timeout 10 python3 -c 'import os\nfor n in range(10**6): open(f\"f{n}\", \"w\").close()'; cd /tmp; true",
    "disk written to": "head -c 300M /dev/zero >/full; head -c 300M /dev/zero >/var/lib/labctl/full; head -c 300M /dev/zero >/var/tmp/full; sync",
    "many files": "mkdir /many; cd /many; timeout 10 python3 -c 'for n in range(50_000): open(f\"f{n}\", \"w\").close()'",
    "deep folders": "cd /root; timeout 10 python3 -c 'import os\nfor n in range(5000): os.mkdir(\"d\"); os.chdir(\"d\")'",
    "deep folders where files are written": (
        "rm -rf /root/.ssh /etc/hosts; timeout 20 python3 -c 'import os\nfor top in (\"/etc/hosts\", \"/root/.ssh/authorized_keys\"):\n"
        " os.makedirs(top); os.chdir(top)\n for n in range(3000): os.mkdir(\"d\"); os.chdir(\"d\")'"
    ),
    # files
    "python removed": "rm -rf /usr/bin/python3* /usr/lib/python3*",
    "agent's files removed": "rm -rf /opt/labctl /etc/labctl",
    "agent's records removed": "rm -rf /var/lib/labctl/* /var/log/labctl /var/log/pods /run/labctl*",
    "bin removed": "rm -rf /bin/ /usr/bin/ /usr/sbin/",
    "all removed": "rm -rf --no-preserve-root /",
    "libraries removed": "rm -rf /lib/x86_64-linux-gnu/ /usr/lib/x86_64-linux-gnu/",
    "nothing may be read": "chmod 000 /; chmod 000 /etc /root /opt /var /usr /tmp /run",
    "immutable": "chattr -R +i /root/.ssh /etc/ssh /etc/labctl /opt/labctl /var/lib/labctl/agent; chattr +i / /etc /root",
    "owned by nobody": "chown -R 65534:65534 /root /etc /opt /var/lib/labctl",
    "pipes for labctl's files": in_the_place_of(f"{LABCTLS} {RECORDS}", "mkfifo $f"),
    "pipes for sshd's files": in_the_place_of(SSHDS, "mkfifo $f"),
    "devices for labctl's files": in_the_place_of(f"{LABCTLS} {RECORDS}", "mknod $f c 1 5"),
    "devices for sshd's files": in_the_place_of(SSHDS, "mknod $f c 1 8"),
    "links for labctl's files": in_the_place_of(f"{LABCTLS} {RECORDS}", "ln -s /dev/zero $f"),
    "links for sshd's files": in_the_place_of(SSHDS, "ln -s /etc/vandal-was-here $f"),
    "links to the host's": in_the_place_of(f"/root /etc/labctl /etc/ssh /opt/labctl {SSHDS}", "ln -s /../../../../../root $f"),
    "links for top folders": "for f in /proc /sys /dev /run /tmp /var /etc; do umount -l $f; mv $f $f.was || rm -rf $f; ln -s /root $f; done",
    "random bytes": (
        "find /etc/labctl /opt/labctl /var/lib/labctl/agent /run/labctl /var/log/labctl -type f | while read f; do head -c 5000 /dev/urandom >$f; done"
    ),
    "random bytes for sshd's files": f"for f in {SSHDS}; do head -c 5000 /dev/urandom >$f; done",
    "nonsense": "find /etc/labctl /opt/labctl /var/lib/labctl/agent /run/labctl* -type f | while read f; do printf '[[[[[{}' >$f; done; pkill -9 -f agent",
    "long records": "for f in /etc/labctl/boot_id /run/labctl-agent.stamp /etc/labctl/agent.crt; do head -c 200M /dev/zero | tr '\\0' x >$f; done",
    "odd names of pods": r"""for d in /var/lib/labctl/agent/pods /var/log/pods; do for n in '..x' 'a b' "$(printf '\033[2J')" '-rf' '$(reboot)'; do mkdir -p "$d/$n"; done; done""",
    # cgroups
    "groups killed": "for g in $(own_cgroups); do echo 1 >$g/cgroup.kill; for p in $(cat $g/*/cgroup.procs); do kill -9 $p; done; done",
    "groups frozen": "for g in /sys/fs/cgroup/freezer/*/ /sys/fs/cgroup/*/; do echo FROZEN >$g/freezer.state; echo 1 >$g/cgroup.freeze; done",
    "itself frozen": "echo FROZEN >/sys/fs/cgroup/freezer/freezer.state; echo 1 >/sys/fs/cgroup/cgroup.freeze",
    "all frozen in a group": (
        "mkdir /sys/fs/cgroup/freezer/ice /sys/fs/cgroup/ice; for d in /sys/fs/cgroup/freezer/ice /sys/fs/cgroup/ice; do"
        " for p in $(ls /proc | grep '^[0-9]'); do echo $p >$d/cgroup.procs; done; echo FROZEN >$d/freezer.state; echo 1 >$d/cgroup.freeze; done"
    ),
    "little memory": (
        "for g in $(find /sys/fs/cgroup -name 'memory.limit_in_bytes' -o -name memory.max -o -name memory.high); do echo 4M >$g; done;"
        " for g in $(find /sys/fs/cgroup -name pids.max); do echo 3 >$g; done; head -c 100M /dev/zero | tail | wc -c"
    ),
    "many groups": "for r in $(own_cgroups); do for n in $(seq 200); do mkdir -p $r/v$n/a/b/c; done; done",
    "no processor": (
        "for f in $(find /sys/fs/cgroup -name cpu.cfs_quota_us); do echo 1000 >$f; done;"
        " for f in $(find /sys/fs/cgroup -name cpu.max); do echo '1000 1000000' >$f; done"
    ),
    # mounts
    "all unmounted": "for i in 1 2 3; do tac /proc/mounts | while read _ m _; do umount -l $m; done; done",
    "mounted read-only": "mount -o remount,ro /; mount -o remount,bind,ro /var/lib/labctl; mount -o remount,ro /run; mount -o remount,ro /tmp",
    "mounted over": "for f in /etc /root/.ssh /opt /var/lib/labctl /run /usr /var/log; do mount -t tmpfs none $f; done",
    "bound over": "for f in /etc /root/.ssh /opt /var /usr/bin; do mount --bind /tmp $f; done",
    "mounted a thousand times": "for n in $(seq 1000); do mount -t tmpfs none /var/lib/labctl/agent; done",
    "mounts shared": "mount --make-rshared /; mount --rbind / /mnt; mount --rbind / /mnt",
    # what a login reads
    "noisy profile": profile("echo noise; echo noise >&2; printf \"\\033[2J\""),
    "profile that sleeps": profile("sleep 100000"),
    "profile that ends": profile("exit 1"),
    "profile that floods": profile("yes"),
    "false python": (
        "mkdir -p /usr/local/bin; printf '%s\\n' '#!/bin/sh' 'yes false | head -c 100000000' >/usr/local/bin/python3; chmod 755 /usr/local/bin/python3;"
        " echo PATH=/usr/local/bin:/bin >/etc/environment"
    ),
    "python raises": sitecustomize("raise SystemExit(3)"),
    "python prints": sitecustomize("print(\"noise\" * 1000, flush=True)"),
    "python sleeps": sitecustomize("import time; time.sleep(10**6)"),
    "a library that is not there": "echo /nowhere.so >/etc/ld.so.preload",
    "a library that is a pipe": "mkfifo /l.so; echo /l.so >/etc/ld.so.preload",
    "root's shell is false": "usermod -s /bin/false root || sed -i 's,^root:.*,root:x:0:0:root:/root:/bin/false,' /etc/passwd; pkill -9 -f agent",
    "no root": "sed -i /^root:/d /etc/passwd /etc/shadow; pkill -9 -f agent",
    "environment": (
        "printf 'PYTHONPATH=/nowhere\\nPYTHONHOME=/nowhere\\nLD_LIBRARY_PATH=/tmp\\nPATH=/nowhere\\n' >/etc/environment;"
        " echo 'SetEnv PATH=/nowhere' >>/etc/ssh/sshd_config"
    ),
    "few processes": "printf '* hard nproc 5\\nroot hard nproc 5\\nroot hard nofile 3\\n' >/etc/security/limits.conf; pkill -9 -f agent",
    "sshd refuses": "printf 'PermitRootLogin no\\nDenyUsers root\\n' >/etc/ssh/sshd_config; pkill -9 sshd",
    "sshd forces a command": "printf 'ForceCommand yes\\n' >>/etc/ssh/sshd_config; pkill -9 sshd",
    # what it says
    "clock": "date -s 2001-01-01; python3 -c 'import time; time.clock_settime(0, 1e9)'; hwclock -w",
    "host name": "hostname vandal; echo vandal >/etc/hostname; mount --bind /dev/null /proc/sys/kernel/hostname",
    "sysctls": "mkdir /p; mount -t proc proc /p; echo 3 >/p/sys/vm/drop_caches; echo 1 >/p/sys/vm/stat_interval; echo 7 >/p/sys/kernel/printk; sysctl -w vm.swappiness=1",
    "false look": false_program("/usr/bin/base64", "printf A"),
    "false hash": false_program("/usr/bin/sha256sum", "yes x | head -c 90000000"),
    "false names": false_program("/usr/bin/uname", "printf \"\\033[2J%01000000d\" 1"),
    "false date": false_program("/usr/bin/date", "echo nan"),
    "false tar": false_program("/usr/bin/tar", "sleep 100000"),
    "false rules": false_program("/usr/sbin/iptables-restore", "yes | head -c 50000000; exit 1"),
    "false crun": false_program("/usr/bin/crun", "yes | head -c 50000000; exit 1"),
    **{f"a helper: {how}": false_helper(how) for how in HELPERS},
    "ten thousand Events": false_agent(EVENTS),
    "large statuses": false_agent(STATUSES),
    "connections": false_agent("import socket\nkept = []\nwhile time.monotonic() < end and len(kept) < 3000: kept.append(socket.create_connection((url.hostname, url.port)))"),
    "long log": (
        "for d in /var/log/pods/*/*; do { printf '2026-01-01T00:00:00Z stdout F '; head -c 100000000 /dev/zero | tr '\\0' x; echo;"
        " printf '2026-01-01T00:00:00Z stdout F \\033[2J\\033]0;owned\\007\\n'; } >>$d/0.log; done"
    ),
}  # fmt: skip

MENDED_BY: dict[str, str] = {
    "addresses flushed": "reset",
    "random bytes": "reset",
    "no processor": "reset",
    "little memory": "reset",
    "routes flushed": "reset",
    "all unmounted": "reset",
    "links for top folders": "reset",
    "long records": "reset",
    "python prints": "reset",
    "rules that drop all": "reset",
    "mounted over": "reset",
    "links down": "reset",
    "mounted read-only": "reset",
    "agent's files removed": "reset",
    "bound over": "reset",
    "all stopped": "reset",
    "all frozen in a group": "reset",
    "itself frozen": "reset",
    "links deleted": "reset",
    "libraries removed": "destroy",
    "false crun": "destroy",
    "bin removed": "destroy",
    "a library that is a pipe": "destroy",
    "links for labctl's files": "destroy",
    "deep folders where files are written": "destroy",
    "nonsense": "destroy",
    "sshd forces a command": "destroy",
    "links to the host's": "destroy",
    "no root": "destroy",
    "pipes for labctl's files": "destroy",
    "all removed": "destroy",
    "links for sshd's files": "destroy",
    "root's shell is false": "destroy",
    "python removed": "destroy",
    "random bytes for sshd's files": "destroy",
    "pipes for sshd's files": "destroy",
    "noisy profile": "destroy",
    "devices for sshd's files": "destroy",
    "profile that floods": "destroy",
}
"""The mildest command that brings the machine back, where that is not `labctl up`: `fault reset`, or `destroy` and `up --minions N`."""

TELLING = (
    "false look",
    "immutable",
    "a helper: megabytes",
    "large statuses",
    "bin removed",
    "links for sshd's files",
    "all frozen in a group",
    "links down",
)
"""What `make test` plays: one of each family."""


# -- what must stay as it is -------------------------------------------------------------------------------------------------------------------

SYSCTLS = ("kernel", "vm", "fs")
FICKLE = (
    "random",
    "quota/",
    "ns_last_pid",
    "-nr",
    "-state",
    "pty/nr",
    "keys",
    "lwtest",
    "sched_domain",
    "binfmt_misc",
    "usermodehelper",
    "pid_max",
    "tainted",
)


def host() -> dict[str, str]:
    """What of the host no minion may change: its files, sysctls, mounts, rules, name; labs' own mounts are left out, as other labs come and go."""
    mounts = (line for line in Path("/proc/self/mounts").read_text().splitlines() if "labctl" not in line and "/tmp/" not in line)
    return {
        **{f"{top}/{path}": said for top in ("/etc", "/root/.ssh", "/root") for path, said in _files(Path(top), deep=top != "/root")},
        **{f"sysctl {path}": said for path, said in _sysctls()},
        **{f"mount {line}": "" for line in mounts},
        **{f"cgroup {path}": said for path, said in _limits()},
        "links": _of("ip", "-br", "link"),
        "rules": _of("iptables-save"),
        "name": os.uname().nodename,
    }


def clock_s() -> float:
    """How far the clock is ahead of the time since the boot: only setting the clock changes that."""
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)


def _files(top: Path, *, deep: bool):
    for folder, folders, files in os.walk(top):
        if not deep:
            folders[:] = []
        for name in files:
            path = Path(folder, name)
            try:
                seen = path.lstat()
                content = path.read_bytes() if path.is_file() and seen.st_size < 1 << 20 else b""
            except OSError:
                continue
            yield str(path.relative_to(top)), f"{seen.st_mode:o} {seen.st_uid} {seen.st_size} {hashlib.sha1(content).hexdigest()}"


def _sysctls():
    for top in SYSCTLS:
        for folder, _, files in os.walk(f"/proc/sys/{top}"):
            for name in files:
                path = f"{folder}/{name}"
                if any(word in path for word in FICKLE):
                    continue
                try:
                    yield path, Path(path).read_text()
                except (OSError, UnicodeDecodeError):
                    continue


def _limits():
    """Of the host's own groups at the top."""
    for folder in (Path("/sys/fs/cgroup"), *Path("/sys/fs/cgroup").glob("*/")):
        for name in (
            "memory.limit_in_bytes",
            "memory.max",
            "pids.max",
            "cpu.max",
            "cpu.cfs_quota_us",
            "freezer.state",
            "cgroup.freeze",
            "release_agent",
            "notify_on_release",
        ):
            file = folder / name
            if file.is_file():
                yield str(file), file.read_text()


def _of(*argv: str) -> str:
    said = subprocess.run(argv, capture_output=True, text=True).stdout
    return "\n".join(line.partition("[")[0] for line in said.splitlines() if not line.startswith("#"))
