"""The report as text: what it says, what it never contains, and that the same result gives the same bytes. tests/pages looks at it in a browser."""

from __future__ import annotations

import base64
import gzip
import io
import sys
import tarfile
from html.parser import HTMLParser

import msgspec
import pytest

from labctl.errors import LabctlError
from labctl.experiments.report import canvas, colours, rawdata
from labctl.experiments.report.html import facts, html, plus_text
from labctl.experiments.report.requests_figure import time_text
from labctl.experiments.result import Result
from tests.experiments.report.synthetic import CELLS, hostile, node_death


class Elements(HTMLParser):
    """Collects every element with its attributes, and the text outside of style."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    handle_startendtag = handle_starttag


def test_the_same_result_gives_the_same_bytes() -> None:
    assert html(node_death(runs=2)) == html(node_death(runs=2))


@pytest.mark.parametrize("result", [node_death(runs=2), hostile()], ids=["single", "hostile"])
def test_nothing_in_it_runs_or_asks_another_place(result: Result) -> None:
    page = html(result)
    elements = Elements(page).found
    assert {tag for tag, _ in elements}.isdisjoint({"script", "img", "iframe", "object", "embed", "form", "base", "audio", "video"})
    for tag, attributes in elements:
        assert not [name for name in attributes if name.startswith("on")], tag
        for name in ("href", "src", "xlink:href", "action"):
            assert (attributes.get(name) or "#").startswith(("#", "data:")), (tag, attributes)
        assert "url(" not in (attributes.get("style") or "").replace("url(#", "")
    policies = [attributes["content"] for _, attributes in elements if attributes.get("http-equiv") == "Content-Security-Policy"]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"]
    assert not set(page) & set("\x00\x1b\u202e"), "characters that can't be seen are shown as such"
    ids = [attributes["id"] for _, attributes in elements if attributes.get("id")]
    assert len(ids) == len(set(ids)), "each figure has its own ids"


def test_it_says_the_verdict_in_words() -> None:
    page = html(node_death(runs=1))
    assert "✓ It holds" in page and "median of outage &lt; 0.5 s" in page
    result = node_death(cells=CELLS, runs=1)
    assert "of 3 hypotheses hold" in html(result)
    assert "No hypothesis was stated" in html(msgspec.structs.replace(node_death(runs=1), verdicts=()))


def test_results_with_holes_are_shown_as_far_as_they_go() -> None:
    result = node_death(runs=3)
    runs = tuple(msgspec.structs.replace(run, broken="the host was too busy") for run in result.runs)
    page = html(msgspec.structs.replace(result, runs=runs, ended_at=0.0))
    assert "0 of 3 runs count; the experiment is not finished" in page and "the host was too busy" in page and "nothing to show" in page
    bare = msgspec.structs.replace(result.runs[0], measurement=None)
    assert "What happened, in the order of time" in html(msgspec.structs.replace(result, runs=(bare,)))
    nothing = msgspec.structs.replace(result.runs[0], timelines=(), figures={})
    assert "It holds" in html(msgspec.structs.replace(result, runs=(nothing,)))
    assert "No hypothesis" in html(Result(name="empty", experiment=""))


def test_a_file_of_facts_may_be_nested_and_long() -> None:
    assert facts({"host": {"kernel": "6.1", "cpus": 2}, "minions": ["a", "b"]}) == [
        ("host.kernel", "6.1"),
        ("host.cpus", "2"),
        ("minions", "a, b"),
    ]
    deep: dict = {}
    for _ in range(2_000):
        deep = {"x": deep}
    assert len(facts({"deep": deep, **{str(i): i for i in range(10_000)}})) == 300


def test_raw_data_beyond_the_bound_is_left_out_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rawdata, "PART_MAX_BYTES", 90_000)
    monkeypatch.setattr(rawdata, "PARTS_MAX", 3)
    result = node_death(runs=5, rate=60.0)
    parts = rawdata.downloads(result)
    assert 1 < len(parts) <= 3 and all(part.size_bytes <= 90_000 for part in parts)
    names = [name for part in parts for name in _archive(part.address)]
    assert names[0] == "result.json" and len(names) == len(set(names)) == 1 + sum(part.runs for part in parts) < 6
    kept = msgspec.json.decode(_archive(parts[0].address)["result.json"], type=Result)
    assert [run.requests for run in kept.runs if run.requests] == names[1:]
    assert f"The requests of {6 - len(names)} runs are not in it" in html(result)


def _archive(address: str) -> dict[str, bytes]:
    data = gzip.decompress(base64.b64decode(address.partition(",")[2]))
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {member.name: archive.extractfile(member).read() for member in archive}  # type: ignore[union-attr]


def test_colours_can_be_told_from_their_background_in_both_schemes() -> None:
    for background, scheme in (
        (colours.PAPER.light, "light"),
        (colours.PANEL.light, "light"),
        (colours.PAPER.dark, "dark"),
        (colours.PANEL.dark, "dark"),
    ):
        for colour in (colours.INK, colours.MUTED, colours.FAILED, colours.HOLDS, colours.ACCENT):
            assert colours.contrast(getattr(colour, scheme), background) >= 4.5, (colour, background)
        for colour in colours.SERIES:
            assert colours.contrast(getattr(colour, scheme), background) >= 3, (colour, background)
    assert len({colour.light for colour in colours.ALL}) == len(colours.ALL), "the page finds a colour's variable by its light value"
    for one, other in zip(colours.GREYS, colours.GREYS[1:], strict=False):
        assert colours.contrast(one, other) >= 1.6, "neighbours on paper differ in brightness"


def test_times_and_labels() -> None:
    assert [time_text(s) for s in (0.0000312, 0.0123, 0.99999, 1.234, 90)] == ["31.2 µs", "12.3 ms", "1 s", "1.23 s", "90 s"]
    assert [plus_text(s) for s in (0, 0.01, -2)] == ["0", "+10 ms", "−2 s"]
    assert canvas.clean("a\x00\x1b\nb\u202e\ud800é") == "a\ufffd\ufffd b\ufffd\ufffdé"
    assert len(canvas.clean("x" * 100_000)) == 48


def test_without_matplotlib_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(LabctlError, match=r"pip install 'labctl\[report\]'"):
        html(node_death(runs=1))
