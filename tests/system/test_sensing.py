"""What the kernel tells of a worker's cgroup, as the daemon reads it."""

import json
from typing import Any

from support.vm.machine import Machine

PYTHON = "/opt/gpu-supervisor/bin/python"
CGROUP = "/sys/fs/cgroup/gpu.slice/gpu-workers.slice/gpu-worker-chat.service"
# A main process of little memory, and a child that is told by a file to take more than it may have.
WORKER = """
import os, time
child = os.fork()
while not child and not os.path.exists("/run/grow"):
    time.sleep(0.1)
taken = []
while not child:
    taken.append(bytearray(1 << 20))
if not os.fork():
    os._exit(0)  # a zombie for the rest of its parent's life
time.sleep(600)
"""
UNIT = """[Service]
Type=exec
Slice=gpu-workers.slice
MemoryMax=40M
MemorySwapMax=0
OOMPolicy=continue
ExecStart=/usr/bin/python3 -S /run/worker.py
"""
# Tells what it sees once, and again each time that the kernel wakes it or a line comes in.
WATCH = """
import json, select, sys
from pathlib import Path
from supervisor.sense.cgroup import CgroupTrees
from supervisor.sense.cgroup_events import CgroupEvents
from supervisor.sense.host import open_trigger

cgroup = Path(sys.argv[1])
woken = []
trees, events = CgroupTrees(), CgroupEvents(woken.append)
trees.track("run", cgroup, None)
trigger = open_trigger(cgroup / "memory.pressure")
seen = []

def see():
    events.drain()
    sight = trees.sight("run", 0.0)
    memory = sight.memory_bytes if isinstance(sight.memory_bytes, int) else None
    seen.append({"pids": len(sight.pids), "memory": memory, "counters": dict(events.counters("run"))})

assert events.watch("run", cgroup) is None
see()
Path("/run/grow").touch()
while not events.counters("run")["oom_kill"]:
    assert select.select([events.fileno()], [], [], 60)[0], "nobody woke us"
    events.drain()
while len(trees.sight("run", 0.0).pids) > 1:  # the kernel counts the kill before the process is gone
    select.select([], [], [], 0.1)
see()
again = CgroupEvents(woken.append)
again.watch("next life", cgroup)
seen.append({"counters": dict(again.counters("next life"))})
Path("/run/end").touch()
while cgroup.exists():
    select.select([], [], [], 0.1)
see()
while select.select([trigger.fileno()], [], [], 0.5)[0]:
    watching = trigger.drain()
ready = select.select([events.fileno(), trigger.fileno()], [], [], 0.5)[0]
seen.append({"watching": watching, "silent": ready == [], "woken": sorted(set(woken))})
print(json.dumps(seen))
"""
ENDER = "until [ -e /run/end ]; do sleep 0.2; done; systemctl stop gpu-worker-chat"


def test_a_cgroup_is_seen_whole_wakes_us_at_a_kill_and_is_empty_once_removed(installed: Machine) -> None:
    installed.put("/run/worker.py", WORKER)
    installed.put("/run/systemd/system/gpu-worker-chat.service", UNIT)
    installed.ok("rm -f /run/grow /run/end; systemctl daemon-reload; systemctl start gpu-worker-chat")
    installed.until(f'[ "$(grep -c . {CGROUP}/cgroup.procs)" = 2 ]', "it has two processes and a zombie")
    installed.put("/run/watch.py", WATCH)
    told = installed.ok(f"({ENDER}) >/dev/null 2>&1 & {PYTHON} /run/watch.py {CGROUP}", timeout_s=180)
    seen: list[dict[str, Any]] = json.loads(told)
    before, killed, next_life, removed, after = seen

    assert before["pids"] == 2
    assert 1 << 20 < before["memory"] < 20 << 20
    assert set(before["counters"].values()) == {0}
    assert killed["pids"] == 1
    assert killed["counters"]["oom_kill"] == 1
    assert killed["counters"]["max"] > 0
    assert next_life["counters"]["oom_kill"] == 0
    assert removed == {"pids": 0, "memory": None, "counters": killed["counters"]}
    assert after == {"watching": False, "silent": True, "woken": ["run"]}
    installed.ok("rm /run/systemd/system/gpu-worker-chat.service; systemctl daemon-reload")
