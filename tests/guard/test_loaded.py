import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
# What a thread that imports a framework leaves to the others meanwhile, seen from the midst of the import.
HALF_A_TORCH = """
from supervisor.guard import BatchRunner, LeakProbe, MemoryManager
from supervisor.guard.loaded import loaded
assert loaded("torch") is None
gpu = MemoryManager("cuda:0")
gpu.check_memory_pressure()
gpu.reduce_memory_usage("high")
assert gpu.snapshot().stats["cuda_available"] is False
assert gpu.get_memory_stats()["cuda_available"] is False
MemoryManager("mps").reduce_memory_usage("high")
assert list(BatchRunner(lambda items: items, timeout_s=60).run([1, 2])) == [1, 2]
LeakProbe().probe()
"""
WORKER = """
import torch
from supervisor.guard.loaded import loaded
assert loaded("torch") is torch
assert loaded("cupy") is None
"""


def test_a_framework_that_is_still_being_imported_is_not_there_yet(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text(HALF_A_TORCH, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", WORKER],
        env={"PYTHONPATH": f"{tmp_path}:{CHECKOUT}"},
        check=False,
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert done.returncode == 0, done.stderr
