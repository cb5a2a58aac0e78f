"""Spares the daemon what Python's libraries load and it never uses."""

import contextlib
import importlib
import sys
from typing import Final

UNUSED: Final = (
    *("ssl", "_hashlib"),  # both load OpenSSL: 4.5 MiB
    "rich",  # with pygments: structlog would print tracebacks by it, 3.4 MiB
    *("zlib", "bz2", "lzma"),  # shutil would pack archives by them, 0.5 MiB
    "typing_extensions",  # msgspec takes it before `typing`
)
# They use them where they are there, and do without.
EAGER: Final = ("asyncio", "hashlib", "hmac", "msgspec", "random", "secrets", "shutil", "structlog")


def import_lean() -> None:
    """Import libraries as where the unused ones are absent; who imports those after that gets them.

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
