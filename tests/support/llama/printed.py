"""Asks a real llama-server what it takes: the sizes of buffers that it prints at -lv 4, in MiB."""

import contextlib
import os
import re
import socket
import subprocess
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

from supervisor.llama.settings import Settings

SIZE = re.compile(r"(\S+) +(model|KV|RS|compute|output) buffer size = +([\d.]+) MiB")
READY = "listening on http"
PATIENCE_S = 30


@dataclass(frozen=True, slots=True)
class Printed:
    """The sizes of one place, in MiB with two decimals, several buffers of a kind added up."""

    model: float = 0.0
    kv: float = 0.0
    rs: float = 0.0
    compute: float = 0.0
    output: float = 0.0


def flags(settings: Settings) -> list[str]:
    """Return the flags that say what the settings say."""
    values = {
        "-c": settings.ctx,
        "-b": settings.batch,
        "-ub": settings.ubatch,
        "-np": settings.slots,
        "-ctk": settings.cache_k,
        "-ctv": settings.cache_v,
        "-fa": "on" if settings.flash_attention else "off",
        "-ngl": settings.n_gpu_layers,
        "--n-cpu-moe": settings.cpu_moe_layers,
    }
    found = [word for flag, value in values.items() for word in (flag, str(value))]
    return [*found, "-kvu" if settings.kv_unified else "-no-kvu"]


def printed(binary: Path, model: Path, settings: Settings, rpc: str | None = None) -> tuple[Printed, Printed]:
    """Return what the host and what the device `rpc` hold, from a server that is ended once it listens."""
    words = [str(binary), "-m", str(model), "-t", "1", "-lv", "4", "-fit", "off", "--no-warmup", "--offline"]
    words += ["--host", "127.0.0.1", "--port", str(free_port()), "--cache-ram", "0", *flags(settings)]
    environment = os.environ if rpc is None else _with_rpc(binary)
    words += [] if rpc is None else ["--rpc", rpc]
    lines: list[str] = []
    with subprocess.Popen(
        words, stderr=subprocess.PIPE, text=True, errors="replace", env=environment
    ) as server:
        assert server.stderr is not None
        try:
            for line in server.stderr:
                lines.append(line)
                if READY in line:
                    break
            else:
                raise AssertionError("".join(lines))
        finally:
            server.kill()
    found = SIZE.findall("".join(lines))
    return _summed(found, device=False), _summed(found, device=True)


def _summed(found: list[tuple[str, str, str]], *, device: bool) -> Printed:
    def summed(wanted: str) -> float:
        sizes = [
            float(mib) for name, kind, mib in found if kind == wanted and name.startswith("RPC") == device
        ]
        return round(sum(sizes), 2)

    return Printed(summed("model"), summed("KV"), summed("RS"), summed("compute"), summed("output"))


def fit_params(binary: Path, model: Path, settings: Settings) -> tuple[int, int, int]:
    """Return what llama-fit-params -fitp says of the host: model, context and compute in whole MiB.

    It knows no slots; of the settings only the context is passed on.
    """
    environment = {**os.environ, "LD_LIBRARY_PATH": str(binary.parent)}
    words = [
        str(binary.parent / "llama-fit-params"),
        "-m",
        str(model),
        "-fitp",
        "on",
        "-c",
        str(settings.ctx),
    ]
    done = subprocess.run(
        words, env=environment, capture_output=True, text=True, timeout=PATIENCE_S, check=True
    )
    sizes = next(line for line in done.stdout.splitlines() if line.startswith("Host")).split()[1:]
    first, second, third = map(int, sizes)
    return first, second, third


@contextlib.contextmanager
def rpc_device(binary: Path) -> Generator[str]:
    """Run a device that this machine's CPU plays; yield its address."""
    port = free_port()
    words = [str(binary.parent / "ggml-rpc-server"), "-p", str(port)]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(words, stdout=quiet, stderr=quiet, env=_with_rpc(binary)) as server:
        try:
            deadline = time.monotonic() + PATIENCE_S
            while not _answers(port):
                assert server.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.02)
            yield f"127.0.0.1:{port}"
        finally:
            server.kill()


def _with_rpc(binary: Path) -> dict[str, str]:
    return {**os.environ, "GGML_BACKEND_PATH": str(binary.parent / "rpc/libggml-rpc.so")}


def _answers(port: int) -> bool:
    with socket.socket() as asking:
        return asking.connect_ex(("127.0.0.1", port)) == 0


def free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])
