"""Spares the daemon what Python's libraries load and it never uses."""

import contextlib
import importlib
import sys
from typing import Final

UNUSED: Final = ("ssl", "_hashlib")  # both load OpenSSL: 4.5 MiB of the daemon's 33
# They use it where it is there, and do without.
EAGER: Final = ("asyncio", "hashlib", "hmac", "random", "secrets")


def import_without_openssl() -> None:
    """Import asyncio and hashlib as on a Python without OpenSSL; who imports `ssl` after that gets it.

    asyncio is then without TLS of its own (`supervisor.sense.tls` is ours), and hashlib has Python's own
    functions. Without effect on what is imported already.
    """
    absent = [name for name in UNUSED if name not in sys.modules]
    sys.modules.update(dict.fromkeys(absent))  # type: ignore[arg-type]  # None: an import of it fails
    try:
        for name in EAGER:
            with contextlib.suppress(ImportError):  # a Python that is built to need it: then with it, later
                importlib.import_module(name)
    finally:
        for name in absent:
            del sys.modules[name]
