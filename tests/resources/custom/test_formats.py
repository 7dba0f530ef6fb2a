"""String formats of schemas, each with texts that have it and texts that have not. What is right was asked of Kubernetes' own validators."""

from __future__ import annotations

import pytest

from labctl.resources.custom.formats import holds, is_known

EXAMPLES = [
    ("creditcard", ["4111 1111 1111 1111", "4111111111111111"], ["4111111111111112", "1"]),
    ("isbn", ["0321751043", "978-0321751041"], ["0321751044", "x"]),
    ("isbn10", ["0321751043", "0-321-75104-3"], ["978-0321751041"]),
    ("isbn13", ["978-0321751041"], ["0321751043", "978-0321751042"]),
    ("ssn", ["123-45-6789", "123 45 6789"], ["123456789", "1234"]),
    ("date-time", ["2020-01-01T00:00:00Z", "2020-01-01t00:00:00.5z"], ["2020-01-01", "2020-01-01 00:00:00Z"]),
    ("duration", ["1h30m", "2 weeks", "0", "-1h"], ["1", "h", ""]),
    ("email", ["x@y", "x.y@z.org", "Name <x@y.org>"], ["mailto:x@y", "@x", "x@", ".x@y"]),
    ("hostname", ["localhost", "a.example.com"], ["1.2.3.4", "a.b", "example.com.", "a_b", "-a"]),
    ("ipv4", ["1.2.3.4", "::ffff:1.2.3.4"], ["::1", "01.2.3.4"]),
    ("ipv6", ["::1", "::ffff:1.2.3.4"], ["1.2.3.4", "fe80::1%eth0"]),
    ("mac", ["00:11:22:33:44:55", "0011.2233.4455", "00:00:00:00:fe:80:00:00"], ["00:11:22:33:44"]),
    ("rgbcolor", ["rgb(1, 2,255)"], ["rgb(1,2,256)", "rgb(1,2)", "rgb(1,2,3,4)"]),
    ("uri", ["http://a/b", "/a", "mailto:x@y"], ["a/b", "http://a b", ""]),
    ("uuid4", ["5bf3f3a2-8a6b-4c9b-9f1e-2b8e1a7d6c5f"], ["5bf3f3a2-8a6b-4c9b-1f1e-2b8e1a7d6c5f"]),
    ("date", ["2020-01-01"], ["2020-13-01"]),
    ("password", ["", "anything"], []),
    ("ip-v4", ["10.0.0.1"], ["10.0.0"]),
    ("unheard-of", ["anything"], []),
]


@pytest.mark.parametrize(("name", "right", "wrong"), EXAMPLES)
def test_a_format_holds_for_what_has_it(name: str, right: list[str], wrong: list[str]) -> None:
    assert [text for text in right if not holds(name, text)] == [] == [text for text in wrong if holds(name, text)]
    assert is_known(name) is (name != "unheard-of")
