"""How matplotlib is used: late, without pyplot, without a display, and so that the same values give the same bytes.

A figure for the page becomes SVG inside HTML: its colours are replaced by CSS variables, its text stays text, and each figure's ids have a prefix of its own,
because ids of all figures in a page share one name space. A figure for paper becomes PDF with embedded fonts. Texts are never read as formulas: they
come from outside.
"""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from labctl.errors import LabctlError
from labctl.experiments.report import colours

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMN_IN = 3.4  # the width of a column in a paper of two columns
_TEXT_MAX = 48
_UNSEEN = re.compile(
    "[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\xad\\u061c\\u180e\\u200b-\\u200f\\u2028-\\u202e\\u2060-\\u206f\\ufeff\\ufff0-\\ufffb\\ud800-\\udfff\\U000e0000-\\U000e0fff]"
)
_VARIABLES = {colour.light: f"var({colour.variable})" for colour in colours.ALL} | {"#000000": "var(--ink)"}


@dataclass(frozen=True)
class Layout:
    """The place that a figure has. `name` is a class in the page's style sheet, which shows the layout that fits the window."""

    name: str
    width_in: float
    font_pt: float
    columns: int  # of small multiples
    paper: bool = False


WIDE = Layout("wide", 9.4, 8.5, 4)
NARROW = Layout("narrow", 3.5, 8.0, 2)
PAPER = Layout("paper", COLUMN_IN, 7.0, 2, paper=True)


def clean(text: str, most: int = _TEXT_MAX) -> str:
    """Returns the text as a label: one visible line, shortened in the middle."""
    plain = visible(text[:1000]).replace("\n", " ").replace("\t", " ")
    if len(plain) <= most:
        return plain
    return plain[: most // 2] + "…" + plain[-(most - most // 2 - 1) :]


def visible(text: str) -> str:
    """Returns the text without characters that control a terminal or turn the direction of writing: each is shown as U+FFFD. Line breaks stay."""
    return _UNSEEN.sub("\ufffd", text)


@contextlib.contextmanager
def settings(layout: Layout, salt: str) -> Iterator[None]:
    """Sets matplotlib's settings while a figure is drawn and written. Raises LabctlError where it is not installed."""
    try:
        import matplotlib
    except ImportError:
        raise LabctlError("figures need matplotlib, which is not installed", mend="pip install 'labctl[report]'") from None
    with matplotlib.rc_context(_rc(layout, salt)):
        yield


def figure(layout: Layout, height_in: float) -> Figure:
    """Returns an empty figure that is drawn without a display."""
    from matplotlib.figure import Figure

    return Figure(figsize=(layout.width_in, height_in), layout="constrained", facecolor="none")


def svg(drawing: Figure, name: str, label: str, layout: Layout) -> str:
    """Returns the figure as an `svg` element for a page. `name` is unique in the page, `label` is what a person hears who can't see it."""
    from markupsafe import escape
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    buffer = io.StringIO()
    # `savefig` would draw twice, the first time only to see whether the size changes
    FigureCanvasSVG(drawing).print_svg(buffer, metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = buffer.getvalue()
    box = re.search(r'viewBox="([^"]+)"', text)
    assert box, "matplotlib writes a viewBox"
    inner = text[text.index("<defs>") : text.rindex("</svg>")]
    inner = re.sub(r'\bid="', f'id="{name}-', inner)
    inner = re.sub(r'(xlink:href="#|url\(#)', rf"\g<1>{name}-", inner)
    inner = re.sub(r"#[0-9a-f]{6}\b(?=[;\"'])", lambda match: _VARIABLES.get(match[0], match[0]), inner)
    return f'<svg class="{layout.name}" viewBox="{box[1]}" role="img" aria-label="{escape(clean(label, 600))}">{inner}</svg>'


def _rc(layout: Layout, salt: str) -> Any:  # matplotlib names each setting in its type
    ink, muted, line = colours.INK.light, colours.MUTED.light, colours.LINE.light
    return {
        "svg.hashsalt": salt,
        "svg.fonttype": "none",
        "pdf.fonttype": 42,
        "pdf.compression": 9,
        "text.parse_math": False,
        "text.usetex": False,
        "axes.formatter.use_mathtext": False,
        "font.family": ["sans-serif"],
        "font.sans-serif": ["DejaVu Sans"],
        "font.size": layout.font_pt,
        "axes.titlesize": layout.font_pt,
        "axes.labelsize": layout.font_pt,
        "xtick.labelsize": layout.font_pt - 0.5,
        "ytick.labelsize": layout.font_pt - 0.5,
        "legend.fontsize": layout.font_pt - 0.5,
        "text.color": ink,
        "axes.labelcolor": ink,
        "xtick.color": line,
        "ytick.color": line,
        "xtick.labelcolor": muted,
        "ytick.labelcolor": muted,
        "axes.edgecolor": line,
        "axes.facecolor": "none",
        "axes.linewidth": 0.7,
        "axes.titlelocation": "left",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "grid.color": line,
        "grid.linewidth": 0.5,
        "hatch.linewidth": 0.7,
        "path.simplify": True,
        "legend.frameon": False,
        "figure.constrained_layout.h_pad": 0.03,
        "figure.constrained_layout.w_pad": 0.03,
    }
