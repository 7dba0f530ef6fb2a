"""libvirt's pool, in which machines' disks are: files are copied into it and out of it, and removed.

If this process may use the files itself, it copies them, and holes stay holes; otherwise it uses libvirt's streams, so no root is needed. A
disk must not
be in use while it is copied out: the caller has paused or ended its machine.
"""

from __future__ import annotations

import os
import subprocess
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from labctl.errors import ProviderError
from labctl.providers.vagrant.errors import explained

POOL = "default"
_POOL = f"<pool type='dir'><name>{POOL}</name><target><path>/var/lib/libvirt/images</path></target></pool>"
_EMPTY = bytes(64 << 10)


class Pool:
    """The pool that vagrant-libvirt uses. `connection` returns libvirt's; `may` tells whether this process may use a file itself."""

    def __init__(self, connection: Callable[[], Any], may: Callable[[str, int], bool] = os.access) -> None:
        self._connection = connection
        self._may = may

    def copy_in(self, file: Path, name: str) -> str:
        """Copy `file` into the pool under `name`, because libvirt's user can't read everybody's home. Return the copy's path.

        A file of the same size under that name is taken for the copy.
        """
        with explained():
            pool, size = self._pool(), file.stat().st_size
            known = {volume.name(): volume for volume in pool.listAllVolumes()}
            if name in known and known[name].info()[1] == size:
                return str(known[name].path())
            return self._upload(pool, file, name)

    def put(self, file: Path, name: str) -> str:
        """Copy a disk into the pool under `name`, and replace what was there. Return its path."""
        with explained():
            pool = self._pool()
            folder = Path(self._folder(pool))
            if not self._may(str(folder), os.W_OK):
                return self._upload(pool, file, name)
            temporary = folder / f".{name}"
            copy(file, temporary)
            os.replace(temporary, folder / name)
            return str(folder / name)

    def fetch(self, path: str, target: Path) -> None:
        """Copy the disk at `path` out of the pool."""
        if self._may(path, os.R_OK):
            copy(Path(path), target)
            return
        with explained(), open(target, "wb") as file:
            stream = self._connection().newStream()
            self._volume(path).download(stream, 0, 0)
            stream.recvAll(lambda _stream, data, into: write_with_holes(into, data), file)
            stream.finish()
            file.truncate(file.tell())

    def has(self, path: str) -> bool:
        with explained():
            self._pool()
            return self._found(path) is not None

    def base(self, path: str) -> str:
        """Return the file that this disk builds on, or an empty text if it is complete in itself."""
        with explained():
            self._pool()
            return ElementTree.fromstring(self._volume(path).XMLDesc()).findtext("./backingStore/path") or ""

    def delete(self, path: str) -> None:
        """Remove a file. A missing one is no error."""
        with explained():
            volume = self._found(path)
            if volume is not None:
                volume.delete()

    def remove_by_prefix(self, *beginnings: str) -> list[str]:
        """Remove the files whose names have one of these prefixes.

        Those that a machine boots from or a disk builds on are kept and returned.
        """
        with explained():
            volumes = self._pool().listAllVolumes()
            descriptions = {volume.name(): volume.XMLDesc() for volume in volumes}
            machines = [domain.XMLDesc() for domain in self._connection().listAllDomains()]
            used = []
            for volume in volumes:
                name, path = volume.name(), volume.path()
                if not name.startswith(beginnings):
                    continue
                others = [text for other, text in descriptions.items() if other != name]
                if any(f">{path}<" in text or f"'{path}'" in text for text in (*others, *machines)):
                    used.append(name)
                else:
                    volume.delete()
            return used

    def refresh(self) -> None:
        """Let libvirt find files that were put there without it."""
        with explained():
            self._pool()

    def _pool(self) -> Any:
        """Return the pool. If there is none, it is made as vagrant-libvirt would make it."""
        known = {pool.name(): pool for pool in self._connection().listAllStoragePools()}
        pool = known.get(POOL) or self._connection().storagePoolDefineXML(_POOL)
        if not pool.isActive():
            pool.create(1)  # VIR_STORAGE_POOL_CREATE_WITH_BUILD makes its folder too
        pool.refresh()
        return pool

    def _folder(self, pool: Any) -> str:
        return ElementTree.fromstring(pool.XMLDesc()).findtext("./target/path") or ""

    def _volume(self, path: str) -> Any:
        return self._connection().storageVolLookupByPath(path)

    def _found(self, path: str) -> Any | None:
        import libvirt

        try:
            return self._volume(path)
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_NO_STORAGE_VOL:
                raise
            return None

    def _upload(self, pool: Any, file: Path, name: str) -> str:
        import libvirt

        size = file.stat().st_size
        for volume in pool.listAllVolumes():
            if volume.name() == name:
                volume.delete()
        volume = pool.createXML(
            f"<volume><name>{name}</name><allocation>0</allocation><capacity>{size}</capacity><target><format type='raw'/></target></volume>"
        )
        stream = self._connection().newStream()
        try:
            with open(file, "rb") as content:
                volume.upload(stream, 0, size)
                stream.sendAll(lambda _stream, count, source: source.read(count), content)
                stream.finish()
        except libvirt.libvirtError:
            volume.delete()
            raise
        return str(volume.path())


def copy(source: Path, target: Path) -> None:
    """Copy a disk.

    Blocks are shared with the original if the file system can, and empty ones become holes, because a disk is mostly empty.
    """
    argv = ["cp", "--reflink=auto", "--sparse=always", "--", str(source), str(target)]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        raise ProviderError(f"a machine's disk can't be copied: {done.stderr.strip()[-200:]}", mend="free space on that disk")


def write_with_holes(file: IO[bytes], data: bytes) -> int:
    for begin in range(0, len(data), len(_EMPTY)):
        piece = data[begin : begin + len(_EMPTY)]
        if piece == _EMPTY[: len(piece)]:
            file.seek(len(piece), os.SEEK_CUR)
        else:
            file.write(piece)
    return len(data)
