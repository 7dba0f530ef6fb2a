"""Times as they are stored, and the ones that are no times."""

from __future__ import annotations

import pytest

from labctl.clock import parse_rfc3339
from labctl.resources.schema.times import canonical


@pytest.mark.parametrize(
    ("said", "stored"),
    [
        ("2026-11-23T17:19:16Z", "2026-11-23T17:19:16Z"),
        ("2026-11-23T17:19:16.9Z", "2026-11-23T17:19:16Z"),
        ("2026-11-23T17:19:16+14:00", "2026-11-23T03:19:16Z"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
        ("0001-01-01T00:00:00-02:00", "0001-01-01T02:00:00Z"),
    ],
)
def test_stored_in_utc_and_read_again(said: str, stored: str) -> None:
    assert canonical(said, "time") == stored
    parse_rfc3339(stored)


def test_a_micro_time_of_the_first_year_can_be_read_again() -> None:
    stored = canonical("0001-01-01T00:00:00Z", "micro-time")
    assert stored == "0001-01-01T00:00:00.000000Z"
    parse_rfc3339(stored)


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-01:00", "0000-01-01T00:00:00Z", "2026-13-01T00:00:00Z"])
def test_what_is_no_time_says_so(text: str) -> None:
    with pytest.raises(ValueError, match="out of range"):
        canonical(text, "time")
