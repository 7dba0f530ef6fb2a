"""One door: `from labctl.lab import Lab`."""

from labctl.lab.lab import Lab

__all__ = ["Lab"]
