"""A real web face in front of a written story, and in front of a real daemon."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.control_desk import StoryDesk, everything, serving, worker
from support.daemon import Daemon
from support.web_face import WebFace, web_face


@pytest.fixture
def control(tmp_path: Path) -> Path:
    return tmp_path / "control"


@pytest.fixture
def desk(control: Path) -> Iterator[StoryDesk]:
    with serving(control, StoryDesk(everything(worker("chat"), worker("embed")))) as desk:
        yield desk


@pytest.fixture
def face(tmp_path: Path, control: Path, desk: StoryDesk) -> Iterator[WebFace]:
    """Return a web face that shows the story of `desk`."""
    assert desk is not None
    with web_face(tmp_path, control) as face:
        yield face


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """Return a daemon that is surely ended, with its workers."""
    made = Daemon(tmp_path)
    yield made
    if made.process is not None and made.process.poll() is not None:
        made.start()  # it was killed: the next one ends what it has left
    made.close()
