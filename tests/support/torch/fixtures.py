"""Fixture for tests on a real torch server: `torch_worker`."""

from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def torch_worker(torch_python: str) -> list[str]:
    """Return the command of tests/support/torch/worker.py; a test adds the port and flags."""
    return [torch_python, str(HERE / "worker.py")]
