import logging
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from guard.fakes import GIB
from supervisor.guard.vram import set_vram_fraction

MIB = 1 << 20
NO_CUDA = 3
CAP = "GPU_SUPERVISOR_VRAM_CAP"


class CappedTorch:
    """A torch with GPUs of 80 GiB that keeps which fractions it was given."""

    def __init__(self) -> None:
        self.fractions: list[tuple[float, int]] = []
        self.cuda = SimpleNamespace(
            is_available=lambda: True,
            mem_get_info=self._mem_get_info,
            set_per_process_memory_fraction=self._set,
        )

    def _mem_get_info(self, _index: int) -> tuple[int, int]:
        return 70 * GIB, 80 * GIB

    def _set(self, fraction: float, index: int) -> None:
        self.fractions.append((fraction, index))


def capped(torch: CappedTorch, device: str = "cuda:0", cap: str = "", **more: Any) -> int | None:  # noqa: ANN401
    return set_vram_fraction(device=device, modules={"torch": torch}, environment={CAP: cap}, **more)


def test_the_workers_cap_less_what_is_not_torchs_is_what_its_allocator_may_have() -> None:
    torch = CappedTorch()
    assert capped(torch, cap=str(20 * GIB + 512 * MIB)) == 20 * GIB
    assert torch.fractions == [(0.25, 0)]


def test_a_cap_that_is_given_counts_before_the_workers() -> None:
    torch = CappedTorch()
    assert capped(torch, "cuda:1", cap=str(8 * GIB), cap_bytes=40 * GIB, beside_bytes=0) == 40 * GIB
    assert torch.fractions == [(0.5, 1)]


def test_a_cap_above_the_gpus_memory_is_all_of_it() -> None:
    torch = CappedTorch()
    assert capped(torch, "cuda", cap=str(200 * GIB)) == 80 * GIB
    assert torch.fractions == [(1.0, 0)]


def test_without_a_cap_nothing_is_limited_and_torch_not_touched() -> None:
    assert set_vram_fraction(modules={}, environment={}) is None


def test_what_the_cap_does_not_cover_is_said(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "supervisor.guard")
    capped(CappedTorch(), cap=str(6 * GIB))
    assert [record.getMessage() for record in caplog.records] == [
        (
            "VRAM capped: torch's allocator may have 5632 MiB of cuda:0, the cap is 6144 MiB; "
            "the CUDA context, libraries, other allocators and other processes are not limited by it"
        )
    ]


def test_what_cannot_be_capped_is_told() -> None:
    with pytest.raises(RuntimeError, match="cannot cap the memory of cuda:0: torch is not loaded"):
        set_vram_fraction(8 * GIB, modules={})
    without = CappedTorch()
    without.cuda.is_available = lambda: False
    with pytest.raises(RuntimeError, match="cannot cap the memory of cuda:0: torch sees no CUDA device"):
        capped(without, cap=str(8 * GIB))
    with pytest.raises(
        ValueError, match="cannot cap the memory of cuda:0: of 536870912 B, 536870912 B are not for torch"
    ):
        capped(CappedTorch(), cap_bytes=512 * MIB)
    with pytest.raises(ValueError, match=f"cannot use {CAP}=6GiB: it is no number of bytes above 0"):
        capped(CappedTorch(), cap="6GiB")


REAL = """
import sys, torch
if not torch.cuda.is_available():
    sys.exit(3)
from supervisor.guard import oom, vram
allowed = vram.set_vram_fraction(1 << 30)
assert allowed == 512 << 20, allowed
kept = torch.empty(256 << 20, dtype=torch.uint8, device="cuda:0")
try:
    torch.empty(300 << 20, dtype=torch.uint8, device="cuda:0")
except torch.OutOfMemoryError as error:
    print(oom.classify(error))
"""


@pytest.mark.gpu
def test_a_real_gpu_refuses_what_is_above_the_cap(
    torch_python: str, require: Callable[[object, str], None]
) -> None:
    done = subprocess.run(
        [torch_python, "-c", REAL],
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    require(done.returncode != NO_CUDA, "this build of torch has no CUDA")
    assert (done.returncode, done.stdout) == (0, "device-oom\n"), done.stderr
