"""Finds the shared libraries that programs need.

The loader in the packages is asked, so the answer holds for the packages and not for this machine.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

from labctl.errors import LabctlError

_FOUND = re.compile(r"^\s*(?:\S+ => )?(/\S+) \(0x[0-9a-f]+\)$", re.MULTILINE)
_LACKING = re.compile(r"^\s*(\S+) => not found$", re.MULTILINE)
_ELF = b"\x7fELF"


def libraries(root: Path, files: Iterable[str]) -> list[str]:
    """Return the paths in `root` (absolute, as in the image) of the loader and of every library that the dynamic programs among `files`
    need.
    """
    programs = [name for name in files if _is_dynamic(root / name.lstrip("/"))]
    if not programs:
        return []
    loader = _loader(root)
    folders = ":".join(
        str(folder) for pattern in ("lib/*-linux-gnu*", "usr/lib/*-linux-gnu*", "lib", "usr/lib") for folder in sorted(root.glob(pattern))
    )
    found = {"/" + str(loader.relative_to(root))}
    for name in programs:
        argv = [str(loader), "--inhibit-cache", "--library-path", folders, "--list", str(root / name.lstrip("/"))]
        done = subprocess.run(argv, capture_output=True, text=True)
        paths = _FOUND.findall(done.stdout)
        # The loader looks in this machine's own folders last. A library that it found there is missing in the packages.
        lacking = [*_LACKING.findall(done.stdout), *(Path(path).name for path in paths if not path.startswith(f"{root}/"))]
        if lacking or done.returncode:
            raise LabctlError(f"{name} needs {', '.join(lacking) or done.stderr.strip()}, which is in none of the recipe's packages")
        found |= {"/" + str(Path(path).relative_to(root)) for path in paths}
    return sorted(found)


def _loader(root: Path) -> Path:
    """Return the loader's path as programs name it."""
    for pattern in ("lib64/ld-linux-*.so.*", "lib/ld-linux-*.so.*"):
        for path in sorted(root.glob(pattern)):
            return path
    raise LabctlError("the recipe's packages have dynamic programs but no loader")


def _is_dynamic(path: Path) -> bool:
    """Tell whether this is an ELF file that names an interpreter, or a module that programs load (`_ssl.so`). A static program needs no library."""
    with open(path, "rb") as file:
        head = file.read(4096)
    return head.startswith(_ELF) and (b"/ld-linux" in head or path.suffix == ".so")
