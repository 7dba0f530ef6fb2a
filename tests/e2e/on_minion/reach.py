"""Runs on a minion, and looks out of the minion's own network and out of every pod's: who can be reached, and how large a packet may be.

    python3 reach.py '{"pods": [ADDRESS...], "nodes": [ADDRESS...], "urls": [URL...], "mtu": BYTES, "body": BYTES, "patience": FACTOR}'

Prints one JSON object: {place: [what failed...]}, a place for the minion and for each of its pods.
"""

import ctypes
import errno
import json
import os
import socket
import struct
import sys
import time
import urllib.request
from pathlib import Path

PODS = Path("/var/lib/labctl/agent/pods")
HEADERS_BYTES = 28  # IP and ICMP
ASKED_S, ECHO_S, TRANSFER_S = 3.0, 0.5, 10.0  # times the patience that is asked for
CLONE_NEWNET = 0x40000000
IP_MTU_DISCOVER, NEVER_FRAGMENT = 10, 2


def main(wanted: dict) -> None:
    places = {"the minion itself": None, **{pod_address(path): path for path in sorted(PODS.glob("*/ns/net"))}}
    print(json.dumps({place: inside(path, lambda place=place: failures(place, wanted)) for place, path in places.items() if place}))


def pod_address(namespace: Path) -> str:
    """Empty for a pod that has no network of its own, or is gone."""
    try:
        sandbox = json.loads((namespace.parent.parent / "sandbox.json").read_text())
    except OSError:
        return ""
    return sandbox["address"] if sandbox.get("ready", True) else ""


def inside(namespace, look) -> list:
    """What `look` answers in another process, which may move to another network for good."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if namespace:
                enter(namespace)
            answer = look()
        except Exception as error:
            answer = [repr(error)]
        os.write(writing, json.dumps(answer).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    return json.loads(text)


def enter(namespace: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    with open(namespace) as file:
        if libc.setns(file.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")


def failures(place: str, wanted: dict) -> list:
    found = []
    for address in wanted["pods"]:
        found += [f"{address}: {why}" for why in packets(address, wanted, refused=address != place)]
    for address in wanted["nodes"]:
        found += [f"{address}: {why}" for why in packets(address, wanted, refused=False)]
    for url in wanted["urls"]:
        found += [f"{url}: {why}" for why in transfer(url, wanted)]
    return found


def packets(address: str, wanted: dict, refused: bool):
    """The largest packet comes back whole; one byte more is refused, to everybody but oneself, before it leaves."""
    mtu = wanted["mtu"]
    if not echoed(address, mtu, wanted["patience"]):
        yield f"a packet of {mtu} bytes was not echoed"
    if refused:
        try:
            ping(address, mtu + 1, wanted["patience"])
            yield f"a packet of {mtu + 1} bytes was sent"
        except OSError as error:
            if error.errno != errno.EMSGSIZE:
                yield repr(error)


def echoed(address: str, size: int, patience: float) -> bool:
    """Asked again, as any network may lose a packet."""
    deadline = time.monotonic() + ASKED_S * patience
    while time.monotonic() < deadline:
        try:
            if ping(address, size, patience):
                return True
        except OSError:
            time.sleep(0.05)
    return False


def ping(address: str, size: int, patience: float) -> bool:
    """Whether an echo of `size` bytes in one piece came back within half a second, or as much longer as patience has it."""
    payload = os.urandom(size - HEADERS_BYTES)
    number = os.getpid() & 0xFFFF
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as wire:
        wire.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, NEVER_FRAGMENT)
        wire.sendto(request(number, payload), (address, 0))
        deadline = time.monotonic() + ECHO_S * patience
        while (left := deadline - time.monotonic()) > 0:
            wire.settimeout(left)
            try:
                data = wire.recv(65536)[20:]
            except TimeoutError:
                return False
            if data[0] == 0 and data[4:6] == struct.pack("!H", number) and data[8:] == payload:
                return True
    return False


def request(number: int, payload: bytes) -> bytes:
    head = struct.pack("!BBHHH", 8, 0, 0, number, 1)
    data = head + payload + b"\0" * (len(payload) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!BBHHH", 8, 0, ~total & 0xFFFF, number, 1) + payload


def transfer(url: str, wanted: dict):
    """A body that takes many packets of the largest size comes whole."""
    try:
        with urllib.request.urlopen(url, timeout=TRANSFER_S * wanted["patience"]) as answer:
            got = len(answer.read())
        if got != wanted["body"]:
            yield f"{got} bytes of {wanted['body']}"
    except OSError as error:
        yield repr(error)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
