"""Ways in which a real `llama-server` dies that need no GPU, each with what it printed; a program as well.

    python -m support.llama.deaths MODEL SCRATCH OUT     (with tests/ on PYTHONPATH)

writes each death into OUT/NAME.txt, as `tests/llama/deaths` holds them.
"""

import contextlib
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from support.llama import servers
from support.llama.servers import LlamaServer, make_model

PATIENCE_S: Final = 30.0
MIB: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Death:
    """How one server ended: its status as `subprocess` has it, and all that it printed."""

    status: int
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Stage:
    """What a death is made with."""

    server: LlamaServer
    model: Path  # a good one
    scratch: Path

    def run(
        self, model: Path, *more: str, port: int | None = None, space_bytes: int | None = None
    ) -> "subprocess.Popen[bytes]":
        """Start a server, with a limit on its address space where one is given."""

        def limit() -> None:
            if space_bytes is not None:
                resource.setrlimit(resource.RLIMIT_AS, (space_bytes, space_bytes))

        environment = {
            **os.environ,
            "GGML_NO_BACKTRACE": "1",
        }  # as the preset has it: without it gdb is started
        return subprocess.Popen(
            self.server.serving(model, free_port() if port is None else port, *more),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            preexec_fn=limit,  # noqa: PLW1509 - no thread of ours holds a lock here
        )

    def ends(self, model: Path, *more: str, port: int | None = None, space_bytes: int | None = None) -> Death:
        """Run a server to its end."""
        return ended(self.run(model, *more, port=port, space_bytes=space_bytes))

    def file(self, content: bytes) -> Path:
        """Write a model that is none, or not quite one."""
        path = self.scratch / "model.gguf"
        path.write_bytes(content)
        return path


def free_port() -> int:
    with closing(socket.socket()) as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


def ended(process: "subprocess.Popen[bytes]") -> Death:
    try:
        out, _ = process.communicate(timeout=PATIENCE_S)
    finally:
        process.kill()
    return Death(process.returncode, tuple(out.decode(errors="replace").splitlines()))


def missing(stage: Stage) -> Death:
    return stage.ends(stage.scratch / "missing.gguf")


def empty(stage: Stage) -> Death:
    return stage.ends(stage.file(b""))


def wrong_magic(stage: Stage) -> Death:
    return stage.ends(stage.file(b"GGML" + stage.model.read_bytes()[4:]))


def wrong_version(stage: Stage) -> Death:
    content = stage.model.read_bytes()
    return stage.ends(stage.file(content[:4] + (99).to_bytes(4, "little") + content[8:]))


def cut_header(stage: Stage) -> Death:
    return stage.ends(stage.file(stage.model.read_bytes()[:200]))


def cut_data(stage: Stage) -> Death:
    return stage.ends(stage.file(stage.model.read_bytes()[:-1]))


def wrong_architecture(stage: Stage) -> Death:
    content = stage.model.read_bytes()
    at = content.index(b"llama", content.index(b"general.architecture") + 20)
    return stage.ends(stage.file(content[:at] + b"lxama" + content[at + 5 :]))


def bad_flag(stage: Stage) -> Death:
    return stage.ends(stage.model, "--no-such-flag")


def bad_value(stage: Stage) -> Death:
    return stage.ends(stage.model, "--ctx-size", "many")


def port_in_use(stage: Stage) -> Death:
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        return stage.ends(stage.model, port=int(taken.getsockname()[1]))


def wide_model(stage: Stage) -> Path:
    """Make a model with a cache of 2 GiB for 131,072 tokens."""
    path = stage.scratch / "wide.gguf"
    return make_model(path, "--layers", "8", "--embd", "512", "--heads", "8", "--ctx", "131072")


def no_room_for_the_cache(stage: Stage) -> Death:
    return stage.ends(wide_model(stage), "--ctx-size", "131072", space_bytes=1024 * MIB)


def load_heavy(stage: Stage, mode: str, space_bytes: int) -> Death:
    """Load a model whose weights are 258 MiB, and remove it."""
    path = make_model(stage.scratch / "heavy.gguf", "--layers", "8", "--embd", "1024", "--ff", "4096")
    try:
        return stage.ends(path, "--load-mode", mode, space_bytes=space_bytes)
    finally:
        path.unlink()


def no_room_for_the_weights(stage: Stage) -> Death:
    return load_heavy(stage, "none", 300 * MIB)


def no_room_for_the_mapping(stage: Stage) -> Death:
    return load_heavy(stage, "mmap", 250 * MIB)


def no_room_to_compute(stage: Stage) -> Death:
    return stage.ends(stage.model, space_bytes=200 * MIB)


def no_threads(stage: Stage) -> Death:
    return stage.ends(stage.model, space_bytes=100 * MIB)


def terminated_while_loading(stage: Stage) -> Death:
    """End a server before it has a handler of signals, which it installs once the model is loaded."""
    process = stage.run(wide_model(stage), "--ctx-size", "32768")
    assert process.stdout is not None
    begun: list[bytes] = []
    for line in process.stdout:
        begun.append(line)
        if b"loading model" in line:
            break
    process.send_signal(signal.SIGTERM)
    death = ended(process)
    return Death(death.status, (*(line.decode(errors="replace").rstrip() for line in begun), *death.lines))


def truncated_while_serving(stage: Stage) -> Death:
    """Cut the file of a model that is mapped: the next request touches what is no longer there."""
    model = stage.scratch / "served.gguf"
    shutil.copy(stage.model, model)
    port = free_port()
    process = stage.run(model, port=port)
    until_ready(port)
    os.truncate(model, 0)
    body = b'{"prompt": "once upon a time", "n_predict": 4, "ignore_eos": true}'
    with contextlib.suppress(OSError):  # it dies while it is asked
        urllib.request.urlopen(f"http://127.0.0.1:{port}/completion", body, timeout=PATIENCE_S).close()
    return ended(process)


def until_ready(port: int) -> None:
    give_up_s = time.monotonic() + PATIENCE_S
    while True:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1.0).close()
        except (OSError, urllib.error.URLError):
            assert time.monotonic() < give_up_s, "the server is not ready"
            time.sleep(0.01)
        else:
            return


DEATHS: Final[Mapping[str, Callable[[Stage], Death]]] = {
    one.__name__: one
    for one in (
        missing,
        empty,
        wrong_magic,
        wrong_version,
        cut_header,
        cut_data,
        wrong_architecture,
        bad_flag,
        bad_value,
        port_in_use,
        no_room_for_the_cache,
        no_room_for_the_weights,
        no_room_for_the_mapping,
        no_room_to_compute,
        no_threads,
        terminated_while_loading,
        truncated_while_serving,
    )
}


def version_of(server: LlamaServer) -> str:
    """Return what `--version` says in its first line."""
    done = subprocess.run(
        [*server.command, "--version"], capture_output=True, text=True, timeout=30, check=True
    )
    return (done.stderr or done.stdout).partition("\n")[0]


def main(model: str, scratch: str, out: str) -> None:
    server = servers.installed_binary()
    assert server is not None, "no llama-server is installed"
    stage = Stage(server, Path(model), Path(scratch))
    for name, die in DEATHS.items():
        death = die(stage)
        kept = "\n".join(plain(line, stage.scratch) for line in death.lines[-40:])
        text = f"# {version_of(server)}\n# status {death.status}\n{kept}\n"
        (Path(out) / f"{name}.txt").write_text(text, encoding="utf-8")


def plain(line: str, scratch: Path) -> str:
    """Return a line without the colours of a terminal and the folder of the day."""
    return re.sub(r"\x1b\[[0-9;]*m", "", line).replace(str(scratch), "/models").rstrip()


if __name__ == "__main__":
    main(*sys.argv[1:])
