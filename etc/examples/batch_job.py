#!/usr/bin/env python3
"""Work through a file of texts in batches, and lose none when memory runs out or the process ends.

    batch_job.py TEXTS RESULTS [--batch 256] [--function MODULE:NAME]

TEXTS has an item in each line. RESULTS gets a line of JSON for each, in the same order: {"result": ...}, or
{"error": "..."} for an item that fails alone. A job that was ended goes on after the last line of RESULTS.

Without `--function` it tells the entropy of each text's pairs of bytes, by which garbage is sorted out of a
corpus; with torch where it is installed, on its GPU where there is one, else in plain Python. Yours takes a
list of texts and returns as many results, which JSON can hold.

It runs without a supervisor too, and ends when it is done. As a worker of gpu-supervisor, in
`etc/examples/workers.yaml`, it then stays until it is told to stop: a worker that ends is started again.
"""
# pyright: basic, reportMissingImports=false, reportOptionalMemberAccess=false

import argparse
import importlib
import json
import logging
import math
import os
import signal
import threading
from array import array
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

from supervisor.guard import BatchRunner, Failed, MemoryManager, Model, supervised

try:
    import torch
except ImportError:
    torch = None

PAIRS = 1 << 16  # of two bytes each: a table of 256 KiB for each text
Function = Callable[[list[str]], list[Any]]


def entropies(texts: list[str]) -> list[float]:
    """Return the entropy of each text's pairs of bytes, in bits."""
    tables = [array("f", bytes(4 * PAIRS)) for _ in texts]  # all at once, as a GPU would: what memory is for
    for text, table in zip(texts, tables, strict=True):
        raw = text.encode()
        for first, second in pairwise(raw):
            table[first << 8 | second] += 1
    return [round(_entropy([count for count in table if count]), 4) for table in tables]


def _entropy(counts: list[float]) -> float:
    total = sum(counts)
    return -sum(count / total * math.log2(count / total) for count in counts)


def torch_entropies(texts: list[str]) -> list[float]:
    """Return the same by torch."""
    device = "cuda:0" if torch.cuda.is_available() else "cpu"
    with torch.inference_mode():
        tables = torch.zeros(len(texts), PAIRS, device=device)
        for text, table in zip(texts, tables, strict=True):
            raw = torch.tensor(list(text.encode()), dtype=torch.int64, device=device)
            pairs = raw[:-1] << 8 | raw[1:]
            table.index_add_(0, pairs, torch.ones(len(pairs), device=device))
        shares = tables / tables.sum(1, keepdim=True).clamp(min=1)
        found = torch.special.entr(shares).sum(1) / math.log(2)
    return [round(bits, 4) for bits in found.tolist()]


def function_of(name: str) -> Function:
    """Import MODULE:NAME, or return the function of this file."""
    if not name:
        return entropies if torch is None else torch_entropies
    module, _, attribute = name.partition(":")
    found: Function = getattr(importlib.import_module(module), attribute)
    return found


def work(
    texts: list[str], results: Path, runner: BatchRunner[str, Any], is_ending: Callable[[], bool]
) -> None:
    """Append what is missing to `results`, until the process is to end."""
    done = whole_lines(results)
    with results.open("a", encoding="utf-8") as out:
        # It tells the supervisor how far it is, after each batch and about once a second: that is the
        # heartbeat. A GPU context that is lost ends the process here, with exit code 79; the supervisor
        # starts it again, and the next one goes on from the last line.
        for result in runner.run(texts[done:], model="entropy"):
            line = {"error": str(result.error)} if isinstance(result, Failed) else {"result": result}
            out.write(json.dumps(line) + "\n")
            out.flush()
            if is_ending():
                return


def whole_lines(results: Path) -> int:
    """Count the lines that are there, and cut off one that is not whole."""
    raw = results.read_bytes() if results.exists() else b""
    whole = raw[: raw.rfind(b"\n") + 1]
    if raw != whole:
        os.truncate(results, len(whole))
    return whole.count(b"\n")


def main() -> None:
    """Do the job."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("texts", type=Path)
    parser.add_argument("results", type=Path)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--function", default="", metavar="MODULE:NAME")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO)  # the guard says there what it does
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())

    def is_ending() -> bool:
        return supervisor.draining or stopping.is_set()

    memory = MemoryManager("cuda:0" if torch is not None and torch.cuda.is_available() else "cpu")
    supervisor = supervised()
    supervisor.watch(memory)
    sizes = Model(given.batch, fallback=(32, 8, 1))
    function = function_of(given.function)
    runner = BatchRunner(function, memory=memory, models={"entropy": sizes}, supervisor=supervisor)
    supervisor.ready()
    with given.texts.open(encoding="utf-8") as lines:
        texts = [line.rstrip("\n") for line in lines]
    work(texts, given.results, runner, is_ending)
    while supervisor.active and not is_ending():
        supervisor.heartbeat()
        stopping.wait(1.0)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the supervisor's next step; this process ends already
    supervisor.drained()


if __name__ == "__main__":
    main()
