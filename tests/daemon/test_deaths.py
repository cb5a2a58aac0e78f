"""The daemon on workers that say why they die: held at once, down the ladder, and remembered."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from support.daemon import Daemon
from support.llama.servers import LlamaServer

HEAD = """
poll_interval: 200ms
launcher: direct
host: {warn_available: 64M, critical_available: 32M}
defaults:
  restart: {first: 100ms, max: 500ms, starts: 4, within: 1h}
workers:
"""
# Needs more than there is until it has a context of 1024: then it serves.
HUNGRY = """
import os, signal, sys
layers, ctx = int(sys.argv[1]), int(sys.argv[2])
print(f"llama_context: n_ctx = {ctx}, layers {layers}", flush=True)
if ctx > 1024:
    print("ggml_backend_cuda_buffer_type_alloc_buffer: cudaMalloc failed: out of memory", flush=True)
    print("llama_server: exiting due to model loading error", flush=True)
    sys.exit(1)
signal.pause()
"""
LADDER = "[{layers: 15}, {layers: 8, ctx: 2048}, {ctx: 1024}]"


def started(daemon: Daemon, command: Sequence[str], more: str) -> None:
    daemon.configure(f"{HEAD}  chat:\n    command: {json.dumps(list(command))}\n{more}")
    daemon.start()


def test_a_worker_that_runs_out_of_memory_goes_down_its_ladder_and_stays_there(
    daemon: Daemon, tmp_path: Path
) -> None:
    program = tmp_path / "hungry.py"
    program.write_text(HUNGRY)
    more = f"    settings: {{layers: 25, ctx: 4096}}\n    ladder: {LADDER}\n    ready: {{after: 500ms}}\n"
    started(daemon, [sys.executable, "-S", str(program), "{layers}", "{ctx}"], more)
    served = daemon.until_phase("chat", "ready")
    assert (served["rung"], served["oom_events"], served["restarts"]) == (3, 3, 3)
    assert served["settings"] == {"layers": 8, "ctx": 1024}
    last = served["last_restart"]
    assert last["cause"] == "vram-oom"
    assert last["reason"].endswith(
        "starting: out of GPU memory: ggml_backend_cuda_buffer_type_alloc_buffer:"
        " cudaMalloc failed: out of memory; next with ctx 2048 -> 1024 (rung 3 of 3)"
    )
    told = [one["reason"] for one in daemon.events() if one["event"] == "worker exited"]
    assert [reason.partition("; next with ")[2] for reason in told] == [
        "layers 25 -> 15 (rung 1 of 3)",
        "layers 15 -> 8, ctx 4096 -> 2048 (rung 2 of 3)",
        "ctx 2048 -> 1024 (rung 3 of 3)",
    ]
    assert "next with layers 25 -> 15 (rung 1 of 3)" in daemon.run("history", "chat").stdout

    daemon.kill()
    daemon.start()
    again = daemon.until_phase("chat", "ready")
    assert (again["pid"], again["rung"], again["settings"]) == (served["pid"], 3, served["settings"])
    assert daemon.run("restart", "chat", "--now").returncode == 0
    fresh = daemon.until_worker("chat", lambda one: one["pid"] not in {None, served["pid"]}, "it is new")
    assert fresh["settings"] == {"layers": 8, "ctx": 1024}
    assert daemon.run("reset", "chat").returncode == 0
    assert daemon.worker("chat")["rung"] == 0


def test_a_bad_argument_is_held_at_once_with_the_line(daemon: Daemon) -> None:
    script = "import argparse; argparse.ArgumentParser(prog='serve').parse_args(['--no-such-flag'])"
    started(daemon, [sys.executable, "-S", "-c", script], "")
    held = daemon.until_phase("chat", "held")
    assert held["restarts"] == 0
    assert (
        "it does not take its arguments: serve: error: unrecognized arguments: --no-such-flag;"
        in held["held"]
    )
    assert "`gpu-supervisor reset chat` tries again" in held["held"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--no-such-flag"], "it does not take its arguments: error: invalid argument: --no-such-flag;"),
        (["--model", "/no/such.gguf"], "its model cannot be loaded: "),
    ],
)
def test_a_llama_server_that_cannot_start_is_held_at_once_with_its_own_line(
    daemon: Daemon, llama_binary: LlamaServer, tiny_model: Path, more: list[str], words: str
) -> None:
    started(daemon, llama_binary.serving(tiny_model, 0, *more), "    ready: {after: 5s}\n")
    held = daemon.until_phase("chat", "held")
    assert held["restarts"] == 0
    assert words in held["held"]
