#!/usr/bin/env python3
"""Leak memory on purpose, and end at SIGTERM, or do not.

    leaky.py [--mib-per-second 4] [--stubborn]

Says READY=1 to its NOTIFY_SOCKET first, as any worker may. With --stubborn it ignores SIGTERM,
as a worker does that is stuck in a driver call.
"""

import argparse
import os
import signal
import socket
import sys
import time

MIB = 1 << 20


def tell_ready() -> None:
    """Send READY=1 to the socket that NOTIFY_SOCKET names, if any."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.connect("\0" + address[1:] if address.startswith("@") else address)
        notify.send(b"READY=1")


def say(text: str) -> None:
    """Write one line of log."""
    sys.stdout.write(f"leaky: {text}\n")
    sys.stdout.flush()


def leave(_number: int, _frame: object) -> None:
    """End as a worker should."""
    say("SIGTERM, leaving")
    sys.exit(0)


def main() -> None:
    """Leak until somebody ends it."""
    parser = argparse.ArgumentParser(description="Leak memory on purpose.")
    parser.add_argument("--mib-per-second", type=int, default=4)
    parser.add_argument("--stubborn", action="store_true", help="ignore SIGTERM")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.SIG_IGN if given.stubborn else leave)
    tell_ready()
    leaked: list[bytes] = []
    while True:
        time.sleep(1)
        leaked += [b"\1" * MIB for _ in range(given.mib_per_second)]  # written to, so that it is really there
        say(f"{len(leaked)} MiB leaked")


if __name__ == "__main__":
    main()
