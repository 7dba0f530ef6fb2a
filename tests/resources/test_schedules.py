"""Cron expressions."""

from datetime import UTC, datetime

import pytest

from labctl.resources.schedules import Schedule


def at(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("text", "now", "following"),
    [
        ("*/15 * * * *", "2026-03-01T10:01:00", "2026-03-01T10:15:00"),
        ("0 9 * * MON-FRI", "2026-03-06T10:00:00", "2026-03-09T09:00:00"),
        ("@daily", "2026-03-01T10:00:00", "2026-03-02T00:00:00"),
        ("0 0 ? * 0", "2026-03-01T10:00:00", "2026-03-08T00:00:00"),
    ],
)
def test_when_it_is_due(text, now, following):
    assert Schedule(text).next_after(at(now)) == at(following)
    assert Schedule(text).last_until(at(following), begun_s=at(now)) == at(following)
    assert Schedule(text).last_until(at(following) - 1, begun_s=at(now)) is None


def test_every_counts_from_its_beginning():
    assert Schedule("@every 1h30m").next_after(at("2026-03-01T10:00:00"), begun_s=at("2026-03-01T09:00:00")) == at("2026-03-01T10:30:00")
    assert Schedule("@every 90s").last_until(1000.0, begun_s=0.0) == 990.0


def test_a_time_zone_has_its_own_midnight():
    assert Schedule("0 0 * * *").next_after(at("2026-07-01T12:00:00"), "Europe/Berlin") == at("2026-07-01T22:00:00")


@pytest.mark.parametrize("text", ["", "* * * *", "* * * * * *", "61 * * * *", "@often", "@every x", "a b c d e", "*/0 * * * *", "*" * 300])
def test_what_is_no_schedule_is_said(text):
    with pytest.raises(ValueError):
        Schedule(text)


def test_a_day_that_never_comes_is_none():
    try:
        assert Schedule("0 0 31 2 *").next_after(0.0) is None
    except ValueError as error:
        assert str(error)
