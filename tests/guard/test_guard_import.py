"""What a worker pays for the guard before it uses it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import supervisor.guard

CHECKOUT = Path(__file__).resolve().parents[2]
MEASURE = """
import sys, time
sys.path.insert(0, sys.argv[1])
def rss_kib():
    with open("/proc/self/status") as status:
        return int(status.read().partition("VmRSS:")[2].split()[0])
before, kib, began = set(sys.modules), rss_kib(), time.perf_counter()
import supervisor.guard
took_s, grown_kib = time.perf_counter() - began, rss_kib() - kib
for name in supervisor.guard.__all__:
    getattr(supervisor.guard, name)  # each is loaded at its first use
all_s, all_kib = time.perf_counter() - began, rss_kib() - kib
new = sorted(set(sys.modules) - before)
import json
cost = {"took_ms": took_s * 1e3, "grown_kib": grown_kib, "all_ms": all_s * 1e3, "all_kib": all_kib}
print(json.dumps({**cost, "new": new}))
"""


def test_the_guard_alone_loads_nothing_but_a_little_of_the_standard_library() -> None:
    done = subprocess.run(
        [sys.executable, "-S", "-E", "-c", MEASURE, str(CHECKOUT)],
        check=True,
        capture_output=True,
        text=True,
        timeout=30,
    )
    cost = json.loads(done.stdout)
    print(f"import supervisor.guard: {cost['took_ms']:.1f} ms, {cost['grown_kib']} KiB")  # noqa: T201 - a figure
    print(f"all of it: {cost['all_ms']:.1f} ms, {cost['all_kib']} KiB")  # noqa: T201 - the same
    assert cost["grown_kib"] < 3 << 10
    own = {name for name in cost["new"] if name.partition(".")[0] == "supervisor"}
    assert {"supervisor.guard.memory", "supervisor.guard.batch"} <= own
    assert [name for name in own if name != "supervisor" and not name.startswith("supervisor.guard")] == []
    assert [
        n for n in cost["new"] if n not in own and n.partition(".")[0] not in sys.stdlib_module_names
    ] == []
    assert {"logging", "asyncio", "inspect"}.isdisjoint(cost["new"])  # each more than all the rest


def test_a_name_that_the_guard_does_not_have_is_an_error() -> None:
    with pytest.raises(AttributeError, match=r"module 'supervisor\.guard' has no attribute 'Batch'"):
        getattr(supervisor.guard, "Batch")  # noqa: B009 - a name that is not there
