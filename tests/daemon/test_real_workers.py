"""The daemon on real inference servers: llama.cpp and torch, on the CPU, with tiny models."""

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.daemon import Daemon, Document, alive
from support.llama.servers import LlamaServer, make_model

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

HEAD = """
poll_interval: 500ms
launcher: direct
host: {warn_available: 64M, critical_available: 32M}
defaults:
  gpus: none
  start_timeout: 60s
  breach: {samples: 2, of: 3, warm_up: 0s}
  restart: {first: 100ms, max: 500ms, starts: 4, within: 1h}
workers:
"""


def free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


def started(daemon: Daemon, command: Sequence[str], more: str) -> None:
    daemon.configure(f"{HEAD}  chat:\n    command: {json.dumps(list(command))}\n{more}")
    daemon.start()


def ready(daemon: Daemon, not_run: object = None) -> Document:
    return daemon.until_worker(
        "chat", lambda one: one["phase"] == "ready" and one["run"] != not_run, "chat is ready", 60.0
    )


@contextmanager
def asking(port: int, tokens: int, *, stream: bool = False) -> Generator[threading.Thread]:
    """Have a client wait for a long answer, until the server is gone."""

    def ask() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=90)
        body = {"prompt": "once upon a time", "n_predict": tokens, "ignore_eos": True, "stream": stream}
        try:
            connection.request("POST", "/completion", json.dumps(body))
            connection.getresponse().read()
        except (OSError, http.client.HTTPException):
            return  # the server went away: that is what is tested
        finally:
            connection.close()

    client = threading.Thread(target=ask)
    client.start()
    yield client
    client.join(60.0)
    assert not client.is_alive()


def busy(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/slots")
        return any(slot["is_processing"] for slot in json.loads(connection.getresponse().read()))
    finally:
        connection.close()


def test_a_llama_server_gets_ready_ages_and_comes_back(
    daemon: Daemon, llama_server: LlamaServer, tiny_model: Path
) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = llama_server.serving(tiny_model, port)
    started(daemon, command, f"    ready: {{http: '{url}/health'}}\n    max_age: 3s\n    stop_again: 2s\n")
    first = ready(daemon)
    assert first["memory_bytes"] > 1 << 20
    assert first["memory_file_bytes"] > 1 << 20
    second = ready(daemon, first["run"])
    assert second["last_restart"]["cause"] == "age"
    assert not alive(first["pid"])


def test_the_preset_drains_a_llama_server_before_it_is_stopped(
    daemon: Daemon, llama_binary: LlamaServer, tiny_model: Path
) -> None:
    port = free_port()
    command = llama_binary.serving(tiny_model, port, "--context-shift")
    started(daemon, command, "    preset: llama-server\n    drain: {timeout: 3s}\n    stop_again: 1s\n")
    first = ready(daemon)
    with asking(port, tokens=10_000_000):
        daemon.until(lambda: busy(port), "it is busy")
        done = daemon.run("restart", "chat", "--no-wait")
        assert done.returncode == 0, done.stderr
        daemon.until_phase("chat", "draining")
        second = ready(daemon, first["run"])
    assert second["last_restart"]["cause"] == "operator"
    events = [one["event"] for one in daemon.events() if one.get("worker") == "chat"]
    assert "worker draining" in events
    assert "worker killing" not in events  # it hangs on the first SIGTERM, and obeys the second


def test_a_hung_llama_server_is_told_twice_and_killed_in_the_end(
    daemon: Daemon, llama_binary: LlamaServer, tiny_model: Path
) -> None:
    port = free_port()
    command = llama_binary.serving(tiny_model, port, "--context-shift")
    more = f"    ready: {{http: 'http://127.0.0.1:{port}/health'}}\n    stop_timeout: 1s\n"
    started(daemon, command, more)
    first = ready(daemon)
    with asking(port, tokens=10_000_000):
        daemon.until(lambda: busy(port), "it is busy")
        os.kill(first["pid"], signal.SIGSTOP)  # as hung as a program can be
        done = daemon.run("stop", "chat")
        assert done.returncode == 0, done.stderr
    assert not alive(first["pid"])
    assert any(one["event"] == "worker killing" for one in daemon.events())


def test_a_corrupt_model_ends_up_held_with_the_servers_own_words(
    daemon: Daemon, llama_binary: LlamaServer, tiny_model: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.gguf"
    shutil.copy(tiny_model, broken)
    os.truncate(broken, broken.stat().st_size - 1000)
    port = free_port()
    command = llama_binary.serving(broken, port)
    started(daemon, command, f"    ready: {{http: 'http://127.0.0.1:{port}/health'}}\n")
    held = daemon.until_phase("chat", "held")
    assert "exited with status 1" in held["held"]
    logs = daemon.run("logs", "chat", "-n", "200")
    assert "model is corrupted or incomplete" in logs.stdout
    incident = json.loads(daemon.run("history", "chat", "--json").stdout)
    assert "exited with status 1" in json.dumps(incident)


def test_a_port_in_use_is_told(daemon: Daemon, llama_binary: LlamaServer, tiny_model: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = int(taken.getsockname()[1])
        started(daemon, llama_binary.serving(tiny_model, port), "    ready: {after: 5s}\n")
        daemon.until_phase("chat", "held")
        assert "couldn't bind HTTP server socket" in daemon.run("logs", "chat", "-n", "200").stdout


def test_a_torch_server_is_restarted_gracefully_at_its_cap(daemon: Daemon, torch_worker: list[str]) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}/health"
    more = f"    ready: {{http: '{url}'}}\n    health: {{http: '{url}', interval: 1s}}\n"
    more += "    memory: {cap: 500M}\n"
    started(daemon, [*torch_worker, str(port), "--early-bind"], more)
    first = ready(daemon)
    assert first["memory_bytes"] < 500 << 20
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    with contextlib.suppress(http.client.RemoteDisconnected):  # it may be told to go before it has answered
        connection.request("POST", "/alloc", json.dumps({"mib": 600}))
        assert connection.getresponse().status == 200
    connection.close()
    second = ready(daemon, first["run"])
    assert second["last_restart"]["cause"] == "memory-cap"
    assert not any(one["event"] == "worker killing" for one in daemon.events())


def test_a_llama_server_whose_slots_do_not_answer_is_unhealthy(
    daemon: Daemon, llama_binary: LlamaServer, tiny_model: Path
) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    more = f"    ready: {{http: '{url}/health'}}\n    stop_timeout: 1s\n"
    more += f"    health: {{llama: '{url}', interval: 1s, timeout: 500ms, failures: 2}}\n"
    started(daemon, llama_binary.serving(tiny_model, port), more)
    first = ready(daemon)
    os.kill(first["pid"], signal.SIGSTOP)
    second = ready(daemon, first["run"])
    assert second["last_restart"]["cause"] == "unhealthy"


def test_the_mapped_weights_of_a_llama_server_do_not_count_against_its_cap_and_what_it_allocates_does(
    daemon: Daemon, llama_binary: LlamaServer, tmp_path: Path
) -> None:
    model = make_model(tmp_path / "wide.gguf", "--layers", "4", "--embd", "512", "--ff", "1024")
    port = free_port()
    command = llama_binary.serving(model, port)
    ready_rule = f"    ready: {{http: 'http://127.0.0.1:{port}/health'}}\n"
    started(daemon, command, f"{ready_rule}    memory: {{cap: 1G}}\n")
    seen = daemon.until_worker(
        "chat",
        lambda one: one["phase"] == "ready" and (one["memory_file_bytes"] or 0) > model.stat().st_size,
        "its weights are mapped",
    )
    assert seen["memory_bytes"] < model.stat().st_size
    low = seen["memory_bytes"] // 2  # it needs twice that from the start: a misconfiguration, and no loop
    text = f"{ready_rule}    memory: {{cap: {low}}}\n"
    daemon.configure(f"{HEAD}  chat:\n    command: {json.dumps(command)}\n{text}")
    assert daemon.run("reload").returncode == 0
    held = daemon.until_phase("chat", "held", within_s=40.0)
    assert held["last_restart"]["cause"] == "memory-cap"
