"""The daemon on servers that a preset knows: ready, alive by progress, drained."""

import http.client
import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from support.daemon import Daemon, Document
from support.llama.servers import LlamaServer, make_model
from support.probing import free_port

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

STAND_IN = Path(__file__).parents[1] / "support" / "workers" / "stand_in.py"
HEAD = """
poll_interval: 500ms
launcher: direct
host: {warn_available: 64M, critical_available: 32M}
defaults: {gpus: none, restart: {first: 100ms, max: 500ms, starts: 4, within: 1h}}
workers:
"""
WELL = [200, '{"status":"ok"}']
PROPS = [200, '{"total_slots":1,"is_sleeping":false}']


def slots(*, busy: bool, decoded: int = 7) -> list[Any]:
    slot = {"id": 0, "id_task": 3, "is_processing": busy, "next_token": [{"n_decoded": decoded}]}
    return [200, json.dumps([slot])]


class StandIn:
    """A worker in the place of a server, and its pages."""

    def __init__(self, folder: Path, pages: dict[str, Any]) -> None:
        self.port = free_port()
        self._file = folder / "pages.json"
        self.pages = pages
        self.turn({})

    def turn(self, pages: dict[str, Any]) -> None:
        """Have it answer these pages otherwise from now on."""
        self.pages = {**self.pages, **pages}
        fresh = self._file.with_suffix(".new")
        fresh.write_text(json.dumps(self.pages))
        fresh.replace(self._file)

    def asked(self) -> list[str]:
        return self._file.with_suffix(".asked").read_text().splitlines()

    def command(self, *flags: str) -> list[str]:
        return [sys.executable, str(STAND_IN), str(self._file), *flags]


def start(daemon: Daemon, command: list[str], more: str) -> None:
    daemon.configure(f"{HEAD}  chat:\n    command: {json.dumps(command)}\n{more}")
    daemon.start()


def ready(daemon: Daemon, not_run: object = None) -> Document:
    return daemon.until_worker(
        "chat", lambda one: one["phase"] == "ready" and one["run"] != not_run, "chat is ready", 60.0
    )


def told(daemon: Daemon, event: str) -> list[str]:
    return [one["reason"] for one in daemon.events() if one["event"] == event]


def http_connection(port: int) -> http.client.HTTPConnection:
    return http.client.HTTPConnection("127.0.0.1", port, timeout=90)


def page(port: int, path: str) -> str:
    connection = http_connection(port)
    try:
        connection.request("GET", path)
        return connection.getresponse().read().decode()
    finally:
        connection.close()


def completing(port: int, prompt: str, tokens: int) -> tuple[threading.Thread, list[Document]]:
    """Have a client wait for an answer."""
    answers: list[Document] = []

    def wait() -> None:
        connection = http_connection(port)
        body = {"prompt": prompt, "n_predict": tokens, "ignore_eos": True}
        connection.request("POST", "/completion", json.dumps(body))
        answers.append(json.loads(connection.getresponse().read()))
        connection.close()

    client = threading.Thread(target=wait)
    client.start()
    return client, answers


def test_a_server_that_is_busy_and_does_nothing_is_hung_whatever_its_health_page_says(
    daemon: Daemon, tmp_path: Path
) -> None:
    server = StandIn(tmp_path, {"/health": WELL, "/props": PROPS, "/slots": slots(busy=False)})
    more = "    preset: llama-server\n    health: {interval: 1s, timeout: 4s}\n"
    start(daemon, server.command("--port", str(server.port), "-m", "x"), more)
    first = ready(daemon)
    for decoded in range(3):
        asked = len(server.asked())
        server.turn({"/slots": slots(busy=True, decoded=decoded)})
        daemon.until(lambda before=asked: len(server.asked()) > before + 2, "it was asked")  # type: ignore[misc]
    assert daemon.worker("chat")["run"] == first["run"]
    second = ready(daemon, first["run"])
    assert second["last_restart"]["cause"] == "hung"
    assert second["last_restart"]["reason"].startswith(
        "busy with 1 requests; no token read or written, and nothing computed, for "
    )
    assert told(daemon, "worker draining") == []
    server.turn({"/slots": slots(busy=False)})


def test_a_long_prompt_on_a_slow_cpu_is_not_called_hung(
    daemon: Daemon, llama_binary: LlamaServer, tmp_path: Path
) -> None:
    model = make_model(
        tmp_path / "wide.gguf", "--layers", "8", "--embd", "512", "--ff", "2048", "--ctx", "8192"
    )
    port = free_port()
    more = "    preset: llama-server\n    health: {interval: 1s, timeout: 1s}\n"
    start(daemon, llama_binary.serving(model, port, "--ctx-size", "8192"), more)
    first = ready(daemon)
    client, answers = completing(port, "ab " * 1000, 8)
    client.join(100.0)
    assert answers
    assert answers[0]["timings"]["prompt_ms"] > 2000.0  # several timeouts long
    assert daemon.worker("chat")["run"] == first["run"]
    assert told(daemon, "worker stopping") == []


def test_a_stop_waits_for_the_answer_that_is_being_written_and_goes_on_then(
    daemon: Daemon, llama_binary: LlamaServer, tmp_path: Path
) -> None:
    model = make_model(tmp_path / "wide.gguf", "--layers", "8", "--embd", "512", "--ff", "2048")
    port = free_port()
    start(daemon, llama_binary.serving(model, port, "--ctx-size", "512"), "    preset: llama-server\n")
    first = ready(daemon)
    client, answers = completing(port, "once upon a time", 200)
    daemon.until(lambda: '"is_processing":true' in page(port, "/slots"), "it is busy")
    assert daemon.run("restart", "chat", "--no-wait").returncode == 0
    second = ready(daemon, first["run"])
    client.join(30.0)
    assert answers
    assert answers[0]["tokens_predicted"] == 200  # to the last token
    assert second["last_restart"]["cause"] == "operator"
    assert told(daemon, "worker signalled again") == []
    assert told(daemon, "worker killing") == []


def test_a_router_by_accident_never_gets_ready(daemon: Daemon, llama_binary: LlamaServer) -> None:
    port = free_port()
    command = [*llama_binary.command, "--host", "127.0.0.1", "--port", str(port), "--threads", "1"]
    start(daemon, command, "    preset: llama-server\n    start_timeout: 1s\n    restart: {starts: 1}\n")
    held = daemon.until_phase("chat", "held")
    assert held["last_restart"]["cause"] == "start-timeout"
    assert "it routes between models and serves none: its command names none (--model)" in held["held"]


def test_a_real_server_that_stops_in_the_middle_of_an_answer_is_unhealthy(
    daemon: Daemon, llama_binary: LlamaServer, tiny_model: Path
) -> None:
    port = free_port()
    more = "    preset: llama-server\n    stop_timeout: 1s\n    stop_again: null\n"
    more += "    health: {interval: 1s, timeout: 500ms, failures: 2}\n"
    start(daemon, llama_binary.serving(tiny_model, port, "--context-shift"), more)
    first = ready(daemon)
    connection = http_connection(port)
    body = {"prompt": "a", "n_predict": 10_000_000, "ignore_eos": True}
    connection.request("POST", "/completion", json.dumps(body))
    daemon.until(lambda: '"is_processing":true' in page(port, "/slots"), "it is busy")
    os.kill(first["pid"], signal.SIGSTOP)
    second = ready(daemon, first["run"])
    connection.close()
    assert second["last_restart"]["cause"] == "unhealthy"


@pytest.mark.parametrize(
    ("preset", "flag", "pages"),
    [
        ("vllm", "--port", ("/health", "/health")),
        ("triton", "--http-port", ("/v2/health/ready", "/v2/health/live")),
    ],
)
def test_other_servers_are_asked_at_their_own_pages(
    daemon: Daemon, tmp_path: Path, preset: str, flag: str, pages: tuple[str, str]
) -> None:
    ready_page, health_page = pages
    server = StandIn(tmp_path, {ready_page: [503, ""], health_page: [503, ""]})
    more = f"    preset: {preset}\n    health: {{interval: 500ms, failures: 2}}\n"
    start(daemon, server.command(flag, str(server.port)), more)
    daemon.until(lambda: daemon.worker("chat")["phase"] == "starting", "it starts")
    server.turn({ready_page: [200, ""], health_page: [200, ""]})
    first = ready(daemon)
    server.turn({health_page: [503, "EngineDeadError"]})
    daemon.until(lambda: bool(told(daemon, "worker stopping")), "it is stopped")
    server.turn({ready_page: [200, ""], health_page: [200, ""]})
    second = ready(daemon, first["run"])
    assert second["last_restart"]["cause"] == "unhealthy"
    assert set(server.asked()) == {ready_page, health_page}
