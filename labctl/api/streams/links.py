"""Links of a page that a pod serves, moved below the proxy's path, so that who follows them comes back to the pod. Called by the proxy; pure.

As in Kubernetes, only absolute paths change, and addresses of the pod itself; links of other hosts and relative ones stay.
"""

from __future__ import annotations

import re
from collections.abc import Callable

HTML = "text/html"
PAGE_MAX_BYTES = 1 << 20
"""A longer page is passed on as it is."""
_TAG_MAX_BYTES = 8 << 10
_LINK = re.compile(
    rb"""(\s(?:href|src|action|formaction|cite|poster|background|longdesc|manifest|profile)\s*=\s*)("[^"]*"|'[^']*'|[^\s"'>]+)""",
    re.IGNORECASE,
)


def moved(page: bytes, target: Callable[[str], str]) -> bytes:
    """Return the page with each link replaced by `target(link)`."""

    def replaced(found: re.Match[bytes]) -> bytes:
        value = found[2]
        quote = value[:1] if value[:1] in (b'"', b"'") else b""
        link = value.strip(quote) if quote else value
        return found[1] + quote + target(link.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape") + quote

    first, *tags = page.split(b"<")
    parts = [first]
    for tag in tags:
        head, end, rest = tag.partition(b">")
        if end and len(head) <= _TAG_MAX_BYTES and head[:1].isalpha():
            head = _LINK.sub(replaced, head)
        parts.append(head + end + rest)
    return b"<".join(parts)
