from msgspec.structs import replace

from supervisor.cli.top_marks import bar, sparkline
from supervisor.cli.top_view import arranged, detail, machine, row, title, told
from supervisor.model.course import Course
from supervisor.model.event import Told
from supervisor.model.status import LastRestartStatus
from support.control_desk import GIB, everything, worker


def test_a_bar_is_as_long_as_the_part_and_of_the_unknown_there_is_none() -> None:
    assert bar(0.0, 4) == "░░░░"
    assert bar(0.5, 4) == "██░░"
    assert bar(0.53, 4) == "██▏░"
    assert bar(1.0, 4) == "████"
    assert bar(7.0, 4) == "████"
    assert bar(-1.0, 4) == "░░░░"
    assert bar(None, 4) == "····"


def test_a_course_is_drawn_over_zero_with_its_gaps() -> None:
    assert sparkline([1, 2, None, 8], 6) == "  ▂▃·█"
    assert sparkline([5, 5, 5], 2) == "██"
    assert sparkline([0, 0], 2) == "▁▁"
    assert sparkline([], 3) == "   "
    assert sparkline([None], 1) == "·"


def test_the_machine_is_shown_with_words_beside_its_colours() -> None:
    lines = machine(everything()).plain.splitlines()
    assert lines[0].split("  ")[-1] == " swap 0B, stalled 0.0%"
    assert "36%   23G of 64G   normal" in lines[0]
    assert "4%    6G of 139G  normal   3%, 40 C, 70/700 W  NVIDIA H200" in lines[1]


def test_what_could_not_be_read_is_a_question_mark_and_never_nothing() -> None:
    status = everything()
    host = replace(status.host, memory_available_bytes=None, psi_full_avg10=None)
    gpu = replace(
        status.gpus[0], memory_used_bytes=None, temperature_c=None, state="hung", quarantine="silent"
    )
    lines = machine(replace(status, host=host, gpus=(gpu,))).plain.splitlines()
    assert "·" * 24 + "    ?     ? of 64G" in lines[0]
    assert "stalled ?" in lines[0]
    assert "? of 139G" in lines[1]
    assert lines[1].endswith("hung  quarantined: silent")


def test_a_machine_without_a_gpu_says_why() -> None:
    status = replace(everything(), gpus=(), gpu_missing="no NVIDIA driver")
    assert machine(status).plain.splitlines()[1:] == ["GPU    none is watched: no NVIDIA driver"]


def test_a_worker_is_a_row_against_its_caps() -> None:
    course = Course("worker", "chat", (0, 180), (GIB, 2 * GIB))
    last = LastRestartStatus("memory-cap", "8.2 GiB", "2026-11-21T02:37:08.000Z")
    cells = [cell.plain for cell in row(worker("chat", restarts=3, last_restart=last), course)]
    assert cells == [
        "chat",
        "ready",
        "1m14s/1h",
        "58m46s",
        "2.27G/8G",
        "██▎░░░░░",
        " " * 18 + "▅█",
        "5.1G/6G",
        "3",
        "memory-cap",
    ]


def test_a_leak_that_comes_before_the_age_is_what_is_left() -> None:
    cells = row(worker("chat", forecast_s=600.0), None)
    assert cells[3].plain == "10m leak"
    assert row(worker("chat", forecast_s=6000.0), None)[3].plain == "58m46s"


def test_a_worker_near_its_cap_is_red() -> None:
    assert row(worker("chat", memory_bytes=int(7.3 * GIB)), None)[4].style == "red"
    assert row(worker("chat", memory_bytes=7 * GIB), None)[4].style == ""


def test_a_worker_that_does_not_run_has_dashes_and_what_is_unknown_a_question_mark() -> None:
    stopped = [cell.plain for cell in row(worker("chat", "stopped"), None)]
    assert stopped == ["chat", "stopped", "-", "-", "-", " " * 8, "", "-", "0", "-"]
    blind = row(worker("chat", memory_bytes=None, missing={"memory_bytes": "denied"}), None)
    assert blind[4].plain == "?"


def test_the_detail_says_why_and_how_to_release() -> None:
    text = detail(worker("chat", "held", held="5 crashes within 10min", settings={"ctx": 4096})).plain
    assert text.splitlines() == [
        "chat, no process, ctx=4096",
        "held: 5 crashes within 10min",
        "x releases it, as `gpu-supervisor reset chat` does",
    ]


def test_an_event_is_one_line_whatever_a_worker_writes() -> None:
    line = told(
        Told(1, 1.8e9, "warning", "worker stopping", "a\nb\x1b[31m", "chat", cause="memory-cap")
    ).plain
    assert line.split(" ", 1)[1] == "worker stopping chat memory-cap a b [31m"


def test_workers_come_in_the_wanted_order_and_only_the_wanted() -> None:
    workers = [
        worker("chat", memory_bytes=1, restarts=2),
        worker("embed", memory_bytes=3, restarts=1),
        worker("rank", "held"),
    ]
    assert [one.name for one in arranged(workers, "config", "")] == ["chat", "embed", "rank"]
    assert [one.name for one in arranged(workers, "memory", "")] == ["embed", "chat", "rank"]
    assert [one.name for one in arranged(workers, "restarts", "")] == ["chat", "embed", "rank"]
    assert [one.name for one in arranged(workers[::-1], "name", "")] == ["chat", "embed", "rank"]
    assert [one.name for one in arranged(workers, "config", "held")] == ["rank"]
    assert [one.name for one in arranged(workers, "config", "e")] == ["chat", "embed", "rank"]


def test_the_title_counts_who_is_ready_and_who_is_held() -> None:
    status = everything(worker("chat"), worker("rank", "held"))
    assert title(status, "memory", "ra") == (
        "gpu-supervisor 0.1.0, up 3m12s, 1 of 2 workers ready, 1 held, by memory, of 'ra'"
    )
