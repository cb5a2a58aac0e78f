#!/usr/bin/env python3
"""Serve a tiny transformer with random weights: a real torch inference server on the CPU, for tests.

    worker.py PORT [--layers 2] [--embd 64] [--ballast-mib 0] [--early-bind]

GET /health answers 200 once the model is there, and 503 before that and while it drains; its body is JSON.
POST /generate {"ids": [1, 2], "count": 8} continues a sequence. POST /alloc {"mib": 100} keeps that much
more memory (507 where torch cannot have it). SIGTERM drains: running requests are finished, then the process
ends with 0.
--early-bind listens before it loads torch, as servers with slow models do.
"""

import argparse
import importlib
import json
import os
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast

VOCAB = 256


class Model:
    """A random transformer, and what was allocated beside it."""

    def __init__(self, layers: int, embd: int, ballast_mib: int) -> None:
        """Import torch (0.8 s, 210 MB) and draw the weights."""
        # By name, for the type checkers: torch is not in their environment.
        self._torch: Any = importlib.import_module("torch")
        self._torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
        self._torch.manual_seed(0)
        nn = self._torch.nn
        self._mask: Any = nn.Transformer.generate_square_subsequent_mask
        self._embedding: Any = nn.Embedding(VOCAB, embd)
        layer = nn.TransformerEncoderLayer(embd, 4, 4 * embd, batch_first=True, dropout=0.0)
        self._body: Any = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False).eval()
        self._head: Any = nn.Linear(embd, VOCAB)
        self._held: list[Any] = []
        if ballast_mib:
            self.hold(ballast_mib)

    def hold(self, mib: int) -> None:
        """Allocate `mib` more and write to it. Raises RuntimeError where there is no memory."""
        self._held.append(self._torch.ones(mib << 18))  # float32

    def generate(self, ids: list[int], count: int) -> list[int]:
        """Continue `ids` by `count` tokens, the likeliest each time."""
        with self._torch.inference_mode():
            sequence = self._torch.tensor([ids])
            for _ in range(count):
                hidden = self._body(
                    self._embedding(sequence), mask=self._mask(sequence.shape[1]), is_causal=True
                )
                likeliest = self._head(hidden)[:, -1].argmax(-1, keepdim=True)
                sequence = self._torch.cat([sequence, likeliest], 1)
        return [int(token) for token in sequence[0]]


class Server(ThreadingHTTPServer):
    """The HTTP side: knows whether there is a model, and how many requests run."""

    daemon_threads = True

    def __init__(self, port: int) -> None:
        """Bind to `port` on 127.0.0.1."""
        super().__init__(("127.0.0.1", port), Handler)
        self.model: Model | None = None
        self.draining = False
        self.running = 0
        self.lock = threading.Lock()

    def drain(self, _number: int, _frame: object) -> None:
        """Take no new work, and end when the last request is answered."""
        self.draining = True
        threading.Thread(target=self._end_when_idle, daemon=True).start()

    def _end_when_idle(self) -> None:
        while self.running:
            time.sleep(0.02)
        self.shutdown()


class Handler(BaseHTTPRequestHandler):
    """Answers one connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else each keep-alive answer waits 40 ms for the client's delayed ACK

    @property
    def _own(self) -> Server:
        return cast("Server", self.server)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it
        """Stay quiet."""

    def do_GET(self) -> None:
        """Answer /health."""
        is_ready = self._own.model is not None and not self._own.draining
        state = {"ready": is_ready, "draining": self._own.draining, "running": self._own.running}
        self._answer(200 if is_ready else 503, state)

    def do_POST(self) -> None:
        """Answer /generate and /alloc."""
        given = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}")
        model = self._own.model
        if model is None or self._own.draining:
            self._answer(503, {"error": "loading or draining"})
        elif self.path == "/alloc":
            self._allocate(model, int(given["mib"]))
        else:
            self._generate(model, given)

    def _allocate(self, model: Model, mib: int) -> None:
        try:
            model.hold(mib)
        except RuntimeError as error:
            self._answer(507, {"error": str(error)})
        else:
            self._answer(200, {"ok": True})

    def _generate(self, model: Model, given: dict[str, Any]) -> None:
        with self._own.lock:
            self._own.running += 1
        try:
            self._answer(200, {"ids": model.generate(given.get("ids", [1]), int(given.get("count", 8)))})
        finally:
            with self._own.lock:
                self._own.running -= 1

    def _answer(self, code: int, body: object) -> None:
        raw = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)


def main() -> None:
    """Load and serve until SIGTERM."""
    parser = argparse.ArgumentParser(description="A tiny torch inference server.")
    parser.add_argument("port", type=int)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--embd", type=int, default=64)
    parser.add_argument("--ballast-mib", type=int, default=0)
    parser.add_argument("--early-bind", action="store_true")
    given = parser.parse_args()

    def load() -> Model:
        return Model(given.layers, given.embd, given.ballast_mib)

    if given.early_bind:
        server = Server(given.port)
        threading.Thread(target=lambda: setattr(server, "model", load()), daemon=True).start()
    else:
        model = load()
        server = Server(given.port)
        server.model = model
    signal.signal(signal.SIGTERM, server.drain)
    server.serve_forever(poll_interval=0.05)
    sys.stderr.write("worker: drained\n")


if __name__ == "__main__":
    main()
