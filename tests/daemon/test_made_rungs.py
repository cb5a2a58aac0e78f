"""A real llama-server without a written ladder dies of want of memory, and serves on a rung made for it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from support.daemon import Daemon
from support.llama.printed import free_port
from support.llama.servers import LlamaServer, make_model

pytestmark = pytest.mark.slow

HEAD = """
poll_interval: 200ms
launcher: direct
host: {warn_available: 64M, critical_available: 32M}
defaults:
  restart: {first: 100ms, max: 500ms, starts: 4, within: 1h}
workers:
"""
# The cache takes 2 GiB in f16, 1.06 in q8_0 and 0.53 with half the context; the server maps 0.8 beside it.
LIMIT = 3 << 29
FLAGS = ("-c", "131072", "-np", "1", "-ngl", "0")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sizes = ("--layers", "8", "--embd", "512", "--heads", "8", "--ctx", "131072")
    return make_model(tmp_path_factory.mktemp("model") / "m.gguf", *sizes)


def given(daemon: Daemon) -> list[str]:
    """Return what the process has on its command line, after the model."""
    found: list[str] = []

    def is_server() -> bool:  # between fork and exec its command line is still the daemon's
        words = Path(f"/proc/{daemon.worker('chat')['pid']}/cmdline").read_text().split("\0")[:-1]
        found[:] = words[words.index("--cache-ram") :] if "--cache-ram" in words else []
        return bool(found)

    daemon.until(is_server, "the server is executed")
    return found


def test_a_server_that_was_refused_memory_comes_up_on_a_made_rung_and_stays_there(
    daemon: Daemon, llama_binary: LlamaServer, model: Path, require: Callable[[object, str], None]
) -> None:
    limited = shutil.which("prlimit")
    require(limited, "prlimit (util-linux)")
    command = [str(limited), f"--as={LIMIT}", *llama_binary.serving(model, free_port(), *FLAGS)]
    worker = {"command": command, "preset": "llama-server", "gpus": "none"}
    daemon.configure(f"{HEAD}  chat: {json.dumps(worker)}\n")
    daemon.start()
    served = daemon.until_phase("chat", "ready")
    assert (served["rung"], served["oom_events"], served["restarts"]) == (2, 2, 2)
    settings = {"ubatch": 128, "cache_type_k": "q8_0", "cache_type_v": "q8_0", "ctx": 65536}
    assert served["settings"] == settings
    quantized = ["--cache-type-k", "q8_0", "--cache-type-v", "q8_0"]
    words = ["--cache-ram", "0", "-c", "65536", *FLAGS[2:], "--ubatch-size", "128", *quantized]
    assert given(daemon) == words
    ran_out = (
        " (rung 1, made: reckoned 2.2GiB -> 1.19GiB of what ran out)",
        " (rung 2, made: reckoned 1.19GiB -> 626.3MiB of what ran out)",
    )
    told = [one["reason"] for one in daemon.events() if one["event"] == "worker exited"]
    assert [reason.partition("; next with ")[2] for reason in told] == [
        "ubatch 512 -> 256, cache_type_k f16 -> q8_0, cache_type_v f16 -> q8_0" + ran_out[0],
        "ubatch 256 -> 128, ctx 131072 -> 65536" + ran_out[1],
    ]
    assert "cache_type_k f16 -> q8_0" in daemon.run("history", "chat").stdout
    announced = [one["reason"] for one in daemon.events() if one["event"] == "context made smaller"]
    assert announced == [
        "requests of more than 65536 tokens are refused from now on; 131072 were taken before"
    ]
    assert 0.8 < served["memory_bytes"] / served["needs_memory_bytes"] <= 1.0

    daemon.kill()
    daemon.start()
    again = daemon.until_phase("chat", "ready")
    assert (again["pid"], again["rung"], again["settings"]) == (served["pid"], 2, settings)
    assert daemon.run("restart", "chat", "--now").returncode == 0
    daemon.until_worker("chat", lambda one: one["pid"] not in {None, served["pid"]}, "it is new")
    assert given(daemon) == words
    daemon.until_phase("chat", "ready")
    assert daemon.run("reset", "chat").returncode == 0
    assert daemon.worker("chat")["rung"] == 0
