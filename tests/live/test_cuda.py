"""A real GPU with torch on it: `scripts/test -m gpu -s tests/live`; docs/measured.md says what it prints.

$CUDA_PYTHON names an interpreter whose torch has CUDA, where the one of the suite has none.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Final

import pytest

from supervisor.model.reading import Missing
from supervisor.model.snapshot import GpuSample
from support.daemon import Daemon
from support.gpu_fixtures import Watched, watch

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(300)]

HOLDER: Final = Path(__file__).with_name("holder.py")
MIB: Final = 1 << 20
HAS_CUDA: Final = "import sys, torch; sys.exit(not torch.cuda.is_available())"


@pytest.fixture(scope="module")
def cuda_python(require: Callable[[object, str], None]) -> str:
    for python in filter(None, (os.environ.get("CUDA_PYTHON"), sys.executable, "python3")):
        done = subprocess.run([python, "-c", HAS_CUDA], capture_output=True, timeout=120, check=False)
        if done.returncode == 0:
            return python
    require(None, "no Python whose torch has CUDA (CUDA_PYTHON names one)")
    raise AssertionError


class Holder:
    """A process that holds memory of the GPU, and what torch told of the device then."""

    def __init__(self, python: str, mib: int) -> None:
        self.process = subprocess.Popen([python, str(HOLDER), str(mib)], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        figures = json.loads(self.process.stdout.readline())
        self.held_bytes, self.free_bytes, self.total_bytes = (
            figures[key] for key in ("held", "free", "total")
        )


@contextlib.contextmanager
def holding(python: str, mib: int) -> Generator[Holder]:
    holder = Holder(python, mib)
    try:
        yield holder
    finally:
        holder.process.kill()
        holder.process.wait()


def used_bytes(gpu: GpuSample) -> int:
    assert not isinstance(gpu.memory_used_bytes, Missing), gpu.memory_used_bytes
    return gpu.memory_used_bytes


def test_nvml_and_torch_agree_on_how_full_the_gpu_is(cuda_python: str) -> None:
    async def scene(watched: Watched) -> None:
        await watched.until(watched.known, within_s=50.0)
        await watched.fresh()
        before_bytes = used_bytes(watched.gpu())
        with holding(cuda_python, 2048) as holder:
            await watched.fresh()
            gpu = watched.gpu()
            assert not isinstance(gpu.processes, Missing)
            own = next((one for one in gpu.processes if one.pid == holder.process.pid), None)
            torch_bytes = holder.total_bytes - holder.free_bytes
            own_bytes = None if own is None else own.memory_bytes
            print(  # noqa: T201 - a figure for docs/measured.md
                f"\nheld {holder.held_bytes / MIB:.0f} MiB; used by NVML {used_bytes(gpu) / MIB:.0f} MiB,"
                f" by torch {torch_bytes / MIB:.0f} MiB; the process by NVML {own_bytes} B"
            )
            grown_bytes = used_bytes(gpu) - before_bytes
            assert grown_bytes >= 2048 * MIB  # what it holds, and its context
            assert abs(used_bytes(gpu) - torch_bytes) < 1024 * MIB
            if isinstance(own_bytes, int):
                assert 2048 * MIB <= own_bytes <= grown_bytes + 64 * MIB

    watch({}, scene, deadline_s=10.0)


def test_gpu_memory_is_back_soon_after_a_kill(cuda_python: str) -> None:
    async def scene(watched: Watched) -> None:
        await watched.until(watched.known, within_s=50.0)
        for mib in (512, 4096, 16384):
            await watched.fresh()
            before_bytes = used_bytes(watched.gpu())
            with holding(cuda_python, mib) as holder:
                await watched.fresh()
                assert used_bytes(watched.gpu()) >= before_bytes + mib * MIB
                killed_s = time.monotonic()
                holder.process.send_signal(signal.SIGKILL)
                holder.process.wait()
                gone_s = time.monotonic() - killed_s
                await watched.until(lambda: used_bytes(watched.gpu()) <= before_bytes + 16 * MIB, 60.0)  # noqa: B023
                back_s = time.monotonic() - killed_s
            print(f"\n{mib} MiB: reaped after {gone_s:.3f} s, memory back after {back_s:.3f} s")  # noqa: T201

    watch({}, scene, deadline_s=10.0)


def test_a_torch_worker_above_its_vram_cap_is_restarted_once_it_is_seen(
    cuda_python: str, tmp_path: Path
) -> None:
    daemon = Daemon(tmp_path)
    command = json.dumps([cuda_python, str(HOLDER), "3072", "--step", "256"])
    daemon.configure(
        f"""
poll_interval: 1s
workers:
  leaky:
    command: {command}
    gpus: [0]
    vram: {{cap: 2G}}
    breach: {{samples: 2, of: 3, warm_up: 0s}}
    stop_timeout: 5s
"""
    )
    daemon.start()
    try:
        seen = daemon.until_worker("leaky", lambda one: one["restarts"] >= 1, "it was restarted", 120.0)
        assert seen["last_restart"]["cause"] == "vram-cap"
        assert seen["vram_enforcement"] in {"poll", "device-only"}
        (stopping,) = [one for one in daemon.events() if one["event"] == "worker stopping"][:1]
        print(f"\n{stopping['reason']}")  # noqa: T201
        daemon.until_phase("leaky", "ready", within_s=60.0)
    finally:
        daemon.close()
