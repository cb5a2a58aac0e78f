"""The dashboard in a real browser: a real web face, a real daemon, a stand-in for the GPU driver."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.browser import ENTER, ESCAPE, TAB, Browser
from support.daemon import hostile
from support.fakenvml.state import GIB, FakeDriver
from support.gpu_fixtures import driver, fakenvml
from support.page import browser, complaints, look
from support.watching import WatchedDaemon
from support.web_face import WebFace, web_face

pytestmark = pytest.mark.slow
__all__ = ["browser", "driver", "fakenvml"]

SLEEPER = hostile("--life", "120", "sleeper")
MARKUP = "<img src=x onerror=alert(1)>"
SPEAKER = f"[sh, -c, 'echo \"{MARKUP}\"; exec sleep 120']"
TABS_MOST = 60


@pytest.fixture
def daemon(tmp_path: Path, driver: FakeDriver) -> Iterator[WatchedDaemon]:
    made = WatchedDaemon(tmp_path, driver.environment)
    yield made
    made.close()


@pytest.fixture
def face(tmp_path: Path, daemon: WatchedDaemon) -> Iterator[WebFace]:
    """Return the web face of a daemon with two workers; `embed` prints markup."""
    daemon.begin(
        f"  chat: {{command: {SLEEPER}, gpus: [0], memory: {{cap: 1G}}}}\n  embed: {{command: {SPEAKER}}}\n"
    )
    daemon.until_phase("chat", "ready")
    daemon.until_phase("embed", "ready")
    with web_face(tmp_path, tmp_path / "run" / "control") as made:
        yield made


def row(name: str, part: str = "") -> str:
    return f"[data-worker={name}] {part}".strip()


def test_it_shows_the_machine_and_its_workers_and_the_browser_has_nothing_to_complain_of(
    browser: Browser, face: WebFace, daemon: WatchedDaemon
) -> None:
    look(browser, face.port)

    assert browser.text("h1") == "gpu-supervisor"
    browser.until_text("#verdict-title", "^All is well$")
    assert browser.text("#verdict-detail") == "All 2 workers are ready"
    gauges = browser.until_text("#gauges", "GPU 1")
    assert "Host" in gauges
    assert "16 of 80 GiB" in gauges
    assert "40 °C" in gauges
    assert "100 of 400 W" in gauges
    chat = browser.until_text(row("chat"), "pid")
    assert f"pid {daemon.pid('chat')} · GPU 0" in chat
    assert "no restarts" in chat
    assert "does not report" in chat
    browser.until_text("#events", "worker ready")
    browser.until_text("#incidents-none", "No incident in the last 24 hours")
    assert complaints(browser) == []


def test_it_follows_the_memory_of_a_gpu_and_says_when_it_gets_short(
    browser: Browser, face: WebFace, driver: FakeDriver
) -> None:
    look(browser, face.port)
    browser.run("window.sameAsBefore = document.querySelector('.gauge:nth-child(2)')")
    assert not browser.shown("#banner")

    driver.gpu(0).used = 40 * GIB
    browser.until_text(".gauge:nth-child(2)", "50 %")
    assert not browser.shown("#banner")

    driver.gpu(0).used = 66 * GIB
    assert "GPU 0 memory at 83 %, pressure high" in browser.until_text("#banner", "Warning")
    assert browser.text("#banner-degradation") == "No worker is degraded."
    assert browser.text("#verdict-title") == "Memory is short"
    assert (
        browser.text("#banner-said")
        == "Warning: GPU 0 memory at 83\u00a0%, pressure high. No worker is degraded."
    )
    style = "return getComputedStyle(document.querySelector('#banner')).animationName"
    assert browser.run(style) == "none"

    driver.gpu(0).used = 70 * GIB
    assert "GPU 0 memory at 88 %, pressure critical" in browser.until_text("#banner", "Alarm")
    assert browser.run(style) == "pulse"
    assert browser.run("return document.title").startswith("GPU 0 memory at 88")
    browser.prefer(reduced_motion="reduce")
    assert browser.run(style) == "none"

    driver.gpu(0).used = 16 * GIB
    browser.until(lambda: not browser.shown("#banner"), "the banner is gone")
    assert browser.run("return sameAsBefore === document.querySelector('.gauge:nth-child(2)')") is True
    assert complaints(browser) == []


def test_a_button_restarts_a_worker_once_it_is_confirmed_and_the_reason_is_kept(
    browser: Browser, face: WebFace, daemon: WatchedDaemon
) -> None:
    look(browser, face.port)
    before = daemon.pid("chat")
    browser.click(row("chat", "[data-wish=restart]"))
    browser.until_text("#confirm-title", "^Restart chat\\?$")
    browser.click("#confirm-reason")
    browser.type("it looks <b>odd</b>")
    browser.click("#confirm-now")
    browser.click("#confirm-yes")

    browser.until_text("#toast", "Restart of chat was asked for")
    assert not browser.shown("#confirm")
    after = daemon.until_worker("chat", lambda one: one["pid"] not in {None, before}, "it runs anew")
    assert after["last_restart"]["cause"] == "operator"
    browser.until_text(row("chat"), f"pid {after['pid']}")
    assert "operator" in browser.until_text(row("chat"), "1 restart")
    incident = browser.until_text("#incidents", "operator")
    assert "it looks <b>odd</b>" in incident


def test_the_keyboard_alone_is_enough(browser: Browser, face: WebFace, daemon: WatchedDaemon) -> None:
    look(browser, face.port)
    before = daemon.pid("chat")
    focused = "return document.activeElement.getAttribute('aria-label') ?? document.activeElement.id"
    for _ in range(TABS_MOST):
        browser.type(TAB)
        if browser.run(focused) == "Restart chat":
            break
    assert browser.run(focused) == "Restart chat"
    outline = "return getComputedStyle(document.activeElement).outlineStyle"
    assert browser.run(outline) == "solid"

    browser.type(ENTER)
    browser.until(lambda: browser.shown("#confirm"), "it asks")
    assert browser.run(focused) == "confirm-yes"
    browser.type(ESCAPE)
    browser.until(lambda: not browser.shown("#confirm"), "it is let be")
    assert browser.run(focused) == "Restart chat"
    assert daemon.pid("chat") == before

    browser.type(ENTER)
    browser.until(lambda: browser.shown("#confirm"), "it asks")
    browser.type(ENTER)
    daemon.until_worker("chat", lambda one: one["pid"] not in {None, before}, "it runs anew")
    browser.until(lambda: browser.run(focused) == "Restart chat", "the focus is where it was")


def test_stop_becomes_start(browser: Browser, face: WebFace, daemon: WatchedDaemon) -> None:
    look(browser, face.port)
    browser.click(row("chat", "[data-wish=stop]"))
    browser.until(lambda: browser.shown("#confirm"), "it asks")
    browser.click("#confirm-yes")
    daemon.until_phase("chat", "stopped")
    assert "1 of 2 workers ready · 1 stopped" in browser.until_text("#verdict", "stopped").replace(
        "\u00a0", " "
    )

    browser.click(row("chat", "[data-wish=start]"))
    browser.until_text("#confirm-title", "^Start chat\\?$")
    assert not browser.shown("#confirm-now-row")
    browser.click("#confirm-yes")
    daemon.until_phase("chat", "ready")
    browser.until_text(row("chat"), "ready")


def test_an_incident_opens_with_what_was_done_and_the_last_words_as_plain_text(
    browser: Browser, face: WebFace, daemon: WatchedDaemon
) -> None:
    before = daemon.pid("embed")
    look(browser, face.port)
    samples = "/api/v1/samples?worker=embed"
    face.until(lambda: face.get(samples).json()["samples"], "the history has a reading of it", 30.0)
    assert daemon.run("restart", "embed", "--reason", "for the test").returncode == 0
    assert daemon.pid("embed") != before
    browser.until_text("#incidents", "embed")

    browser.click(".incident")
    assert browser.until_text("#incident-title", "embed") == "embed: operator"
    assert "for the test" in browser.text("#incident-reason")
    assert "worker ready" in browser.until_text("#incident-timeline", "worker stopping")
    browser.until_text("#incident-log", "<img src=x onerror=alert\\(1\\)>")
    assert browser.run("return document.querySelectorAll('#incident img').length") == 0
    browser.until(
        lambda: browser.run("return document.querySelector('#incident canvas') !== null"), "a chart"
    )
    assert "memory at most" in browser.text("#incident-chart-text")

    browser.type(ESCAPE)
    browser.until(lambda: not browser.shown("#incident"), "it is closed")
    assert complaints(browser) == []


def test_it_says_since_when_it_is_stale_and_comes_back_by_itself(
    browser: Browser, face: WebFace, daemon: WatchedDaemon
) -> None:
    look(browser, face.port)
    browser.run("window.sameAsBefore = document.querySelector('[data-worker=chat]')")
    daemon.kill()
    browser.until_text("#link-word", r"^stale since \d\d:\d\d:\d\d$")
    browser.until_text("#link-why", "the daemon is away: ")
    assert "ready" in browser.text(row("chat"))
    browser.until_text("#verdict-title", r"^Not known since \d\d:\d\d:\d\d$")
    daemon.start()
    browser.until_text("#link-word", "^live$", 30.0)
    browser.until_text("#verdict-title", "^All is well$")

    assert face.end() in {0, -15}
    browser.until_text("#link-word", r"^stale since \d\d:\d\d:\d\d$")
    assert "next try in" in browser.until_text("#link-why", "does not answer")
    face.start("--listen", f"127.0.0.1:{face.port}")
    browser.until_text("#link-word", "^live$", 30.0)
    assert browser.run("return sameAsBefore === document.querySelector('[data-worker=chat]')") is True
