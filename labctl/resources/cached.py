"""Caches what is computed from texts that clients choose: many short ones, no long ones, so that a cache can't be made to hold gigabytes."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any, TypeVar, cast

SHORT = 1024
"""Characters. Queries, selectors, labels and times that people and programs use are shorter."""

F = TypeVar("F", bound=Callable[..., Any])


def cached_if_short(entries: int) -> Callable[[F], F]:
    """Like functools.lru_cache, by the function's first argument's length: what is longer than SHORT is computed each time."""

    def decorate(function: F) -> F:
        cached = lru_cache(maxsize=entries)(function)

        @wraps(function)
        def call(text: Any, *rest: Any) -> Any:
            return function(text, *rest) if isinstance(text, (str, bytes)) and len(text) > SHORT else cached(text, *rest)

        return cast(F, call)

    return decorate
