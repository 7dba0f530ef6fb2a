"""Links of pages behind the proxy."""

import pytest

from labctl.api.streams.links import moved


@pytest.mark.parametrize(
    ("page", "after"),
    [
        (b'<a href="/x">/x</a>', b'<a href="/P/x">/x</a>'),
        (b"<img class=c src='/i.png'><FORM ACTION=/go>", b"<img class=c src='/P/i.png'><FORM ACTION=/P/go>"),
        (b'<a data-href="/x" href="y">', b'<a data-href="/x" href="y">'),
        (b'1 < 2 href="/x" <a href="/x', b'1 < 2 href="/x" <a href="/x'),
        (b"<a href='/\xff'>", b"<a href='/P/\xff'>"),
    ],
)
def test_links_are_moved(page, after):
    assert moved(page, lambda link: f"/P{link}" if link.startswith("/") else link) == after
