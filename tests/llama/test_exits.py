"""Why a server died: from what real servers print, and from the words of what needs a GPU."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from supervisor.guard import oom
from supervisor.llama.exits import why_it_died
from supervisor.model.verdict import Death, Verdict
from support.llama.deaths import DEATHS, Stage
from support.llama.servers import LlamaServer

KEPT = Path(__file__).parent / "deaths"

# What each real death comes to, and the words of its line that count.
REAL: dict[str, tuple[Death, str] | None] = {
    "missing": (
        Death.BAD_MODEL,
        "failed to open GGUF file '/models/missing.gguf' (No such file or directory)",
    ),
    "empty": (Death.BAD_MODEL, "failed to read magic"),
    "wrong_magic": (Death.BAD_MODEL, "invalid magic characters: 'GGML', expected 'GGUF'"),
    "wrong_version": (Death.BAD_MODEL, "this GGUF file is version 99 but this software only supports up to"),
    "cut_header": (Death.BAD_MODEL, "failed to read key-value pairs"),
    "cut_data": (Death.BAD_MODEL, "tensor 'output.weight' data is not within the file bounds"),
    "wrong_architecture": (Death.BAD_MODEL, "unknown model architecture: 'lxama'"),
    "bad_flag": (Death.BAD_ARGUMENTS, "error: invalid argument: --no-such-flag"),
    "bad_value": (Death.BAD_ARGUMENTS, 'error while handling argument "--ctx-size": stoi'),
    "port_in_use": (Death.PORT_IN_USE, "couldn't bind HTTP server socket, hostname: 127.0.0.1, port: "),
    "no_room_for_the_cache": (Death.HOST_OOM, "insufficient memory (attempted to allocate 2048.00 MB)"),
    "no_room_for_the_weights": (Death.HOST_OOM, "insufficient memory (attempted to allocate 258.07 MB)"),
    "no_room_for_the_mapping": (Death.HOST_OOM, "error loading model: mmap failed: Cannot allocate memory"),
    "no_room_to_compute": (Death.HOST_OOM, "GGML_ASSERT(ctx->mem_buffer != NULL) failed"),
    "no_threads": None,  # for want of memory, or by a limit of tasks: it does not say
    "terminated_while_loading": None,
    "truncated_while_serving": None,  # it has no time to say anything
}
STATUS = {
    "terminated_while_loading": -15,
    "truncated_while_serving": -7,
    "no_room_to_compute": -6,
    "no_threads": -6,
}
# How little is too little for these differs between builds.
OF_THIS_BUILD = {"no_room_to_compute", "no_threads"}


def agrees(verdict: Verdict | None, expected: tuple[Death, str] | None, line_of: str) -> None:
    if expected is None:
        assert verdict is None
        return
    assert verdict is not None, line_of
    assert (verdict.death, expected[1] in verdict.line) == (expected[0], True), verdict


def test_every_real_death_is_kept() -> None:
    assert {path.stem for path in KEPT.glob("*.txt")} == set(DEATHS) == set(REAL)


@pytest.mark.parametrize("name", REAL)
def test_a_real_death_has_one_cause_and_it_is_the_first(name: str) -> None:
    version, status, *lines = (KEPT / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    assert version == "# version: 0.7.0 (build 11669, commit Debian)"
    assert status == f"# status {STATUS.get(name, 1)}"
    agrees(why_it_died(lines), REAL[name], name)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in DEATHS if name not in OF_THIS_BUILD])
def test_the_server_that_is_installed_dies_of_the_same(
    name: str, llama_binary: LlamaServer, tiny_model: Path, tmp_path: Path
) -> None:
    death = DEATHS[name](Stage(llama_binary, tiny_model, tmp_path))
    assert death.status == STATUS.get(name, 1), death
    said = [line.replace(str(tmp_path), "/models") for line in death.lines]
    agrees(why_it_died(said), REAL[name], "\n".join(said))


# llama.cpp on CUDA, at load: the words are those of ggml-cuda.cu, ggml-backend.cpp and llama-context.cpp.
LOAD = """\
0.01.204.100 I srv    load_model: loading model '/models/big.gguf'
ggml_backend_cuda_buffer_type_alloc_buffer: allocating 90.00 MiB on device 0: cudaMalloc failed: out of memory
E alloc_tensor_range: failed to allocate CUDA0 buffer of size 6442450944
0.02.600.000 E llama_model_load: error loading model: unable to allocate CUDA0 buffer
0.02.600.010 E llama_model_load_from_file_impl: failed to load model
0.02.600.020 E srv  llama_server: exiting due to model loading error"""
RETRIED = """\
E ggml_gallocr_reserve_n_impl: failed to allocate CUDA0 buffer of size 900000000
W llama_context: pipeline parallelism failed, retrying without pipeline parallelism
E gguf_init_from_reader: failed to read magic"""
RUN = """\
I slot launch_slot_: id  0 | task 41 | processing task, is_child = 0
CUDA error: out of memory
  current device: 0, in function alloc at ggml-cuda.cu:503
  cuMemCreate(&handle, reserve_size, &prop, 0)
ggml-cuda.cu:96: CUDA error"""
POISONED = """\
CUDA error: an illegal memory access was encountered
  current device: 0, in function ggml_backend_cuda_synchronize at ggml-cuda.cu:2950
  cudaStreamSynchronize(cuda_ctx->stream())
ggml-cuda.cu:96: CUDA error"""
TORCH = """\
INFO:     127.0.0.1:40000 - "POST /generate HTTP/1.1" 200 OK
Traceback (most recent call last):
  File "/srv/serve.py", line 40, in <module>
    main()
torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity"""
SURVIVED = f'{TORCH}\nINFO: 127.0.0.1:40000 - "POST /generate HTTP/1.1" 200 OK\nSegmentation fault'
UVICORN = """\
INFO:     Application startup complete.
ERROR:    [Errno 98] error while attempting to bind on address ('127.0.0.1', 8000): address already in use"""
VLLM = """\
(EngineCore_0 pid=9) ERROR 11-20 core.py: EngineCore failed to start.
ValueError: Free memory on device (3.1/23.6 GiB) on startup is less than desired GPU memory utilization
(APIServer pid=1) RuntimeError: Engine core initialization failed. See root cause above."""


@pytest.mark.parametrize(
    ("printed", "death", "line"),
    [
        (LOAD, Death.VRAM_OOM, "allocating 90.00 MiB on device 0: cudaMalloc failed: out of memory"),
        (LOAD.splitlines()[3], Death.VRAM_OOM, "error loading model: unable to allocate CUDA0 buffer"),
        (RETRIED, Death.BAD_MODEL, "failed to read magic"),
        (RUN, Death.VRAM_OOM, "CUDA error: out of memory"),
        (POISONED, Death.POISONED, "an illegal memory access was encountered"),
        (TORCH, Death.VRAM_OOM, "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB"),
        (VLLM, Death.VRAM_OOM, "is less than desired GPU memory utilization"),
        ("ValueError: No available memory for the cache blocks.", Death.VRAM_OOM, "No available memory"),
        (
            "terminate called after throwing an instance of 'std::bad_alloc'\n  what():  std::bad_alloc",
            Death.HOST_OOM,
            "std::bad_alloc",
        ),
        (
            "RuntimeError: [enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory",
            Death.HOST_OOM,
            "DefaultCPUAllocator: can't allocate memory",
        ),
        ("Traceback (most recent call last):\nMemoryError", Death.HOST_OOM, "MemoryError"),
        ("OSError: [Errno 98] Address already in use", Death.PORT_IN_USE, "[Errno 98]"),
        (UVICORN, Death.PORT_IN_USE, "address already in use"),
        (
            "usage: vllm [-h]\nvllm: error: unrecognized arguments: --no-such-flag",
            Death.BAD_ARGUMENTS,
            "unrecognized arguments: --no-such-flag",
        ),
        ("CUDA error: uncorrectable ECC error encountered", Death.HARDWARE, "uncorrectable ECC error"),
        (
            "NVRM: Xid (PCI:0000:01:00): 79, pid=4711, name=llama-server, GPU has fallen off the bus.",
            Death.HARDWARE,
            "Xid (PCI:0000:01:00): 79",
        ),
    ],
)
def test_the_first_line_that_names_a_cause_counts(printed: str, death: Death, line: str) -> None:
    agrees(why_it_died(printed.splitlines()), (death, line), printed)


@pytest.mark.parametrize(
    "printed",
    [
        "",
        "Segmentation fault (core dumped)",
        "ValueError: could not convert string to float",
        "NVRM: Xid (PCI:0000:01:00): 13, pid=4711, Graphics Exception",  # the application's own
        "srv  update_slots: failed to find free space in the KV cache, retrying with smaller batch size",
        "triton.runtime.errors.OutOfResources: out of resource: shared memory, Required: 147456",
        SURVIVED,
    ],
)
def test_what_names_no_cause_has_none(printed: str) -> None:
    assert why_it_died(printed.splitlines()) is None


def test_a_long_line_is_quoted_around_the_words_that_count() -> None:
    verdict = why_it_died([f"{'x' * 300} CUDA out of memory. {'y' * 5000}"])
    assert verdict is not None
    assert verdict.line == f"...{'x' * 49} CUDA out of memory. {'y' * 130}..."


def test_only_the_begin_of_a_line_is_looked_at() -> None:
    assert why_it_died([f"{'x' * 5000} CUDA out of memory"]) is None


@pytest.mark.parametrize(
    "line", ["RESOURCE_EXHAUSTED: " * 100, "error: argument " * 125, "OOM when allocating tensor on " * 66]
)
def test_a_hostile_line_costs_no_more_than_another(line: str) -> None:
    """Nothing here is timed: what is quadratic in a line of 2,000 characters takes minutes for so many."""
    assert why_it_died([line] * 4_000 + ["failed to read magic"]) is None or "OOM" in line


@pytest.mark.parametrize("table", ["_POISONED", "_HOST_OOM", "_DEVICE_OOM"])
def test_the_guard_and_the_daemon_know_the_same_words(table: str) -> None:
    meant = {
        "_POISONED": {Death.POISONED, Death.HARDWARE},
        "_HOST_OOM": {Death.HOST_OOM},
        "_DEVICE_OOM": {Death.VRAM_OOM},
    }[table]
    known: tuple[str, ...] = vars(oom)[table]
    judged = {words: why_it_died([f"RuntimeError: {words}"]) for words in known}
    apart = {words: found for words, found in judged.items() if found is None or found.death not in meant}
    assert apart == {}


@pytest.mark.slow
def test_the_daemon_reads_real_words_of_torch(torch_worker: list[str]) -> None:
    """A real torch that is refused memory, on the CPU."""
    script = "import torch; torch.empty(1 << 50)"
    done = subprocess.run(
        [torch_worker[0], "-c", script],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        env=os.environ,
    )
    verdict = why_it_died(done.stderr.splitlines())
    assert (done.returncode, verdict and verdict.death) == (1, Death.HOST_OOM), done.stderr


def test_python_itself_says_what_the_daemon_reads() -> None:
    done = subprocess.run(
        [sys.executable, "-S", "-c", "bytearray(1 << 60)"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    verdict = why_it_died(done.stderr.splitlines())
    assert verdict == Verdict(Death.HOST_OOM, "MemoryError")
