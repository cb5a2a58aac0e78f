"""The pure parts of the dashboard, each module imported by a real browser and asked by itself."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
from msgspec.structs import replace

from supervisor.model.status import LastRestartStatus
from support.browser import Browser
from support.control_desk import GIB, serving, worker
from support.page import browser
from support.shown_machine import ShownDesk, gpu, machine, reported
from support.web_face import WebFace, web_face

pytestmark = pytest.mark.slow
__all__ = ["browser"]

Value = Any  # whatever JSON holds
LIVE: Final = {"kind": "live", "sinceMs": None, "why": ""}
Ask = Callable[..., Value]
ASK = """
    const [module, name, given] = arguments;
    return import(`./static/${module}.js`).then((found) => found[name](...given));
"""


@pytest.fixture(scope="module")
def ask(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    """Return a function that calls `name` of a module of the page; its spaces become plain ones."""
    folder = tmp_path_factory.mktemp("web")
    control = folder / "control"
    with serving(control, ShownDesk(machine())), web_face(folder, control) as face:
        browser.open(f"http://127.0.0.1:{face.port}/")

        def asked(module: str, name: str, *given: object) -> Value:
            answer = browser.run(ASK, module, name, msgspec.to_builtins(given))
            return msgspec.json.decode(msgspec.json.encode(answer).replace("\u00a0".encode(), b" "))

        yield asked


@pytest.mark.parametrize(
    ("bytes_", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (1536, "1.5 KiB"),
        (1024**2 - 1, "1 MiB"),
        (5.1 * GIB, "5.1 GiB"),
        (130 * GIB, "130 GiB"),
        (-2048, "-2 KiB"),
    ],
)
def test_sizes_are_of_base_1024(ask: Ask, bytes_: float, text: str) -> None:
    assert ask("format", "size", bytes_) == text


def test_two_sizes_share_their_unit_where_they_can(ask: Ask) -> None:
    assert ask("format", "sizeOf", 49.6 * GIB, 80 * GIB) == "49.6 of 80 GiB"
    assert ask("format", "sizeOf", 512 << 20, 8 * GIB) == "512 MiB of 8 GiB"
    assert ask("format", "sizeOf", 0, 8 * GIB) == "0 of 8 GiB"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.25, "0.3 s"),
        (9.96, "10 s"),
        (59.6, "1 min"),
        (74, "1 min 14 s"),
        (3600, "1 h"),
        (4335, "1 h 12 min"),
        (273_600, "3 d 4 h"),
        (-12, "-12 s"),
    ],
)
def test_times_have_two_parts_at_most(ask: Ask, seconds: float, text: str) -> None:
    assert ask("format", "span", seconds) == text


def test_a_share_is_full_only_when_it_is(ask: Ask) -> None:
    assert [ask("format", "percent", share) for share in (0, 0.854, 0.996, 1, 1.2)] == [
        "0 %",
        "85 %",
        "99 %",
        "100 %",
        "120 %",
    ]


def test_fields_are_shown_by_the_unit_of_their_name(ask: Ask) -> None:
    assert ask("format", "field", "memory_cap_bytes", 8 * GIB) == "8 GiB"
    assert ask("format", "field", "took_s", 75) == "1 min 15 s"
    assert ask("format", "field", "used_percent", 85.25) == "85.3 %"
    assert ask("format", "field", "pid", 17650) == "17650"
    assert ask("format", "field", "signal", None) == "unknown"
    assert ask("format", "fieldName", "memory_cap_bytes") == "memory cap"


def test_only_whole_pairs_of_backticks_make_a_command(ask: Ask) -> None:
    assert ask("format", "pieces", "do `reset chat` now") == [
        {"text": "do ", "code": False},
        {"text": "reset chat", "code": True},
        {"text": " now", "code": False},
    ]
    assert ask("format", "pieces", "a ` b") == [{"text": "a ", "code": False}, {"text": " b", "code": False}]


@pytest.mark.parametrize(
    ("used_gib", "level"),
    [(64.0, None), (64.1, "high"), (68.0, "high"), (68.1, "critical"), (80.0, "critical")],
)
def test_the_banner_is_yellow_above_80_percent_and_red_above_85(
    ask: Ask, used_gib: float, level: str | None
) -> None:
    status = replace(machine(), gpus=(gpu(0, "GPU-0", used_gib),))
    banner = ask("pressure", "banner", status)
    assert (banner and banner["level"]) == level


def test_the_banner_says_who_is_fullest_and_who_stepped_back(ask: Ask) -> None:
    host = replace(machine().host, memory_available_bytes=12 * GIB, pressure="high")
    stepped = worker("embed", rung=2, reported=reported(level="critical"))
    status = replace(
        machine(worker("chat"), stepped), host=host, gpus=(gpu(0, "GPU-0", 66, pressure="high"),)
    )
    banner = ask("pressure", "banner", status)
    assert banner["title"] == "Host memory at 91 %, pressure high · GPU 0 memory at 83 %, pressure high"
    assert banner["degradation"] == "Degraded: embed (rung 2, reports critical)"


def test_what_cannot_be_read_is_no_share(ask: Ask) -> None:
    assert ask("pressure", "gpuShare", gpu(0, "GPU-0", 1, memory_used_bytes=None)) is None
    assert ask("pressure", "hostShare", replace(machine().host, memory_available_bytes=None)) is None


def test_what_needs_a_look_is_said_most_urgent_first(ask: Ask) -> None:
    lost = gpu(1, "GPU-1", 3, state="lost", missing={"state": "fell off the bus"})
    status = replace(machine(), gpus=(lost,), config_refused="line 3: workers: wrong", dry_run=True)
    alert = {"name": "HostMemoryLow", "state": "firing", "severity": "warning", "summary": "3GiB available"}
    points = ask("attention", "points", status, [alert, {**alert, "state": "resolved"}])
    assert [(one["urgency"], one["subject"]) for one in points] == [
        ("critical", "GPU 1"),
        ("critical", "transcribe"),
        ("high", "HostMemoryLow"),
        ("high", "embed"),
        ("high", "supervisor"),
        ("info", "rerank"),
        ("info", "supervisor"),
    ]
    assert points[0]["text"] == "lost: fell off the bus"
    detail = "3 of 5 workers ready · 1 held · 1 stopped"
    assert ask("attention", "verdict", status, points, {"banner": None, "freshness": LIVE}) == {
        "level": "critical",
        "title": "5 things need a look",
        "detail": detail,
    }


def test_who_was_restarted_lately_needs_a_look_unless_that_was_planned(ask: Ask) -> None:
    def points(cause: str, at: str) -> list[str]:
        last = LastRestartStatus(cause, "memory 8.1GiB, cap 8GiB", at)
        status = replace(machine(worker("chat", last_restart=last)), taken_at="2026-11-21T03:00:00.000Z")
        return [
            f"{one['urgency']} {one['subject']}: {one['text']}"
            for one in ask("attention", "points", status, [])
        ]

    assert points("memory-cap", "2026-11-21T02:57:00.000Z") == [
        "high chat: restarted 3 min ago, memory-cap: memory 8.1GiB, cap 8GiB"
    ]
    assert points("memory-cap", "2026-11-21T02:49:00.000Z") == []
    assert points("age", "2026-11-21T02:57:00.000Z") == []


def test_all_is_well_only_when_that_is_known_and_memory_is_not_short(ask: Ask) -> None:
    status = machine(worker("chat"), worker("embed"))

    def verdict(banner: object = None, freshness: object = LIVE) -> list[str]:
        told = ask("attention", "verdict", status, [], {"banner": banner, "freshness": freshness})
        return [told["level"], told["title"], told["detail"]]

    assert verdict() == ["normal", "All is well", "All 2 workers are ready"]
    assert verdict({"level": "high"}) == ["high", "Memory is short", "All 2 workers are ready"]
    lost = {"kind": "stale", "sinceMs": None, "why": ""}
    assert verdict({"level": "high"}, lost) == [
        "quiet",
        "Not known",
        "When it was read last: All 2 workers are ready",
    ]


@pytest.mark.parametrize(
    ("link", "web", "told"),
    [
        ({"kind": "connecting", "heardMs": None}, None, ["connecting", None, "trying now"]),
        ({"kind": "live", "heardMs": 90_000}, ("ok", 0.4), ["live", None, ""]),
        ({"kind": "live", "heardMs": 90_000}, ("ok", 11), ["stale", 79_000, "the daemon does not answer"]),
        (
            {"kind": "live", "heardMs": 90_000},
            ("away: gone", 4),
            ["stale", 86_000, "the daemon is away: gone"],
        ),
        (
            {"kind": "lost", "heardMs": 90_000, "retryMs": 102_100, "why": "too slow"},
            ("ok", 0),
            ["stale", 90_000, "too slow; next try in 2 s"],
        ),
    ],
)
def test_what_is_shown_is_stale_when_the_link_or_the_daemon_is_silent(
    ask: Ask, link: dict[str, object], web: tuple[str, float] | None, told: list[object]
) -> None:
    status = None if web is None else {"web": {"daemon": web[0], "stale_s": web[1]}}
    state = {"retryMs": None, "why": "", **link}
    found = ask("freshness", "freshness", LIVE, state, status, 100_000)
    assert [found["kind"], found["sinceMs"], found["why"]] == told


def test_once_stale_the_moment_stays_what_it_is(ask: Ask) -> None:
    before = {"kind": "stale", "sinceMs": 5, "why": ""}
    lost = {"kind": "lost", "heardMs": 90_000, "retryMs": None, "why": ""}
    assert ask("freshness", "freshness", before, lost, None, 100_000)["sinceMs"] == 5


def test_a_message_changes_what_it_tells_of_and_nothing_else(browser: Browser, ask: Ask) -> None:
    del ask
    status = machine(worker("a", reported=reported()), worker("b"), worker("c"))
    script = """
        const [status] = arguments;
        return import('./static/state.js').then(({NOTHING, after}) => {
          const first = after(NOTHING, {type: 'snapshot', status, alerts: []});
          const b = {...status.workers[1], phase: 'stopped'};
          const workers = [b, {...b, name: 'd'}];
          const told = {status: {uptime_s: 5}, workers, gone: ['c'], order: ['d', 'a', 'b']};
          const second = after(first, {type: 'changes', ...told});
          const [gpu] = status.gpus;
          const other = {...gpu, uuid: 'GPU-other'};
          const swapped = after(first, {type: 'changes', status: {gpus: [other]}});
          const third = after(first, {type: 'job', worker: 'a', job: {done: 7}});
          return {
            names: second.status.workers.map((one) => `${one.name} ${one.phase}`),
            kept: second.status.workers[1] === status.workers[0] && second.status.gpus === status.gpus,
            gpus: swapped.status.gpus.map((one) => one.uuid),
            uptime: second.status.uptime_s,
            job: third.status.workers[0].reported.progress.done,
            same: after(second, {type: 'event'}) === second,
            away: after(second, {type: 'heartbeat', stale_s: 9, daemon: 'away: gone'}).status.web.daemon,
          };
        });
    """
    assert browser.run(script, msgspec.to_builtins(status)) == {
        "names": ["d stopped", "a ready", "b stopped"],
        "kept": True,
        "gpus": ["GPU-other"],
        "uptime": 5,
        "job": 7,
        "same": True,
        "away": "away: gone",
    }


def test_a_link_that_stays_lost_is_tried_less_often_and_not_by_all_at_once(ask: Ask) -> None:
    assert [ask("link", "backoffMs", failures, 0) for failures in (0, 1, 5, 6, 60)] == [
        500,
        1000,
        16000,
        30000,
        30000,
    ]
    assert ask("link", "backoffMs", 60, 1) == 15000


def test_an_incident_says_how_it_ended_and_how_long_it_took(ask: Ask) -> None:
    over = {"opened_wall_s": 5.0, "closed_wall_s": 8.9, "outcome": "ready again after 0.1 s"}
    assert ask("incidents", "ending", over) == "ready again after 0.1 s; 3.9 s in all"
    assert ask("incidents", "ending", {**over, "outcome": None}) == "over; 3.9 s in all"
    assert ask("incidents", "ending", {**over, "closed_wall_s": None}) == "still open"


def test_a_course_has_gaps_where_nothing_was_read(ask: Ask) -> None:
    row = {"endS": 600, "slotS": 60, "slots": 5}
    assert ask("courses", "spread", [300, 420, 540], [1, 2, None], row) == [None, 2, None, None, None]
    assert ask("sparkline", "runs", [None, 1, 2, None, 3]) == [[1, [1, 2]], [4, [3]]]


def test_a_job_says_where_it_stands(ask: Ask) -> None:
    job = {
        "job": "r7",
        "state": "queued",
        "position": 3,
        "batch_size": 12,
        "done": 0,
        "total": 40,
        "throughput": None,
        "eta_s": 90,
    }
    assert ask("work", "jobTitle", job) == "r7 · 0 of 40 · queued"
    assert ask("work", "pace", job) == "place 3 in the queue · batches of 12 · 1 min 30 s left"
    over = {**job, "state": "completed", "done": 40, "throughput": 34.123}
    assert ask("work", "pace", over) == "batches of 12 · 34.1/s"


def test_every_file_of_the_dashboard_is_served_and_none_comes_from_elsewhere(face: WebFace) -> None:
    folder = Path(__file__).parents[2] / "supervisor" / "web" / "dashboard"
    files = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    assert "vendor/uPlot.LICENSE" in files
    answers = {name: face.get(f"/static/{name}").status for name in files}
    assert set(answers.values()) == {200}, answers
    page = face.get("/")
    assert b"://" not in page.body.replace(b"http://www.w3.org/", b"")
    assert b"style=" not in page.body
    assert "script-src 'self'" in page.headers["content-security-policy"]
    assert "unsafe" not in page.headers["content-security-policy"]
