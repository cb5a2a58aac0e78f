#!/usr/bin/env python3
"""Serve a GGUF model with llama.cpp's own HTTP server, in this process, through the wheel `xllamacpp`.

For machines without `llama-server`: the same endpoints (/health, /slots, /metrics, /props, /completion, /v1)
and the same names for the few flags below. Ends with 0 on SIGTERM or SIGINT, whatever is being generated.
"""

import argparse
import importlib
import os
import signal
import sys
from typing import Any


def parse() -> argparse.Namespace:
    """Read the flags, named as llama-server names them."""
    parser = argparse.ArgumentParser(
        description="llama.cpp's HTTP server in one Python process", allow_abbrev=False
    )
    parser.add_argument("-m", "--model", required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("-c", "--ctx-size", type=int, default=512)
    parser.add_argument("-t", "--threads", type=int, default=1)
    parser.add_argument("-np", "--parallel", type=int, default=1)
    parser.add_argument("--cache-ram", type=int, default=0, help="MiB of host prompt cache")
    parser.add_argument("--metrics", action="store_true")
    parser.add_argument("--context-shift", action="store_true")
    return parser.parse_args()


def parameters(xllamacpp: Any, given: argparse.Namespace) -> Any:  # noqa: ANN401 - the wheel has no types
    """Fill llama.cpp's parameters from the flags."""
    params = xllamacpp.CommonParams()
    params.model.path = given.model
    params.hostnames = [given.host]
    params.port = given.port
    params.n_ctx = given.ctx_size
    params.n_parallel = given.parallel
    params.cpuparams.n_threads = given.threads
    params.cache_ram_mib = given.cache_ram
    params.ctx_shift = given.context_shift
    params.endpoint_slots = True
    params.endpoint_metrics = given.metrics
    return params


def main() -> None:
    """Load, serve, and leave when told to."""
    given = parse()
    # Blocked before llama.cpp starts its threads, so that none of them takes the signal.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    xllamacpp = importlib.import_module("xllamacpp")
    try:
        server = xllamacpp.Server(parameters(xllamacpp, given))
    except RuntimeError as error:
        sys.exit(f"llama_worker: cannot serve {given.model} on {given.host}:{given.port}: {error}")
    sys.stderr.write(f"llama_worker: serving {given.model} at {server.listening_address}\n")
    received = signal.sigwait({signal.SIGTERM, signal.SIGINT})
    sys.stderr.write(f"llama_worker: {signal.Signals(received).name}, leaving\n")
    sys.stderr.flush()
    os._exit(0)  # a request under way would keep llama.cpp's threads, and so a normal exit, waiting


if __name__ == "__main__":
    main()
