"""The daemon takes a server that runs out of a GPU's memory down rungs of its own making, to the CPU.

The server is a stand-in that says what llama.cpp says, on a stand-in for a GPU; the model is a real file.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.fakenvml.state import FakeDriver
from support.llama.servers import make_model
from support.watching import WatchedDaemon

# Whatever its settings, a layer on a GPU is too much for it.
HUNGRY = f"""#!{sys.executable} -S
import os, signal, sys
print("visible", repr(os.environ.get("CUDA_VISIBLE_DEVICES")), *sys.argv[1:], flush=True)
if sys.argv[sys.argv.index("-ngl") + 1] != "0":
    print("ggml_backend_cuda_buffer_type_alloc_buffer: cudaMalloc failed: out of memory", flush=True)
    sys.exit(1)
signal.pause()
"""

RAN_OUT = (
    " (rung 1, made: reckoned 1.59GiB -> 1.07GiB of what ran out)",
    " (rung 2, made: reckoned 1.07GiB -> 813.59MiB of what ran out)",
)


@pytest.fixture
def daemon(tmp_path: Path, driver: FakeDriver) -> Iterator[WatchedDaemon]:
    made = WatchedDaemon(tmp_path, driver.environment)
    yield made
    made.close()


def test_two_smaller_rungs_and_then_the_cpu_without_a_gpu_in_sight(
    daemon: WatchedDaemon, tmp_path: Path
) -> None:
    model = make_model(
        tmp_path / "m.gguf", "--layers", "8", "--embd", "512", "--heads", "8", "--ctx", "65536"
    )
    server = tmp_path / "llama-server"  # it is known by its name
    server.write_text(HUNGRY)
    server.chmod(0o755)
    command = [str(server), "-m", str(model), "-ngl", "99", "-c", "65536", "-np", "1"]
    restart = "restart: {first: 100ms, max: 500ms, starts: 2, within: 1h}, ready: {after: 500ms}"
    daemon.begin(f"  chat: {{command: {json.dumps(command)}, gpus: [0], {restart}}}\n")
    chat = daemon.until_phase("chat", "ready")
    assert (chat["rung"], chat["oom_events"], chat["last_restart"]["cause"]) == (3, 3, "vram-oom")
    told = [line["reason"] for line in daemon.told("worker exited", "chat")]
    assert [reason.partition("; next ")[2] for reason in told] == [
        "with ubatch 512 -> 128, cache_type_k f16 -> q8_0, cache_type_v f16 -> q8_0" + RAN_OUT[0],
        "with ctx 65536 -> 32768" + RAN_OUT[1],
        "on the CPU: n_gpu_layers 9 -> 0, no GPU visible (rung 3, made)",
    ]
    first, quantized = ["-np", "1"], ["--cache-type-k", "q8_0", "--cache-type-v", "q8_0"]
    more = ["-np", "1", "--ubatch-size", "128", *quantized]
    lines = daemon.run("logs", "chat").stdout.splitlines()
    assert [line.split()[1:2] + line.split()[4:] for line in lines if line.startswith("visible")] == [
        ["'GPU-0'", "-ngl", "99", "-c", "65536", *first],
        ["'GPU-0'", "-ngl", "99", "-c", "65536", *more],
        ["'GPU-0'", "-ngl", "99", "-c", "32768", *more],
        ["''", "-ngl", "0", "-c", "32768", *more],
    ]
