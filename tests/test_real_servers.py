"""The real servers that other tests stand on: llama.cpp with a model of our own making, and torch."""

import hashlib
import http.client
import json
import signal
import socket
import subprocess
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from support.llama.servers import LlamaServer, make_model

pytestmark = pytest.mark.slow


def free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


def ask(port: int, path: str, body: object = None) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(
            "GET" if body is None else "POST", path, None if body is None else json.dumps(body)
        )
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def is_healthy(port: int) -> bool:
    try:
        return ask(port, "/health")[0] == 200
    except OSError:
        return False


@contextmanager
def running(command: Sequence[str], port: int, log: Path) -> Generator[subprocess.Popen[bytes]]:
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output) as server:
        try:
            deadline = time.monotonic() + 40
            while not is_healthy(port):
                assert server.poll() is None, log.read_text(errors="replace")
                assert time.monotonic() < deadline, log.read_text(errors="replace")
                time.sleep(0.02)
            yield server
        finally:
            if server.poll() is None:
                server.kill()


def test_the_same_arguments_make_the_same_model(tmp_path: Path) -> None:
    model = make_model(tmp_path / "a.gguf")
    assert model.stat().st_size == 309_120
    digest = hashlib.sha256(model.read_bytes()).hexdigest()
    assert digest == hashlib.sha256(make_model(tmp_path / "b.gguf").read_bytes()).hexdigest()
    assert digest != hashlib.sha256(make_model(tmp_path / "c.gguf", "--seed", "1").read_bytes()).hexdigest()


def test_a_llama_server_speaks_from_the_tiny_model(
    llama_server: LlamaServer, tiny_model: Path, tmp_path: Path
) -> None:
    port = free_port()
    with running(llama_server.serving(tiny_model, port, "--metrics"), port, tmp_path / "log") as server:
        wanted = {"prompt": "hello there", "n_predict": 12, "ignore_eos": True}
        status, answer = ask(port, "/completion", wanted)
        assert (status, answer["tokens_predicted"]) == (200, 12)
        status, slots = ask(port, "/slots")
        assert status == 200
        assert {slot["is_processing"] for slot in slots} == {False}
        server.send_signal(signal.SIGTERM)
        assert server.wait(10) == 0


@pytest.mark.parametrize(
    "flags",
    [
        ["--dtype", "f32"],
        ["--tied", "--layers", "3"],
        ["--heads", "8", "--kv-heads", "2", "--embd", "128", "--vocab", "1024"],
    ],
    ids=["f32", "tied", "grouped-query"],
)
def test_every_shape_of_the_model_loads(llama_server: LlamaServer, tmp_path: Path, flags: list[str]) -> None:
    port = free_port()
    model = make_model(tmp_path / "model.gguf", *flags)
    with running(llama_server.serving(model, port), port, tmp_path / "log"):
        status, answer = ask(port, "/completion", {"prompt": "a", "n_predict": 3, "ignore_eos": True})
        assert (status, answer["tokens_predicted"]) == (200, 3)


def test_the_binary_refuses_a_model_that_is_cut_short(
    llama_binary: LlamaServer, tiny_model: Path, tmp_path: Path
) -> None:
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(tiny_model.read_bytes()[:-1])
    command = llama_binary.serving(cut, free_port())
    done = subprocess.run(command, capture_output=True, timeout=20, check=False)
    assert done.returncode == 1
    assert b"model is corrupted or incomplete" in done.stderr


def test_a_torch_worker_answers_and_finishes_its_request_when_told_to_end(
    torch_worker: list[str], tmp_path: Path
) -> None:
    port = free_port()
    with running([*torch_worker, str(port)], port, tmp_path / "log") as server:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("POST", "/generate", json.dumps({"ids": [1, 2], "count": 300}))
        deadline = time.monotonic() + 10
        while ask(port, "/health")[1]["running"] == 0:
            assert time.monotonic() < deadline
        server.send_signal(signal.SIGTERM)
        answer = connection.getresponse()
        assert answer.status == 200
        assert len(json.loads(answer.read())["ids"]) == 302
        connection.close()
        assert server.wait(10) == 0
