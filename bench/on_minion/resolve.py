"""For each name on its input: asks this machine's DNS server until it has an address (30 s at most), and says when that was on CLOCK_MONOTONIC, or 0.

`rate SECONDS NAME` on its input instead: how many queries a second are answered, with 32 of them on the way at any time. `#` in the name is another
number in each query, so that no answer can be sent twice.
"""

import select
import socket
import struct
import sys
import time

SERVER = ("10.247.0.10", 53)
AT_ONCE = 32


def query(number, name):
    labels = b"".join(bytes([len(each)]) + each.encode() for each in name.split("."))
    return struct.pack(">HHHHHH", number & 0xFFFF, 0x100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">HH", 1, 1)


def has_address(sock, name):
    sock.send(query(1, name))
    if not select.select([sock], [], [], 0.05)[0]:
        return False
    return struct.unpack_from(">H", sock.recv(2000), 6)[0] > 0


def rate(sock, seconds, name):
    sent = answered = 0
    begun = time.monotonic()
    while time.monotonic() - begun < seconds:
        while sent - answered < AT_ONCE:
            sock.send(query(sent, name.replace("#", str(sent))))
            sent += 1
        if not select.select([sock], [], [], 1.0)[0]:
            answered = sent  # what is lost is not waited for, and not counted
            continue
        sock.recv(2000)
        answered += 1
    return answered / (time.monotonic() - begun)


sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.connect(SERVER)
print("begun", flush=True)
for line in sys.stdin:
    words = line.split()
    if words[0] == "rate":
        print(rate(sock, float(words[1]), words[2]), flush=True)
        continue
    print("trying", flush=True)
    end, at = time.monotonic() + 30, 0.0
    while time.monotonic() < end:
        if has_address(sock, words[0]):
            at = time.monotonic()
            break
        time.sleep(0.001)
    print(at, flush=True)
