"""What the dashboard makes of a machine that is made up: much of everything, and what cannot be read."""

import os
import secrets
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
from msgspec.structs import replace

from supervisor.model.alert import AlertStatus
from supervisor.model.news import Asked
from supervisor.model.plan import WebPlan
from supervisor.model.status import WorkerStatus
from support.browser import ENTER, ESCAPE, Browser
from support.control_desk import GIB, serving, worker
from support.page import browser, complaints, look
from support.shown_machine import CHAT, ShownDesk, machine, workers
from support.web_face import WebFace, web_face

pytestmark = pytest.mark.slow
__all__ = ["browser"]

CROWD: Final = 200


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[ShownDesk]:
    with serving(tmp_path / "control", ShownDesk(machine())) as made:
        assert isinstance(made, ShownDesk)
        yield made


@pytest.fixture
def face(tmp_path: Path, desk: ShownDesk) -> Iterator[WebFace]:
    del desk
    with web_face(tmp_path, tmp_path / "control") as made:
        yield made


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where screenshots are kept: $GPU_SUPERVISOR_SCREENSHOTS, or this run's temporary folder."""
    given = os.environ.get("GPU_SUPERVISOR_SCREENSHOTS")
    folder = Path(given) if given else tmp_path_factory.mktemp("screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def crowd() -> tuple[WorkerStatus, ...]:
    return tuple(worker(f"w{number:03}", memory_bytes=GIB + number, gpus=(CHAT,)) for number in range(CROWD))


def serious(browser: Browser, axe: str) -> list[str]:
    """Return what axe-core finds that keeps people out, seriously or critically."""
    browser.run(f"{axe}\nwindow.axe = axe ?? window.axe")
    found: list[dict[str, Any]] = browser.run("return axe.run(document).then((found) => found.violations)")
    return [
        f"{one['id']}: {node['target']} {node['failureSummary']}"
        for one in found
        for node in one["nodes"]
        if one["impact"] in {"serious", "critical"}
    ]


def test_what_is_held_waits_or_cannot_be_read_says_why_and_never_zero(
    browser: Browser, face: WebFace, desk: ShownDesk
) -> None:
    hidden = {"temperature_c": "the driver did not answer", "memory_used_bytes": "the driver did not answer"}
    first, second = desk.now.gpus
    blind = replace(second, temperature_c=None, memory_used_bytes=None, read_age_s=44.0, missing=hidden)
    chat, embed, *others = workers()
    dark = replace(chat, memory_bytes=None, missing={"memory_bytes": "its cgroup cannot be read"})
    late = replace(embed, phase="waiting", age_s=None, waits_for="host memory: 4GiB more")
    desk.now = replace(desk.now, gpus=(first, blind), workers=(dark, late, *others))
    look(browser, face.port)

    card = browser.until_text(".gauge:nth-child(3)", "stale since")
    assert "temperature unknown: the driver did not answer" in " ".join(card.split())
    assert "?" in card
    assert "0 of 80" not in card
    assert "unknown: its cgroup cannot be read" in browser.text("[data-worker=chat] .cell-memory")
    assert "waits for host memory: 4GiB more" in browser.text("[data-worker=embed]")
    held = browser.text("[data-worker=transcribe] .note")
    assert held.endswith("exited with status 3 after 0.4 s; gpu-supervisor reset transcribe releases it")
    assert browser.text("[data-worker=transcribe] .note code") == "gpu-supervisor reset transcribe"
    assert "not read for 44 s" in browser.text("#points").replace("\u00a0", " ")

    browser.click("[data-worker=transcribe] [data-wish=reset]")
    browser.until_text("#confirm-title", "^Reset transcribe\\?$")
    browser.type(ENTER)
    browser.until_text("#toast", "Reset of transcribe was asked for")
    assert [(one.wish, one.workers) for one in desk.asked] == [("reset", ("transcribe",))]
    assert complaints(browser) == []


def test_alerts_that_fire_come_first(browser: Browser, face: WebFace) -> None:
    look(browser, face.port)
    told = [
        AlertStatus(
            "HostMemoryLow", "warning", "resolved", "3GiB available", resolved_wall_s=1_763_692_640.0
        ),
        AlertStatus("LeakForecast", "info", "pending", "embed reaches its cap", worker="embed"),
        AlertStatus("WorkerHeld", "warning", "firing", "transcribe is held", worker="transcribe"),
        AlertStatus("GPUMemoryExhaustion", "critical", "firing", "GPU 0 at 96 %", gpu=CHAT),
    ]
    script = """
        const [told] = arguments;
        return import('./static/alerts.js').then(({sorted}) => sorted(told).map((one) => one.name));
    """
    assert browser.run(script, msgspec.to_builtins(told)) == [
        "GPUMemoryExhaustion",
        "WorkerHeld",
        "LeakForecast",
        "HostMemoryLow",
    ]


def test_without_leave_to_act_there_are_no_buttons(browser: Browser, tmp_path: Path, desk: ShownDesk) -> None:
    desk.web_plan = WebPlan(allow_actions=False)
    with web_face(tmp_path, tmp_path / "control") as face:
        look(browser, face.port)
        browser.until_text("#read-only", "^Read only: web.allow_actions is false.$")
        assert not browser.shown("[data-worker=chat] [data-wish=restart]")


def test_what_keeps_people_out_would_be_found(browser: Browser, face: WebFace, axe: str) -> None:
    look(browser, face.port)
    browser.run("document.querySelector('#theme').removeAttribute('aria-label')")
    browser.run("document.querySelector('#theme').replaceChildren()")
    browser.run("document.querySelector('.point-text').style.color = 'silver'")
    found = serious(browser, axe)
    assert {line.partition(":")[0] for line in found} == {"button-name", "color-contrast"}


def test_two_hundred_workers_stay_smooth(browser: Browser, face: WebFace, desk: ShownDesk) -> None:
    desk.now = machine(*crowd())
    look(browser, face.port)
    browser.until(
        lambda: browser.run("return document.querySelectorAll('.worker').length") == CROWD, "all are there"
    )
    browser.until(
        lambda: browser.run("return document.querySelector('#workers canvas')?.width > 0"), "they are drawn"
    )
    browser.run("""
        window.rows = [...document.querySelectorAll('.worker')];
        window.touched = new Set();
        window.long = [];
        new MutationObserver((all) => all.forEach((one) => {
          const row = (one.target.nodeType === 1 ? one.target : one.target.parentElement)?.closest('.worker');
          touched.add(row?.dataset.worker ?? one.target.id);
        })).observe(document.querySelector('#workers'),
          {childList: true, subtree: true, characterData: true, attributes: true});
        new PerformanceObserver((seen) => {
          long.push(...seen.getEntries().map((one) => Math.round(one.duration)));
        }).observe({type: 'longtask', buffered: true});
    """)
    drawn = browser.run(
        "return [...document.querySelectorAll('#workers canvas')].filter((one) => one.width !== 300).length"
    )
    assert 0 < drawn < CROWD  # of 400 sparklines those that are seen, and no other

    changed = replace(desk.now.workers[7], memory_bytes=3 * GIB)
    desk.now = replace(desk.now, workers=(*desk.now.workers[:7], changed, *desk.now.workers[8:]))
    browser.until_text("[data-worker=w007] .cell-memory", "3 of 8 GiB")
    assert browser.run("return [...touched]") == ["w007"]

    every = tuple(replace(one, memory_bytes=2 * GIB, age_s=90.0) for one in desk.now.workers)
    desk.now = replace(desk.now, workers=every)
    browser.until_text("[data-worker=w199] .cell-memory", "2 of 8 GiB")
    browser.until_text("[data-worker=w199] .cell-age", "1 min 30 s")
    same = "return [...document.querySelectorAll('.worker')].every((one, index) => one === rows[index])"
    assert browser.run(same) is True
    long_ms = browser.run("return long")
    sys.stdout.write(
        f"\n{CROWD} workers: tasks of the page above 50 ms, in ms, the first of them building it: {long_ms}\n"
    )

    desk.now = replace(desk.now, workers=every[:-1])
    browser.until(
        lambda: browser.run("return document.querySelectorAll('.worker').length") == CROWD - 1, "one left"
    )
    assert complaints(browser) == []


def test_workers_are_found_by_name_and_phase_and_sorted(browser: Browser, face: WebFace) -> None:
    look(browser, face.port)
    names = "return [...document.querySelectorAll('.worker')].map((one) => one.dataset.worker)"
    assert browser.run(names) == ["chat", "embed", "rerank", "transcribe", "nightly"]

    choose = """
        const control = document.getElementById(arguments[0]);
        control.value = arguments[1];
        control.dispatchEvent(new Event('input'));
    """
    browser.run(choose, "order", "phase")
    assert browser.run(names) == ["transcribe", "chat", "embed", "rerank", "nightly"]
    browser.run(choose, "order", "memory")
    assert browser.run(names) == ["embed", "chat", "rerank", "transcribe", "nightly"]
    browser.run(choose, "filter-phase", "ready")
    assert browser.run(names) == ["embed", "chat", "rerank"]
    browser.click("#filter-name")
    browser.type("RANK")
    assert browser.run(names) == ["rerank"]
    assert browser.text("#workers-count") == "1 of 5"
    browser.type("x")
    assert browser.text("#workers-none") == "None of 5\u00a0workers matches."


def test_a_row_that_moves_keeps_the_focus(browser: Browser, face: WebFace, desk: ShownDesk) -> None:
    look(browser, face.port)
    browser.run("""
        const order = document.getElementById('order');
        order.value = 'memory';
        order.dispatchEvent(new Event('input'));
        document.querySelector('[data-worker=rerank] [data-wish=stop]').focus();
    """)
    full = tuple(replace(one, memory_bytes=6 * GIB) if one.name == "rerank" else one for one in workers())
    desk.now = replace(desk.now, workers=full)
    names = "return [...document.querySelectorAll('.worker')].map((one) => one.dataset.worker)"
    browser.until(lambda: browser.run(names)[0] == "rerank", "the fullest comes first")
    assert browser.run("return document.activeElement.ariaLabel") == "Stop rerank"


class SlowDesk(ShownDesk):
    """A desk that takes a wish only once it is told to."""

    def __init__(self) -> None:
        super().__init__(machine())
        self.goes = threading.Event()

    def ask(self, asked: Asked) -> None:
        self.goes.wait(4)
        super().ask(asked)


def test_a_late_answer_is_told_of_its_own_question(browser: Browser, tmp_path: Path) -> None:
    desk = SlowDesk()
    with serving(tmp_path / "slow", desk), web_face(tmp_path, tmp_path / "slow") as face:
        look(browser, face.port)
        browser.click("[data-worker=chat] [data-wish=restart]")
        browser.click("#confirm-yes")
        browser.type(ESCAPE)
        browser.until(lambda: not browser.shown("#confirm"), "it is closed")
        browser.click("[data-worker=embed] [data-wish=restart]")
        browser.until_text("#confirm-title", r"^Restart embed\?$")
        desk.goes.set()
        browser.until_text("#toast", "^Restart of chat was asked for")
        assert browser.text("#confirm-title") == "Restart embed?"
        assert browser.shown("#confirm")
        assert [asked.workers for asked in desk.asked] == [("chat",)]


def test_the_incidents_of_one_worker_can_be_chosen(browser: Browser, face: WebFace) -> None:
    look(browser, face.port)
    browser.until_text("#incidents-count", "^10$")
    browser.run("""
        const control = document.getElementById('incidents-worker');
        control.value = 'embed';
        control.dispatchEvent(new Event('input'));
    """)
    browser.until_text("#incidents-count", "^3$")
    whose = "return [...document.querySelectorAll('.incident-who')].map((one) => one.textContent)"
    assert browser.run(whose) == ["embed", "embed", "embed"]


def test_where_a_token_is_needed_it_is_asked_for(browser: Browser, tmp_path: Path, desk: ShownDesk) -> None:
    del desk
    token = secrets.token_hex(16)
    (tmp_path / "web-token").write_text(token)
    face = WebFace(tmp_path, tmp_path / "control")
    face.environment["CREDENTIALS_DIRECTORY"] = str(tmp_path)
    face.start()
    try:
        browser.open(f"http://127.0.0.1:{face.port}/")
        browser.until(lambda: browser.shown("#sign-in"), "it asks")
        assert browser.run("return document.querySelectorAll('.worker').length") == 0
        browser.click("#sign-in-token")
        browser.type("not the token at all" + ENTER)
        browser.until(lambda: browser.shown("#sign-in-fault"), "it is refused")
        browser.run("document.querySelector('#sign-in-token').select()")
        browser.type(token + ENTER)
        browser.until_text("#link-word", "^live$")
        browser.until_text("#workers", "transcribe")
        assert not browser.shown("#sign-in")
        browser.click("#sign-out")
        browser.until(lambda: browser.shown("#sign-in"), "it asks again")
    finally:
        face.end()


@pytest.mark.parametrize(
    ("scheme", "width"), [("light", 1440), ("dark", 1440), ("light", 390), ("dark", 390)]
)
def test_it_keeps_nobody_out_and_fits(
    browser: Browser, face: WebFace, axe: str, scheme: str, width: int
) -> None:
    look(browser, face.port)
    browser.until_text("#incidents", "transcribe")
    browser.prefer(color_scheme=scheme, reduced_motion="reduce")
    browser.size(width, 900, phone=width < 400)
    assert serious(browser, axe) == []
    assert browser.run("return document.documentElement.scrollWidth") <= width

    browser.run("document.querySelector('.incident').click()")
    browser.until(
        lambda: browser.run("return document.querySelector('#incident canvas') !== null"), "the chart"
    )
    assert serious(browser, axe) == []
    browser.click("#incident-close")
    browser.run("document.querySelector('[data-wish=stop]').click()")
    browser.until(lambda: browser.shown("#confirm"), "it asks")
    assert serious(browser, axe) == []


def test_the_colours_can_be_chosen_and_are_remembered(browser: Browser, face: WebFace) -> None:
    look(browser, face.port)
    page = "return getComputedStyle(document.body).backgroundColor"
    light = browser.run(page)
    browser.prefer(color_scheme="dark")
    dark = browser.run(page)
    assert light != dark
    browser.click("#theme")
    assert browser.text("#theme") == "light"
    assert browser.run(page) == light
    look(browser, face.port)
    browser.prefer(color_scheme="dark")
    assert browser.run(page) == light
    browser.click("#theme")
    browser.click("#theme")
    assert browser.text("#theme") == "auto"
    assert browser.run(page) == dark


def test_pictures_of_it_are_kept(browser: Browser, face: WebFace, pictures: Path) -> None:
    look(browser, face.port)
    browser.until_text("#incidents", "transcribe")
    browser.until(
        lambda: browser.run("return document.querySelector('#workers canvas')?.width > 0"), "the sparklines"
    )
    browser.prefer(color_scheme="light", reduced_motion="reduce")
    for name, scheme, width, height in (
        ("light", "light", 1440, 1000),
        ("dark", "dark", 1440, 1000),
        ("phone", "light", 390, 844),
    ):
        browser.size(width, height, phone=width < 400)
        browser.prefer(color_scheme=scheme, reduced_motion="reduce")
        browser.screenshot(pictures / f"{name}.png", whole=width < 400)
        assert (pictures / f"{name}.png").read_bytes()[:4] == b"\x89PNG"
    sys.stdout.write(f"\nscreenshots: {pictures}\n")
