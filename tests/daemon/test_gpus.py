"""The daemon with GPUs: the real one and its real helper, before a stand-in for the driver."""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.daemon import Document, alive, hostile
from support.fakenvml.state import GIB, NOT_AVAILABLE, Call, FakeDriver
from support.watching import WatchedDaemon

NOT_SUPPORTED = 3
DRIVER_NOT_LOADED = 9
GPU_IS_LOST = 15
MISMATCH = 18
UNKNOWN = 999
SLEEPER = hostile("sleeper")


@pytest.fixture
def daemon(tmp_path: Path, driver: FakeDriver) -> Iterator[WatchedDaemon]:
    made = WatchedDaemon(tmp_path, driver.environment)
    yield made
    for index in range(2):
        driver.gpu(index).run()
        driver.gpu(index).used = 16 * GIB
    if made.process is not None and made.process.poll() is None:
        made.process.terminate()
        made.until(lambda: bool(made.told("supervisor ends")), "it ends")
    made.close()  # in a hurry: it waits for no memory of a GPU


def until_restarted(daemon: WatchedDaemon, name: str, times: int = 1) -> Document:
    return daemon.until_worker(name, lambda one: one["restarts"] >= times, f"{name} was restarted")


def until_state(daemon: WatchedDaemon, index: int, *states: str) -> Document:
    daemon.until(lambda: daemon.gpu(index)["state"] in states, f"GPU {index} is {states}")
    return daemon.gpu(index)


def until_read_again(daemon: WatchedDaemon, driver: FakeDriver, times: int = 4) -> None:
    """Wait until the GPUs were read so many times more, which is more than any rule here asks for."""
    enough = driver.calls(Call.MEMORY_V2) + 2 * times
    daemon.until(lambda: driver.calls(Call.MEMORY_V2) >= enough, "they are read again")


def test_a_worker_over_its_vram_cap_is_succeeded_once_the_memory_is_back(
    daemon: WatchedDaemon, driver: FakeDriver
) -> None:
    daemon.begin(f"  chat: {{command: {SLEEPER}, gpus: [0], vram: {{cap: 6G}}}}\n")
    first = daemon.until_phase("chat", "ready")
    gpu = driver.gpu(0)
    for size in (2, 4):
        gpu.run((first["pid"], size * GIB))
        gpu.used = (16 + size) * GIB
        daemon.until_worker("chat", lambda one: one["vram_bytes"] == size * GIB, "its memory is seen")  # noqa: B023
    assert daemon.worker("chat")["restarts"] == 0

    gpu.run((first["pid"], 7 * GIB))
    gpu.used = 23 * GIB
    chat = daemon.until_worker("chat", lambda one: one["waits_for"] is not None, "it gives back its memory")
    assert (chat["phase"], chat["waits_for"]) == ("reclaiming", "memory of GPU-0 to come back")
    assert not alive(first["pid"])
    until_read_again(daemon, driver)
    assert daemon.worker("chat")["phase"] == "reclaiming"  # the driver still lists its process
    gpu.run()
    until_read_again(daemon, driver)
    assert daemon.worker("chat")["phase"] == "reclaiming"  # and now what it held is held by nobody
    gpu.used = 17 * GIB
    until_read_again(daemon, driver)
    assert daemon.worker("chat")["phase"] == "reclaiming"  # all of it, not most

    gpu.used = 16 * GIB
    chat = daemon.until_phase("chat", "ready")
    assert chat["restarts"] == 1
    assert chat["last_restart"]["cause"] == "vram-cap"
    assert chat["last_restart"]["reason"] == "GPU memory 7GiB is above its cap of 6GiB in 2 of 3 readings"
    assert [one["cause"] for one in daemon.told("worker stopping", "chat")] == ["vram-cap"]


def test_the_status_shows_gpus_and_what_workers_hold_on_them(
    daemon: WatchedDaemon, driver: FakeDriver
) -> None:
    daemon.begin(
        f"  chat: {{command: {SLEEPER}, gpus: [0, 1], vram: {{cap: 60G}}}}\n"
        f"  plain: {{command: {SLEEPER}, gpus: none}}\n"
    )
    pid = daemon.until_phase("chat", "ready")["pid"]
    driver.gpu(0).run((pid, 3 * GIB), (os.getpid(), 50 * GIB))  # the other is no worker's
    driver.gpu(1).run((pid, 2 * GIB))
    daemon.until_worker("chat", lambda one: one["vram_bytes"] == 5 * GIB, "its memory is seen")
    done = daemon.run("status", "--json")
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    first, second = shown["gpus"]
    assert (first["index"], first["uuid"], first["name"]) == (0, "GPU-0", "Fake GPU")
    assert (second["index"], second["uuid"], second["state"]) == (1, "GPU-1", "ok")
    assert (first["memory_total_bytes"], first["memory_used_bytes"]) == (85899345920, 17179869184)
    assert (first["temperature_c"], first["power_w"], first["power_limit_w"]) == (40.0, 100.0, 400.0)
    assert (first["utilization_percent"], first["pressure"], first["unified"]) == (50, "normal", False)
    chat, plain = shown["workers"]
    assert (chat["gpus"], chat["vram_bytes"]) == (["GPU-0", "GPU-1"], 5368709120)
    assert (chat["vram_cap_bytes"], chat["vram_enforcement"]) == (64424509440, "poll")
    assert (plain["gpus"], plain["vram_bytes"], plain["vram_enforcement"]) == ([], 0, "none")


def test_the_pressure_of_a_gpu_is_shown_in_levels_that_do_not_flicker(
    daemon: WatchedDaemon, driver: FakeDriver
) -> None:
    daemon.begin(f"  chat: {{command: {SLEEPER}}}\n")
    daemon.until_phase("chat", "ready")
    walk = [
        (61, "high"),
        (69, "critical"),
        (77, "extreme"),
        (74, "extreme"),
        (71, "critical"),
        (20, "normal"),
    ]
    for used, level in walk:
        driver.gpu(0).used = used * GIB
        until_read_again(daemon, driver, times=2)
        assert (daemon.gpu(0)["pressure"], used) == (level, used)
    assert daemon.gpu(1)["pressure"] == "normal"
    assert daemon.worker("chat")["restarts"] == 0


def test_a_worker_is_given_its_gpus_by_uuid(daemon: WatchedDaemon) -> None:
    choices = {"one": "[1]", "both": "[1, 0]", "none": "none", "any": "any", "auto": "auto"}
    daemon.begin(
        "".join(
            f"  {name}: {{command: {hostile('report', '--to', f'FOLDER/{name}')}, gpus: {choice}}}\n"
            for name, choice in choices.items()
            if name != "any"
        )
        + f"  any: {{command: {hostile('report', '--to', 'FOLDER/any')}}}\n"
    )
    files = {name: daemon.folder / name for name in choices}
    daemon.until(lambda: all(file.exists() for file in files.values()), "all have written")
    given = {name: json.loads(file.read_text())["environment"] for name, file in files.items()}
    assert given["one"]["CUDA_VISIBLE_DEVICES"] == "GPU-1"
    assert given["both"]["CUDA_VISIBLE_DEVICES"] == "GPU-1,GPU-0"
    assert given["none"]["CUDA_VISIBLE_DEVICES"] == ""
    assert given["auto"]["CUDA_VISIBLE_DEVICES"] in {"GPU-0", "GPU-1"}
    assert "CUDA_VISIBLE_DEVICES" not in given["any"]
    assert given["one"]["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"


def test_a_gpu_that_stays_full_loses_the_worker_of_the_lowest_priority(
    daemon: WatchedDaemon, driver: FakeDriver
) -> None:
    daemon.begin(
        f"  precious: {{command: {SLEEPER}, gpus: [0], priority: 5}}\n"
        f"  cheap: {{command: {SLEEPER}, gpus: [0]}}\n"
        f"  elsewhere: {{command: {SLEEPER}, gpus: [1], priority: -5}}\n",
        head="gpu: {restart_above: 85%, restart_for: 1s}\n",
    )
    pids = {name: daemon.until_phase(name, "ready")["pid"] for name in ("precious", "cheap", "elsewhere")}
    gpu = driver.gpu(0)
    gpu.run((pids["precious"], 40 * GIB), (pids["cheap"], 14 * GIB))
    driver.gpu(1).run((pids["elsewhere"], 10 * GIB))
    gpu.used = 70 * GIB
    until_read_again(daemon, driver, times=2)
    gpu.used = 60 * GIB  # a peak that does not last restarts nobody
    until_read_again(daemon, driver, times=8)
    assert [daemon.worker(name)["pid"] for name in pids] == list(pids.values())

    gpu.used = 70 * GIB
    daemon.until(lambda: not alive(pids["cheap"]), "the cheap one is ended")
    gpu.run((pids["precious"], 40 * GIB))
    gpu.used = 56 * GIB
    cheap = until_restarted(daemon, "cheap")
    assert cheap["last_restart"]["cause"] == "gpu-memory"
    assert "GPU 0 has been 88% full" in cheap["last_restart"]["reason"]
    daemon.until_phase("cheap", "ready")
    assert [daemon.worker(name)["pid"] for name in ("precious", "elsewhere")] == [
        pids["precious"],
        pids["elsewhere"],
    ]


def test_starts_are_one_at_a_time_on_each_gpu(daemon: WatchedDaemon) -> None:
    slow = f"command: {SLEEPER}, ready: {{after: 500ms}}"
    daemon.begin(
        f"  a: {{{slow}, gpus: [0]}}\n"
        f"  b: {{{slow}, gpus: [0]}}\n"
        f"  c: {{{slow}, gpus: [0, 1]}}\n"
        f"  d: {{{slow}, gpus: [1]}}\n"
    )
    daemon.until(lambda: len(daemon.told("worker ready")) == 4, "all are ready")
    moves = [
        (one["worker"], one["event"].removeprefix("worker "))
        for one in daemon.events()
        if one["event"] in {"worker launched", "worker ready"}
    ]
    assert sorted(moves[:2]) == [("a", "launched"), ("d", "launched")]  # each GPU has one at once
    starting: set[str] = set()
    for worker, what in moves:
        starting = starting | {worker} if what == "launched" else starting - {worker}
        assert len(starting & {"a", "b", "c"}) <= 1, moves
        assert len(starting & {"c", "d"}) <= 1, moves
    waits = {one["worker"]: one["reason"] for one in daemon.told("worker waiting") if "turn" in one["reason"]}
    assert waits["b"] == "its turn on GPU GPU-0, where a starts or stops"


def test_a_lost_gpu_stops_no_worker_but_the_one_over_its_ram_cap(
    daemon: WatchedDaemon, driver: FakeDriver
) -> None:
    leak = hostile("leak", "--rate", "60", "--limit", "500")
    daemon.begin(
        f"  old: {{command: {SLEEPER}, gpus: [0], max_age: 2s}}\n"
        f"  leaky: {{command: {leak}, gpus: [0], memory: {{cap: 160M}}}}\n"
        f"  other: {{command: {SLEEPER}, gpus: [1], max_age: 1s}}\n"
    )
    old = daemon.until_phase("old", "ready")
    daemon.until_phase("leaky", "ready")
    driver.gpu(0).fail(Call.HANDLE, GPU_IS_LOST)
    driver.gpu(0).fail(Call.MEMORY_V2, GPU_IS_LOST)
    gpu = until_state(daemon, 0, "lost")
    assert gpu["quarantine"].startswith("it is lost (fell off the bus)")
    assert gpu["memory_used_bytes"] is None
    assert gpu["missing"]["memory_used_bytes"] != ""
    assert daemon.gpu(1)["state"] == "ok"
    assert daemon.gpu(1)["quarantine"] is None

    leaky = daemon.until_phase("leaky", "waiting")
    assert leaky["last_restart"]["cause"] == "memory-cap"
    daemon.until_worker(
        "leaky", lambda one: "GPU-0: it is lost" in (one["waits_for"] or ""), "it says what it waits for"
    )
    daemon.until_worker("old", lambda one: one["age_s"] > 3.0, "it is past its age")
    until_restarted(daemon, "other", daemon.worker("other")["restarts"] + 1)
    shown = daemon.worker("old")
    assert (shown["pid"], shown["restarts"], shown["phase"]) == (old["pid"], 0, "ready")
    assert shown["vram_bytes"] is None
    assert daemon.told("restart deferred", "old")[0]["cause"] == "age"
    assert len(daemon.told("restart deferred", "old")) == 1

    driver.gpu(0).fail(Call.HANDLE, 0)
    driver.gpu(0).fail(Call.MEMORY_V2, 0)
    until_state(daemon, 0, "ok")
    assert until_restarted(daemon, "old")["last_restart"]["cause"] == "age"
    daemon.until_worker("leaky", lambda one: one["pid"] is not None, "it runs again")
    assert daemon.gpu(0)["quarantine"] is None
    assert [one["gpu"] for one in daemon.told("gpu recovered")] == ["GPU-0"]


def test_a_driver_that_hangs_in_every_call_stops_neither_ram_caps_nor_the_status(
    daemon: WatchedDaemon, driver: FakeDriver
) -> None:
    leak = hostile("leak", "--rate", "60", "--limit", "500")
    daemon.begin(
        f"  chat: {{command: {SLEEPER}, gpus: [0], vram: {{cap: 6G}}, max_age: 3s}}\n"
        f"  leaky: {{command: {leak}, gpus: none, memory: {{cap: 128M}}}}\n"
    )
    chat = daemon.until_phase("chat", "ready")
    driver.gpu(0).run((chat["pid"], 2 * GIB))
    daemon.until_worker("chat", lambda one: one["vram_bytes"] == 2 * GIB, "its memory is seen")
    before = daemon.worker("leaky")["restarts"]
    driver.gpu(0).run((chat["pid"], 20 * GIB))  # nobody can see it
    for call in Call:
        driver.hang(call)
    slowest_s = 0.0

    def hung() -> bool:
        nonlocal slowest_s
        began_s = time.monotonic()
        states = [gpu["state"] for gpu in daemon.status()["gpus"]]
        slowest_s = max(slowest_s, time.monotonic() - began_s)
        return states == ["hung", "hung"]

    daemon.until(hung, "both are said to hang")
    leaky = until_restarted(daemon, "leaky", before + 1)
    assert leaky["last_restart"]["cause"] == "memory-cap"
    assert hung()
    assert slowest_s < 1.0
    shown = daemon.worker("chat")
    assert (shown["pid"], shown["vram_bytes"]) == (chat["pid"], None)
    assert "does not answer" in shown["missing"]["vram_bytes"]
    assert "its driver does not answer" in daemon.gpu(0)["quarantine"]

    driver.gpu(0).run((chat["pid"], 2 * GIB))
    for call in Call:
        driver.hang(call, 0)
    daemon.until(lambda: not hung(), "the driver answers", 40.0)
    until_state(daemon, 0, "ok")
    daemon.until(lambda: not alive(chat["pid"]), "what it was too old for is done now")
    driver.gpu(0).run()
    assert until_restarted(daemon, "chat")["last_restart"]["cause"] == "age"


def test_a_driver_that_was_upgraded_underneath_stops_nobody(
    daemon: WatchedDaemon, driver: FakeDriver
) -> None:
    daemon.begin(f"  chat: {{command: {SLEEPER}, gpus: [0], max_age: 1s, vram: {{cap: 6G}}}}\n")
    daemon.until_phase("chat", "ready")
    driver.fail(Call.MEMORY_V2, MISMATCH)
    gpu = until_state(daemon, 0, "mismatch")
    assert "upgraded" in gpu["quarantine"]
    pid = daemon.pid("chat")
    daemon.until_worker("chat", lambda one: one["age_s"] > 2.0, "it is past its age")
    assert daemon.pid("chat") == pid
    assert "quarantined" in daemon.worker("chat")["waits_for"]
    driver.fail(Call.MEMORY_V2, 0)
    until_state(daemon, 0, "ok")
    daemon.until_worker("chat", lambda one: one["pid"] not in {pid, None}, "it is restarted by its age")


def test_a_driver_that_is_mismatched_from_the_start_is_said_so_and_waited_for(
    daemon: WatchedDaemon, driver: FakeDriver
) -> None:
    driver.fail(Call.INIT, MISMATCH)
    daemon.begin(f"  chat: {{command: {SLEEPER}, gpus: [0]}}\n  plain: {{command: {SLEEPER}}}\n")
    daemon.until_worker("chat", lambda one: "upgraded underneath" in (one["waits_for"] or ""), "it says why")
    daemon.until_phase("plain", "ready")
    assert "upgraded underneath" in daemon.status()["gpu_missing"]
    driver.fail(Call.INIT, 0)
    assert daemon.until_phase("chat", "ready")["gpus"] == ["GPU-0"]


def test_readings_that_are_unknown_restart_nobody(daemon: WatchedDaemon, driver: FakeDriver) -> None:
    daemon.begin(
        f"  chat: {{command: {SLEEPER}, gpus: [0], vram: {{cap: 1G}}}}\n",
        head="gpu: {restart_above: 50%, restart_for: 0s}\n",
    )
    pid = daemon.until_phase("chat", "ready")["pid"]
    gpu = driver.gpu(0)

    def shown(word: str) -> None:
        until_read_again(daemon, driver)
        chat = daemon.worker("chat")
        assert (chat["vram_bytes"], chat["pid"], chat["restarts"]) == (None, pid, 0)
        assert word in chat["missing"]["vram_bytes"]

    gpu.run((pid, NOT_AVAILABLE))  # read as a number, it is 16 EiB
    shown("does not tell its memory")
    gpu.run((pid, 0))  # so do drivers that name the pids of a container
    shown("does not tell its memory")
    gpu.run((pid, GIB // 2), (0, 1 << 40))  # no pid is 0: the driver fills another struct
    shown("distrusted")
    gpu.run((pid, GIB // 2))
    for code in (NOT_SUPPORTED, UNKNOWN):
        gpu.fail(Call.COMPUTE, code)
        shown("compute processes")
        assert daemon.worker("chat")["vram_enforcement"] == "device-only"
    gpu.fail(Call.COMPUTE, 0)
    gpu.used = NOT_AVAILABLE  # far above `restart_above`, read as a number
    until_read_again(daemon, driver)
    assert daemon.gpu(0)["memory_used_bytes"] is None
    assert daemon.gpu(0)["pressure"] == "normal"
    gpu.used = 16 * GIB
    daemon.until_worker("chat", lambda one: one["vram_bytes"] == GIB // 2, "its memory is seen")
    assert (daemon.pid("chat"), daemon.worker("chat")["restarts"]) == (pid, 0)


def test_a_machine_without_a_gpu_is_said_once_and_ram_caps_work(
    daemon: WatchedDaemon, driver: FakeDriver
) -> None:
    driver.fail(Call.INIT, DRIVER_NOT_LOADED)
    leak = hostile("leak", "--rate", "60", "--limit", "400")
    daemon.begin(
        f"  pinned: {{command: {SLEEPER}, gpus: [0]}}\n"
        f"  chosen: {{command: {SLEEPER}, gpus: auto}}\n"
        f"  leaky: {{command: {leak}, memory: {{cap: 96M}}}}\n"
    )
    assert until_restarted(daemon, "leaky")["last_restart"]["cause"] == "memory-cap"
    shown = daemon.status()
    assert (shown["gpus"], shown["gpu_missing"]) == ([], "the NVIDIA driver is not loaded")
    pinned, chosen, leaky = shown["workers"]
    assert (pinned["phase"], chosen["phase"]) == ("waiting", "waiting")
    assert pinned["waits_for"] == "GPU 0, which is not there: the NVIDIA driver is not loaded"
    assert chosen["waits_for"] == "1 usable GPUs, of which there are 0: the NVIDIA driver is not loaded"
    assert (leaky["vram_bytes"], leaky["vram_enforcement"]) == (None, "none")
    assert len(daemon.told("no gpu")) == 1


def test_a_restart_does_not_wait_for_readings_that_this_gpu_never_gives(
    daemon: WatchedDaemon, driver: FakeDriver
) -> None:
    driver.gpu(0).fail(Call.COMPUTE, NOT_SUPPORTED)
    daemon.begin(f"  chat: {{command: {SLEEPER}, gpus: [0]}}\n")
    first = daemon.until_phase("chat", "ready")
    done = daemon.run("restart", "chat")
    assert done.returncode == 0, done.stderr
    chat = daemon.worker("chat")
    assert (chat["phase"], chat["restarts"]) == ("ready", 1)
    assert chat["pid"] != first["pid"]


def test_a_reading_that_fails_while_memory_comes_back_does_not_start_the_successor(
    daemon: WatchedDaemon, driver: FakeDriver
) -> None:
    daemon.begin(f"  chat: {{command: {SLEEPER}, gpus: [0]}}\n")
    first = daemon.until_phase("chat", "ready")
    gpu = driver.gpu(0)
    gpu.run((first["pid"], 4 * GIB))
    gpu.used = 20 * GIB
    daemon.until_worker("chat", lambda one: one["vram_bytes"] == 4 * GIB, "its memory is seen")
    assert daemon.run("restart", "chat", "--no-wait").returncode == 0
    daemon.until_worker("chat", lambda one: one["waits_for"] is not None, "it gives back its memory")
    gpu.fail(Call.COMPUTE, UNKNOWN)
    until_read_again(daemon, driver)
    assert daemon.worker("chat")["phase"] == "reclaiming"
    gpu.fail(Call.COMPUTE, 0)
    until_read_again(daemon, driver)
    assert daemon.worker("chat")["phase"] == "reclaiming"
    gpu.run()
    gpu.used = 16 * GIB
    assert daemon.until_phase("chat", "ready")["restarts"] == 1


def test_a_gpu_lost_while_memory_comes_back_keeps_the_successor_waiting(
    daemon: WatchedDaemon, driver: FakeDriver
) -> None:
    daemon.begin(f"  chat: {{command: {SLEEPER}, gpus: [0]}}\n")
    first = daemon.until_phase("chat", "ready")
    gpu = driver.gpu(0)
    gpu.run((first["pid"], 4 * GIB))
    daemon.until_worker("chat", lambda one: one["vram_bytes"] == 4 * GIB, "its memory is seen")
    assert daemon.run("restart", "chat", "--no-wait").returncode == 0
    daemon.until_phase("chat", "reclaiming")
    gpu.fail(Call.MEMORY_V2, GPU_IS_LOST)
    daemon.until_worker(
        "chat", lambda one: "it is lost" in (one["waits_for"] or ""), "it says what it waits for"
    )
    until_read_again(daemon, driver)
    assert daemon.worker("chat")["pid"] is None
    gpu.run()
    gpu.fail(Call.MEMORY_V2, 0)
    assert daemon.until_phase("chat", "ready")["restarts"] == 1


def test_a_daemon_killed_while_memory_comes_back_is_succeeded_by_one_that_waits_for_it(
    daemon: WatchedDaemon, driver: FakeDriver
) -> None:
    daemon.begin(f"  chat: {{command: {SLEEPER}, gpus: [0]}}\n")
    first = daemon.until_phase("chat", "ready")
    gpu = driver.gpu(0)
    gpu.run((first["pid"], 4 * GIB))
    gpu.used = 20 * GIB
    daemon.until_worker("chat", lambda one: one["vram_bytes"] == 4 * GIB, "its memory is seen")
    assert daemon.run("restart", "chat", "--no-wait").returncode == 0
    daemon.until_phase("chat", "reclaiming")
    daemon.kill()
    gpu.run()
    daemon.start()
    until_read_again(daemon, driver)
    assert daemon.worker("chat")["phase"] == "reclaiming"
    gpu.used = 16 * GIB
    assert daemon.until_phase("chat", "ready")["restarts"] == 1


def test_a_daemon_that_begins_while_the_driver_hangs_adopts_and_restarts_nobody(
    daemon: WatchedDaemon, driver: FakeDriver
) -> None:
    daemon.begin(f"  chat: {{command: {SLEEPER}, gpus: [0], max_age: 3s, vram: {{cap: 1G}}}}\n")
    chat = daemon.until_phase("chat", "ready")
    driver.hang(Call.INIT)
    daemon.kill()
    daemon.start()
    daemon.until_worker("chat", lambda one: one["age_s"] > 4.0, "it is past its age")
    shown = daemon.worker("chat")
    assert (shown["phase"], shown["pid"], shown["restarts"]) == ("ready", chat["pid"], 0)
    assert shown["vram_bytes"] is None
    assert shown["waits_for"].startswith("GPU GPU-0 is not there")
