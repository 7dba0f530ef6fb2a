"""The live page as a person uses it in a browser: what is seen, what a button does, on a screen and on a phone, in both colour schemes, by keyboard."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from labctl.measure.live import SourceTick, Tick
from tests.dash.world import InThread
from tests.pages.browser import CONTRASTS, SIZES, Watched, chromium, needs_chromium, opened

pytestmark = needs_chromium
LATER_MS = 30_000
HOSTILE = '<img src=https://192.0.2.1/x onerror="window.hit=1"></script><script>window.hit=1</script>\u202e\x00{{7*7}}'


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InThread]:
    """Four hollow minions, two Services with pods, and a controller without a Service."""
    with InThread.running(tmp_path_factory.mktemp("dash"), nodes=4) as running:
        live = running.live
        for name, replicas, service in (("web", 6, True), ("api", 5, True), ("queue", 3, False)):
            running.do(live.deploy(name, replicas, service))
        running.do(live.until(lambda: live.ready() == 14))
        yield running


@contextlib.contextmanager
def watching(browser: Browser, lab: InThread, **more) -> Iterator[Watched]:
    with opened(browser, lab.live.address(), ignore_https_errors=True, **more) as watched:
        expect(watched.page.locator("#connection")).to_have_text("live")
        watched.page.wait_for_selector(".machine .pod")
        yield watched


def card(page: Page, name: str):
    return page.locator(".machine", has=page.get_by_role("heading", name=name))


@pytest.mark.parametrize(("size", "scheme"), [("projector", "light"), ("phone", "dark")])
def test_it_shows_machines_pods_and_services(browser: Browser, lab: InThread, size: str, scheme: str) -> None:
    with watching(browser, lab, size=size, scheme=scheme) as watched:
        page = watched.page
        expect(page.locator("#summary")).to_have_text("4 of 4 machines ready, 14 of 14 pods ready")
        expect(page.locator(".machine .pod[data-state=ready]")).to_have_count(14)
        assert not page.get_by_role("heading", name="not placed yet").is_visible(), "no pod waits"
        assert "6 of 6 answer" in page.get_by_role("button", name="default/web").inner_text()
        assert page.evaluate("document.documentElement.scrollWidth") <= SIZES[size][0]
        assert page.evaluate(CONTRASTS) == []
        assert all(address.startswith(lab.live.url) for address in watched.requests) and not watched.complaints


def test_the_power_goes_by_a_button_and_the_pods_move(browser: Browser, lab: InThread) -> None:
    with watching(browser, lab) as watched:
        page = watched.page
        before = page.locator(".machine", has_text="minion-2").locator(".pod").count()
        assert before > 0
        page.get_by_role("button", name="Power off minion-2").click()
        expect(card(page, "minion-2")).to_have_attribute("data-state", "off", timeout=LATER_MS)
        expect(card(page, "minion-2").locator(".pod")).to_have_count(0, timeout=LATER_MS)
        expect(page.locator(".machine .pod[data-state=ready]")).to_have_count(14, timeout=LATER_MS)
        expect(page.locator("#summary")).to_have_text("3 of 4 machines ready, 14 of 14 pods ready", timeout=LATER_MS)
        expect(page.locator("#announce")).to_contain_text("minion-2 is Off", timeout=LATER_MS)
        expect(page.locator("#faults")).to_contain_text("power-off minion-2")
        expect(page.locator("#events")).to_contain_text("TaintManagerEviction")
        page.get_by_role("button", name="Heal minion-2", exact=True).click()
        expect(card(page, "minion-2")).to_have_attribute("data-state", "ready", timeout=LATER_MS)
        expect(page.get_by_role("button", name="Power off minion-2")).to_be_enabled(timeout=LATER_MS)
        assert not watched.complaints


def test_everything_can_be_done_with_the_keyboard(browser: Browser, lab: InThread) -> None:
    with watching(browser, lab) as watched:
        page = watched.page
        page.locator("#duration").focus()
        seen = []
        for _ in range(8):
            page.keyboard.press("Tab")
            seen.append(page.evaluate("document.activeElement.getAttribute('aria-label')"))
            assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid", "the focus is visible"
        assert seen[:5] == ["pods on minion-1", "Power off minion-1", "Pause minion-1", "Cut minion-1", "Reset minion-1"]
        page.locator(".pods").first.focus()
        page.keyboard.press("ArrowRight")
        expect(page.locator("#details")).to_contain_text("pod default/")
        page.get_by_role("button", name="default/web").focus()
        page.keyboard.press("Enter")
        expect(page.locator(".pod.marked")).to_have_count(6)
        page.keyboard.press("Enter")
        expect(page.locator(".pod.marked")).to_have_count(0)


def test_the_form_says_what_is_wrong_and_breaks_what_is_right(browser: Browser, lab: InThread) -> None:
    with watching(browser, lab) as watched:
        page = watched.page
        page.get_by_text("Break something else").click()
        page.locator("#type").select_option("delay")
        page.locator("#target").fill("minion-1")
        page.get_by_label("time", exact=True).fill("a while")
        page.get_by_role("button", name="Break it").click()
        expect(page.locator("#said")).to_contain_text("spec.parameters[time]")
        page.locator("#type").select_option("power-off")
        page.locator("#target").fill("minion-4")
        page.locator("#for").fill("1s")
        page.get_by_role("button", name="Break it").click()
        expect(card(page, "minion-4")).to_have_attribute("data-state", "off", timeout=LATER_MS)
        expect(card(page, "minion-4")).to_have_attribute("data-state", "ready", timeout=LATER_MS)


FRAMES = """async seconds => {
    const gaps = [], end = performance.now() + seconds * 1000;
    let last = performance.now();
    await new Promise(done => { const frame = now => { gaps.push(now - last); last = now; now < end ? requestAnimationFrame(frame) : done(); }; requestAnimationFrame(frame); });
    return gaps.sort((a, b) => a - b);
}"""


def test_twenty_minions_and_500_pods_move_without_stutter(browser: Browser, tmp_path: Path) -> None:
    with InThread.running(tmp_path, nodes=20) as big:
        for number in range(5):
            big.do(big.live.deploy(f"app{number}", 100))
        big.do(big.live.until(lambda: big.live.ready() == 500, 100), 120)
        with watching(browser, big) as watched:
            page = watched.page
            expect(page.locator(".machine .pod")).to_have_count(500)
            page.evaluate("document.querySelector('[aria-label=\\'Power off minion-3\\']').click()")
            gaps = page.evaluate(FRAMES, 4)
            expect(page.locator("#summary")).to_have_text("19 of 20 machines ready, 500 of 500 pods ready", timeout=LATER_MS)
            assert gaps[len(gaps) // 2] < 40, "half of all frames come in time, also on a busy host"
            assert gaps[-1] < 1000, "it never stands still"


def test_links_lead_from_a_service_to_its_pods_and_show_the_flow(browser: Browser, lab: InThread) -> None:
    with watching(browser, lab) as watched:
        page = watched.page
        expect(page.locator("#links path")).to_have_count(11)
        pod = next(pod for pod in lab.live.client.list("pods") if pod.metadata.labels["app"] == "web")
        address = lab.live.client.get("pods", pod.metadata.key).status.pod_ip
        flow = [["default/web", address, 12.5]]
        lab.do(_told(lab, "flow", flow))
        expect(page.locator("#links path.flow")).to_have_count(1)
        expect(page.get_by_role("button", name="default/web")).to_contain_text("13 new connections/s")
        page.emulate_media(reduced_motion="reduce")
        assert page.evaluate("getComputedStyle(document.querySelector('#links path.flow')).animationName") == "none"


def test_the_requests_of_a_running_measurement_are_drawn(browser: Browser, lab: InThread) -> None:
    with watching(browser, lab) as watched:
        page = watched.page
        expect(page.locator("#requests")).to_be_hidden()
        ticks = [_tick(second) for second in range(1, 31)]
        lab.do(_told(lab, "requests", ticks))
        expect(page.locator("#requests-text")).to_contain_text("150 answered, 50 failed")
        assert page.locator("#bars rect.failed").count() == 5
        expect(page.locator("#requests-key")).to_contain_text("web-1")
        lab.do(_told(lab, "requests", ticks))
        assert page.locator("#bars rect").count() == 30 * 2 + 5, "what was told twice is drawn once"


def _tick(second: int) -> Tick:
    failed = 50 if second > 25 else 0
    source = SourceTick("minion-1", {"ok": 200 - failed, "refused": failed}, {"web-1": 100 - failed, "web-2": 100}, 0.002, 0.004)
    return Tick("one", "http://10.247.0.10/", 200.0, 1000.0 + second, 1.8e9 + second, (source,))


async def _told(lab: InThread, name: str, value) -> None:
    lab.live.feed.tell(name, value)


def test_hostile_names_and_messages_are_text(browser: Browser, lab: InThread) -> None:
    about = {"kind": "Pod", "namespace": "default", "name": HOSTILE}
    event = {
        "metadata": {"name": "hostile", "namespace": "default"},
        "involvedObject": about,
        "reason": HOSTILE,
        "message": HOSTILE,
        "type": HOSTILE,
    }
    lab.do(lab.live.client.create("events", event))
    try:
        with watching(browser, lab) as watched:
            expect(watched.page.locator("#events")).to_contain_text("<img src=https://192.0.2.1/x")
            watched.page.wait_for_timeout(200)
            assert watched.page.evaluate("window.hit") is None
            assert watched.page.locator("#events img, #events script").count() == 0
            assert all(address.startswith(lab.live.url) for address in watched.requests) and not watched.complaints
    finally:
        lab.do(lab.live.client.delete("events", "default/hostile"))


def test_another_site_can_neither_read_nor_press(browser: Browser, lab: InThread) -> None:
    with watching(browser, lab) as watched:
        context = watched.page.context
        other = context.new_page()
        context.route("https://other.test/**", lambda route: route.fulfill(body="<h1>other</h1>", content_type="text/html"))
        other.goto("https://other.test/")
        tried = other.evaluate(
            """async url => {
                const send = (path, more) => fetch(url + path, {credentials: 'include', ...more}).then(a => a.status, e => 'refused');
                const form = JSON.stringify({type: 'power-off', target: 'minion-1'});
                return [await send('/dash/stream', {}), await send('/dash/faults', {method: 'POST', body: form}),
                        await send('/dash/faults', {method: 'POST', body: form, mode: 'no-cors'}).then(s => s === 0 ? 'opaque' : s)];
            }""",
            lab.live.url,
        )
        assert tried[:2] == ["refused", "refused"]
        assert all(fault.spec.target != "minion-1" for fault in lab.live.client.list("faults.labctl.internal"))
        other.set_content(f"<iframe src='{lab.live.url}/dash/'></iframe>")
        other.wait_for_timeout(300)
        assert other.frames[-1].locator(".machine").count() == 0, "nobody shows it in a frame"


def test_a_session_that_was_ended_by_its_button_opens_nothing(browser: Browser, lab: InThread) -> None:
    with watching(browser, lab) as watched:
        watched.page.get_by_role("button", name="End this session").click()
        expect(watched.page.locator("body")).to_contain_text("labctl dash", timeout=LATER_MS)
        assert watched.page.locator(".machine").count() == 0


def test_a_page_whose_master_is_gone_says_so(browser: Browser, tmp_path: Path) -> None:
    with InThread.running(tmp_path, nodes=1) as short, opened(browser, short.live.address(), ignore_https_errors=True) as watched:
        expect(watched.page.locator("#connection")).to_have_text("live")
        short.do(_closed(short))
        expect(watched.page.locator("#connection")).to_contain_text("run “labctl dash” again", timeout=LATER_MS)


async def _closed(short: InThread) -> None:
    """Ends all sessions; each page hears it with its next message."""
    short.live.dash._sessions._sessions.clear()
    await short.live.deploy("late", 1)
