import json
from pathlib import Path

import pytest

from supervisor.daemon.recording import Recorder
from supervisor.decide.turn import decide
from supervisor.model.memory import Memory
from supervisor.model.news import Asked, News
from supervisor.model.plan import Plan, WorkerPlan
from supervisor.model.snapshot import HostSample, Snapshot
from support.command_line import Ran, gpu_supervisor


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """Record three turns: the first look, nothing, an operator's stop."""
    plan = Plan(workers={"chat": WorkerPlan("chat", "chat", ("sleep", "1000"))})
    memory = Memory("instance")
    path = tmp_path / "turns.jsonl"
    recorder = Recorder(path)
    recorder.start()
    heard: tuple[tuple[News, ...], ...] = ((), (), (Asked("stop", ("chat",), reason="enough"),))
    for turn, news in enumerate(heard):
        host = HostSample(100.0 + turn, memory_total_bytes=64 << 30, memory_available_bytes=60 << 30)
        snapshot = Snapshot(100.0 + turn, 1000.0, host)
        decision = decide(plan, memory, snapshot, news)
        recorder.record(plan, memory, snapshot, news, decision)
        memory = decision.memory
    recorder.close()
    return path


def replay(path: Path) -> Ran:
    return gpu_supervisor("replay", str(path))


def test_recorded_turns_come_out_the_same(recording: Path) -> None:
    ran = replay(recording)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines()[-1] == "3 turns decided again, 0 otherwise than recorded"
    assert "    heard  asked wish=stop workers=('chat',) now=False reason=enough by=" in ran.out
    assert any(line.startswith("    did    launch chat: ") for line in ran.out.splitlines())


def test_a_turn_that_comes_out_otherwise_is_1_and_shown(recording: Path) -> None:
    lines = recording.read_text().splitlines(keepends=True)
    assert '"level":"info"' in lines[-1]
    recording.write_text("".join(lines[:-1]) + lines[-1].replace('"level":"info"', '"level":"error"'))
    ran = replay(recording)
    assert ran.code == 1
    assert ran.out.splitlines()[-1] == "3 turns decided again, 1 otherwise than recorded"
    assert "    actions differs" in ran.out.splitlines()


def test_a_recording_that_was_cut_off_is_replayed_as_far_as_it_goes(recording: Path) -> None:
    recording.write_bytes(recording.read_bytes()[:-20])
    ran = replay(recording)
    assert (ran.code, ran.out.splitlines()[-1]) == (
        0,
        "2 turns decided again, 0 otherwise than recorded",
    )


@pytest.mark.parametrize("content", ["hello\n", "{}\n", "\xff\n"])
def test_what_is_no_recording_is_1_in_one_line(tmp_path: Path, content: str) -> None:
    path = tmp_path / "other"
    path.write_text(content)
    ran = replay(path)
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("gpu-supervisor: cannot replay line 1: ")


def test_a_missing_recording_is_said_so(tmp_path: Path) -> None:
    ran = replay(tmp_path / "none")
    assert (ran.code, ran.err) == (
        1,
        f"gpu-supervisor: cannot replay {tmp_path}/none: No such file or directory\n",
    )


def test_a_replay_as_json_is_one_document(recording: Path) -> None:
    ran = gpu_supervisor("replay", "--json", str(recording))
    assert (ran.code, json.loads(ran.out)) == (0, {"turns": 3, "differences": []})
    lines = recording.read_text().splitlines(keepends=True)
    recording.write_text("".join(lines[:-1]) + lines[-1].replace('"level":"info"', '"level":"error"'))
    ran = gpu_supervisor("replay", "--json", str(recording))
    found = json.loads(ran.out)
    assert (ran.code, found["turns"]) == (1, 3)
    assert [one["field"] for one in found["differences"]] == ["actions"]
    assert '"level":"error"' in found["differences"][0]["recorded"]
