#!/usr/bin/env python3
"""Hold memory of the first CUDA device with torch, and tell how full it says the device is.

    holder.py MIB [--step MIB --every SECONDS]

Takes MIB at once, or in steps. After each it prints one line of JSON: bytes that torch holds, and free and
total of torch.cuda.mem_get_info. Then it waits to be ended.
"""

import argparse
import importlib
import json
import sys
import time
from typing import Any

MIB = 1 << 20


def main() -> None:
    """Take the memory and wait."""
    parser = argparse.ArgumentParser()
    parser.add_argument("mib", type=int)
    parser.add_argument("--step", type=int, default=0)
    parser.add_argument("--every", type=float, default=0.5)
    given = parser.parse_args()
    torch: Any = importlib.import_module("torch")  # by name, for the type checkers
    held: list[Any] = []
    while sum(len(one) for one in held) < given.mib * MIB:
        held.append(torch.zeros((given.step or given.mib) * MIB, dtype=torch.uint8, device="cuda:0"))
        torch.cuda.synchronize()
        free, total = torch.cuda.mem_get_info(0)
        figures = {"held": torch.cuda.memory_reserved(0), "free": free, "total": total}
        sys.stdout.write(f"{json.dumps(figures)}\n")
        sys.stdout.flush()
        time.sleep(given.every)
    while True:
        time.sleep(60)


if __name__ == "__main__":
    main()
