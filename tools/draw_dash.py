"""Draws docs/dash.svg, the picture of the live page in README: the page itself, in headless Chromium, of a hollow lab in which a machine lost its power.

    .venv/bin/python -m tools.draw_dash

The page's boxes, texts and links are read from the browser and written as SVG, so the drawing shows what the page's own code lays out. It has both colour schemes.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from xml.sax.saxutils import escape

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.dash.world import InThread  # noqa: E402
from tests.pages.browser import chromium, opened  # noqa: E402

WIDTH = 1100
READ = """() => {
  const boxes = [], texts = [], seen = element => element.checkVisibility();
  const place = r => [r.left, r.top, r.width, r.height].map(v => Math.round(v * 10) / 10);
  for (const element of document.querySelectorAll('.service, .machine, .machine .pod, .machine button, .legend .pod, header')) {
    if (!seen(element)) continue;
    const style = getComputedStyle(element);
    boxes.push({ at: place(element.getBoundingClientRect()), fill: style.backgroundColor, line: style.borderBottomColor, top: style.borderTopColor,
      dashes: style.borderTopStyle, thick: parseFloat(style.borderTopWidth), round: parseFloat(style.borderBottomLeftRadius) || 0, faint: style.opacity });
  }
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const parent = node.parentElement;
    if (!node.data.trim() || !seen(parent) || parent.closest('.hidden, .skip, .bar label')) continue;
    const range = document.createRange(), text = node.data.trim(), first = node.data.indexOf(text); range.setStart(node, first); range.setEnd(node, first + text.length);
    const style = getComputedStyle(parent), lines = [...range.getClientRects()];
    if (lines.length !== 1 || lines[0].bottom < 0) continue;
    texts.push({ at: place(lines[0]), text, fill: style.color, size: parseFloat(style.fontSize), bold: style.fontWeight >= 600, mono: style.fontFamily.includes('mono'),
      struck: style.textDecorationLine.includes('through'), faint: getComputedStyle(parent.closest('button') || parent).opacity });
  }
  const origin = document.getElementById('picture').getBoundingClientRect();
  const links = [...document.querySelectorAll('#links path')].map(path => ({ d: path.getAttribute('d'), line: getComputedStyle(path).stroke }));
  return { boxes, texts, links, origin: [origin.left, origin.top],
    end: document.querySelector('.legend').getBoundingClientRect().bottom, paper: getComputedStyle(document.body).backgroundColor };
}"""


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, InThread.running(Path(folder), nodes=4) as lab, chromium() as browser:
        for name, replicas in (("web", 6), ("api", 5)):
            lab.do(lab.live.deploy(name, replicas))
        lab.do(lab.live.until(lambda: lab.live.ready() == 11))
        lab.do(
            lab.live.client.create(
                "faults.labctl.internal", {"metadata": {"name": "plug"}, "spec": {"type": "power-off", "target": "minion-2"}}
            )
        )
        lab.do(
            lab.live.until(
                lambda: lab.live.client.get("machines.labctl.internal", "minion-2").status.power == "Off" and lab.live.ready() == 11
            )
        )
        drawings = {}
        for scheme in ("light", "dark"):
            with opened(browser, lab.live.address(), scheme=scheme, ignore_https_errors=True) as watched:
                watched.page.set_viewport_size({"width": WIDTH, "height": 900})
                watched.page.wait_for_selector(".machine[data-state=off]")
                watched.page.wait_for_timeout(1500)
                drawings[scheme] = watched.page.evaluate(READ)
    target = ROOT / "docs" / "dash.svg"
    target.write_text(svg(drawings))
    print(f"{target.relative_to(ROOT)}: {target.stat().st_size} bytes")


def svg(drawings: dict) -> str:
    """Returns one SVG that shows the drawing of the reader's colour scheme."""
    height = max(drawing["end"] for drawing in drawings.values()) + 12
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" role="img" font-family="system-ui, DejaVu Sans, sans-serif">',
        "<title>The live page: four minions with their pods, two Services with links to the pods that answer; minion-2 has no power</title>",
        "<style>.dark{display:none}@media(prefers-color-scheme:dark){.dark{display:inline}.light{display:none}}</style>",
    ]
    for scheme, drawing in drawings.items():
        parts += [f'<g class="{scheme}">', f'<rect width="{WIDTH}" height="{height:.0f}" fill="{drawing["paper"]}"/>']
        parts += [_box(one) for one in drawing["boxes"] if one["at"][1] < drawing["end"]]
        x, y = drawing["origin"]
        parts += [
            f'<path transform="translate({x} {y})" d="{one["d"]}" fill="none" stroke="{one["line"]}" stroke-opacity="0.45"/>'
            for one in drawing["links"]
        ]
        parts += [_text(one) for one in drawing["texts"] if one["at"][1] < drawing["end"] - 2]
        parts.append("</g>")
    return "\n".join([*parts, "</svg>", ""])


def _box(one: dict) -> str:
    x, y, width, height = one["at"]
    dashes = {"dashed": ' stroke-dasharray="6 4"', "dotted": ' stroke-dasharray="2 3"'}.get(one["dashes"], "")
    box = f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="{one["round"]:.0f}" fill="{one["fill"]}" stroke="{one["line"]}" opacity="{one["faint"]}"/>'
    if one["thick"] < 3:
        return box
    return box + f'<path d="M{x + 4} {y + 2}h{width - 8}" stroke="{one["top"]}" stroke-width="{one["thick"]:.1f}"{dashes}/>'


def _text(one: dict) -> str:
    x, y, width, height = one["at"]
    look = f'fill="{one["fill"]}" font-size="{one["size"]:.1f}" opacity="{one["faint"]}"' + (' font-weight="600"' if one["bold"] else "")
    look += ' font-family="ui-monospace, DejaVu Sans Mono, monospace"' if one["mono"] else ""
    look += ' text-decoration="line-through"' if one["struck"] else ""
    return f'<text x="{x}" y="{y + height * 0.78:.1f}" textLength="{width}" lengthAdjust="spacingAndGlyphs" {look}>{escape(one["text"])}</text>'


if __name__ == "__main__":
    main()
