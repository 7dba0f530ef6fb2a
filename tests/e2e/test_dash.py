"""The live page of a lab of real machines, as a person uses it: the address that the command prints, traffic on the picture, a plug pulled by a button."""

import re
import subprocess
import sys

import pytest

from tests.e2e.cluster import SEED, wait
from tests.pages.browser import chromium, needs_chromium, opened

pytestmark = needs_chromium
LATER_MS = 60_000


@pytest.fixture(scope="module")
def web(cluster):
    cluster.kubectl("create", "-f", str(SEED / "nginx-rc.yml"), "-f", str(SEED / "nginx-service.yml"))
    wait(lambda: len(cluster.ready_pods()) == 2, "two pods are Ready", 60)
    return cluster


def address(cluster) -> str:
    """What `labctl dash` prints where there is no terminal: one line."""
    said = cluster.labctl("dash").stdout
    assert re.fullmatch(r"https://127\.0\.0\.1:\d+/dash/open\?token=[\w-]{43}\n", said), said
    return said.strip()


def test_a_plug_is_pulled_by_a_button_while_traffic_flows_on_the_picture(web):
    from playwright.sync_api import expect

    with chromium() as browser, opened(browser, address(web), ignore_https_errors=True) as watched:
        page = watched.page
        expect(page.locator("#summary")).to_have_text(re.compile("^2 of 2 machines ready"), timeout=LATER_MS)
        expect(page.locator("#links path")).not_to_have_count(0, timeout=LATER_MS)
        load = subprocess.Popen(
            [sys.executable, "-m", "labctl", "measure", "web-service", "--rate", "50", "--from", "minion-2", "--for", "120s"],
            cwd=web.folder, env=web.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            expect(page.get_by_role("button", name="default/web-service")).to_contain_text("new connections/s", timeout=LATER_MS)
            expect(page.locator("#requests-text")).to_contain_text("answered", timeout=LATER_MS)
            expect(page.locator("#links path.flow")).not_to_have_count(0, timeout=LATER_MS)
            page.get_by_role("button", name="Power off minion-1").click()
            off = page.locator(".machine[data-state=off]")
            expect(off).to_contain_text("minion-1", timeout=LATER_MS)
            expect(off.locator(".pod")).to_have_count(0, timeout=LATER_MS)
            expect(page.locator(".machine[data-state=ready] .pod[data-state=ready]", has_text=re.compile("."))).not_to_have_count(
                0, timeout=LATER_MS
            )
            wait(lambda: len(web.ready_pods()) == 2, "two pods are Ready again", 60)
            page.get_by_role("button", name="Heal minion-1", exact=True).click()
            expect(page.locator("#summary")).to_have_text(re.compile("^2 of 2 machines ready"), timeout=LATER_MS)
        finally:
            load.terminate()
            load.wait(20)
        assert not watched.complaints and "power-off" in web.kubectl("get", "faults").stdout


def test_an_address_opens_nothing_twice(web):
    from playwright.sync_api import expect

    where = address(web)
    with chromium() as browser:
        with opened(browser, where, ignore_https_errors=True) as watched:
            expect(watched.page.locator("#connection")).to_have_text("live", timeout=LATER_MS)
        with opened(browser, where, ignore_https_errors=True) as watched:
            expect(watched.page.locator("body")).to_contain_text("used already", timeout=LATER_MS)
