"""Find a real llama.cpp server: llama-server from PATH, else Debian's newest, else the wheel xllamacpp."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from support.cache import cache_dir

CHECKOUT = Path(__file__).resolve().parents[3]
INSTALL_TIMEOUT_S = 600  # a slow mirror; seconds on a good one


@dataclass(frozen=True, slots=True)
class LlamaServer:
    """A program that serves a GGUF model.

    `llama-server` is the binary, with its own way of answering signals; `xllamacpp` is the same HTTP
    server inside Python (scripts/demo/llama_worker.py), which knows fewer flags and ends with 0 on SIGTERM.
    """

    kind: Literal["llama-server", "xllamacpp"]
    command: tuple[str, ...]

    def serving(self, model: Path, port: int, *more: str) -> list[str]:
        """Return the command that serves `model` on 127.0.0.1, with one thread: more only get in the way."""
        own = ["--model", str(model), "--host", "127.0.0.1", "--port", str(port), "--threads", "1"]
        return [*self.command, *own, "--cache-ram", "0", *more]


def installed() -> LlamaServer | None:
    """Return the best server that is here already."""
    return next(_installed(), None)


def installed_binary() -> LlamaServer | None:
    """Return a `llama-server` that is here already."""
    return next((server for server in _installed() if server.kind == "llama-server"), None)


def install() -> list[str]:
    """Install what is missing; return what went wrong, a line each. Without effect where all is here."""
    faults: list[str] = []
    if installed_binary() is None:
        faults += _run(str(Path(__file__).with_name("debian_tree")), str(_debian_tree()))
    if installed() is None:
        faults += _run(str(CHECKOUT / "scripts/demo/install_xllamacpp"), str(_wheel()))
    return faults


def make_model(out: Path, *more: str) -> Path:
    """Write a tiny model with random weights; `more` are flags of scripts/demo/make_tiny_gguf.py."""
    maker = CHECKOUT / "scripts/demo/make_tiny_gguf.py"
    subprocess.run([sys.executable, str(maker), str(out), *more], check=True, timeout=60)
    return out


def _installed() -> Iterator[LlamaServer]:
    found = shutil.which("llama-server")
    if found:
        yield LlamaServer("llama-server", (found,))
    binary = _debian_tree() / "llama-server"
    if binary.exists():
        yield LlamaServer("llama-server", (str(binary), "--offline"))
    python = _wheel() / "bin/python"
    if (_wheel() / "made").exists() and python.exists():
        yield LlamaServer("xllamacpp", (str(python), str(CHECKOUT / "scripts/demo/llama_worker.py")))


def _debian_tree() -> Path:
    return cache_dir() / "llama-debian"


def _wheel() -> Path:
    return cache_dir() / "xllamacpp"


def _run(*command: str) -> list[str]:
    environment = {**os.environ, "PYTHON": sys.executable}
    done = subprocess.run(
        command, env=environment, text=True, capture_output=True, timeout=INSTALL_TIMEOUT_S, check=False
    )
    if done.returncode == 0:
        return []
    last = (done.stderr or done.stdout).strip().splitlines()[-1:]
    return [f"{Path(command[0]).name}: {' '.join(last) or f'exit code {done.returncode}'}"]
