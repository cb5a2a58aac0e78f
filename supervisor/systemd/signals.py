"""The names of signals in unit files."""

import signal


def signal_name(number: int) -> str:
    """Return SIGTERM for 15; a real-time signal stays a number, which systemd takes as well."""
    named = (found.name for found in signal.Signals if found == number and not found.name.startswith("SIGRT"))
    return next(named, str(number))
