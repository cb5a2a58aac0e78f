"""Limits on a worker, ours and the kernel's, each reached by a worker that goes beyond it."""

from typing import Final

from support.vm.hungry import (
    CGROUPS,
    begin,
    events,
    feed,
    hungry,
    incident,
    lives_on,
    told_by_the_daemon,
    until_restarted,
)
from support.vm.machine import Machine

MIB: Final = 1 << 20
HOST: Final = "poll_interval: 1s\nhost: {warn_available: 64M, critical_available: 32M}\n"
SLEEP: Final = "command: sleep 4323"
BUSY: Final = "command: sh -c 'while :; do :; done'"
# In one system call, in which it is neither slowed down nor seen.
JUMP: Final = """
import mmap
mmap.mmap(-1, 300 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE)
"""
DROP_IN: Final = "[Service]\nMemoryMax=99M\nEnvironment=GREETING=hello\n"


def test_a_leaking_worker_is_restarted_gracefully_and_its_neighbour_is_left_alone(installed: Machine) -> None:
    config = f"""{HOST}
workers:
  leaky:
    command: {hungry("leaky", "leak --rate 40 --limit 300")}
    memory: {{cap: 80M, max: 400M}}
    breach: {{samples: 2, of: 3, warm_up: 0s}}
  innocent: {{{SLEEP}, memory: {{cap: 80M, max: 400M}}}}
"""
    before = begin(installed, config, "leaky", "innocent")
    feed(installed, "leaky")
    after = until_restarted(installed, "leaky", before["leaky"])
    assert (after["restarts"], after["last_restart"]["cause"], after["oom_events"]) == (1, "memory-cap", 0)
    assert "is above its cap of 80MiB in 2 of 3 readings" in after["last_restart"]["reason"]
    lives_on(installed, "innocent", before["innocent"])

    told = told_by_the_daemon(installed, "leaky", "memory-cap")
    assert list(told) == ["worker stopping", "worker exited", "worker launched"]
    assert told["worker stopping"]["SIGNAL"] == "SIGTERM"
    assert 80 * MIB < int(told["worker stopping"]["MEMORY_BYTES"]) < 300 * MIB
    assert told["worker exited"]["REASON"] == "killed by SIGTERM"
    assert incident(installed, "leaky")["incident"]["cause"] == "memory-cap"


def test_beyond_our_cap_the_kernel_slows_a_worker_down_and_then_kills_it(installed: Machine) -> None:
    config = f"""{HOST}
defaults: {{breach: {{samples: 2, of: 3, warm_up: 0s}}, stop_timeout: 6s}}
workers:
  stubborn:
    command: {hungry("stubborn", "leak --rate 80 --limit 500 --ignore-term")}
    memory: {{cap: 80M, high: 120M, max: 600M}}
  reckless:
    command: {hungry("reckless", "allocate --rate 100000 --limit 500 --ignore-term")}
    memory: {{cap: 80M, high: 160M, max: 161M}}
  innocent: {{{SLEEP}, memory: {{cap: 80M, high: 160M, max: 161M}}}}
"""
    before = begin(installed, config, "stubborn", "reckless", "innocent")
    feed(installed, "stubborn")
    installed.until(lambda: events(installed, "stubborn")["high"] > 0, "the kernel slows it down")
    feed(installed, "reckless")
    # It ignores SIGTERM and would go on to 500 MiB.
    after = until_restarted(installed, "stubborn", before["stubborn"])
    assert (after["restarts"], after["last_restart"]["cause"], after["oom_events"]) == (1, "memory-cap", 0)
    told = told_by_the_daemon(installed, "stubborn", "memory-cap")
    assert list(told) == ["worker stopping", "worker killing", "worker exited", "worker launched"]
    assert int(told["worker stopping"]["MEMORY_BYTES"]) > 80 * MIB
    assert told["worker exited"]["REASON"] == "killed by SIGKILL"
    assert int(told["worker exited"]["MEMORY_EVENTS_HIGH"]) > 0
    assert not {"MEMORY_EVENTS_MAX", "MEMORY_EVENTS_OOM_KILL"} & set(told["worker exited"])

    # Its high is so near to its max that it is hardly slowed down: it meets all three.
    after = until_restarted(installed, "reckless", before["reckless"])
    assert (after["restarts"], after["oom_events"]) == (1, 1)
    timeline = incident(installed, "reckless")["timeline"]
    exited = next(entry for entry in timeline if entry["event"] == "worker exited")
    assert "killed by the kernel's OOM killer (memory.events: high " in exited["reason"]
    for counted in ("high", "max", "oom", "oom_kill"):
        assert exited["fields"][f"memory_events_{counted}"] > 0
    lives_on(installed, "innocent", before["innocent"])


def test_a_worker_that_jumps_beyond_memory_max_is_killed_by_the_kernel_and_restarted(
    installed: Machine,
) -> None:
    jump = hungry("jumper", f"-c '{JUMP}'", program="/usr/bin/python3 -S -E")
    config = f"""{HOST}
defaults: {{breach: {{warm_up: 10min}}}}  # a cap of ours does not count yet
workers:
  jumper:
    command: {jump}
    memory: {{cap: 80M, max: 120M}}
  innocent: {{{SLEEP}, memory: {{cap: 80M, max: 120M}}}}
"""
    before = begin(installed, config, "jumper", "innocent")
    feed(installed, "jumper")
    after = until_restarted(installed, "jumper", before["jumper"])
    assert (after["restarts"], after["last_restart"]["cause"], after["oom_events"]) == (1, "host-oom-kill", 1)
    lives_on(installed, "innocent", before["innocent"])

    told = incident(installed, "jumper")["incident"]
    assert told["cause"] == "host-oom-kill"
    assert "killed by the kernel's OOM killer (memory.events: max " in told["reason"]
    assert told["fields"]["memory_events_max"] > 0
    assert told["fields"]["memory_events_oom_kill"] > 0
    assert list(told_by_the_daemon(installed, "jumper", "host-oom-kill")) == [
        "worker exited",
        "worker launched",
    ]


def cpu_share(machine: Machine, *names: str) -> dict[str, float]:
    """Return how many cores workers use, measured over some seconds."""
    read = "cut -d' ' -f1 /proc/uptime"
    for name in names:
        read += f"; grep -h usage_usec {CGROUPS}/gpu-worker-{name}.service/cpu.stat"
    lines = machine.ok(f"{{ {read}; }} && sleep 6 && {{ {read}; }}").splitlines()
    half = len(lines) // 2
    (began, *before), (ended, *after) = lines[:half], lines[half:]
    wall_us = (float(ended) - float(began)) * 1e6
    return {
        name: (int(later.split()[1]) - int(earlier.split()[1])) / wall_us
        for name, earlier, later in zip(names, before, after, strict=True)
    }


def test_a_quota_holds_a_busy_worker_to_its_share_and_a_drop_in_of_an_admin_counts(
    installed: Machine,
) -> None:
    config = f"""{HOST}
workers:
  quota: {{{BUSY}, cpu: {{quota: 30%}}}}
  free: {{{BUSY}}}
  chat:
    command: sh -c 'echo greeting=$GREETING; exec sleep 4323'
    memory: {{max: 400M}}
"""
    before = begin(installed, config, "quota", "free", "chat")
    used = cpu_share(installed, "quota", "free")
    assert 0.2 < used["quota"] < 0.4, used
    assert used["free"] > 1.5 * used["quota"], used

    installed.put("/etc/systemd/system/gpu-worker-chat.service.d/admin.conf", DROP_IN)
    installed.ok("systemctl daemon-reload")
    installed.ok("gpu-supervisor restart chat", timeout_s=120)
    lines = installed.journal("_SYSTEMD_UNIT=gpu-worker-chat.service")
    assert [line["MESSAGE"] for line in lines] == ["greeting=", "greeting=hello"]
    assert installed.ok(f"cat {CGROUPS}/gpu-worker-chat.service/memory.max") == f"{99 * MIB}\n"
    shown = installed.ok("gpu-supervisor units render")
    assert f"# /etc/systemd/system/gpu-worker-chat.service.d/admin.conf\n{DROP_IN}" in shown
    lives_on(installed, "quota", before["quota"])
