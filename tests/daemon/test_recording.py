import io
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from supervisor.daemon.recording import (
    Decide,
    Difference,
    Header,
    Recorder,
    RecordingError,
    Turn,
    encode,
    read_turns,
    replay,
)
from supervisor.model.action import Launch, Notice, Signal
from supervisor.model.memory import Decision, Memory, WorkerMemory
from supervisor.model.news import Asked, Exited, Launched, News, Notified
from supervisor.model.phase import Cause, GpuState, Phase
from supervisor.model.plan import GpuChoice, HttpTarget, Plan, WorkerPlan
from supervisor.model.reading import Missing
from supervisor.model.snapshot import GpuProcess, GpuSample, HostSample, Identity, Sighting, Snapshot

BYTES = st.integers(0, 1 << 50)
SECONDS = st.floats(0, 1e9, allow_nan=False)
TEXT = st.text(max_size=8)


def maybe(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(values, st.builds(Missing, TEXT))


HOSTS = st.builds(
    HostSample,
    read_s=SECONDS,
    memory_total_bytes=maybe(BYTES),
    memory_available_bytes=maybe(BYTES),
    psi_full_avg10=maybe(st.floats(0, 100)),
)
GPUS = st.builds(
    GpuSample,
    uuid=TEXT,
    index=st.integers(0, 15),
    name=TEXT,
    read_s=SECONDS,
    state=st.sampled_from(GpuState),
    memory_used_bytes=maybe(BYTES),
    temperature_c=maybe(SECONDS),
    unified=st.booleans(),
    processes=maybe(
        st.lists(st.builds(GpuProcess, pid=st.integers(1, 9), memory_bytes=maybe(BYTES)), max_size=3).map(
            tuple
        )
    ),
)
SIGHTINGS = st.builds(
    Sighting,
    run=TEXT,
    read_s=SECONDS,
    pids=st.lists(st.integers(1, 1 << 22), max_size=3).map(tuple),
    memory_bytes=maybe(BYTES),
    vram_bytes=maybe(BYTES),
    vram_by_gpu=st.dictionaries(TEXT, BYTES, max_size=2),
)
SNAPSHOTS = st.builds(
    Snapshot,
    taken_s=SECONDS,
    wall_s=SECONDS,
    host=HOSTS,
    gpus=st.lists(GPUS, max_size=2).map(tuple),
    gpu_missing=st.none() | TEXT,
    workers=st.dictionaries(TEXT, SIGHTINGS, max_size=3),
)
NEWS: st.SearchStrategy[News] = st.one_of(
    st.builds(Launched, worker=TEXT, run=TEXT, identity=st.builds(Identity, TEXT, st.integers(1, 99), BYTES)),
    st.builds(Exited, worker=TEXT, run=TEXT, code=st.none() | st.integers(0, 255)),
    st.builds(Notified, worker=TEXT, run=TEXT, extend_s=st.none() | SECONDS, status=st.none() | TEXT),
    st.builds(Asked, wish=st.sampled_from(["start", "stop"]), workers=st.lists(TEXT, max_size=2).map(tuple)),
)
TURNS = st.lists(st.tuples(SNAPSHOTS, st.lists(NEWS, max_size=2).map(tuple)), min_size=1, max_size=6)

CHAT = WorkerPlan(
    "chat",
    "chat",
    ("server", "{n}"),
    environment={"TOKEN": "secret"},
    gpus=GpuChoice("listed", (0, "GPU-1")),
    ready=HttpTarget("http://127.0.0.1:1/health"),
    settings={"n": 3, "share": 0.5, "fast": True, "name": "x"},
)
PLAN = Plan(workers={"chat": CHAT})
FIRST = Memory("i", {"chat": WorkerMemory("chat", Phase.READY)})
SNAPSHOT = Snapshot(1.0, 2.0, HostSample(1.0))


def count_restarts(plan: Plan, memory: Memory, snapshot: Snapshot, news: Sequence[News]) -> Decision:
    """Decide something that depends on all that is given."""
    before = memory.workers["chat"]
    launch = Launch("chat", f"r{before.restarts}", plan.workers["chat"], {"n": 1}, ("GPU-1",), "because")
    told = Notice(
        "info", "turn", repr(news), cause=Cause.AGE, fields={"taken_s": snapshot.taken_s, "none": None}
    )
    after = structs.replace(before, restarts=before.restarts + 1)
    return Decision(
        (launch, told, Signal("chat", "r", 15, "x")), structs.replace(memory, workers={"chat": after})
    )


def recorded(
    path: Path, turns: Iterable[tuple[Plan, Snapshot, tuple[News, ...]]], decide: Decide
) -> list[bytes]:
    recorder = Recorder(path)
    recorder.start()
    memory = FIRST
    for plan, snapshot, news in turns:
        decision = decide(plan, memory, snapshot, news)
        recorder.record(plan, memory, snapshot, news, decision)
        memory = decision.memory
    recorder.close(10)
    assert recorder.dropped == 0
    return path.read_bytes().splitlines(keepends=True)


@settings(max_examples=40, deadline=None)
@given(TURNS)
def test_what_was_recorded_is_read_as_it_was_and_decides_the_same(
    tmp_path_factory: pytest.TempPathFactory, turns: list[tuple[Snapshot, tuple[News, ...]]]
) -> None:
    path = tmp_path_factory.mktemp("record") / "turns"
    lines = recorded(path, [(PLAN, *turn) for turn in turns], count_restarts)
    read = [(plan, turn.snapshot, turn.news) for _, plan, _, turn in read_turns(lines)]
    assert read == [(PLAN, *turn) for turn in turns]
    assert list(replay(lines, count_restarts)) == []


def test_a_decision_that_is_another_now_is_shown_once() -> None:
    lines = [encode(Header(1, "0", PLAN, FIRST)) + b"\n"]
    memory = FIRST
    for number in range(3):
        decision = count_restarts(PLAN, memory, structs.replace(SNAPSHOT, taken_s=float(number)), ())
        lines.append(encode(Turn(structs.replace(SNAPSHOT, taken_s=float(number)), (), decision)) + b"\n")
        memory = decision.memory

    def wakes_in_turn_1(plan: Plan, memory: Memory, snapshot: Snapshot, news: Sequence[News]) -> Decision:
        decision = count_restarts(plan, memory, snapshot, news)
        return structs.replace(decision, wake_s=5.5) if snapshot.taken_s == 1.0 else decision

    assert list(replay(lines, wakes_in_turn_1)) == [Difference(3, 1.0, "wake_s", "null", "5.5")]


def test_the_plan_is_written_only_when_it_changes(tmp_path: Path) -> None:
    other = structs.replace(PLAN, poll_interval_s=9.0)
    turns = [(PLAN, SNAPSHOT, ()), (PLAN, SNAPSHOT, ()), (other, SNAPSHOT, ()), (other, SNAPSHOT, ())]
    lines = recorded(tmp_path / "turns", turns, count_restarts)
    assert [(entry["line"], "plan" in entry) for entry in map(json.loads, lines)] == [
        ("header", True),
        ("turn", False),
        ("turn", False),
        ("turn", True),
        ("turn", False),
    ]
    assert [plan.poll_interval_s for _, plan, _, _ in read_turns(lines)] == [2.0, 2.0, 9.0, 9.0]


def test_a_record_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "turns"
    path.write_text("of before")
    path.chmod(0o644)
    lines = recorded(path, [(PLAN, SNAPSHOT, ())], count_restarts)
    assert b"secret" in lines[0]
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_record_is_bounded_and_each_file_can_be_replayed_alone(tmp_path: Path) -> None:
    path = tmp_path / "turns"
    recorder = Recorder(path, max_bytes=40_000)
    recorder.start()
    memory = FIRST
    for number in range(200):
        snapshot = structs.replace(SNAPSHOT, taken_s=float(number))
        decision = count_restarts(PLAN, memory, snapshot, ())
        recorder.record(PLAN, memory, snapshot, (), decision)
        memory = decision.memory
    recorder.close(10)
    assert recorder.dropped == 0
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["turns", "turns.1"]
    assert sum(entry.stat().st_size for entry in tmp_path.iterdir()) <= 45_000
    taken_s: list[float] = []
    for name in ("turns.1", "turns"):
        lines = (tmp_path / name).read_bytes().splitlines(keepends=True)
        assert list(replay(lines, count_restarts)) == []
        taken_s += [turn.snapshot.taken_s for *_, turn in read_turns(lines)]
    assert taken_s == [float(number) for number in range(200 - len(taken_s), 200)]


def test_turns_that_were_left_out_begin_a_stretch_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "turns"
    recorder = Recorder(path)
    memory = FIRST
    for _ in range(300):  # before it is started nothing is taken from the queue
        decision = count_restarts(PLAN, memory, SNAPSHOT, ())
        recorder.record(PLAN, memory, SNAPSHOT, (), decision)
        memory = decision.memory
    recorder.start()
    recorder.close(10)
    lines = path.read_bytes().splitlines(keepends=True)
    assert recorder.dropped == 44
    assert len(list(read_turns(lines))) == 256
    assert list(replay(lines, count_restarts)) == []


def test_a_line_that_was_cut_off_by_a_crash_is_left_out(tmp_path: Path) -> None:
    lines = recorded(tmp_path / "turns", [(PLAN, SNAPSHOT, ())] * 3, count_restarts)
    cut = [*lines[:-1], lines[-1][:-20]]
    assert len(list(read_turns(cut))) == 2
    assert len(list(read_turns(io.BytesIO(b"".join(cut))))) == 2


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ([b"{}\n"], "cannot replay line 1: "),
        ([b"not json\n", b"{}\n"], "cannot replay line 1: "),
        ([encode(Turn(SNAPSHOT, (), Decision((), FIRST))) + b"\n"], "line 1: no header comes before it"),
        ([encode(Header(2, "9", PLAN, FIRST)) + b"\n"], "line 1: it has format 2, and this is 1"),
    ],
)
def test_a_record_that_cannot_be_read_says_where_and_why(lines: list[bytes], why: str) -> None:
    with pytest.raises(RecordingError, match=why):
        list(read_turns(lines))


def test_a_full_disk_leaves_turns_out_and_the_rest_can_be_replayed(tmp_path: Path) -> None:
    script = """
import resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_recording import *
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.RLIM_INFINITY))
recorder = Recorder(Path(sys.argv[1]))
recorder.start()
memory = FIRST
for _ in range(50):
    decision = count_restarts(PLAN, memory, SNAPSHOT, ())
    recorder.record(PLAN, memory, SNAPSHOT, (), decision)
    memory = decision.memory
recorder.close(10)
print(recorder.dropped)
"""
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", script, str(tmp_path / "turns"), str(Path(__file__).parent)]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, timeout=50, env=environ)
    lines = (tmp_path / "turns").read_bytes().splitlines(keepends=True)
    assert list(replay(lines, count_restarts)) == []
    assert len(list(read_turns(lines))) == 50 - int(ended.stdout)
    assert 0 < int(ended.stdout) < 50
