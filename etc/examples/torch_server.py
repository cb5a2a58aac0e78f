#!/usr/bin/env python3
"""Serve a torch model over HTTP in batches, and answer every request, also when memory runs out.

    torch_server.py [--port 8090] [--devices cuda:0,cpu]

    curl -d '{"pixels": [[0, 0.5], [0.5, 1]]}' http://127.0.0.1:8090/classify
    curl http://127.0.0.1:8090/stats

The model is a small one for pictures with random weights; put yours into `build` and `classify`. It runs on
the first of the devices that has the memory for it. What runs out of memory is tried again in smaller
batches, then with smaller pictures, in the end on the CPU; `POST /reset` goes back to full quality. It runs
without a supervisor too. As a worker of gpu-supervisor: `etc/examples/workers.yaml`.
"""
# pyright: basic, reportMissingImports=false

import argparse
import json
import signal
import threading
from collections import deque
from concurrent.futures import Future
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

import torch

from supervisor.guard import BatchRunner, Failed, MemoryManager, Supervisor, set_vram_fraction, supervised

BATCH = 12
INPUT_SIZE = (1280, 1280)  # the memory manager advises 640 x 640 when memory is really short
WAIT_S = 0.5  # the longest pause between two heartbeats while nobody asks

Picture = list[list[float]]


def build(device: str) -> Any:
    """Make the model on `device`; where that is too small for it, torch raises OutOfMemoryError."""
    nn = torch.nn
    layers = (nn.Conv2d(1, 16, 3, stride=2), nn.ReLU(), nn.Conv2d(16, 32, 3, stride=2), nn.ReLU())
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10)).to(device).eval()


class Classifier:
    """The model, and the device that it is on."""

    def __init__(self, memory: MemoryManager, devices: list[str]) -> None:
        """Load it."""
        self.memory = memory
        self.devices = devices
        self.net, self.device = memory.load_model(build, devices)

    def classify(self, pictures: list[Picture]) -> list[dict[str, Any]]:
        """Return a result for each picture; out of memory, BatchRunner calls it again with fewer."""
        advice = self.memory.advice
        if advice.cpu_fallback and self.device != "cpu":
            self.net, self.device = self.memory.load_model(build, self.devices)
        size = advice.input_size or INPUT_SIZE
        with torch.inference_mode():
            scaled = [
                torch.nn.functional.interpolate(torch.tensor(picture, dtype=torch.float32)[None, None], size)
                for picture in pictures
            ]
            scores, classes = self.net(torch.cat(scaled).to(self.device)).softmax(1).max(1)
        return [{"class": c, "score": s} for c, s in zip(classes.tolist(), scores.tolist(), strict=True)]


class Request(NamedTuple):
    """A picture, and where its answer goes."""

    picture: Picture
    answer: "Future[dict[str, Any] | Failed[Picture]]"


class Inbox:
    """Requests on their way from the HTTP threads to the work loop."""

    def __init__(self) -> None:
        """Begin open and empty."""
        self._waiting: deque[Request] = deque()
        self._changed = threading.Condition()
        self._open = True

    def put(self, request: Request) -> bool:
        """Add a request; False once closed."""
        with self._changed:
            if self._open:
                self._waiting.append(request)
                self._changed.notify()
            return self._open

    def take(self, most: int, wait_s: float) -> list[Request]:
        """Return up to `most`; wait for the first, but no longer than `wait_s`."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting, wait_s)
            return [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]

    def close(self) -> None:
        """Take nothing more in; what waits is still to be taken out."""
        with self._changed:
            self._open = False


class Server(ThreadingHTTPServer):
    """The HTTP side: a thread for each connection, which waits for the work loop."""

    daemon_threads = False  # server_close() waits until the last answer is written
    request_queue_size = 128

    def __init__(
        self, port: int, inbox: Inbox, runner: BatchRunner[Picture, Any], memory: MemoryManager
    ) -> None:
        """Listen; `serve_forever` answers."""
        super().__init__(("127.0.0.1", port), Handler)
        self.inbox = inbox
        self.runner = runner
        self.memory = memory


class Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    server: Server

    def do_GET(self) -> None:
        """Answer /health and /stats."""
        if self.path == "/health":
            self.reply(200, {"ok": True})
        elif self.path == "/stats":
            self.reply(200, {"memory": self.server.memory.get_memory_stats(), **self.server.runner.stats()})
        else:
            self.reply(404, {"error": "there are /health, /stats, /classify and /reset"})

    def do_POST(self) -> None:
        """Answer /classify and /reset."""
        if self.path == "/reset":  # nothing returns to full quality by itself
            self.server.memory.reset_degradation()
            self.server.runner.reset()
            self.reply(200, {"ok": True})
            return
        try:
            picture = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))))["pixels"]
        except (ValueError, KeyError, TypeError):
            self.reply(400, {"error": 'write {"pixels": [[0, 0.5], [0.5, 1]]}'})
            return
        request = Request(picture, Future())
        if not self.server.inbox.put(request):
            self.reply(503, {"error": "going down"})
            return
        result = request.answer.result()
        if isinstance(result, Failed):  # this request alone: those beside it in the batch have results
            self.reply(500, {"error": str(result.error)})
        else:
            self.reply(200, result)

    def reply(self, code: int, body: object) -> None:
        """Send JSON."""
        raw = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it
        """Write no line for each request."""


def turn(inbox: Inbox, runner: BatchRunner[Picture, Any], supervisor: Supervisor, wait_s: float) -> int:
    """Go round the work loop once; return how many requests were answered."""
    supervisor.heartbeat()  # here, not in a thread: it is to stop when this loop does. It hears a drain, too
    requests = inbox.take(BATCH, wait_s)
    results = runner.run([request.picture for request in requests]) if requests else ()
    for request, result in zip(requests, results, strict=True):
        request.answer.set_result(result)
    return len(requests)


def main() -> None:
    """Load, say so, and serve until SIGTERM or a drain."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--port", type=int, default=8090)
    parser.add_argument("--devices", default="cuda:0,cpu" if torch.cuda.is_available() else "cpu")
    given = parser.parse_args()
    devices: list[str] = given.devices.split(",")
    threading.stack_size(1 << 19)  # not 8 MiB of addresses for each connection, where a limit counts them
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())

    memory = MemoryManager(devices[0])
    supervisor = supervised()
    supervisor.watch(memory)  # its level and its out-of-memory events go into the reports
    if devices[0].startswith("cuda"):
        set_vram_fraction(device=devices[0])  # torch raises before the supervisor's cap is reached
    model = Classifier(memory, devices)
    runner = BatchRunner(model.classify, BATCH, memory=memory)
    inbox = Inbox()
    server = Server(given.port, inbox, runner, memory)
    threading.Thread(target=server.serve_forever, name="http").start()
    supervisor.ready()

    while not (stopping.is_set() or supervisor.draining):
        turn(inbox, runner, supervisor, WAIT_S)
    inbox.close()  # what comes from here on gets a 503
    while turn(inbox, runner, supervisor, 0):
        pass
    server.shutdown()
    server.server_close()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the supervisor's next step; this process ends already
    supervisor.drained()


if __name__ == "__main__":
    main()
