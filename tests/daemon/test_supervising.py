"""The daemon on real processes: what the issue calls its main job."""

import json
import os
import signal
import time
from functools import partial
from pathlib import Path

import pytest

from support.daemon import Daemon, Document, alive, hostile

HEAD = """
poll_interval: 200ms
launcher: direct
host: {warn_available: 64M, critical_available: 32M}
defaults:
  breach: {samples: 2, of: 3, warm_up: 0s}
  restart: {first: 100ms, max: 500ms, starts: 100, within: 1h}
  stop_timeout: 2s
workers:
"""


def configure(daemon: Daemon, workers: str, head: str = HEAD) -> None:
    daemon.configure(head + workers.replace("NOTES", str(daemon.notes)))


def started(daemon: Daemon, workers: str) -> Daemon:
    configure(daemon, workers)
    daemon.start()
    return daemon


def test_a_worker_is_launched_and_shown_ready(daemon: Daemon) -> None:
    started(daemon, f"  one: {{command: {hostile('--log', 'NOTES', 'sleeper')}, gpus: none}}\n")
    one = daemon.until_phase("one", "ready")
    assert alive(one["pid"])
    assert one["restarts"] == 0
    assert daemon.stop() == 0
    assert not alive(one["pid"])


def test_a_leak_is_restarted_gracefully_at_its_cap(daemon: Daemon) -> None:
    leak = hostile("leak", "--rate", "200", "--limit", "400")
    started(daemon, f"  leaky: {{command: {leak}, memory: {{cap: 128M}}}}\n")
    leaky = daemon.until_worker("leaky", lambda one: one["restarts"] >= 1, "it was restarted")
    assert leaky["last_restart"]["cause"] == "memory-cap"
    assert "above its cap of 128MiB" in leaky["last_restart"]["reason"]
    events = [one["event"] for one in daemon.events() if one.get("worker") == "leaky"]
    assert "worker killing" not in events
    assert events.index("worker stopping") < events.index("worker exited")


def test_a_worker_that_ignores_sigterm_is_killed_in_the_end(daemon: Daemon) -> None:
    leak = hostile("leak", "--rate", "200", "--limit", "300", "--ignore-term")
    text = f"  deaf: {{command: {leak}, memory: {{cap: 128M}}, stop_timeout: 500ms}}\n"
    started(daemon, text)
    deaf = daemon.until_worker("deaf", lambda one: one["restarts"] >= 1, "it was restarted")
    assert deaf["last_restart"]["cause"] == "memory-cap"
    killing = [one for one in daemon.events() if one["event"] == "worker killing"]
    assert killing
    assert killing[0]["cause"] == "memory-cap"


def test_a_worker_is_restarted_at_its_age(daemon: Daemon) -> None:
    started(daemon, f"  old: {{command: {hostile('sleeper')}, max_age: 1s}}\n")
    old = daemon.until_worker("old", lambda one: one["restarts"] >= 2, "it was restarted twice")
    assert old["last_restart"]["cause"] == "age"


@pytest.mark.parametrize("mode", ["grandchild", "double-fork", "wipe", "rename"])
def test_nothing_of_a_stopped_worker_is_left(daemon: Daemon, mode: str) -> None:
    started(daemon, f"  tree: {{command: {hostile('--log', 'NOTES', mode)}, stop_timeout: 1s}}\n")
    expected = {"grandchild": 3, "double-fork": 2, "wipe": 2, "rename": 1}[mode]
    daemon.until(lambda: len(daemon.noted()) == expected, "all its processes are there")
    done = daemon.run("stop", "tree")
    assert done.returncode == 0, done.stderr
    assert daemon.worker("tree")["phase"] == "stopped"
    assert [pid for pid in daemon.noted() if alive(pid)] == []


def test_a_killed_worker_is_succeeded(daemon: Daemon) -> None:
    started(daemon, f"  one: {{command: {hostile('sleeper')}}}\n")
    first = daemon.until_phase("one", "ready")
    os.kill(first["pid"], signal.SIGKILL)
    second = daemon.until_worker(
        "one", lambda one: one["phase"] == "ready" and one["pid"] != first["pid"], "it runs again"
    )
    assert second["last_restart"]["cause"] == "crash"
    assert "SIGKILL" in second["last_restart"]["reason"]


def test_a_worker_that_exits_at_once_ends_up_held(daemon: Daemon) -> None:
    rule = "{first: 50ms, max: 100ms, starts: 3, within: 1min}"
    started(daemon, f"  dud: {{command: {hostile('exit', '--code', '3')}, restart: {rule}}}\n")
    dud = daemon.until_phase("dud", "held")
    assert "status 3" in dud["held"]
    assert "gpu-supervisor reset dud" in dud["held"]
    assert daemon.run("reset", "dud", "--no-wait").returncode == 0
    daemon.until_worker(
        "dud", lambda one: one["phase"] == "held" and one["restarts"] > dud["restarts"], "held again"
    )


def test_a_job_that_is_done_stays_stopped_until_it_is_started(daemon: Daemon) -> None:
    job = "[sh, -c, 'echo ran >> NOTES; sleep 0.2']"
    started(daemon, f"  job: {{command: {job}, restart: {{on: failure}}, ready: {{after: 10ms}}}}\n")
    one = daemon.until_phase("job", "stopped")
    assert one["done"].startswith("exited with status 0 after 0.")
    assert daemon.run("start", "job").returncode == 0  # seen ready, or done already: it is quick
    daemon.until(lambda: daemon.notes.read_text() == "ran\nran\n", "it has run twice")
    daemon.until_phase("job", "stopped")
    daemon.kill()
    daemon.start()
    assert daemon.worker("job")["done"].startswith("exited with status 0 after 0.")
    assert "done: exited with status 0 after 0." in daemon.run("status").stdout
    outcomes = [one["outcome"] for one in json.loads(daemon.run("history", "--json").stdout)["incidents"]]
    assert outcomes == ["done", "done"]
    assert daemon.notes.read_text() == "ran\nran\n"
    assert daemon.worker("job")["restarts"] == 0


def test_a_program_that_is_not_there_is_held_at_once(daemon: Daemon) -> None:
    started(daemon, "  ghost: {command: [/nonexistent/program]}\n")
    ghost = daemon.until_phase("ghost", "held")
    assert "/nonexistent/program" in ghost["held"]


def test_a_worker_that_never_gets_ready_is_restarted(daemon: Daemon) -> None:
    started(
        daemon, f"  mute: {{command: {hostile('hang')}, ready: {{notify: true}}, start_timeout: 500ms}}\n"
    )
    mute = daemon.until_worker("mute", lambda one: one["restarts"] >= 1, "it was restarted")
    assert mute["last_restart"]["cause"] == "start-timeout"


def test_a_worker_without_a_heartbeat_is_restarted(daemon: Daemon) -> None:
    beats = hostile("notify", "--interval", "0.1", "--beats", "5")
    started(daemon, f"  faint: {{command: {beats}, ready: {{notify: true}}, heartbeat: 700ms}}\n")
    faint = daemon.until_worker("faint", lambda one: one["restarts"] >= 1, "it was restarted")
    assert faint["last_restart"]["cause"] == "heartbeat"


def test_a_killed_daemon_is_succeeded_by_one_that_adopts(daemon: Daemon) -> None:
    text = f"  one: {{command: {hostile('--log', 'NOTES', 'sleeper')}, max_age: 1h}}\n"
    started(daemon, text)
    before = daemon.until_phase("one", "ready")
    daemon.kill()
    assert alive(before["pid"])
    daemon.start()
    after = daemon.until_phase("one", "ready")
    assert (after["pid"], after["run"], after["max_age_s"]) == (
        before["pid"],
        before["run"],
        before["max_age_s"],
    )
    assert len(daemon.noted()) == 1
    os.kill(after["pid"], signal.SIGKILL)
    daemon.until_worker("one", lambda one: one["restarts"] == 1 and one["phase"] == "ready", "it runs again")


def test_a_stop_under_way_is_finished_by_the_next_daemon(daemon: Daemon) -> None:
    text = f"  deaf: {{command: {hostile('--log', 'NOTES', 'ignore-term')}, stop_timeout: 2s}}\n"
    started(daemon, text)
    deaf = daemon.until_phase("deaf", "ready")
    daemon.until(lambda: len(daemon.noted()) == 1, "it ignores SIGTERM")
    assert daemon.run("stop", "deaf", "--no-wait").returncode == 0
    daemon.until_phase("deaf", "stopping")
    daemon.kill()
    daemon.start()
    daemon.until_phase("deaf", "stopped")
    assert not alive(deaf["pid"])


def test_a_reload_touches_only_what_has_changed(daemon: Daemon) -> None:
    sleeper = hostile("sleeper")
    names = ("kept", "changed", "removed")
    started(daemon, "".join(f"  {name}: {{command: {sleeper}}}\n" for name in names))
    kept, changed, removed = (daemon.until_phase(name, "ready") for name in names)
    configure(daemon, f"  kept: {{command: {sleeper}}}\n  changed: {{command: {hostile('rename')}}}\n")
    done = daemon.run("reload")
    assert done.returncode == 0, done.stderr
    daemon.until_worker(
        "changed", lambda one: one["phase"] == "ready" and one["run"] != changed["run"], "it is new"
    )
    assert daemon.worker("changed")["last_restart"]["cause"] == "reload"
    assert daemon.worker("kept")["run"] == kept["run"]
    daemon.until(lambda: all(one["name"] != "removed" for one in daemon.status()["workers"]), "it is gone")
    assert not alive(removed["pid"])


def test_a_refused_file_changes_nothing(daemon: Daemon) -> None:
    started(daemon, f"  one: {{command: {hostile('sleeper')}}}\n")
    one = daemon.until_phase("one", "ready")
    daemon.configure("workers: {one: {comand: [x]}}\n")
    done = daemon.run("reload")
    assert done.returncode in {1, 78}
    assert "comand" in done.stdout + done.stderr
    assert daemon.worker("one")["run"] == one["run"]
    assert daemon.status()["config_refused"] is not None
    configure(daemon, f"  one: {{command: {hostile('sleeper')}}}\n")


def test_many_workers_stop_at_the_same_time(daemon: Daemon) -> None:
    deaf = hostile("--log", "NOTES", "ignore-term")
    started(daemon, "".join(f"  w{at}: {{command: {deaf}, stop_timeout: 1s}}\n" for at in range(6)))
    daemon.until(lambda: len(daemon.noted()) == 6, "all of them ignore SIGTERM")
    began_s = time.monotonic()
    assert daemon.stop() == 0
    assert time.monotonic() - began_s < 5.0  # 6 s one after the other
    assert [pid for pid in daemon.noted() if alive(pid)] == []


def test_a_host_below_its_floor_loses_the_lowest_priority_first(daemon: Daemon) -> None:
    started(
        daemon,
        f"  precious: {{command: {hostile('leak', '--rate', '400', '--limit', '200')}, priority: 5}}\n"
        f"  cheap: {{command: {hostile('leak', '--rate', '1000', '--limit', '1200')}}}\n",
    )
    calm = daemon.config.read_text(encoding="utf-8")
    for _ in range(3):  # another program may take what cheap gives back in that moment, but not each time
        daemon.until_worker("precious", lambda one: _holds(one, 190), "it has grown")
        daemon.until_worker("cheap", lambda one: _holds(one, 1190), "it has grown")
        past, restarts = len(_ended_for_the_host(daemon)), daemon.worker("precious")["restarts"]
        floor = _available_mib() + 600  # half of what cheap will give back
        daemon.configure(calm.replace("64M", f"{floor + 100}M").replace("32M", f"{floor}M"))
        assert daemon.run("reload").returncode == 0
        daemon.until(partial(_is_another_ended, daemon, past), "somebody is ended")
        assert _ended_for_the_host(daemon)[past] == "cheap"
        daemon.until(lambda: daemon.status()["host"]["pressure"] != "critical", "the memory is back")
        assert daemon.worker("cheap")["last_restart"]["cause"] == "host-memory"
        if "precious" not in _ended_for_the_host(daemon)[past:]:
            assert daemon.worker("precious")["restarts"] == restarts
            return
        daemon.configure(calm)
        assert daemon.run("reload").returncode == 0
    pytest.fail(f"precious was ended each time:\n{daemon.log()}")


def _available_mib() -> int:
    """Return what the machine has left: MemAvailable without the caches of the kernel."""
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    kib = {name: int(rest.split()[0]) for name, rest in (line.split(":") for line in lines)}
    cached = kib["Cached"] + kib["Buffers"] - kib["Shmem"]
    return min(kib["MemAvailable"], kib["MemFree"] + cached + kib["SwapFree"]) >> 10


def _holds(worker: Document, least_mib: int) -> bool:
    return (worker["memory_bytes"] or 0) >= least_mib << 20


def _is_another_ended(daemon: Daemon, past: int) -> bool:
    return len(_ended_for_the_host(daemon)) > past


def _ended_for_the_host(daemon: Daemon) -> list[str]:
    """Return who was ended for the host's memory, the first one first."""
    return [
        one["worker"]
        for one in daemon.events()
        if one["event"] in {"worker stopping", "worker killing"} and one.get("cause") == "host-memory"
    ]


def test_a_second_daemon_is_refused(daemon: Daemon) -> None:
    started(daemon, f"  one: {{command: {hostile('sleeper')}}}\n")
    done = daemon.run("run", "--config", str(daemon.config))
    assert done.returncode == 1
    assert "another gpu-supervisor" in done.stderr
