"""Looks at a real llama.cpp server: what it tells, and what looking at it leaves alone."""

import asyncio
import http.client
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from supervisor.model.news import Purpose
from supervisor.model.plan import HttpTarget
from supervisor.model.reading import Missing
from supervisor.model.serving import Serving
from supervisor.sense.cpu_time import cpu_time_s
from supervisor.sense.llama_probe import LlamaProbe, Seen
from supervisor.sense.probes import probe
from support.llama.servers import LlamaServer, make_model
from support.probing import free_port
from support.procs import eventually, kill

pytestmark = pytest.mark.slow


def ask(port: int, purpose: Purpose = "drain", timeout_s: float = 5.0) -> Seen:
    return asyncio.run(LlamaProbe().ask(f"http://127.0.0.1:{port}", timeout_s, purpose))


@contextmanager
def running(command: list[str], port: int) -> Generator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        health = HttpTarget(f"http://127.0.0.1:{port}/health")
        assert eventually(lambda: asyncio.run(probe(health, 5.0)) == (True, "200"))
        yield process
    finally:
        kill(process.pid)
        process.wait()


@contextmanager
def serving(server: LlamaServer, model: Path, *flags: str, context: int = 512) -> Generator[int]:
    port = free_port()
    with running(server.serving(model, port, "--ctx-size", str(context), *flags), port):
        yield port


def request(port: int, body: object) -> http.client.HTTPConnection:
    """Ask for a completion, and do not wait for it."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=50)
    connection.request("POST", "/completion", json.dumps(body), {"Content-Type": "application/json"})
    return connection


def generate(port: int, enough: threading.Event) -> None:
    """Have it write text until there is enough."""
    while not enough.is_set():
        connection = request(port, {"prompt": "a", "n_predict": 450, "ignore_eos": True})
        connection.getresponse().read()
        connection.close()


@pytest.mark.parametrize("flags", [(), ("--no-slots", "--metrics")])
def test_a_real_server_is_busy_while_it_writes_and_idle_afterwards(
    llama_binary: LlamaServer, tiny_model: Path, flags: tuple[str, ...]
) -> None:
    with serving(llama_binary, tiny_model, *flags) as port:
        assert ask(port) == Seen(good=True, detail="idle", serving=Serving("up", 0, ()))
        enough = threading.Event()
        writer = threading.Thread(target=generate, args=(port, enough))
        writer.start()
        try:
            assert eventually(lambda: ask(port).detail == "1 requests under way")
            assert ask(port, "health").good
        finally:
            enough.set()
            writer.join()
        assert eventually(lambda: ask(port).detail == "idle")


def test_a_real_server_that_tells_nothing_of_its_requests_is_never_taken_for_idle(
    llama_binary: LlamaServer, tiny_model: Path
) -> None:
    with serving(llama_binary, tiny_model, "--no-slots") as port:
        why = "it runs with --no-slots and without --metrics"
        seen = ask(port)
        assert (seen.good, seen.detail) == (False, f"cannot tell whether it is idle: {why}")
        assert ask(port, "health").serving == Serving("up", Missing(why), Missing(why))
    with serving(llama_binary, tiny_model, "--api-key", "k") as port:
        assert not ask(port).good
        assert ask(port, "health").detail == "cannot tell whether it is idle: its slots need an API key"
        assert ask(port, "ready").good


def test_a_long_prompt_of_a_real_server_is_seen_to_move_or_to_compute(
    llama_binary: LlamaServer, tmp_path: Path
) -> None:
    model = make_model(
        tmp_path / "wide.gguf", "--layers", "8", "--embd", "512", "--ff", "2048", "--ctx", "8192"
    )
    port = free_port()
    command = llama_binary.serving(model, port, "--ctx-size", "8192")
    with running(command, port) as server:
        connection = request(port, {"prompt": "ab " * 1000, "n_predict": 1, "ignore_eos": True})
        llama, proc = LlamaProbe(), Path("/proc")

        async def watch() -> list[tuple[int, float]]:
            """Return what it has read of the prompt, and its CPU time, until that stood still for a look."""
            looks: list[tuple[int, float]] = []
            while len(looks) < 2 or looks[-1][0] != looks[-2][0]:
                seen = await llama.ask(f"http://127.0.0.1:{port}", 5.0, "health")
                used_s = cpu_time_s(proc, (server.pid,))
                assert seen.good
                assert seen.serving is not None
                assert isinstance(used_s, float)
                assert not looks or seen.serving.busy != 0, "it reads a batch faster than one can look"
                if isinstance(seen.serving.progress, tuple) and seen.serving.progress:
                    looks.append((seen.serving.progress[0].prompt_tokens, used_s))
            return looks

        looks = asyncio.run(watch())
        connection.close()
    assert looks == sorted(looks)
    used_s = looks[-1][1] - looks[-2][1]
    assert used_s > 0.05 * 1.1  # it computed meanwhile, far above what counts as standing still


def test_a_real_server_that_is_stopped_in_its_tracks_is_gone(
    llama_binary: LlamaServer, tiny_model: Path
) -> None:
    port = free_port()
    with running(llama_binary.serving(tiny_model, port, "--context-shift"), port) as server:
        connection = request(port, {"prompt": "a", "n_predict": 10_000_000, "ignore_eos": True})
        assert eventually(lambda: ask(port).detail == "1 requests under way")
        os.kill(server.pid, signal.SIGSTOP)
        assert ask(port, "health", 0.5) == Seen(good=False, detail="no answer within 0.5s")
        os.kill(server.pid, signal.SIGCONT)
        connection.close()


def test_a_client_that_goes_is_noticed_by_a_real_server_that_is_looked_at_all_the_time(
    llama_binary: LlamaServer, tiny_model: Path
) -> None:
    with serving(llama_binary, tiny_model, "--context-shift") as port:
        connection = request(port, {"prompt": "a", "n_predict": 10_000_000, "ignore_eos": True})
        llama = LlamaProbe()

        async def watch() -> bool:
            url = f"http://127.0.0.1:{port}"
            while (await llama.ask(url, 5.0, "health")).detail != "1 requests under way":
                pass
            connection.close()
            give_up_s = time.monotonic() + 30.0
            while time.monotonic() < give_up_s:
                if (await llama.ask(url, 5.0, "drain")).good:
                    return True
            return False

        assert asyncio.run(watch())


def test_a_real_router_is_not_ready_and_loads_nothing_because_it_is_asked(
    llama_binary: LlamaServer, tiny_model: Path, tmp_path: Path
) -> None:
    (tmp_path / "a.gguf").write_bytes(tiny_model.read_bytes())
    port = free_port()
    common = [*llama_binary.command, "--host", "127.0.0.1", "--port", str(port), "--threads", "1"]
    with running(common, port):
        assert ask(port, "ready").detail.startswith("it routes between models and serves none")
    with running([*common, "--cache-ram", "0", "--models-dir", str(tmp_path)], port):
        assert not ask(port, "ready").good
        assert ask(port) == Seen(good=True, detail="idle", serving=Serving("up", 0, ()))
        assert statuses(port) == ["unloaded"]
        connection = request(port, {"model": "a", "prompt": "a", "n_predict": 1})
        assert connection.getresponse().status == 200
        connection.close()
        assert eventually(lambda: ask(port, "health").detail == "idle")
        assert statuses(port) == ["loaded"]


def statuses(port: int) -> list[str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/models")
    models = json.loads(connection.getresponse().read())["data"]
    connection.close()
    return [one["status"]["value"] for one in models]


def test_a_real_server_that_sleeps_is_left_asleep(llama_binary: LlamaServer, tiny_model: Path) -> None:
    with serving(llama_binary, tiny_model, "--sleep-idle-seconds", "1") as port:
        url = f"http://127.0.0.1:{port}/props"

        def asleep() -> bool:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            connection.request("GET", "/props")
            told = json.loads(connection.getresponse().read())
            connection.close()
            return bool(told["is_sleeping"])

        assert eventually(asleep), url
        for _ in range(3):
            assert ask(port) == Seen(good=True, detail="asleep", serving=Serving("asleep", 0, ()))
        assert asleep()
