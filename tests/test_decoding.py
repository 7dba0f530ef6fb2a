"""Types are looked through one after the other, whichever threads use them first."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import labctl

MANY = """
import sys, threading
import msgspec
from labctl.decoding import from_json

sys.setswitchinterval(1e-6)
RAW = msgspec.json.encode({"names": ["a"], "inner": {"functions": {"a": 1}, "arguments": {"a": {"b": 1}}}})
for _ in range(400):
    Inner = msgspec.defstruct("Inner", [("functions", "dict[str, int]"), ("arguments", "dict[str, dict[str, int]]")])
    Outer = msgspec.defstruct("Outer", [("names", "list[str]"), ("inner", Inner)])
    start, read = threading.Barrier(4), []

    def go():
        start.wait()
        read.append(from_json(RAW, Outer))

    threads = [threading.Thread(target=go) for _ in range(4)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    assert len(read) == 4 and all(each.inner.arguments == {"a": {"b": 1}} for each in read)
"""
RAW_USE = re.compile(
    r"msgspec\.convert\(|json\.decode\([^()]*(\([^()]*\)[^()]*)*, type=|Decoder\((?!ready\(|\)|dict\)|_python_type\()[a-zA-Z_]"
)
EXCEPT = ("decoding.py", "resources/custom/make.py")  # that one makes a Decoder of its own


def test_threads_that_use_a_type_first_at_once_end_nobody() -> None:
    ran = subprocess.run([sys.executable, "-c", MANY], capture_output=True, text=True, timeout=100)
    assert ran.returncode == 0, ran.stderr[-2000:]


def test_nobody_goes_another_way() -> None:
    root = Path(labctl.__file__).parent
    found = [
        f"{path.relative_to(root)}:{number}"
        for path in root.rglob("*.py")
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if RAW_USE.search(line) and not line.startswith("class ") and str(path.relative_to(root)) not in EXCEPT
    ]
    assert found == []
