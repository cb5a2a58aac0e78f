"""A daemon's control socket with a story behind it, for the real command line."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.control_desk import StoryDesk, everything, serving, worker
from support.gpu_fixtures import driver, fakenvml

__all__ = ["control", "desk", "driver", "fakenvml"]


@pytest.fixture
def control(tmp_path: Path) -> Path:
    return tmp_path / "control"


@pytest.fixture
def desk(control: Path) -> Iterator[StoryDesk]:
    with serving(control, StoryDesk(everything(worker("chat"), worker("embed")))) as desk:
        yield desk
