"""Downloads and unpacks Debian packages. It uses apt's own settings, but folders of labctl's, and never installs anything.

apt's lists and cache are in CACHE/apt. So it works on a machine whose own lists are empty or old (a fresh container), and changes nothing
there.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from labctl.errors import LabctlError
from labctl.providers import locks

_LIBRARY = re.compile(r"(lib|zlib).*")
_DEPENDENCY = re.compile(r"\s*([a-z0-9][a-z0-9+.-]+)")


class Packages:
    """Debian packages as files. `folder` is kept between builds; lists older than `fresh_s` are fetched again."""

    def __init__(self, folder: Path, fresh_s: float) -> None:
        self._folder = folder
        self._fresh_s = fresh_s

    def extract(self, wanted: Sequence[str], into: Path, progress: Callable[[str], None]) -> list[str]:
        """Unpack the packages, and the libraries they depend on, below `into`. Return their names with versions, sorted."""
        found: dict[str, Path] = {}
        with locks.exclusive(self._folder / "lock"):
            self._update(progress)
            missing = list(wanted)
            while missing:
                found |= self._get(missing, progress)
                missing = sorted({name for deb in found.values() for name in self._libraries(deb)} - set(found))
            for deb in found.values():
                _run(["dpkg-deb", "-x", str(deb), str(into)])
        return sorted(_run(["dpkg-deb", "--show", "--showformat=${Package}=${Version}", str(deb)]) for deb in found.values())

    def _get(self, names: Sequence[str], progress: Callable[[str], None]) -> dict[str, Path]:
        """Return the packages' files. They are kept as long as the lists, so that there is one version of each."""
        debs = self._folder / "debs"
        debs.mkdir(parents=True, exist_ok=True)
        missing = [name for name in names if not any(debs.glob(f"{name}_*.deb"))]
        if missing:
            progress(f"downloading {' '.join(missing)}")
            with tempfile.TemporaryDirectory(dir=self._folder) as scratch:
                self._apt("download", *missing, cwd=Path(scratch))
                for deb in Path(scratch).glob("*.deb"):
                    deb.rename(debs / deb.name)
        return {name: next(debs.glob(f"{name}_*.deb")) for name in names}

    def _libraries(self, deb: Path) -> list[str]:
        """Return the dependencies that are libraries; of alternatives, the first."""
        names = []
        for entry in _run(["dpkg-deb", "-f", str(deb), "Depends"]).split(","):
            match = _DEPENDENCY.match(entry)
            if match and _LIBRARY.fullmatch(match[1]):
                names.append(match[1])
        return names

    def _update(self, progress: Callable[[str], None]) -> None:
        stamp = self._folder / "updated"
        if stamp.exists() and time.time() - stamp.stat().st_mtime < self._fresh_s:
            return
        progress("fetching package lists")
        shutil.rmtree(self._folder / "debs", ignore_errors=True)
        for part in ("debs", "state/lists/partial", "cache/archives/partial"):
            (self._folder / part).mkdir(parents=True, exist_ok=True)
        self._apt("update", cwd=self._folder)
        stamp.touch()

    def _apt(self, *arguments: str, cwd: Path) -> None:
        options = {
            "Dir::State": f"{self._folder}/state",
            "Dir::Cache": f"{self._folder}/cache",
            "APT::Sandbox::User": "root",
            "Acquire::Languages": "none",
        }
        _run(["apt-get", "-q", "-y", *(f"-o{key}={value}" for key, value in options.items()), *arguments], cwd=cwd)


def _run(argv: Sequence[str], cwd: Path | None = None) -> str:
    try:
        done = subprocess.run(argv, cwd=cwd, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    except FileNotFoundError as error:
        raise LabctlError(
            f"{argv[0]} is not installed", mend="images are built on Debian or Ubuntu; elsewhere use `labctl image load`"
        ) from error
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith(("E:", "dpkg"))] or done.stderr.splitlines()[-1:]
        raise LabctlError(f"{argv[0]} failed: {'; '.join(lines)}", mend="check that `apt-get update` works on this machine")
    return done.stdout.strip()
