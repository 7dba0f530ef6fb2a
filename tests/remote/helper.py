"""A helper for tests: what `agent helper` is to labctl, in twenty lines. Frames of JSON on standard input and output."""

import json
import os
import sys
import time


def say(message):
    body = json.dumps(message).encode()
    sys.stdout.buffer.write(len(body).to_bytes(4, "big") + body)
    sys.stdout.buffer.flush()


while header := sys.stdin.buffer.read(4):
    request = json.loads(sys.stdin.buffer.read(int.from_bytes(header, "big")))
    method, params = request["method"], request["params"]
    if method == "announce":
        say({"method": "digest", "params": params})
    if method == "sleep":
        time.sleep(params)
    if method == "die":
        sys.exit(str(params))
    if method == "say":  # whatever it is, as a frame, as often as asked
        body, times = params["body"].encode(), params.get("times", 1)
        for _ in range(times):
            sys.stdout.buffer.write(len(body).to_bytes(4, "big") + body)
            sys.stdout.buffer.flush()
    if method == "refuse":
        say({"id": request["id"], "error": params})
    elif method == "garbage":
        sys.stdout.write("this is no frame, but long enough to be one\n" * 10)
        sys.stdout.flush()
    else:
        say({"id": request["id"], "result": os.getpid() if method == "pid" else params})
