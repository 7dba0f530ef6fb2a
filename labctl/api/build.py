"""This module finds out, for /version, which commit of labctl runs. An installed package has no commit.

It asks git once, in a thread, when the first client wants the version, so that the master's start does not wait for git.
"""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import NamedTuple

_PACKAGE = Path(__file__).parents[1]
_GIT_S = 5.0


class Build(NamedTuple):
    """The fields of Kubernetes' version information that describe the source."""

    commit: str
    tree_state: str
    """`clean`, `dirty` (files differ from the commit), or `archive` (there is no git repository)."""
    date: str


@cache
def build() -> Build:
    """Returns the commit, its state and its date. The date of an installed package is that of its newest file."""
    if (_PACKAGE.parent / ".git").exists():
        try:
            commit, seconds = _git("show", "--no-patch", "--format=%H %ct").split()
            return Build(commit, "dirty" if _git("status", "--porcelain", "--untracked-files=no") else "clean", _date(float(seconds)))
        except (OSError, ValueError, subprocess.SubprocessError):
            pass  # git is not installed, or refuses to read this checkout
    return Build("", "archive", _date(max(path.stat().st_mtime for path in _PACKAGE.rglob("*.py"))))


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", "-C", _PACKAGE.parent, *arguments], capture_output=True, text=True, check=True, timeout=_GIT_S)
    return done.stdout.strip()


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
