"""For each VIP on its input: tries to connect until it succeeds (30 s at most), and says when that was on CLOCK_MONOTONIC, or 0 if it never did."""

import select
import socket
import sys
import time


def connects(vip):
    sock = socket.socket()
    sock.setblocking(False)
    try:
        sock.connect_ex((vip, 80))
        _, ready, _ = select.select([], [sock], [], 0.003)
        return bool(ready) and sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
    finally:
        sock.close()


print("begun", flush=True)
for line in sys.stdin:
    end, at = time.monotonic() + 30, 0.0
    print("trying", flush=True)
    while time.monotonic() < end:
        if connects(line.strip()):
            at = time.monotonic()
            break
        time.sleep(0.001)
    print(at, flush=True)
