from collections.abc import Iterator
from pathlib import Path

import pytest

from support.daemon import Daemon
from support.gpu_fixtures import driver, fakenvml

__all__ = ["driver", "fakenvml"]


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """A daemon that is surely ended, with its workers."""
    made = Daemon(tmp_path)
    yield made
    if made.process is not None and made.process.poll() is not None and made.config.exists():
        made.start()  # it was killed: the next one ends what it has left
    made.close()
