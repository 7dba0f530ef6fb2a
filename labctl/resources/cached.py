"""This module caches results that are computed from texts of clients. It caches only short texts, so that no client can fill the memory with long ones."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any, TypeVar, cast

SHORT = 1024
"""Characters. Queries, selectors, labels and times that people and programs use are shorter."""

F = TypeVar("F", bound=Callable[..., Any])


def cached_if_short(entries: int) -> Callable[[F], F]:
    """Works like functools.lru_cache, but calls whose first argument is longer than SHORT are computed each time."""

    def decorate(function: F) -> F:
        cached = lru_cache(maxsize=entries)(function)

        @wraps(function)
        def call(text: Any, *rest: Any) -> Any:
            return function(text, *rest) if isinstance(text, (str, bytes)) and len(text) > SHORT else cached(text, *rest)

        return cast(F, call)

    return decorate
