"""A wall clock that can be stepped under a running process, and under no other."""

import mmap
import subprocess
from pathlib import Path
from typing import Final

SOURCE: Final = Path(__file__).parent / "clock.c"


class WallClock:
    """The clock of every process that is started with `environment`."""

    def __init__(self, folder: Path) -> None:
        """Build the library that is preloaded; the clock is right at first."""
        library, state = folder / "clock.so", folder / "clock-step"
        command = ["cc", "-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
        subprocess.run([*command, "-o", library, SOURCE], check=True)
        state.write_bytes(bytes(8))
        with state.open("r+b") as file:
            self._step = memoryview(mmap.mmap(file.fileno(), 8)).cast("q")
        self.environment = {"LD_PRELOAD": str(library), "CLOCK_STEP": str(state)}

    def set_off_by(self, seconds: int) -> None:
        """Have the clock differ from the machine's by so much, from now on."""
        self._step[0] = seconds
