"""A master's proxy and network, wired to fake helpers."""

from tests.programming import settings, world

__all__ = ["settings", "world"]
