"""A root folder small enough for any test: one static or dynamic shell with what it is linked against."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

PROGRAMS = ("sh", "cat", "sleep", "echo", "hostname", "ls", "id", "head", "true", "false", "env", "kill", "mkdir", "mount", "touch")


def make(root: Path) -> str:
    """A layer folder that has the programs of PROGRAMS and /etc/passwd."""
    for folder in ("bin", "etc", "tmp", "dev", "proc", "sys"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    (root / "tmp").chmod(0o1777)
    for name in PROGRAMS:
        found = shutil.which(name, path="/usr/bin:/bin:/usr/sbin:/sbin")
        assert found, f"this machine has no {name}"
        shutil.copy(os.path.realpath(found), root / "bin" / name)
        for library in _libraries(found):
            target = root / library.lstrip("/")
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(os.path.realpath(library), target)
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\nnogroup:x:65534:\n")
    return str(root)


def _libraries(program: str) -> list[str]:
    said = subprocess.run(["ldd", program], capture_output=True, text=True).stdout
    return re.findall(r"(/\S+)", said)
