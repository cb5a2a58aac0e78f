"""Fixtures for tests on a real llama.cpp server: `llama_server`, `llama_binary` and `tiny_model`."""

from collections.abc import Callable
from pathlib import Path

import pytest

from support.llama import servers
from support.llama.servers import LlamaServer

USERS = {"llama_server", "llama_binary"}
FAULTS = pytest.StashKey[list[str]]()


def pytest_collection_finish(session: pytest.Session) -> None:
    """Install before the first test, so that no test's time limit pays for it."""
    wanted = any(USERS & set(getattr(item, "fixturenames", ())) for item in session.items)
    if wanted and session.config.getoption("--install") and not session.config.option.collectonly:
        session.config.stash[FAULTS] = servers.install()


def _why(config: pytest.Config) -> str:
    faults = config.stash.get(FAULTS, ["not installed (pytest --install, or scripts/test, does it)"])
    return "; ".join(faults)


@pytest.fixture(scope="session")
def llama_server(pytestconfig: pytest.Config, require: Callable[[object, str], None]) -> LlamaServer:
    """Return any real llama.cpp server, the binary where there is one."""
    found = servers.installed()
    require(found, f"a llama.cpp server: {_why(pytestconfig)}")
    assert found is not None
    return found


@pytest.fixture(scope="session")
def llama_binary(pytestconfig: pytest.Config, require: Callable[[object, str], None]) -> LlamaServer:
    """Return a real `llama-server`, for what only the binary does: its signals, its flags, its exit codes."""
    found = servers.installed_binary()
    require(found, f"the binary llama-server: {_why(pytestconfig)}")
    assert found is not None
    return found


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a model of 300 kB with random weights: two layers, a context of 512."""
    return servers.make_model(tmp_path_factory.mktemp("model") / "tiny.gguf")
