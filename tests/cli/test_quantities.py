"""Namespaces, times and rates on the command line: what is none is said in one line, whatever it is."""

import click
import pytest

from labctl.cli.quantities import Duration, Namespace, Rate


@pytest.mark.parametrize(("text", "rate"), [("200", 200), ("200/s", 200), ("0.5 / s", 0.5), ("0", 0), (".5", 0.5)])
def test_a_rate_is_written_as_in_experiments_too(text, rate):
    assert Rate().convert(text, None, None) == rate


@pytest.mark.parametrize("text", ["", "x", "200/m", "-1", "nan", "inf", "1e300", "9" * 400, "٣", "200/s/s", "1..2", "1_000"])
def test_what_is_no_rate(text):
    with pytest.raises(click.BadParameter, match="is no rate; write 200 or 200/s") as raised:
        Rate().convert(text, None, None)
    assert len(str(raised.value)) < 200


@pytest.mark.parametrize(("text", "seconds"), [("300ms", 0.3), ("10s", 10), ("1.5m", 90), ("2h", 7200), (".5s", 0.5)])
def test_a_time(text, seconds):
    assert Duration().convert(text, None, None) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "s", ".s", "10", "1e300s", "9" * 400 + "s", "٣s", "-1s", "nans", "infs", "999999999999h", "1 d"])
def test_what_is_no_time(text):
    with pytest.raises(click.BadParameter, match="is no time|is longer than a year") as raised:
        Duration().convert(text, None, None)
    assert len(str(raised.value)) < 200


@pytest.mark.parametrize("text", ["", "A", "../x", "a/b", "a b", "a\n", "x" * 64, "-a", "a-", "a.b", "\x1b[2J"])
def test_what_is_no_namespace(text):
    with pytest.raises(click.BadParameter, match="is no namespace"):
        Namespace().convert(text, None, None)
    assert Namespace().convert("kube-system", None, None) == "kube-system"
