"""Fixtures: the stand-in driver, built once a session, and a sensor that reads it.

A conftest.py that wants them imports them by name.
"""

import asyncio
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from supervisor.model.snapshot import GpuSample
from supervisor.sense.gpu.patience import Patience
from supervisor.sense.gpu.sensor import GpuSensor
from supervisor.sense.procfs import read_stat
from support.fakenvml.state import FakeDriver

SOURCE: Final = Path(__file__).parent / "fakenvml" / "fakenvml.c"
SONAME: Final = "libnvidia-ml.so.1"
PROC: Final = Path("/proc")
OTHERS: Final[set[int]] = set()  # children that are not the sensor's

# As the real one, in small: what takes a minute in life takes a tenth of a second here.
QUICK: Final = Patience(start_s=5.0, backoff_s=(0.02, 0.1), absent_s=(0.1,), lost_s=0.2, leave_s=2.0)


def build_library(folder: Path, *flags: str) -> Path:
    """Build the stand-in into `folder`, with the soname of the real one."""
    library = folder / SONAME
    command = ["cc", "-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", *flags]
    subprocess.run([*command, f"-Wl,-soname,{SONAME}", "-o", library, SOURCE], check=True)
    return library


@pytest.fixture(scope="session")
def fakenvml(tmp_path_factory: pytest.TempPathFactory, require: Callable[[object, str], None]) -> Path:
    require(shutil.which("cc"), "no cc to build the stand-in for the NVIDIA driver")
    return build_library(tmp_path_factory.mktemp("fakenvml"))


@pytest.fixture
def driver(fakenvml: Path, tmp_path: Path) -> FakeDriver:
    return FakeDriver(fakenvml, tmp_path / "nvml-state")


class Watched:
    """A sensor that is asked again and again, as the daemon does, until something is true of it."""

    def __init__(self, sensor: GpuSensor, told: asyncio.Event) -> None:
        self.sensor = sensor
        self._told = told

    def gpu(self, index: int = 0) -> GpuSample:
        return next(gpu for gpu in self.sensor.gpus() if gpu.index == index)

    async def until(self, true: Callable[[], bool], within_s: float = 15.0) -> None:
        deadline_s = time.monotonic() + within_s
        while not true():
            if time.monotonic() > deadline_s:
                pytest.fail(f"still not so: {self.sensor.gpus()}, {self.sensor.missing()}")
            await self.again()

    async def again(self) -> None:
        """Ask once, and give the answer a moment."""
        self._told.clear()
        self.sensor.request()
        try:
            await asyncio.wait_for(self._told.wait(), 0.02)
        except TimeoutError:
            return

    async def fresh(self) -> None:
        """Wait until every GPU was read anew."""
        since_s = time.monotonic()
        await self.until(lambda: all(gpu.read_s > since_s for gpu in self.sensor.gpus()) and self.known())

    def known(self) -> bool:
        return bool(self.sensor.gpus())


Scenario = Callable[[Watched], Coroutine[Any, Any, None]]


def watch(
    environment: Mapping[str, str],
    scenario: Scenario,
    *,
    python: str = sys.executable,
    deadline_s: float = 0.3,
    patience: Patience = QUICK,
) -> None:
    """Run a scenario with a sensor in a loop of its own; of the helper nothing may be left."""

    async def run() -> None:
        told = asyncio.Event()
        sensor = GpuSensor(
            tell=told.set,
            python=python,
            deadline_s=deadline_s,
            environment={**os.environ, **environment},
            patience=patience,
        )
        await sensor.start()
        try:
            await scenario(Watched(sensor, told))
        finally:
            await sensor.close()
        assert children() == set()

    OTHERS.clear()
    OTHERS.update(children())
    asyncio.run(run())


def children() -> set[int]:
    """Return the children of this process that came after `watch` began, zombies too.

    Those of another session, and those that were there before, are orphans of what other tests have
    started: they came to us because the launcher, tested in this process, made it their subreaper.
    """
    tasks = Path("/proc/self/task").iterdir()
    pids = {int(pid) for task in tasks for pid in (task / "children").read_text().split()}
    stats = [stat for pid in pids - OTHERS if (stat := read_stat(PROC, pid)) is not None]
    return {stat.pid for stat in stats if stat.session == os.getsid(0)}
