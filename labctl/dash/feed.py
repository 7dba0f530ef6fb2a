"""The stream behind each open page: first a picture of everything, then changes, as Server-Sent Events.

    runner ══ seen ══► Feed ─► Page (what it was not told yet) ─► its stream

`Feed` is an Observer: the runner shows it each change, once and in order. A page that reads slowly has no queue that grows: of each object only the
newest item waits for it, and when too many wait they are dropped and the page gets a fresh picture. Without an open page a change costs one comparison.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any

import msgspec

from labctl.dash import items
from labctl.dash.items import Item
from labctl.errors import ApiError
from labctl.reconcile.plan import Index, Seen, View

PAGES_MAX = 16
WAITING_MAX = 3_000
TOGETHER_S = 0.1  # changes within this time go out together: nobody sees them apart
ALIVE_EVERY_S = 10.0  # a page that hears nothing for longer says that the master is gone

_encode = msgspec.json.Encoder().encode


class Page:
    """What one open page was not told yet."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[str, str], Item] = {}
        self._extra: dict[str, Any] = {}
        self._fresh = True
        self._news = asyncio.Event()
        self._news.set()

    def put(self, one: Item) -> None:
        if self._fresh:
            return  # the picture will have it
        self._waiting[one["kind"], one["key"]] = one
        if len(self._waiting) > WAITING_MAX:
            self._waiting.clear()
            self._fresh = True
        self._news.set()

    def tell(self, name: str, value: Any) -> None:
        """Adds a message of another kind; only its newest value waits."""
        self._extra[name] = value
        self._news.set()

    async def chunks(self, picture: Callable[[], Mapping[str, Any]]) -> AsyncIterator[bytes]:
        """Yields what the page is to be told, until nobody wants it any more."""
        while True:
            try:
                async with asyncio.timeout(ALIVE_EVERY_S):
                    await self._news.wait()
            except TimeoutError:
                yield b": still here\n\n"
                continue
            self._news.clear()
            yield self._take(picture)
            await asyncio.sleep(TOGETHER_S)

    def _take(self, picture: Callable[[], Mapping[str, Any]]) -> bytes:
        if self._fresh:
            self._fresh = False
            chunk = message("picture", picture())
        else:
            waiting, self._waiting = self._waiting, {}
            chunk = message("change", list(waiting.values())) if waiting else b""
        extra, self._extra = self._extra, {}
        return chunk + b"".join(message(name, value) for name, value in extra.items())


class Feed:
    """Shows every open page what changed."""

    name = "dash"
    follows = tuple(items.MAKERS)
    indexes: Mapping[tuple[str, str], Index] = {}

    def __init__(self) -> None:
        self._pages: set[Page] = set()
        self._view: View | None = None
        self._somebody = asyncio.Event()
        self._opened = False

    def seen(self, view: View, change: Seen) -> None:
        self._view = view
        if self._pages:
            one = items.item(change.kind, change.key, change.new)
            for page in self._pages:
                page.put(one)

    @contextlib.contextmanager
    def page(self) -> Iterator[Page]:
        """Opens a page, which is forgotten afterwards. Raises ApiError 503 if too many are open."""
        if len(self._pages) >= PAGES_MAX:
            raise ApiError(503, "ServiceUnavailable", f"{PAGES_MAX} pages are open already: close one of them")
        page = Page()
        self._pages.add(page)
        self._opened = True
        self._somebody.set()
        try:
            yield page
        finally:
            self._pages.discard(page)
            if not self._pages:
                self._somebody.clear()

    def tell(self, name: str, value: Any) -> None:
        for page in self._pages:
            page.tell(name, value)

    async def somebody_looks(self) -> None:
        """Waits until a page is open: what nobody sees need not be found out."""
        await self._somebody.wait()

    def opened_since_asked(self) -> bool:
        """Tell whether a page was opened since the last call. Such a page does not know yet what is told only when it changes."""
        opened, self._opened = self._opened, False
        return opened

    @property
    def open_pages(self) -> int:
        return len(self._pages)

    def objects(self) -> list[Item]:
        return items.picture(self._view) if self._view is not None else []


def message(name: str, value: Any) -> bytes:
    """Returns one Server-Sent Event. JSON has no line breaks, so the value is one line."""
    return b"event: %s\ndata: %s\n\n" % (name.encode(), _encode(value))
