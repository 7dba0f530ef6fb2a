"""Hard links of an image layer to files of the layers below it.

Layers are unpacked side by side, each into a folder of its own, but an archive may link to a file that only a lower layer holds (images built on
Debian do). A union file system copies such a file up: the upper layer gets a copy at both names. `complete` makes the same as a small folder of
its own, because a layer's own folder is shared by images that may have other layers below it; overlayfs gets it right above the layer.

Who calls it: images.py, once all layers of an image are unpacked. Layers are hostile: symbolic links in them are resolved as if the image were the whole file system.
"""

from __future__ import annotations

import os
import shutil
import stat
from typing import Dict, List, Optional, Sequence, Tuple

from .failures import BadLayer

OPAQUE_MARK = "trusted.overlay.opaque"
SYMLINKS_FOLLOWED = 40
Link = Tuple[str, str]  # the name it makes, relative to the image's root; the name of the file that it links to


class Merged:
    """Folders as overlayfs would show them, lowest first. Only reads."""

    def __init__(self, layers: Sequence[str]) -> None:
        self._root = list(reversed(layers))

    def find(self, path: str) -> Optional[Tuple[List[str], str]]:
        """Return where a name really is: its parts with symbolic links on the way resolved, and the file in one of the layers. None if it does not exist.

        The last part is not followed: a hard link to a symbolic link is one more name of that link.
        """
        todo, folders, followed = _names(path), [self._root], 0
        where: List[str] = []
        while todo:
            name = todo.pop()
            if name == "..":
                where, folders = where[:-1], folders[:-1] or folders
                continue
            found = _look(folders[-1], name)
            if not found:
                return None
            if not todo:
                return [*where, name], found[0]
            kind = os.lstat(found[0]).st_mode
            if stat.S_ISLNK(kind):
                followed += 1
                if followed > SYMLINKS_FOLLOWED:
                    raise BadLayer("symlinks go round in circles")
                link = os.readlink(found[0])
                if link.startswith("/"):
                    where, folders = [], [self._root]
                todo += _names(link)
            elif stat.S_ISDIR(kind):
                where, folders = [*where, name], [*folders, found]
            else:
                return None
        return None


def _names(path: str) -> List[str]:
    """Return the path's parts, the first one last."""
    return [part for part in reversed(path.split("/")) if part not in ("", ".")]


def _look(folders: Sequence[str], name: str) -> List[str]:
    """Return the folders that a folder is merged from, topmost first, or the one file of that name; [] if it does not exist or was removed."""
    found: List[str] = []
    for folder in folders:
        path = os.path.join(folder, name)
        try:
            there = os.lstat(path)
        except OSError:
            continue
        if not stat.S_ISDIR(there.st_mode):
            removed = stat.S_ISCHR(there.st_mode) and there.st_rdev == 0
            return found if found or removed else [path]
        found.append(path)
        if _opaque(path):
            break
    return found


def _opaque(path: str) -> bool:
    try:
        return os.getxattr(path, OPAQUE_MARK) == b"y"
    except OSError:
        return False


def complete(layers: Sequence[str], links: Sequence[Link], target: str) -> None:
    """Into an empty folder: what the topmost of `layers` (lowest first) links to in those below it. Blocking. Raises BadLayer or OSError."""
    _Completion(layers, target).all(links)


class _Completion:
    def __init__(self, layers: Sequence[str], target: str) -> None:
        self._target = target
        self._below = Merged(layers[:-1])
        self._image = Merged([*layers, target])
        self._copies: Dict[str, str] = {}  # a file of a lower layer -> its copy
        self._folders = {target: layers[-1]}  # a folder made here -> the one it has to look like

    def all(self, links: Sequence[Link]) -> None:
        for name, linked in links:
            self._one(name, linked)
        for made, like in reversed(list(self._folders.items())):
            _look_like(like, made)

    def _one(self, name: str, linked: str) -> None:
        found = self._image.find(linked) or self._below.find(linked)
        if not found:
            raise BadLayer(f"{name} links to {linked}: no layer has such a file")
        where, source = found
        if stat.S_ISDIR(os.lstat(source).st_mode):
            raise BadLayer(f"{name} links to {linked}, which is a folder")
        copy = self._copy(where, source, name)
        path = self._place(name.split("/"))
        if copy != path:
            os.link(copy, path, follow_symlinks=False)

    def _copy(self, where: List[str], source: str, name: str) -> str:
        """Copy the file into this folder: at its own name, so that both names stay one file; at the new name alone if the layer removed the old one."""
        if source.startswith(self._target + "/"):
            return source
        if source not in self._copies:
            removed = self._image.find("/".join(where)) is None
            self._copies[source] = self._place(name.split("/") if removed else where)
            _copy_one(source, self._copies[source])
        return self._copies[source]

    def _place(self, parts: Sequence[str]) -> str:
        """Return a path for a new file, in folders that look as they do in the image."""
        path = self._target
        for depth, part in enumerate(parts[:-1], 1):
            like = self._image.find("/".join(parts[:depth]))
            path = os.path.join(path, part)
            if not os.path.isdir(path):
                os.mkdir(path, 0o755)
                if like:
                    self._folders[path] = like[1]
        return os.path.join(path, parts[-1])


def _look_like(like: str, made: str) -> None:
    """Copy a folder's owner, mode and times, but not its attributes: an opaque one would hide the layers below."""
    there = os.lstat(like)
    os.chown(made, there.st_uid, there.st_gid)
    os.chmod(made, stat.S_IMODE(there.st_mode))
    os.utime(made, ns=(there.st_atime_ns, there.st_mtime_ns))


def _copy_one(source: str, target: str) -> None:
    """Copy one file of any kind with its owner, mode, times and attributes. The owner comes first, because changing it clears the set-user-id bit."""
    there = os.lstat(source)
    if stat.S_ISLNK(there.st_mode):
        os.symlink(os.readlink(source), target)
    elif stat.S_ISREG(there.st_mode):
        shutil.copyfile(source, target, follow_symlinks=False)
    else:
        os.mknod(target, stat.S_IFMT(there.st_mode) | 0o600, there.st_rdev)
    os.chown(target, there.st_uid, there.st_gid, follow_symlinks=False)
    shutil.copystat(source, target, follow_symlinks=False)
