import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from guard.fake_supervisor import FakeSupervisor
from supervisor.guard.advice import Advice, Steps
from supervisor.guard.device import DeviceMemory, Reader
from supervisor.guard.memory import MemoryManager
from supervisor.guard.pressure import Pressure
from supervisor.guard.report import Supervisor, supervised
from supervisor.guard.wire import Drain
from supervisor.model.report import AdviceReport
from supervisor.model.report import Report as Heard
from supervisor.sense.reports import read_report

CHECKOUT = Path(__file__).resolve().parents[2]
GIB = 1 << 30


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class Gpu:
    """A device of 100 GiB that a test fills."""

    def __init__(self) -> None:
        self.used_gib = 0
        self.readings = 0

    def reader_for(self, _device: str) -> Reader:
        return self.read

    def read(self) -> DeviceMemory:
        self.readings += 1
        return DeviceMemory(100 * GIB, (100 - self.used_gib) * GIB, 40 * GIB, 50 * GIB)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def there(tmp_path: Path) -> Iterator[FakeSupervisor]:
    there = FakeSupervisor(tmp_path / "w.sock")
    yield there
    there.go()


@pytest.fixture
def worker(there: FakeSupervisor, clock: Clock) -> Iterator[Supervisor]:
    worker = Supervisor({"GPU_SUPERVISOR_SOCKET": str(there.path), "NOTIFY_SOCKET": str(there.path)}, clock)
    yield worker
    worker.close()


@pytest.fixture
def gpu() -> Gpu:
    return Gpu()


@pytest.fixture
def manager(gpu: Gpu, clock: Clock) -> MemoryManager:
    return MemoryManager(clock=clock, reader_for=gpu.reader_for)


def test_without_a_supervisor_everything_is_there_and_does_nothing() -> None:
    alone = Supervisor({})
    alone.ready()
    alone.heartbeat()
    alone.progress(job="film", done=1)
    alone.batches({"success_rate": 1.0})
    alone.drained()
    alone.poll()
    assert not alone.poisoned("lost")
    assert not alone.active
    assert alone.pressure is Pressure.NORMAL
    assert alone.advice == frozenset()
    assert not alone.draining
    assert alone.fileno() == -1
    alone.close()


def test_without_a_supervisor_the_pressure_is_that_of_the_watched_manager(
    gpu: Gpu, manager: MemoryManager
) -> None:
    alone = Supervisor({})
    alone.watch(manager)
    gpu.used_gib = 90
    assert alone.pressure is Pressure.CRITICAL


def test_there_is_one_supervisor_in_a_process() -> None:
    assert supervised() is supervised()


def test_ready_is_said_at_once_and_from_then_on(
    there: FakeSupervisor, worker: Supervisor, clock: Clock
) -> None:
    assert worker.active
    worker.heartbeat()
    report = there.report()
    assert (report["seq"], report["ready"], report["beat"]) == (1, False, True)
    worker.ready()
    report = there.report()
    assert (report["seq"], report["ready"], report["beat"], report["drained"]) == (2, True, True, False)
    clock.now_s += 1
    worker.poll()
    report = there.report()
    assert (report["ready"], report["beat"]) == (True, False)
    assert (report["level"], report["memory"], report["advice"], report["progress"]) == (None,) * 4


def test_a_flood_of_heartbeats_is_five_reports_a_second(
    there: FakeSupervisor, worker: Supervisor, clock: Clock
) -> None:
    told = 0
    for _ in range(10_000):  # a second's
        worker.heartbeat()
        clock.now_s += 0.0001
        told += len(there.reports())
    assert told == 5


def test_a_poll_takes_no_heartbeats_turn(there: FakeSupervisor, worker: Supervisor) -> None:
    worker.poll()
    worker.heartbeat()
    assert [report["beat"] for report in there.reports()] == [False, True]


def test_each_change_of_state_is_told_at_once_and_numbers_five_times_a_second(
    there: FakeSupervisor, worker: Supervisor, clock: Clock
) -> None:
    worker.progress(job="film", state="queued", position=3)
    worker.progress(job="film", state="queued", position=2)
    worker.progress(job="film", batch_size=6, done=0, total=300)
    states = [
        (report["beat"], report["progress"]["state"], report["progress"]["position"])
        for report in there.reports()
    ]
    assert states == [(True, "queued", 3), (True, "processing", None)]
    reports: list[dict[str, Any]] = []
    for done in range(1, 1001):
        clock.now_s += 0.001
        worker.progress(job="film", batch_size=6, done=done, total=3000)
        reports += there.reports()
    assert len(reports) == 5
    worker.progress(job="film", state="completed", done=300, total=300)
    assert there.report()["progress"]["state"] == "completed"
    worker.progress(job="next", state="completed")
    assert there.report()["progress"]["job"] == "next"


def test_throughput_and_the_end_are_worked_out_from_the_last_half_minute(
    there: FakeSupervisor, worker: Supervisor, clock: Clock
) -> None:
    last: dict[str, Any] = {}
    seen: dict[int, dict[str, Any]] = {}
    done = 0
    for second in range(101):
        worker.progress(job="film", done=done, total=1000)
        for report in there.reports():
            last = report["progress"]
        seen[second] = last
        clock.now_s += 1
        done += 10 if second < 50 else 2  # out of memory: a smaller batch from here on
    assert (seen[0]["throughput"], seen[0]["eta_s"]) == (None, None)
    assert (seen[50]["done"], seen[50]["throughput"], seen[50]["eta_s"]) == (500, 10.0, 50.0)
    assert (seen[100]["done"], seen[100]["throughput"], seen[100]["eta_s"]) == (600, 2.0, 200.0)


def test_what_a_worker_knows_better_is_not_worked_out(there: FakeSupervisor, worker: Supervisor) -> None:
    worker.progress(done=5, total=10, throughput=2.0)
    progress = there.report()["progress"]
    assert (progress["throughput"], progress["eta_s"]) == (2.0, 2.5)
    worker.progress(job="other", done=5, total=10, throughput=2.0, eta_s=99.0)
    progress = there.report()["progress"]
    assert (progress["throughput"], progress["eta_s"]) == (2.0, 99.0)


def test_another_job_is_measured_anew(there: FakeSupervisor, worker: Supervisor, clock: Clock) -> None:
    worker.progress(job="one", done=100)
    clock.now_s += 1
    worker.progress(job="two", done=0)
    clock.now_s += 1
    worker.progress(job="two", done=3)
    assert [report["progress"]["throughput"] for report in there.reports()] == [None, None, 3.0]


def test_a_state_that_there_is_not_is_an_error(worker: Supervisor) -> None:
    with pytest.raises(ValueError, match="cannot report progress: 'done' is none of queued, processing"):
        worker.progress(state="done")


def test_numbers_that_the_wire_does_not_have_are_left_out(there: FakeSupervisor, worker: Supervisor) -> None:
    worker.progress(done=-3, total=-1, throughput=float("nan"), eta_s=float("inf"))
    progress = there.report()["progress"]
    assert (progress["done"], progress["total"], progress["eta_s"]) == (0, None, None)


@pytest.mark.parametrize(
    ("figures", "reported"),
    [
        ({"success_rate": "80%", "throughput": 1e300, "recoveries": None, "mine": 3}, {}),
        (
            {"success_rate": 1, "recoveries": 2.0, "peak_memory_bytes": -1},
            {"success_rate": 1.0, "recoveries": 2},
        ),
    ],
)
def test_figures_that_the_wire_does_not_have_cost_no_heartbeat(
    there: FakeSupervisor, worker: Supervisor, figures: dict[str, object], reported: dict[str, float]
) -> None:
    worker.batches(figures)
    worker.heartbeat()
    (datagram,) = there.datagrams()
    heard = read_report(datagram)
    assert isinstance(heard, Heard)
    assert heard.beat
    assert json.loads(datagram)["batches"] == reported


def test_steps_that_the_wire_does_not_have_cost_no_heartbeat(
    there: FakeSupervisor, worker: Supervisor, gpu: Gpu
) -> None:
    odd = Steps(batch_size=True, input_size=(3, 640, 640), stages=(1, "up\ud800"))  # type: ignore[arg-type]
    manager = MemoryManager(steps=odd, reader_for=gpu.reader_for)
    manager.reduce_memory_usage(Pressure.EXTREME)
    worker.watch(manager)
    worker.heartbeat()
    (datagram,) = there.datagrams()
    heard = read_report(datagram)
    assert isinstance(heard, Heard)
    assert heard.advice == AdviceReport(clear_cache=True, batch_size=1, stages_off=("1", "up?"))


def test_the_watched_managers_level_figures_and_advice_are_reported(
    there: FakeSupervisor, worker: Supervisor, manager: MemoryManager, gpu: Gpu, clock: Clock
) -> None:
    worker.watch(manager)
    worker.batches({"success_rate": 0.5, "recoveries": 2})
    gpu.used_gib = 90
    manager.handle_oom_error()
    clock.now_s += 1
    worker.heartbeat()
    report = there.report()
    assert report["level"] == "critical"
    assert report["memory"] == {
        "cuda_available": False,
        "current_pressure": "critical",
        "oom_events": 1,
        "recoveries": 0,
        "degradation_level": 1,
        "allocated_mb": 40960.0,
        "allocated_gb": 40.0,
        "reserved_mb": 51200.0,
        "reserved_gb": 50.0,
        "total_mb": 102400.0,
        "total_gb": 100.0,
        "usage_percent": 90.0,
        "allocated_percent": 40.0,
    }
    assert report["advice"] == {**Advice(clear_cache=True, batch_size=1)._asdict(), "stages_off": []}
    assert report["batches"] == {"success_rate": 0.5, "recoveries": 2}
    assert worker.pressure is Pressure.CRITICAL


def test_a_report_reads_the_device_no_more_often_than_the_manager_does(
    there: FakeSupervisor, worker: Supervisor, manager: MemoryManager, gpu: Gpu, clock: Clock
) -> None:
    worker.watch(manager)
    for _ in range(100):  # ten seconds
        worker.heartbeat()
        assert worker.pressure is Pressure.NORMAL
        clock.now_s += 0.1
        there.reports()
    assert gpu.readings <= 10


def test_a_report_does_not_wait_for_a_manager_that_is_busy(
    there: FakeSupervisor, worker: Supervisor, clock: Clock
) -> None:
    reading, answer = threading.Event(), threading.Event()

    def slow() -> DeviceMemory:
        reading.set()
        assert answer.wait(20)
        return DeviceMemory(100 * GIB, 50 * GIB)

    manager = MemoryManager(clock=clock, reader_for=lambda _device: slow)
    worker.watch(manager)
    other = threading.Thread(target=manager.check_memory_pressure)
    other.start()
    assert reading.wait(20)
    worker.heartbeat()
    assert there.report()["memory"]["missing"]["usage_percent"] == "not read yet"
    answer.set()
    other.join()


def test_pressure_is_the_worst_of_all_that_is_known(
    there: FakeSupervisor, worker: Supervisor, manager: MemoryManager, gpu: Gpu, clock: Clock
) -> None:
    worker.watch(manager)
    worker.heartbeat()
    there.reports()
    for host, own_gpu, used_gib, worst in (
        ("normal", "normal", 0, "normal"),
        ("high", "normal", 0, "high"),
        (None, "extreme", 0, "extreme"),
        ("high", None, 90, "critical"),
        (None, None, 0, "normal"),
    ):
        gpu.used_gib = used_gib
        clock.now_s += 1
        there.say(host=host, gpu=own_gpu)
        worker.heartbeat()
        there.reports()
        assert worker.pressure == worst


def test_a_stall_of_the_kernels_is_high_pressure(tmp_path: Path, clock: Clock) -> None:
    fifo = tmp_path / "stalls"
    os.mkfifo(fifo)
    worker = Supervisor({"MEMORY_PRESSURE_WATCH": str(fifo)}, clock)
    with fifo.open("wb", buffering=0) as writer:
        levels = [worker.pressure]
        writer.write(b"x")
        levels.append(worker.pressure)
        clock.now_s += 10
        levels.append(worker.pressure)
    assert levels == [Pressure.NORMAL, Pressure.HIGH, Pressure.NORMAL]
    worker.close()


def test_advice_holds_until_the_supervisor_says_otherwise(
    there: FakeSupervisor, worker: Supervisor, clock: Clock
) -> None:
    worker.heartbeat()
    there.reports()
    there.say(advice=["cool-down", "stand on one leg"])
    worker.poll()
    assert worker.advice == {"cool-down"}
    clock.now_s += 3600
    worker.heartbeat()
    assert worker.advice == {"cool-down"}
    there.say()
    worker.poll()
    assert worker.advice == frozenset()


def test_hostile_words_change_nothing(there: FakeSupervisor, worker: Supervisor) -> None:
    worker.heartbeat()
    there.reports()
    there.say(host="high")
    worker.poll()
    for garbage in (b"", b"\0", b"{", b"[" * 4096, b'{"v":9,"host":"extreme"}', b'{"v":1,' + b" " * 5000):
        there.send(garbage)
        worker.poll()
    assert worker.pressure is Pressure.HIGH
    assert not worker.draining


def test_a_request_to_drain_calls_back_once_in_the_callers_thread(
    there: FakeSupervisor, worker: Supervisor, clock: Clock
) -> None:
    heard: list[tuple[Drain, int]] = []
    worker.on_drain(lambda drain: heard.append((drain, threading.get_ident())))
    worker.heartbeat()
    there.reports()
    there.say(drain={"reason": "age: 3600 s", "within_s": 60})
    assert not worker.draining
    clock.now_s += 1
    worker.heartbeat()
    assert worker.draining
    there.say(drain={"reason": "again", "within_s": 30})
    there.say(drain=None)
    for _ in range(3):
        clock.now_s += 1
        worker.heartbeat()
    assert heard == [(Drain("age: 3600 s", 60.0), threading.get_ident())]
    assert worker.draining
    there.reports()
    worker.drained()
    report = there.report()
    assert (report["drained"], report["beat"]) == (True, False)


def test_a_callback_that_comes_late_is_called_too(there: FakeSupervisor, worker: Supervisor) -> None:
    worker.heartbeat()
    there.reports()
    there.say(drain={"reason": "reload"})
    worker.poll()
    heard: list[Drain] = []
    worker.on_drain(heard.append)
    assert heard == []
    worker.poll()
    assert heard == [Drain("reload", None)]


def test_an_event_loop_hears_without_a_heartbeat(there: FakeSupervisor, worker: Supervisor) -> None:
    async def serve() -> Drain:
        loop = asyncio.get_running_loop()
        heard: asyncio.Future[Drain] = loop.create_future()
        worker.on_drain(heard.set_result)
        worker.ready()
        loop.add_reader(worker, worker.poll)
        there.reports()
        there.say(drain={"reason": "operator", "within_s": 5})
        try:
            return await asyncio.wait_for(heard, 20)
        finally:
            loop.remove_reader(worker)

    assert asyncio.run(serve()) == Drain("operator", 5.0)


def test_an_event_loop_that_watches_hears_the_next_supervisor_too(
    there: FakeSupervisor, worker: Supervisor, clock: Clock
) -> None:
    async def serve() -> tuple[Drain, FakeSupervisor]:
        loop = asyncio.get_running_loop()
        heard: asyncio.Future[Drain] = loop.create_future()
        worker.on_drain(heard.set_result)
        worker.heartbeat()
        loop.add_reader(worker, worker.poll)
        there.leave()
        second = FakeSupervisor(there.path)
        clock.now_s += 1
        worker.heartbeat()
        second.reports()
        second.say(drain={"reason": "operator"})
        try:
            return await asyncio.wait_for(heard, 20), second
        finally:
            loop.remove_reader(worker)

    drain, second = asyncio.run(serve())
    assert drain == Drain("operator", None)
    second.go()


def test_what_a_lost_supervisor_said_is_unknown_but_for_a_drain(
    there: FakeSupervisor, worker: Supervisor, clock: Clock
) -> None:
    worker.ready()
    there.reports()
    there.say(host="extreme", advice=["ease-off"], drain={"reason": "age"})
    worker.poll()
    levels = [worker.pressure]
    there.leave()
    clock.now_s += 1
    worker.heartbeat()
    levels.append(worker.pressure)
    assert worker.advice == frozenset()
    assert worker.draining
    assert worker.active  # it may come back
    second = FakeSupervisor(there.path)
    clock.now_s += 1
    worker.heartbeat()
    assert second.report()["ready"] is True
    second.say(host="high")
    worker.poll()
    assert [*levels, worker.pressure] == [Pressure.EXTREME, Pressure.NORMAL, Pressure.HIGH]
    second.go()


def test_a_full_queue_costs_reports_and_no_state(
    there: FakeSupervisor, worker: Supervisor, clock: Clock
) -> None:
    for number in range(1000):
        worker.progress(job=f"job {number}", state="completed")
    assert len(there.reports()) < 1000
    clock.now_s += 0.2
    worker.heartbeat()
    report = there.report()
    assert (report["seq"], report["progress"]["job"]) == (1001, "job 999")


def test_threads_may_share_it(there: FakeSupervisor, worker: Supervisor) -> None:
    seen: list[int] = []
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            seen.extend(report["seq"] for report in there.reports())

    def work(name: int) -> None:
        for number in range(200):
            worker.progress(job=f"{name}/{number}")
            worker.heartbeat()
            assert worker.pressure is Pressure.NORMAL

    reader = threading.Thread(target=read)
    workers = [threading.Thread(target=work, args=(name,)) for name in range(4)]
    for thread in (reader, *workers):
        thread.start()
    for thread in workers:
        thread.join()
    stop.set()
    reader.join()
    seen.extend(report["seq"] for report in there.reports())
    assert seen == sorted(set(seen))  # each whole, none twice
    assert max(seen) <= 800


def test_a_signal_handler_may_speak_in_the_middle_of_a_word(
    there: FakeSupervisor, worker: Supervisor
) -> None:
    def handle(_signal: int, _frame: FrameType | None) -> None:
        worker.drained()

    last: dict[str, Any] = {}
    before = signal.signal(signal.SIGUSR1, handle)
    try:
        for number in range(200):
            os.kill(os.getpid(), signal.SIGUSR1)
            worker.progress(job=f"{number}")
            last = there.reports()[-1]
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert last["drained"] is True


FORKS = """
import os, threading
from supervisor.guard.report import supervised
worker = supervised()
worker.ready()
held = threading.Event()

def hold():
    with worker._conversation.lock:
        held.set()
        threading.Event().wait()

threading.Thread(target=hold, daemon=True).start()
held.wait()
child = os.fork()
worker = supervised()
if child == 0:
    worker.heartbeat()
    worker.progress(job="child", state="queued")
    os._exit(0)
_, status = os.waitpid(child, 0)
os._exit(os.waitstatus_to_exitcode(status))
"""


def test_a_forked_child_has_a_socket_and_a_state_of_its_own(there: FakeSupervisor) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKS],
        env={**os.environ, "PYTHONPATH": str(CHECKOUT), "GPU_SUPERVISOR_SOCKET": str(there.path)},
        check=False,
        timeout=30,
    )
    assert done.returncode == 0
    parent, child = there.heard()
    assert parent[0] != child[0]
    assert (parent[1]["seq"], parent[1]["ready"]) == (1, True)
    assert (child[1]["seq"], child[1]["ready"], child[1]["progress"]["job"]) == (1, False, "child")


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({}, [b"READY=1", b"STOPPING=1"]),
        ({"WATCHDOG_USEC": "2000000"}, [b"READY=1", b"WATCHDOG=1", b"WATCHDOG=1", b"STOPPING=1"]),
    ],
)
def test_below_plain_systemd_it_notifies(
    there: FakeSupervisor, clock: Clock, environment: dict[str, str], said: list[bytes]
) -> None:
    worker = Supervisor({"NOTIFY_SOCKET": str(there.path), **environment}, clock)
    assert not worker.active
    worker.ready()
    clock.now_s += 1
    worker.heartbeat()
    worker.heartbeat()
    clock.now_s += 1
    worker.progress(done=5)
    worker.poll()
    worker.drained()
    assert there.datagrams() == said
    assert worker.fileno() == -1
    worker.close()


def test_an_abstract_notify_socket_is_one_with_an_at_sign(clock: Clock) -> None:
    name = f"gpu-supervisor-notify-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as there:
        there.bind(f"\0{name}")
        there.settimeout(5)
        worker = Supervisor({"NOTIFY_SOCKET": f"@{name}"}, clock)
        worker.ready()
        assert there.recv(100) == b"READY=1"
        worker.close()


def test_what_systemd_had_no_room_for_is_said_the_next_time(there: FakeSupervisor, clock: Clock) -> None:
    worker = Supervisor({"NOTIFY_SOCKET": str(there.path), "WATCHDOG_USEC": "2000000"}, clock)
    for _ in range(1000):
        clock.now_s += 1
        worker.heartbeat()
    worker.ready()
    assert set(there.datagrams()) == {b"WATCHDOG=1"}
    clock.now_s += 1
    worker.heartbeat()
    assert set(there.datagrams()[0].splitlines()) == {b"READY=1", b"WATCHDOG=1"}
    worker.close()
