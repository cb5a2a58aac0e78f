"""The machine itself runs short of memory: who is ended, and who lives on."""

from typing import Final

from support.vm.hungry import CGROUPS, Document, begin, feed, hungry, incident, lives_on, until_restarted
from support.vm.machine import Machine

MIB: Final = 1 << 20
SERVICES: Final = (
    "systemd-journald.service",
    "dbus.service",
    "systemd-logind.service",
    "gpu-supervisor.service",
)


def pids(machine: Machine) -> str:
    """Return the main processes of what a machine cannot do without."""
    return machine.ok(f"systemctl show --property=MainPID --value {' '.join(SERVICES)}")


def kernel_kills(machine: Machine) -> list[str]:
    """Return what the kernel has said of killing for memory, since the test began."""
    lines = [line["MESSAGE"] for line in machine.journal("-k")]
    return [line for line in lines if "out of memory" in line.lower() or "oom-kill" in line]


def until_both_were_ended(machine: Machine, before: dict[str, Document]) -> dict[str, Document]:
    """Wait until two hogs were ended, each once; return how each came to its end."""
    for name in ("first", "second"):
        after = until_restarted(machine, name, before[name])
        assert (after["restarts"], after["last_restart"]["cause"]) == (1, "host-memory")
        assert after["oom_events"] == 0
    return {name: incident(machine, name) for name in ("first", "second")}


def one_at_a_time(ends: dict[str, Document]) -> bool:
    """Say whether the second was asked to end only once the first was gone."""
    moments = {
        name: {entry["event"]: entry["wall_s"] for entry in end["timeline"]} for name, end in ends.items()
    }
    return bool(moments["first"]["worker exited"] <= moments["second"]["worker stopping"])


def test_without_swap_the_largest_hog_goes_first_and_then_the_other(installed: Machine) -> None:
    config = f"""
poll_interval: 1s
host: {{warn_available: 800M, critical_available: 700M}}
defaults: {{restart: {{first: 1s}}, stop_timeout: 10s, needs: {{memory: 0}}}}
workers:
  second: {{command: {hungry("second", "allocate --rate 500 --limit 1000")}}}
  innocent: {{command: sleep 4323}}
  first: {{command: {hungry("first", "allocate --rate 500 --limit 350")}}}
"""
    before = begin(installed, config, "first", "second", "innocent")
    services = pids(installed)
    feed(installed, "first")
    taken = f"{CGROUPS}/gpu-worker-first.service/memory.current"
    installed.until(f"[ $(cat {taken}) -gt {350 * MIB} ]", "it has taken all it wants")
    feed(installed, "second")
    ends = until_both_were_ended(installed, before)
    for end in ends.values():
        assert "below critical_available 700MiB" in end["incident"]["reason"]
        assert "is the largest of the lowest priority (0)" in end["incident"]["reason"]
    assert one_at_a_time(ends)
    lives_on(installed, "innocent", before["innocent"])
    assert pids(installed) == services
    assert kernel_kills(installed) == []


def test_with_swap_the_hog_of_lower_priority_goes_first_though_it_is_smaller(installed: Machine) -> None:
    installed.swap_on(512)
    config = f"""
poll_interval: 1s
host: {{warn_available: 800M, critical_available: 700M}}
defaults: {{restart: {{first: 1s}}, stop_timeout: 10s, needs: {{memory: 0}}}}
workers:
  second: {{command: {hungry("second", "allocate --rate 500 --limit 1000")}, priority: 5}}
  innocent: {{command: sleep 4323, priority: 5}}
  first:
    command: {hungry("first", "allocate --rate 500 --limit 110")}
    memory: {{high: 50M}}  # the rest of it is in swap
"""
    before = begin(installed, config, "first", "second", "innocent")
    services = pids(installed)
    feed(installed, "first")
    swapped = f"{CGROUPS}/gpu-worker-first.service/memory.swap.current"
    installed.until(f"[ $(cat {swapped}) -gt {50 * MIB} ]", "most of it is in swap")
    feed(installed, "second")
    ends = until_both_were_ended(installed, before)
    assert "first is the largest of the lowest priority (0)" in ends["first"]["incident"]["reason"]
    # What was swapped out is counted.
    assert 100 * MIB < ends["first"]["incident"]["fields"]["memory_bytes"] < 150 * MIB
    assert "second is the largest of the lowest priority (5)" in ends["second"]["incident"]["reason"]
    assert one_at_a_time(ends)
    lives_on(installed, "innocent", before["innocent"])
    assert pids(installed) == services
    assert kernel_kills(installed) == []
