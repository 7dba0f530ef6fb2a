"""Packs the load program (labctl/measure/load) into one zip, and says how a python3 elsewhere is made to run it.

The zip travels on the program's standard input and lies in its memory: nothing is written on the machine, and no text of an object's stands on a command line.
"""

from __future__ import annotations

import io
import zipfile
from functools import lru_cache
from pathlib import Path

_LOAD = Path(__file__).parent / "load"
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the same sources give the same bytes
_SIZE_DIGITS = 8
_START = """
import os, sys
def read(size):
    data = b""
    while len(data) < size:
        more = os.read(0, size - len(data))
        if not more:
            sys.exit("the load program did not arrive")
        data += more
    return data
memory = os.memfd_create("load")
os.write(memory, read(int(read(8))))
sys.path.insert(0, "/proc/self/fd/%d" % memory)
from load.main import main
main()
"""
ARGV = ("python3", "-I", "-c", _START)
"""The command that runs the program. Its standard input begins with `packed()`; what follows says labctl/measure/load/__init__.py."""


@lru_cache(maxsize=1)
def packed() -> bytes:
    """Returns the size of the zip in eight digits, then the zip."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(_LOAD.glob("*.py")):
            archive.writestr(zipfile.ZipInfo(f"load/{path.name}", _EPOCH), path.read_bytes(), zipfile.ZIP_DEFLATED)
    return b"%0*d" % (_SIZE_DIGITS, len(data.getvalue())) + data.getvalue()
