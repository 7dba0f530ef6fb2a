"""Traffic between the machines of a namespace lab, looked at from inside their network namespaces, over no other link than the one that is tried.

Each program runs with this host's python3 in the network namespace of a machine, or of the lab, so it needs no SSH, which would use the link too.
"""

import json
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

RECEIVE = """
import select, socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, 33, 8 << 20)  # SO_RCVBUFFORCE
s.bind(("0.0.0.0", int(sys.argv[1])))
print("ready", flush=True)
got, sending = {}, True
while readable := select.select([s, sys.stdin] if sending else [s], [], [], None if sending else float(sys.argv[2]))[0]:
    if s in readable:
        data = s.recv(2048)
        got[data[:8]] = got.get(data[:8], 0) + 1
    else:
        sending = bool(sys.stdin.readline())
print(len(got), sum(got.values()), flush=True)
"""
"""It counts until its standard input ends and then for as long as something still arrives: a sender that starts late is no loss."""
SEND = """
import socket, sys, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
count = int(sys.argv[3])
for number in range(count):
    s.sendto(b"%08d" % number, (sys.argv[1], int(sys.argv[2])))
    if number % 20 == 19:
        time.sleep(0.002)
print("sent", count)
"""
SINK = """
import socket, sys, time
listening = socket.create_server(("0.0.0.0", int(sys.argv[1])))
print("ready", flush=True)
listening.settimeout(20)
connection, _ = listening.accept()
connection.settimeout(20)
total, began, end = 0, None, float(sys.argv[2])
while data := connection.recv(1 << 16):
    began = began or time.monotonic()
    total += len(data)
    if time.monotonic() - began > end:
        break
print(total * 8 / (time.monotonic() - began), flush=True)
"""
SOURCE = """
import socket, sys
connection = socket.create_connection((sys.argv[1], int(sys.argv[2])), 10)
try:
    while True:
        connection.sendall(bytes(1 << 14))
except OSError:
    pass
"""
CONNECT = """
import socket, statistics, sys, time
took = []
try:
    for _ in range(9):
        began = time.monotonic()
        socket.create_connection((sys.argv[1], int(sys.argv[2])), 1.5).close()
        took.append(time.monotonic() - began)
    print(statistics.median(took))
except OSError:
    print("no answer")
"""
LOOK = """
nft list ruleset
iptables-save | grep -v '^#'
tc qdisc show
for device in $(ls /sys/class/net); do tc filter show dev $device; tc class show dev $device; done
ip -o link | sed 's/ qlen.*//'
"""


class Links:
    """The machines of a lab as their own network sees them."""

    def __init__(self, cluster) -> None:
        self._lab = cluster.status()["lab"]
        self._port = 20_000

    def pid(self, minion: str) -> int:
        """The sshd that listens: it is in the machine's own network namespace, as long as the machine runs. One of a connection may end at any moment, and what
        makes a pod, or enters one, leaves the namespace for a moment.
        """
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                found = (folder / "comm").read_text() == "sshd\n" and f"{self._lab}/{minion}/" in (folder / "cgroup").read_text()
                parent = (folder / "stat").read_text().rpartition(") ")[2].split()[1]
                found = found and Path(f"/proc/{parent}/comm").read_text() != "sshd\n"
            except OSError:
                continue
            if found:
                return int(folder.name)
        raise AssertionError(f"no sshd of {minion} runs")

    def lab_pid(self, state: Path) -> int:
        """The lab's own init: in its namespace are the host's ends of all links."""
        boot = json.loads(next((state / self._lab / "machines").glob("*/boot.json")).read_text())
        return int(boot["lab_init"])

    def run(self, minion: str, *argv: str, **options) -> subprocess.CompletedProcess:
        return subprocess.run(self.inside(minion, *argv), text=True, capture_output=True, timeout=60, **options)

    def inside(self, minion: str, *argv: str) -> list[str]:
        return ["nsenter", f"--net=/proc/{self.pid(minion)}/ns/net", "--", *argv]

    def arrived(self, sender: str, receiver: str, address: str, count: int, quiet_s: float = 1.0) -> tuple[int, int]:
        """Send `count` UDP packets one way; how many of them arrived, and how often in all."""
        with self._listening(receiver, RECEIVE, str(quiet_s)) as (port, listener):
            done = self.run(sender, sys.executable, "-c", SEND, address, str(port), str(count))
            assert done.stdout == f"sent {count}\n", f"{sender} could not send: {done}"
            listener.stdin.close()
            counted = listener.stdout.readline()
        assert counted, f"the receiver on {receiver} ended without a word"
        distinct, all_ = counted.split()
        return int(distinct), int(all_)

    def acquaint(self, one: str, other: str, addresses: dict[str, str]) -> None:
        """Have each know the other's hardware address. Else a fault may hit the question for it, and then nothing is sent for a second."""
        for here, there in ((one, other), (other, one)):
            assert self.reaches(here, addresses[there]), f"{here} does not reach {there} before anything is broken"

    def bits_per_s(self, sender: str, receiver: str, address: str, seconds: float) -> float:
        """How much one TCP connection carries one way."""
        with self._listening(receiver, SINK, str(seconds)) as (port, listener):
            source = subprocess.Popen(self.inside(sender, sys.executable, "-c", SOURCE, address, str(port)))
            try:
                return float(listener.stdout.readline())
            finally:
                source.kill()
                source.wait()

    def round_trip_s(self, minion: str, address: str, port: int = 22) -> float | None:
        """The median time of a TCP connection's first answer; None if there is none."""
        done = self.run(minion, sys.executable, "-c", CONNECT, address, str(port))
        assert done.returncode == 0, f"{minion} could not try: {done}"
        return None if done.stdout == "no answer\n" else float(done.stdout)

    def reaches(self, minion: str, address: str, port: int = 22) -> bool:
        return self.round_trip_s(minion, address, port) is not None

    def host_side(self, state: Path) -> str:
        """Everything that a fault could leave behind on the host's ends of the links."""
        inside = ["nsenter", f"--net=/proc/{self.lab_pid(state)}/ns/net", "--"]
        return subprocess.run([*inside, "sh", "-c", LOOK], text=True, capture_output=True, check=True).stdout

    @contextmanager
    def _listening(self, minion: str, program: str, *arguments: str):
        self._port += 1
        command = self.inside(minion, sys.executable, "-c", program, str(self._port), *arguments)
        listener = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            assert listener.stdout.readline() == "ready\n"
            yield self._port, listener
        finally:
            listener.kill()
            listener.wait()
            listener.stdin.close()
            listener.stdout.close()
