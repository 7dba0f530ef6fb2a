"""What machines boot from: one root file system, built from Debian's packages with the scripts in provision/. All machines share it
read-only.

It is in CACHE/rootfs/HASH, where HASH is that of everything it is made from. It is built in a temporary folder and renamed when it
is complete. If a build is killed, its processes end with it, and the next build removes its files. Labs share it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from labctl import assets
from labctl.errors import ProviderError
from labctl.providers import debian, locks
from labctl.providers.settings import NamespaceSettings


class Box:
    """The root file system for `settings`. `get` builds it if there is none."""

    def __init__(self, cache: Path, settings: NamespaceSettings) -> None:
        self._folder = cache / "rootfs"
        self._settings = settings

    def path(self) -> Path:
        digest = hashlib.sha256()
        for part in (self._settings.suite, self._settings.mirror, *debian.NOT_NEEDED):
            digest.update(part.encode() + b"\0")
        for name in (*debian.minion_lists(self._settings.pod_network), "minion.sh"):
            digest.update(assets.provision(name).read_bytes() + b"\0")
        return self._folder / digest.hexdigest()[:16]

    def get(self, progress: Callable[[str], None]) -> Path:
        """Return the folder of the complete root file system. Concurrent callers wait for one build."""
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
        packages = debian.packages(*debian.minion_lists(self._settings.pod_network))
        command = debian.mmdebstrap(temporary, self._settings.suite, self._settings.mirror, packages, [debian.in_chroot("minion.sh")])
        try:
            debian.run("the root file system", command, self._folder, progress)
        except ProviderError:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        os.rename(temporary, target)
