"""What an admin does to workers' units by hand: seen, told as that, and not fought."""

from functools import partial

from support.vm.machine import Machine
from support.vm.supervised import SLEEP, configure, daemon, lines, lived, main_pid, start

QUICK = "{restart: {first: 10ms, max: 10ms, starts: 99}, command: sleep 4323}"

SLOW = "{command: [sh, -c, 'trap \"sleep 2; exit 0\" TERM; while :; do sleep 0.2; done']}"


def is_ready_as(machine: Machine, name: str, pid: int) -> bool:
    """Say whether a worker is ready with this process."""
    seen = machine.worker(name)
    return bool((seen["phase"], seen["pid"]) == ("ready", pid))


def stopped_by_hand(machine: Machine, name: str) -> list[str]:
    """Return the lines in which the supervisor tells of it."""
    return lines(machine, f"WORKER={name}", "CAUSE=operator", "--grep=was stopped by hand \\(systemctl\\)")


def test_a_worker_that_is_stopped_by_hand_stays_stopped_until_it_is_started_by_hand(
    installed: Machine,
) -> None:
    configure(installed, {"chat": QUICK, "other": SLEEP})
    start(installed, "chat", "other")
    other, former = lived(installed)["other"], daemon(installed)
    installed.ok("systemctl stop gpu-worker-chat")
    installed.until_phase("chat", "stopped")
    assert stopped_by_hand(installed, "chat")
    assert installed.run("systemctl is-active gpu-worker-chat").out == "inactive\n"
    # Nobody starts it: not the loop, not a reload of the configuration, not the next daemon.
    installed.ok("gpu-supervisor reload")
    installed.ok("systemctl restart gpu-supervisor", timeout_s=240)
    assert installed.worker("chat")["phase"] == "stopped"
    assert main_pid(installed, "chat") == 0

    installed.ok("systemctl start gpu-worker-chat")
    chat = installed.until_phase("chat", "ready")
    assert chat["pid"] == main_pid(installed, "chat") != 0
    # It is supervised: its end is seen.
    installed.ok(["kill", "-KILL", str(chat["pid"])])
    installed.until(lambda: lived(installed).get("chat", (chat["pid"],))[0] != chat["pid"], "it is back")
    again = installed.until_phase("chat", "ready")
    assert (again["pid"], again["last_restart"]["cause"]) == (main_pid(installed, "chat"), "crash")
    assert lived(installed)["other"] == other
    assert daemon(installed) not in {0, former}


def test_a_worker_that_is_restarted_or_killed_by_hand_is_supervised_afterwards(installed: Machine) -> None:
    configure(installed, {"chat": QUICK, "other": SLEEP, "slow": SLOW})
    start(installed, "chat", "other", "slow")
    before = lived(installed)
    # What runs is started: nothing happens.
    installed.ok("systemctl start gpu-worker-chat gpu-worker-other")
    for name in ("chat", "slow"):
        installed.ok(f"systemctl restart gpu-worker-{name}")  # fails if its job is canceled
        pid = main_pid(installed, name)
        assert pid not in {0, before[name].pid}
        installed.until(partial(is_ready_as, installed, name, pid), f"{name} is taken over")
        assert lines(installed, f"WORKER={name}", "--grep=was restarted by hand \\(systemctl\\)")
        assert installed.worker(name)["last_restart"]["cause"] == "operator"
        assert main_pid(installed, name) == pid

    pid = main_pid(installed, "chat")
    installed.ok("systemctl kill --signal=KILL gpu-worker-chat")
    installed.until(lambda: lived(installed).get("chat", (pid,))[0] != pid, "it is back")
    again = installed.until_phase("chat", "ready")
    assert again["pid"] == main_pid(installed, "chat")
    assert again["last_restart"]["cause"] == "crash"
    assert "not by the supervisor" in again["last_restart"]["reason"]
    now = lived(installed)
    assert now["other"] == before["other"]
    assert (now["chat"].restarts, now["slow"].restarts) == (2, 1)


def test_the_slice_that_is_stopped_by_hand_takes_all_workers_with_it(installed: Machine) -> None:
    configure(installed, {"chat": SLEEP, "other": SLEEP})
    start(installed, "chat", "other")
    former = daemon(installed)
    installed.ok("systemctl stop gpu-workers.slice")
    for name in ("chat", "other"):
        installed.until_phase(name, "stopped")
        assert stopped_by_hand(installed, name)
        assert main_pid(installed, name) == 0
    installed.ok("gpu-supervisor start --all", timeout_s=120)
    assert {name: one.pid for name, one in lived(installed).items()} == {
        "chat": main_pid(installed, "chat"),
        "other": main_pid(installed, "other"),
    }
    assert daemon(installed) == former
