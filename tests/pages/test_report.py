"""The report as a person sees it in a browser: on a projector and on a phone, in both colour schemes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from labctl.experiments import folder
from labctl.experiments.report.html import html
from labctl.tarfiles import tarfile
from tests.experiments.report.synthetic import CELLS, HOSTILE, hostile, node_death
from tests.pages.browser import CONTRASTS, SIZES, chromium, needs_chromium, opened

pytestmark = [needs_chromium, pytest.mark.timeout(300)]  # three pages with all their figures are made first


@pytest.fixture(scope="module")
def browser():
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> dict[str, Path]:
    """One experiment, one with a matrix, and one whose every text is hostile, as files."""
    made = {"single": node_death(), "matrix": node_death(cells=CELLS, runs=2), "hostile": hostile()}
    where = tmp_path_factory.mktemp("reports")
    for name, result in made.items():
        (where / f"{name}.html").write_text(html(result))
    return {name: where / f"{name}.html" for name in made}


@pytest.mark.parametrize(("size", "scheme"), [("projector", "light"), ("phone", "dark")])
@pytest.mark.parametrize("name", ["single", "matrix", "hostile"])
def test_a_reader_sees_the_verdict_first_and_the_page_asks_nobody(browser: Browser, pages, name: str, size: str, scheme: str) -> None:
    with opened(browser, pages[name].as_uri(), size=size, scheme=scheme) as watched:
        page = watched.page
        assert watched.requests == [pages[name].as_uri()] and not watched.complaints
        box = page.locator(".verdict .answer").bounding_box()
        assert box and box["y"] + box["height"] <= SIZES[size][1], "the verdict is on the first screen"
        assert page.evaluate("document.documentElement.scrollWidth") <= SIZES[size][0], "no horizontal scrolling"
        assert page.evaluate(CONTRASTS) == []
        shown = page.locator("section > figure svg, section > section figure svg").all()
        assert shown and all(svg.is_visible() == (("narrow" in (svg.get_attribute("class") or "")) == (size == "phone")) for svg in shown)
        assert all(svg.get_attribute("aria-label") for svg in shown)


def test_text_in_figures_can_be_read_on_a_phone_and_from_the_last_row(browser: Browser, pages) -> None:
    smallest = (
        "() => Math.min(...[...document.querySelectorAll('figure svg text')].map(t => t.getBoundingClientRect().height).filter(Boolean))"
    )
    for size, least_px in (("phone", 9.5), ("projector", 12)):
        with opened(browser, pages["matrix"].as_uri(), size=size) as watched:
            assert watched.page.evaluate(smallest) >= least_px


def test_labels_in_figures_do_not_lie_over_each_other_or_beyond_the_edge(browser: Browser, pages) -> None:
    overlaps = """() => [...document.querySelectorAll('section > figure svg')].filter(s => s.checkVisibility()).flatMap(svg => {
        const edge = svg.getBoundingClientRect();
        const boxes = [...svg.querySelectorAll('text')].map(t => ({text: t.textContent, ...t.getBoundingClientRect().toJSON()})).filter(b => b.text.trim());
        const out = boxes.filter(b => b.left < edge.left - 3 || b.right > edge.right + 3).map(b => 'beyond the edge: ' + b.text);
        for (const [i, a] of boxes.entries()) for (const b of boxes.slice(i + 1)) {
            const w = Math.min(a.right, b.right) - Math.max(a.left, b.left), h = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
            if (w > 1.5 && h > 0.4 * Math.min(a.height, b.height)) out.push(`${a.text} | ${b.text}`);
        }
        return out;
    })"""
    for name in ("single", "matrix", "hostile"):
        for size in SIZES:
            with opened(browser, pages[name].as_uri(), size=size) as watched:
                assert watched.page.evaluate(overlaps) == [], (name, size)


def test_the_raw_data_come_out_of_the_page_and_are_the_result(browser: Browser, pages, tmp_path: Path) -> None:
    with opened(browser, pages["single"].as_uri(), accept_downloads=True) as watched:
        with watched.page.expect_download() as download:
            watched.page.locator("a.download").first.click()
        download.value.save_as(tmp_path / "result.tar.gz")
    with tarfile.open(tmp_path / "result.tar.gz") as archive:
        archive.extractall(tmp_path / "there", filter="data")
    back, made = folder.read(tmp_path / "there"), node_death()
    assert [run.figures for run in back.runs] == [run.figures for run in made.runs]
    assert [run.measurement for run in back.runs] == [run.measurement for run in made.runs]


def test_the_page_can_be_used_with_the_keyboard_alone_and_printed(browser: Browser, pages) -> None:
    with opened(browser, pages["matrix"].as_uri(), scheme="dark") as watched:
        page = watched.page
        page.keyboard.press("Tab")
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        page.emulate_media(media="print")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)", (
            "paper is white, whatever the screen was"
        )
        assert not page.locator(".downloads").is_visible() and page.locator("section > figure svg.wide").first.is_visible()


def test_hostile_text_is_shown_and_never_run(browser: Browser, pages) -> None:
    with opened(browser, pages["hostile"].as_uri()) as watched:
        assert watched.page.evaluate("window.hit") is None and not watched.complaints
        assert watched.page.locator("script, iframe, object, img, form").count() == 0
        assert re.sub(r"\s+", " ", HOSTILE)[:20] in re.sub(r"\s+", " ", watched.page.locator("main").inner_text())
