"""The daemon's own life: killed, hung, restarted, reloaded, deafened; the workers outlive all of it."""

from typing import Final

from support.vm.machine import Machine
from support.vm.supervised import (
    CLOSED,
    SLEEP,
    await_another,
    change_service,
    configure,
    daemon,
    kill_daemon,
    lines,
    lived,
    main_pid,
    processes,
    start,
)

SAY_SO: Final = "/etc/gpu-supervisor/say-so"
# Ends on SIGTERM, but only once it is allowed to.
SLOW: Final = (
    "{stop_timeout: 5min, command: [sh, -c, 'trap \"while ! test -e "
    f"{SAY_SO}; do sleep 0.2; done; exit 0\" TERM; while :; do sleep 0.2; done']}}"
)
# Says that it is ready, but only once it is allowed to.
SHY: Final = (
    "{ready: {notify: true}, start_timeout: 5min, restart: {first: 100ms, max: 100ms, starts: 99},"
    f" command: [sh, -c, 'while ! test -e {SAY_SO}; do sleep 0.2; done;"
    f" systemd-notify --no-block --ready; : >{SAY_SO}.said; exec sleep 4323']}}"
)
QUICK: Final = "{restart: {first: 10ms, max: 10ms, starts: 99}, command: sleep 4323}"


def test_it_is_started_and_tells_of_its_workers(installed: Machine) -> None:
    configure(installed, {"chat": SLEEP, "flaky": QUICK})
    start(installed, "chat", "flaky")
    before = lived(installed)
    status = installed.status()
    assert status["launcher"] == "systemd"
    assert {one["name"]: one["unit"] for one in status["workers"]} == {
        "chat": "gpu-worker-chat.service",
        "flaky": "gpu-worker-flaky.service",
    }
    assert before["chat"] == (main_pid(installed, "chat"), 0)
    (ready,) = installed.journal("-u", "gpu-supervisor", "WORKER=chat", "--grep=^worker ready")
    assert (ready["PRIORITY"], ready["SYSLOG_IDENTIFIER"]) == ("6", "gpu-supervisor")

    installed.ok(["kill", "-KILL", str(before["flaky"].pid)])
    installed.until(lambda: lived(installed).get("flaky", before["flaky"]) != before["flaky"], "it is back")
    installed.until_phase("flaky", "ready")
    told = installed.journal("WORKER=flaky", "CAUSE=crash")
    assert told
    assert all(entry["_SYSTEMD_UNIT"] == "gpu-supervisor.service" for entry in told)
    assert installed.journal("WORKER=chat", "CAUSE=crash") == []
    assert lived(installed) == {"chat": before["chat"], "flaky": (main_pid(installed, "flaky"), 1)}


def test_one_that_is_killed_while_it_stops_workers_has_the_next_finish_it(installed: Machine) -> None:
    configure(installed, {"other": SLEEP, "restarted": SLOW, "stopped": SLOW})
    start(installed, "other", "restarted", "stopped")
    before = lived(installed)
    installed.ok("gpu-supervisor stop --no-wait stopped")
    installed.ok("gpu-supervisor restart --now --no-wait restarted")
    installed.until_phase("restarted", "stopping")
    installed.until_phase("stopped", "stopping")
    kill_daemon(installed)
    assert lived(installed) == before
    assert installed.worker("restarted")["phase"] == installed.worker("stopped")["phase"] == "stopping"

    # One of them ends while a daemon watches, and the other while there is none.
    change_service(installed, f"ExecStartPre=/bin/sh -c 'while test -e {CLOSED}; do sleep 0.2; done'")
    installed.put(CLOSED, "")
    former = daemon(installed)
    installed.ok(["kill", "-KILL", str(former)])
    installed.put(SAY_SO, "")
    for name in ("restarted", "stopped"):
        installed.until(f"! systemctl is-active gpu-worker-{name}", f"{name} has ended")
    installed.ok(["rm", CLOSED])
    await_another(installed, former)
    again = installed.until_phase("restarted", "ready")
    installed.until_phase("stopped", "stopped")
    assert again["pid"] == main_pid(installed, "restarted") != before["restarted"].pid
    assert again["last_restart"]["cause"] == "operator"
    assert main_pid(installed, "stopped") == 0
    assert lived(installed)["other"] == before["other"]
    assert installed.run("systemctl is-active gpu-worker-stopped").out == "inactive\n"


def test_one_that_is_killed_while_it_starts_a_worker_doubles_nothing(installed: Machine) -> None:
    configure(installed, {"other": SLEEP, "quick": QUICK, "shy": SHY})
    start(installed, "other", "quick")
    other = lived(installed)["other"]
    for delay_s in ("0", "0.03", "0.1", "0.3"):
        former = daemon(installed)
        quick, shy = main_pid(installed, "quick"), main_pid(installed, "shy")
        installed.ok(f"kill -KILL {quick} {shy}; sleep {delay_s}; kill -KILL {former}")
        await_another(installed, former)
        again = installed.until_phase("quick", "ready")
        installed.until(lambda: main_pid(installed, "shy"), "shy runs")  # and is not ready yet
        assert again["pid"] == main_pid(installed, "quick") != quick
        assert lived(installed)["other"] == other
    installed.put(SAY_SO, "")
    installed.until_phase("shy", "ready")
    installed.until(f"test -e {SAY_SO}.said", "what said so is gone")
    now = lived(installed)
    assert now["other"] == other
    # Every process in the workers' cgroups is the one of its worker.
    installed.until(lambda: len(processes(installed)) == 3, "only the workers are left")
    assert processes(installed) == {one.pid for one in now.values()}
    assert installed.ok("pgrep --count --full '^sleep 432[3]'") == "3\n"


def test_what_a_worker_says_while_there_is_none_is_heard_by_the_next(installed: Machine) -> None:
    change_service(installed, f"ExecStartPre=/bin/sh -c 'while test -e {CLOSED}; do sleep 0.2; done'")
    configure(installed, {"other": SLEEP, "shy": SHY})
    start(installed, "other")
    installed.until_phase("shy", "starting")
    installed.until(lambda: lived(installed).get("shy"), "shy runs")
    before = lived(installed)
    former = daemon(installed)
    installed.put(CLOSED, "")
    installed.ok(["kill", "-KILL", str(former)])
    installed.put(SAY_SO, "")
    installed.until(f"test -e {SAY_SO}.said", "it has said so")
    assert installed.run("systemctl is-active gpu-supervisor").out == "activating\n"
    installed.ok(["rm", CLOSED])
    await_another(installed, former)
    installed.until_phase("shy", "ready")
    assert lived(installed) == before


def test_one_that_hangs_is_ended_by_the_watchdog_and_no_worker_with_it(installed: Machine) -> None:
    change_service(installed, "WatchdogSec=5s")
    configure(installed, {"chat": SLEEP, "other": SLEEP})
    start(installed, "chat", "other")
    before, former = lived(installed), daemon(installed)
    installed.ok(["kill", "-STOP", str(former)])
    await_another(installed, former)
    assert lines(installed, "-u", "gpu-supervisor", "--grep=Watchdog timeout")
    assert lived(installed) == before
    assert processes(installed) == {one.pid for one in before.values()}


def test_a_restart_leaves_the_workers_and_a_stop_ends_them(installed: Machine) -> None:
    configure(installed, {"chat": SLEEP, "other": SLEEP})
    start(installed, "chat", "other")
    before, former = lived(installed), daemon(installed)
    installed.ok("systemctl restart gpu-supervisor", timeout_s=240)
    assert daemon(installed) not in {0, former}
    assert lived(installed) == before
    installed.ok("systemctl stop gpu-supervisor", timeout_s=120)
    assert processes(installed) == set()
    assert installed.ok("systemctl list-units --plain --no-legend 'gpu-worker-*'") == ""
    assert installed.run("systemctl is-failed gpu-supervisor").out == "inactive\n"

    configure(installed, {"chat": SLEEP, "other": SLEEP}, more="stop_workers: false\n")
    start(installed, "chat", "other")
    before = lived(installed)
    installed.ok("systemctl stop gpu-supervisor", timeout_s=120)
    assert processes(installed) == {one.pid for one in before.values()}
    start(installed, "chat", "other")
    assert lived(installed) == before
    assert len(lines(installed, "-u", "gpu-supervisor", "--grep=^worker adopted")) == 4


def test_a_reload_touches_only_what_has_changed_and_a_refused_one_nothing(installed: Machine) -> None:
    configure(installed, {"chat": SLEEP, "other": SLEEP})
    start(installed, "chat", "other")
    before, former = lived(installed), daemon(installed)
    configure(installed, {"chat": "{command: sleep 4324}", "other": SLEEP})
    installed.ok("systemctl reload gpu-supervisor", timeout_s=120)
    installed.until(lambda: lived(installed).get("chat", before["chat"]) != before["chat"], "a new one runs")
    chat = installed.until_phase("chat", "ready")
    assert (chat["restarts"], chat["last_restart"]["cause"]) == (1, "reload")
    assert installed.ok(["cat", f"/proc/{chat['pid']}/cmdline"]) == "sleep\x004324\x00"
    assert lived(installed)["other"] == before["other"]

    before = lived(installed)
    configure(installed, {"chat": "{comand: sleep 4325}"})
    assert installed.run("systemctl reload gpu-supervisor", timeout_s=120).rc != 0
    told = lines(installed, "-u", "gpu-supervisor", "--grep=comand")
    assert any("config.yaml:3: workers.chat.comand" in line for line in told), told
    refused = installed.run("gpu-supervisor reload")
    assert refused.rc == 78
    assert "config.yaml:3: workers.chat.comand" in refused.out
    assert installed.run("systemctl is-active gpu-supervisor").out == "active\n"
    assert (lived(installed), daemon(installed)) == (before, former)

    configure(installed, {"chat": "{command: sleep 4324}", "new": SLEEP, "other": SLEEP})
    assert "new" in installed.ok("gpu-supervisor reload")
    installed.until_phase("new", "ready")
    now = lived(installed)
    assert (now["chat"], now["other"]) == (before["chat"], before["other"])


def test_the_bus_may_go_and_come_back(installed: Machine) -> None:
    configure(installed, {"chat": SLEEP, "other": SLEEP, "quick": QUICK, "unwanted": QUICK})
    start(installed, "chat", "other", "quick", "unwanted")
    before, former = lived(installed), daemon(installed)
    installed.ok("systemctl mask --runtime --now dbus.socket dbus.service")
    try:
        installed.ok(["kill", "-KILL", str(before["quick"].pid), str(before["unwanted"].pid)])
        # Without the bus their starts wait, and one that is no longer wanted is given up.
        for name in ("quick", "unwanted"):
            installed.until_phase(name, "starting")
        installed.ok("gpu-supervisor stop unwanted", timeout_s=120)
        assert installed.worker("unwanted")["phase"] == "stopped"
    finally:
        installed.ok("systemctl unmask --runtime dbus.socket dbus.service; systemctl start dbus.service")
    installed.until_phase("quick", "ready")
    now = lived(installed)
    assert set(now) == {"chat", "other", "quick"}
    assert now["quick"] == (main_pid(installed, "quick"), 1)
    assert (now["chat"], now["other"]) == (before["chat"], before["other"])
    # It hears again: a stop by hand is told as one.
    installed.ok("systemctl stop gpu-worker-other")
    installed.until_phase("other", "stopped")
    assert lines(installed, "WORKER=other", "CAUSE=operator", "--grep=was stopped by hand")
    assert lived(installed)["chat"] == before["chat"]
    assert daemon(installed) == former
