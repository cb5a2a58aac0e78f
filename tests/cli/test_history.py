import json
from datetime import datetime
from pathlib import Path

import pytest

from supervisor.cli.history import since
from support.command_line import gpu_supervisor
from support.control_desk import StoryDesk

LISTED = """\
2025-11-21 02:37:08  chat  memory-cap  chat-1
    8.10GiB, cap 8GiB, 3 of 5 readings (memory_bytes=8.1G)
    ended after 12s: ready again, pid 17650
"""


def test_history_tells_when_what_why_and_how_it_ended(control: Path, desk: StoryDesk) -> None:
    ran = gpu_supervisor("history", control=control)
    assert (ran.code, ran.out, ran.err) == (0, LISTED, "")
    assert desk.queries == [(None, None, 100)]


def test_history_can_be_of_one_worker_since_a_time(control: Path, desk: StoryDesk) -> None:
    words = ("history", "chat", "--since", "2026-01-31T08:00:00Z", "--limit", "5", "--json")
    ran = gpu_supervisor(*words, control=control)
    assert [each["id"] for each in json.loads(ran.out)["incidents"]] == ["chat-1"]
    assert desk.queries == [("chat", 1769846400.0, 5)]


def test_one_incident_is_shown_with_its_timeline_readings_and_last_output(
    control: Path, desk: StoryDesk
) -> None:
    del desk
    ran = gpu_supervisor("history", "show", "chat-1", control=control)
    assert ran.code == 0
    assert (
        ran.out
        == LISTED
        + """
timeline
       +0.000s  cap breached: 8.10GiB, cap 8GiB
      +12.000s  worker ready: answered 200

readings
    2025-11-21 02:37:07  chat: memory 8G, VRAM ?
    2025-11-21 02:37:07  host: 4G free, swap 0B used, 1% stalled
    2025-11-21 02:37:07  GPU GPU-1: 6G used, 3%, 40 C, 70 W

last output
    loading model
    bad  [31mescape
"""
    )


def test_one_incident_as_json_is_one_document(control: Path, desk: StoryDesk) -> None:
    del desk
    document = json.loads(gpu_supervisor("history", "show", "chat-1", "--json", control=control).out)
    assert list(document) == ["incident", "timeline", "samples", "log_tail"]


def test_an_unknown_incident_is_1(control: Path, desk: StoryDesk) -> None:
    del desk
    ran = gpu_supervisor("history", "show", "none", control=control)
    assert (ran.code, ran.err) == (
        1,
        "gpu-supervisor: cannot show incident none: no incident is called 'none'\n",
    )


def test_no_incidents_is_said_and_an_unknown_worker_is_4(control: Path, desk: StoryDesk) -> None:
    del desk
    ran = gpu_supervisor("history", "embed", control=control)
    assert (ran.code, ran.out) == (0, "no incidents\n")
    assert gpu_supervisor("history", "nobody", control=control).code == 4


@pytest.mark.parametrize("words", [("a", "b"), ("--since", "soon"), ("--limit", "0"), ("--limit", "x")])
def test_a_wrong_question_is_2(control: Path, desk: StoryDesk, words: tuple[str, ...]) -> None:
    assert gpu_supervisor("history", *words, control=control).code == 2
    assert desk.queries == []


def test_a_time_is_a_span_ago_or_a_date() -> None:
    assert since("2h", 10_000.0) == 2800.0
    assert since("1970-01-01T00:01:00+00:00", 0.0) == 60.0
    assert since("2026-01-31", 0.0) == datetime(2026, 1, 31).astimezone().timestamp()
    with pytest.raises(ValueError, match="soon"):
        since("soon", 0.0)
