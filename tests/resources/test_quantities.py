"""Quantities: what Kubernetes' own tests say of parsing and printing, and that printing loses nothing."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labctl.resources import quantities

SUFFIXES = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "e-3", "e0", "E3", "e6"]


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("0", "0"), ("0n", "0"), ("0Mi", "0"), ("100m", "100m"), ("1000m", "1"), ("1500m", "1500m"), ("0.5", "500m"), ("1.5", "1500m"),
        ("1000", "1k"), ("1e3", "1e3"), ("1E3", "1e3"), ("12e6", "12e6"), ("1.5e3", "1500"), ("100e-3", "100e-3"), ("1024Mi", "1Gi"), ("1.5Gi", "1536Mi"),
        ("0.5Ki", "512"), ("1023", "1023"), ("1Ki", "1Ki"), ("0.1", "100m"), (".5", "500m"), ("5.", "5"), ("-1", "-1"), ("-1.5Gi", "-1536Mi"),
        ("+2", "2"), ("1E", "1E"), ("0.0000000001", "1n"), ("0.3Mi", "314572800m"), ("1n", "1n"), ("2000000k", "2G"), ("9999999999999999999", "9223372036854775807"),
    ],
)  # fmt: skip
def test_canonical(text: str, canonical: str) -> None:
    assert quantities.canonical(text) == canonical


@pytest.mark.parametrize("text", ["", " 1", "1 ", "1 Gi", "aoeu", "1.1.M", "1+1.0M", "0.1mi ", "--1", "Mi", ".", "1,5", "1KI", "¹"])
def test_what_is_no_quantity(text: str) -> None:
    with pytest.raises(ValueError) as refused:
        quantities.parse(text)
    assert str(refused.value) == "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"


@pytest.mark.parametrize("text", ["0.1mi", ".5i", "1i", "-3.01i", "-3.01e-", "1e", "1mm"])
def test_unknown_suffixes(text: str) -> None:
    with pytest.raises(ValueError, match="unable to parse quantity's suffix"):
        quantities.parse(text)


def test_numbers_are_read_as_json_has_them() -> None:
    assert quantities.canonical(2) == "2"
    assert quantities.canonical(0.5) == "500m"


def test_bytes_and_millicores() -> None:
    assert quantities.to_bytes("1Gi") == 2**30
    assert quantities.to_bytes("1500m") == 2  # rounded up
    assert quantities.to_bytes("-1500m") == -2
    assert quantities.to_millicores("0.25") == 250
    assert quantities.to_millicores("2") == 2000
    assert quantities.to_millicores("1n") == 1


def test_formatting() -> None:
    assert [quantities.format_bytes(n) for n in (0, 1000, 1024, 2**30, 3 * 2**29)] == ["0", "1000", "1Ki", "1Gi", "1536Mi"]
    assert [quantities.format_millicores(n) for n in (0, 250, 2000)] == ["0", "250m", "2"]


@given(st.integers(-(10**9), 10**9), st.integers(0, 999), st.sampled_from(SUFFIXES))
def test_printing_loses_nothing(whole: int, thousandths: int, suffix: str) -> None:
    text = f"{whole}.{thousandths:03}{suffix}"
    printed = quantities.canonical(text)
    assert quantities.canonical(printed) == printed
    assert abs(quantities.parse(printed) - quantities.parse(text)) < Fraction(1, 10**9)
    assert quantities.compare(printed, text) == 0


@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_comparing_is_comparing_numbers(a: int, b: int) -> None:
    assert quantities.compare(f"{a}m", f"{b}m") == (a > b) - (a < b)
    assert quantities.compare(f"{a}Ki", f"{b}k") == (a * 1024 > b * 1000) - (a * 1024 < b * 1000)
