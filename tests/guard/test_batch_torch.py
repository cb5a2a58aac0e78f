"""Batches of a real model of PyTorch that run out of real memory: of address space, under a limit."""

import json
import os
import subprocess
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
WORK = """
import gc, json, resource, sys, weakref
sys.path.insert(0, sys.argv[1])
import torch
from supervisor.guard import BatchRunner, Failed, MemoryManager

torch.set_num_threads(1)
model = torch.nn.Linear(64, 64)
MIB_OF_AN_ITEM = 32
calls, alive, held = [], [], []

def infer(items):
    calls.append(len(items))
    alive.append(sum(reference() is not None for reference in held))
    first = torch.ones(len(items) * MIB_OF_AN_ITEM << 17)  # half of it, which fits
    held.append(weakref.ref(first))
    second = torch.ones(len(items) * MIB_OF_AN_ITEM << 17)
    with torch.inference_mode():
        hidden = model(torch.tensor([[float(item)] * 64 for item in items]))
    assert hidden.shape == (len(items), 64) and first[0] == second[0]
    return torch.tensor(items) * 2

infer([0])  # what torch takes for itself, it has
calls.clear(); alive.clear(); held.clear()
gc.disable()
with open("/proc/self/status") as status:
    size = int(status.read().partition("VmSize:")[2].split()[0]) << 10
resource.setrlimit(resource.RLIMIT_AS, (size + (150 << 20), resource.RLIM_INFINITY))
timeout_s = json.loads(sys.argv[2])
memory = MemoryManager("cpu")
runner = BatchRunner(infer, memory=memory, threshold=1.0, fallback_delay_s=0, timeout_s=timeout_s)
values = [value if isinstance(value, Failed) else int(value) for value in runner.run(range(30))]
print(json.dumps({
    "values": [str(v) if isinstance(v, Failed) else v for v in values], "calls": calls, "alive": alive,
    "stats": runner.stats(),
}))
"""


@pytest.mark.slow
@pytest.mark.parametrize("timeout_s", [None, 20])
def test_batches_of_real_torch_that_run_out_of_real_memory_are_all_delivered(
    torch_worker: list[str], timeout_s: int | None
) -> None:
    done = subprocess.run(
        [torch_worker[0], "-c", WORK, str(CHECKOUT), json.dumps(timeout_s)],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "MALLOC_ARENA_MAX": "1"},  # glibc reserves 128 MiB of addresses for a thread
        timeout=50,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["values"] == [2 * item for item in range(30)]
    # 12 and 6 items are 384 and 192 MiB, more than the room of 150; 3 are 96.
    assert told["calls"] == [12, 6, *[3] * 10]
    assert told["alive"] == [0] * 12
    assert told["stats"]["out_of_memory"] == 2
    assert told["stats"]["recoveries"] == 1
    assert "DefaultCPUAllocator" not in done.stdout
