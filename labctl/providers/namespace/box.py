"""What machines boot from: one root file system, built from Debian's packages with the scripts in provision/, shared read-only by all.

It lies in CACHE/rootfs/HASH, where HASH follows from all that goes in. It is built in a temporary folder and renamed when it
is whole; a build that was killed takes its processes along, and what it left is removed by the next. Labs share it.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from labctl import assets
from labctl.errors import ProviderError
from labctl.providers import locks
from labctl.providers.settings import NamespaceSettings

_NOT_NEEDED = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/info/*", "/usr/share/locale/*", "/usr/share/zoneinfo/*")
_ENDS_WITH_US = ("setpriv", "--pdeathsig", "KILL", "--", "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--")


class Box:
    """The root file system for `settings`; `get` builds it if it is not there."""

    def __init__(self, cache: Path, settings: NamespaceSettings) -> None:
        self._folder = cache / "rootfs"
        self._settings = settings

    def path(self) -> Path:
        digest = hashlib.sha256()
        for part in (self._settings.suite, self._settings.mirror, *_NOT_NEEDED):
            digest.update(part.encode() + b"\0")
        for name in ("packages", "minion.sh"):
            digest.update(assets.provision(name).read_bytes() + b"\0")
        return self._folder / digest.hexdigest()[:16]

    def get(self, progress: Callable[[str], None]) -> Path:
        """Where it lies, whole. Concurrent askers wait for one build."""
        target = self.path()
        if target.is_dir():
            return target
        with locks.exclusive(self._folder / ".lock"):
            if not target.is_dir():
                for stale in self._folder.glob(".new-*"):
                    shutil.rmtree(stale, ignore_errors=True)
                self._build(target, progress)
        return target

    def _build(self, target: Path, progress: Callable[[str], None]) -> None:
        progress(f"building the root file system from Debian {self._settings.suite} packages (once)")
        temporary = self._folder / f".new-{target.name}-{os.getpid()}"
        environment = {**os.environ, "TMPDIR": str(self._folder)}
        try:
            process = subprocess.Popen(
                [*_ENDS_WITH_US, *self._command(temporary)],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
                env=environment,
            )
        except FileNotFoundError as error:
            raise ProviderError("mmdebstrap is not installed", mend="apt-get install mmdebstrap") from error
        said: list[str] = []
        assert process.stdout
        for line in process.stdout:
            said.append(line.strip())
            if line.startswith("I: "):
                progress(line[3:].strip())
        if process.wait() != 0:
            shutil.rmtree(temporary, ignore_errors=True)
            why = "; ".join([line for line in said if line.startswith(("E:", "W:"))][-3:] or said[-3:])
            raise ProviderError(
                f"building the root file system failed: {why}", mend="check that apt can install packages, then run it again"
            )
        os.rename(temporary, target)

    def _command(self, target: Path) -> list[str]:
        packages = [line for line in assets.provision("packages").read_text().split("\n") if line and not line.startswith("#")]
        mirror = [self._settings.mirror] if self._settings.mirror else []
        script = assets.provision("minion.sh")
        return [
            "mmdebstrap",
            "--mode=root",
            "--variant=minbase",
            f"--include={','.join(packages)}",
            *(f"--dpkgopt=path-exclude={pattern}" for pattern in _NOT_NEEDED),
            f'--customize-hook=env LABCTL_IMAGE=1 chroot "$1" sh -s < {shlex.quote(str(script))}',
            self._settings.suite,
            str(target),
            *mirror,
        ]
