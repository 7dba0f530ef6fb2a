"""The package's one public name is `Lab`: `from labctl.lab import Lab`.

It is imported when it is first used (PEP 562), because `labctl --help` does not need it.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from labctl.lab.lab import Lab

__all__ = ["Lab"]


def __getattr__(name: str) -> Any:
    if name != "Lab":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from labctl.lab.lab import Lab

    return Lab
