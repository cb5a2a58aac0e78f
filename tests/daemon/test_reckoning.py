"""The daemon reckons a real model and starts a real llama-server with what fits the stand-in for a GPU.

The server is a build for the CPU, which ignores its layers: what counts is the command that it was given.
"""

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.llama.fit import need
from supervisor.llama.model import read_model
from supervisor.llama.settings import Settings
from support.fakenvml.state import GIB, FakeDriver
from support.llama.servers import LlamaServer, make_model
from support.watching import WatchedDaemon

RESERVE = GIB


@pytest.fixture
def daemon(tmp_path: Path, driver: FakeDriver) -> Iterator[WatchedDaemon]:
    made = WatchedDaemon(tmp_path, driver.environment)
    yield made
    made.close()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    return make_model(folder / "m.gguf", "--layers", "6", "--embd", "256", "--heads", "8", "--ctx", "16384")


def free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


def vram(model: Path, layers: int, ctx: int) -> int:
    settings = Settings(n_gpu_layers=layers, ctx=ctx, slots=1, kv_unified=False, cache_ram_bytes=0)
    return need(read_model(model), settings).devices[0].total_bytes


def has_free(driver: FakeDriver, size: int) -> None:
    gpu = driver.gpu(0)
    gpu.used = gpu.total - size


def worker(command: list[str], more: str = "gpus: [0]") -> str:
    settings = "settings: {n_gpu_layers: auto, ctx: auto}"
    return f"  chat: {{command: {json.dumps(command)}, preset: llama-server, {settings}, {more}}}\n"


def given(daemon: WatchedDaemon) -> tuple[int, int]:
    """Return what the process has on its command line: layers and context."""
    words = Path(f"/proc/{daemon.pid('chat')}/cmdline").read_text().split("\0")
    return int(words[words.index("-ngl") + 1]), int(words[words.index("-c") + 1])


@pytest.mark.slow
def test_the_layers_and_the_context_are_those_that_fit_the_gpu(
    daemon: WatchedDaemon, driver: FakeDriver, llama_binary: LlamaServer, model: Path
) -> None:
    command = llama_binary.serving(model, free_port(), "-np", "1", "-ngl", "{n_gpu_layers}", "-c", "{ctx}")
    has_free(driver, RESERVE + vram(model, 5, 4096))
    daemon.begin(worker(command))
    chat = daemon.until_phase("chat", "ready")
    assert given(daemon) == (5, 4096)
    assert chat["settings"] == {"n_gpu_layers": 5, "ctx": 4096}
    assert chat["needs_vram_bytes"] == vram(model, 5, 4096)
    told = daemon.told("worker launched", "chat")[0]
    assert (told["n_gpu_layers"], told["ctx"]) == (5, 4096)

    has_free(driver, RESERVE + vram(model, 7, 16384))
    daemon.until(lambda: daemon.gpu(0)["memory_used_bytes"] == driver.gpu(0).used, "it is read")
    assert daemon.run("restart", "chat").returncode == 0
    daemon.until_phase("chat", "ready")
    assert given(daemon) == (7, 16384)

    assert daemon.run("stop", "chat").returncode == 0
    driver.gpu(0).used = driver.gpu(0).total
    daemon.until(lambda: daemon.gpu(0)["memory_used_bytes"] == driver.gpu(0).used, "it is read")
    assert daemon.run("start", "chat").returncode == 0
    daemon.until_phase("chat", "ready")
    assert given(daemon) == (0, 4096)


def test_a_server_with_written_settings_waits_until_they_fit(
    daemon: WatchedDaemon, driver: FakeDriver, model: Path, tmp_path: Path
) -> None:
    server = tmp_path / "llama-server"  # it is known by its name
    server.write_text("#!/bin/sh\nexec sleep 1000\n")
    server.chmod(0o755)
    words = ["-m", str(model), "-ngl", "99", "-c", "8192", "-np", "1"]
    wanted = vram(model, 7, 8192)
    has_free(driver, wanted - 1)
    daemon.begin(f"  chat: {{command: {json.dumps([str(server), *words])}, gpus: [0]}}\n")
    chat = daemon.until_worker("chat", lambda one: "free" in (one["waits_for"] or ""), "it waits for room")
    assert chat["waits_for"] == "576.43MiB on GPU GPU-0: 576.43MiB free"  # but for a byte
    assert chat["needs_vram_bytes"] == wanted
    has_free(driver, wanted)
    daemon.until_phase("chat", "ready")


def test_what_cannot_be_reckoned_starts_all_the_same_and_is_told(
    daemon: WatchedDaemon, tmp_path: Path
) -> None:
    server = tmp_path / "llama-server"
    server.write_text("#!/bin/sh\nexec sleep 1000\n")
    server.chmod(0o755)
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF")
    words = [str(server), "-m", str(broken), "-ngl", "9", "-c", "512"]
    daemon.begin(f"  chat: {{command: {json.dumps(words)}, gpus: [0]}}\n")
    chat = daemon.until_phase("chat", "ready")
    assert chat["missing"]["reckoned"].startswith(f"cannot read {broken}: ")
    assert [one["reason"] for one in daemon.told("model not reckoned", "chat")] == [
        chat["missing"]["reckoned"]
    ]
