"""How the checks look at a pod, and how they name what they found."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from labctl.resources.kind import Object


def every_container(spec: Object) -> Iterator[Object]:
    for part in ("initContainers", "containers", "ephemeralContainers"):
        yield from spec.get(part) or ()


def context(of: Object) -> Object:
    """Returns the securityContext of a pod's spec or of a container."""
    said: Object = of.get("securityContext") or {}
    return said


def within(of: Object, *path: str) -> Any:
    """Returns what stands at a path, or None."""
    found: Any = of
    for key in path:
        found = found.get(key) if isinstance(found, dict) else None
    return found


def names(spec: Object, bad: Callable[[Object], Any]) -> list[str]:
    """Returns the names of the containers that are bad."""
    return [container.get("name", "") for container in every_container(spec) if bad(container)]


def setters(spec: Object, bad: Callable[[Object], Any]) -> list[str]:
    """Returns who has a bad securityContext: `pod`, and the containers together."""
    found = ["pod"] if bad(context(spec)) else []
    containers = names(spec, lambda container: bad(context(container)))
    return [*found, containers_named(containers)] if containers else found


def containers_named(found: list[str]) -> str:
    return f"{one_or_more('container', found)} {quoted(found)}"


def one_or_more(word: str, of: Iterable[Any]) -> str:
    return word if len(list(of)) == 1 else f"{word}s"


def use(of: list[str]) -> str:
    return "uses" if len(of) == 1 else "use"


def quoted(words: Iterable[str]) -> str:
    return ", ".join(f'"{word}"' for word in words)
