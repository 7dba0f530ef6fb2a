"""Who answers a virtual IP, from the kernel's connection tracking, in a network namespace with rules as a minion has them."""

import json
import subprocess
import sys
from pathlib import Path

from tests.namespaces import needs_root

ROOT = Path(__file__).parents[2]
SCRIPT = """
set -e
ip link set lo up
for n in 1 2; do ip address add 10.9.9.$n/32 dev lo; done
ip address add 10.9.0.1/32 dev lo
ip route add 10.9.5.0/24 dev lo src 10.9.0.1
for how in "-m statistic --mode nth --every 2 --packet 0 -j DNAT --to 10.9.9.1:8080" "-j DNAT --to 10.9.9.2:8080"; do
    iptables -w -t nat -A OUTPUT -d 10.9.5.5 -p tcp --dport 80 $how
    iptables -w -t nat -A OUTPUT -d 10.9.5.5 -p udp --dport 80 $how
done
exec "$@"
"""
PROGRAM = """
import collections, contextlib, json, socket, subprocess, sys, threading
from labctl.measure import program
from labctl.measure.reader import SourceReader
def tcp(listening):
    while True:
        connection, _ = listening.accept()
        with contextlib.suppress(OSError):  # who only connects resets the connection
            connection.recv(4096)
            connection.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\nConnection: close\\r\\n\\r\\n")
        connection.close()
def udp(answering):
    while True:
        data, sender = answering.recvfrom(100)
        answering.sendto(data, sender)
for n in (1, 2):
    threading.Thread(target=tcp, args=(socket.create_server((f"10.9.9.{n}", 8080)),), daemon=True).start()
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagrams.bind((f"10.9.9.{n}", 8080))
    threading.Thread(target=udp, args=(datagrams,), daemon=True).start()
said = {}
for protocol in ("http", "tcp", "udp"):
    settings = {"protocol": protocol, "address": "10.9.5.5", "port": 80, "request": "GET / HTTP/1.1\\r\\n\\r\\n", "keepalive": False, "rate": 200, "count": 40,
                "deadline_s": 5, "in_flight": 100}
    reader = SourceReader(40, lambda text, there_s: None)
    process = subprocess.Popen([sys.executable, *program.ARGV[1:]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
    process.stdin.write(program.packed() + json.dumps(settings).encode() + b"\\nbegin 0.0\\n".replace(b"0.0", b"%.3f" % __import__("time").monotonic()))
    while not reader.ended:
        data = process.stdout.read(65536)
        assert data, "it ended"
        reader.feed(data)
    said[protocol] = collections.Counter(f"{record.outcome} {reader.names[record.who]}" for record in reader.records)
print(json.dumps(said))
"""


@needs_root
def test_each_request_names_the_address_that_the_rules_chose_for_it():
    argv = ["unshare", "--net", "--", "sh", "-c", SCRIPT, "sh", sys.executable, "-c", PROGRAM]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    half = {"ok 10.9.9.1": 20, "ok 10.9.9.2": 20}
    said = json.loads(done.stdout)
    # A datagram from a port that was used a moment ago follows the entry that is there, so that the rules do not choose anew: once in thirty runs.
    udp = said.pop("udp")
    assert udp.keys() == half.keys() and sum(udp.values()) == 40 and abs(udp["ok 10.9.9.1"] - 20) <= 2
    assert said == {"http": half, "tcp": half}
