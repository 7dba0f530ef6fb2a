"""Keeps asking a VIP, one try each, 100 times a second at most, until its input ends or 5 minutes have passed; then says how it went."""

import http.client
import json
import select
import sys
import time

vip, total, failed, longest, errors = sys.argv[1], 0, 0, 0.0, []
end = time.monotonic() + 300
print("begun", flush=True)
good = time.monotonic()
while time.monotonic() < end and not select.select([sys.stdin], [], [], 0.01)[0]:
    total += 1
    try:
        connection = http.client.HTTPConnection(vip, 80, timeout=1)
        connection.request("GET", "/")
        answer = connection.getresponse()
        answer.read()
        connection.close()
        assert answer.status == 200
        now = time.monotonic()
        longest, good = max(longest, now - good), now
    except Exception as error:
        failed += 1
        errors.append(repr(error)[:80])
print(json.dumps({"total": total, "failed": failed, "longest_ms": round(longest * 1000), "errors": errors[:3]}), flush=True)
