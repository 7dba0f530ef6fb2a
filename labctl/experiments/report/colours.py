"""The colours of figures and pages: one palette for a light and one for a dark scheme, which people with a colour-vision deficiency can tell apart.

A figure is drawn once. In the page its colours are names of CSS variables (`--c1`), and the scheme decides what they are; on paper they are the light
scheme's. Every colour has a contrast of at least 3:1 with its background (WCAG 2.2, 1.4.11), text one of 4.5:1 (1.4.3): tests/experiments/report holds us
to it. Hatching, dashes and words say again what a colour says, so a figure can be read in grey.
"""

from __future__ import annotations

from typing import NamedTuple


class Colour(NamedTuple):
    """A colour by its CSS variable. Matplotlib draws with `light`, which no other colour has; the page replaces it with the variable."""

    variable: str
    light: str
    dark: str


INK = Colour("--ink", "#1b1f24", "#e8eaed")
MUTED = Colour("--muted", "#57606a", "#a9b1ba")
PAPER = Colour("--paper", "#ffffff", "#15181c")
PANEL = Colour("--panel", "#f4f6f8", "#1e2328")
LINE = Colour("--line", "#d0d7de", "#3a424b")
FAILED = Colour("--failed", "#b3261e", "#ff8a75")
HOLDS = Colour("--holds", "#1a6e3c", "#5fd38d")
ACCENT = Colour("--accent", "#0b5cad", "#7ab8f5")

SERIES = (
    Colour("--c1", "#0a5fb0", "#6fb1f2"),
    Colour("--c2", "#b36205", "#f0a44a"),
    Colour("--c3", "#0c7f68", "#45cfae"),
    Colour("--c4", "#8f3f97", "#dd9ae4"),
    Colour("--c5", "#3c8fb8", "#9bd8f5"),
    Colour("--c6", "#7a6f20", "#d9cf6b"),
)
GREYS = ("#2f6fb3", "#f3c278", "#4a927a", "#e0b7e6", "#1f3d5c", "#b9dcea")
"""On paper: neighbours differ in brightness too, for a printer without colours."""
ALL = (INK, MUTED, PAPER, PANEL, LINE, FAILED, HOLDS, ACCENT, *SERIES)


def series(number: int) -> Colour:
    return SERIES[number % len(SERIES)]


def contrast(one: str, other: str) -> float:
    """Returns the contrast of two colours (`#rrggbb`) as WCAG 2 defines it: from 1 to 21."""
    high, low = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def _luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (value / 12.92 if value <= 0.03928 else ((value + 0.055) / 1.055) ** 2.4 for value in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
