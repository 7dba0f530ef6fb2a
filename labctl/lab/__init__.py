"""One door: `from labctl.lab import Lab`. Imported late, because `labctl --help` needs nothing of it (PEP 562)."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from labctl.lab.lab import Lab

__all__ = ["Lab"]


def __getattr__(name: str) -> Any:
    if name != "Lab":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from labctl.lab.lab import Lab

    return Lab
