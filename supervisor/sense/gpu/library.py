"""Names the file that libnvidia-ml.so.1 is: `python -m supervisor.sense.gpu.library`. Opens no driver.

The loader decides which file it is, and its name holds the version of the driver's library, which cannot
be asked for once it does not fit the kernel module. A process of its own, for a library runs code at load.
"""

import ctypes
import os
import sys
from pathlib import Path
from typing import Final

SONAME: Final = "libnvidia-ml.so.1"
STEM: Final = "libnvidia-ml.so"


def main() -> int:
    """Print the path, links followed; 1 where there is no such library."""
    try:
        ctypes.CDLL(SONAME)
    except OSError:
        return 1
    for line in Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace").splitlines():
        path = line.partition("/")[2]
        if STEM in path:
            os.write(1, f"/{path}\n".encode())
            return 0
    return 1


if __name__ == "__main__":
    sys.exit(main())
