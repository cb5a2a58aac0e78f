"""Probes of a real llama.cpp server."""

import asyncio
import json
import subprocess
import threading
import urllib.request
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from supervisor.model.news import Purpose
from supervisor.model.plan import HttpTarget, LlamaTarget
from supervisor.sense.probes import probe
from support.llama.servers import LlamaServer
from support.probing import free_port
from support.procs import eventually, kill

pytestmark = pytest.mark.slow


def ask(port: int, purpose: Purpose = "drain") -> tuple[bool, str]:
    return asyncio.run(probe(LlamaTarget(f"http://127.0.0.1:{port}"), 5.0, purpose))


@contextmanager
def serving(server: LlamaServer, model: Path, *flags: str) -> Generator[int, None, None]:
    port = free_port()
    command = server.serving(model, port, "--ctx-size", "512", *flags)
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        health = HttpTarget(f"http://127.0.0.1:{port}/health")
        assert eventually(lambda: asyncio.run(probe(health, 5.0)) == (True, "200"))
        yield port
    finally:
        kill(process.pid)
        process.wait()


def generate(port: int, enough: threading.Event) -> None:
    """Have it write text until there is enough."""
    body = json.dumps({"prompt": "a", "n_predict": 450, "ignore_eos": True}).encode()
    headers = {"Content-Type": "application/json"}
    while not enough.is_set():
        request = urllib.request.Request(f"http://127.0.0.1:{port}/completion", body, headers)
        with urllib.request.urlopen(request, timeout=20) as reply:  # noqa: S310 - our own server
            reply.read()


@pytest.mark.parametrize("flags", [(), ("--no-slots", "--metrics")])
def test_a_real_server_is_busy_while_it_writes_and_idle_afterwards(
    llama_binary: LlamaServer, tiny_model: Path, flags: tuple[str, ...]
) -> None:
    with serving(llama_binary, tiny_model, *flags) as port:
        assert ask(port) == (True, "idle")
        enough = threading.Event()
        writer = threading.Thread(target=generate, args=(port, enough))
        writer.start()
        try:
            assert eventually(lambda: ask(port) == (False, "1 requests under way"))
            assert ask(port, "health")[0]
        finally:
            enough.set()
            writer.join()
        assert eventually(lambda: ask(port) == (True, "idle"))


def test_a_real_server_that_tells_nothing_of_its_requests_is_never_taken_for_idle(
    llama_binary: LlamaServer, tiny_model: Path
) -> None:
    with serving(llama_binary, tiny_model, "--no-slots") as port:
        why = "cannot tell whether it is idle: it runs with --no-slots and without --metrics"
        assert ask(port) == (False, why)
        assert ask(port, "health") == (True, "200")
