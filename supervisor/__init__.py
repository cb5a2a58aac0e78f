"""A watchdog daemon that keeps inference workers inside their memory, their GPU and their age."""

from typing import Final

__version__: Final = "0.1.0"
