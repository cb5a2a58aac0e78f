"""Words and types are as the frameworks give them; each row says where it was seen."""

import errno
from collections.abc import Callable
from typing import NoReturn

import pytest

from supervisor.guard.oom import Failure, classify


def foreign(name: str, base: type[Exception] = RuntimeError) -> type[Exception]:
    """Make a type as a framework names it: `torch.cuda.OutOfMemoryError`."""
    module, _, own = name.rpartition(".")
    return type(own, (base,), {"__module__": module})


TORCH_OOM = (
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.15 "
    "GiB of which 1.20 GiB is "
    "free. Process 4242 has 77.94 GiB memory in use."
)
ACCELERATOR_TAIL = (
    "\nCUDA kernel errors might be asynchronously reported at some other API call, so the "
    "stacktrace below might "
    "be incorrect.\nFor debugging consider passing CUDA_LAUNCH_BLOCKING=1\n"
    "Compile with `TORCH_USE_CUDA_DSA` to enable device-side assertions."
)
LLAMA_LOG = (
    "ggml_backend_cuda_buffer_type_alloc_buffer: allocating 7825.94 MiB on device 0: "
    "cudaMalloc failed: out of memory\n"
    "llama_model_load: error loading model: failed to allocate buffer\n"
)
LLAMA_HOST_LOG = (
    "ggml_backend_cpu_buffer_type_alloc_buffer: failed to allocate buffer of size 17179869216\n"
    "llama_kv_cache_init: failed to allocate buffer for kv cache\n"
)


@pytest.mark.parametrize(
    ("type_", "text"),
    [
        # torch: c10/cuda/CUDACachingAllocator.cpp, by its three names
        (foreign("torch.OutOfMemoryError"), TORCH_OOM),
        (foreign("torch.cuda.OutOfMemoryError"), TORCH_OOM),
        (foreign("torch._C._OutOfMemoryError"), TORCH_OOM),
        # the cudaMallocAsync backend has words of its own
        (
            foreign("torch.OutOfMemoryError"),
            "Allocation on device 0 would exceed allowed memory. (out of memory)",
        ),
        # torch before 1.13; pytorch#18853
        (
            RuntimeError,
            (
                "CUDA out of memory. Tried to allocate 1024.00 MiB (GPU 0; 15.90 GiB total capacity; "
                "14.25 GiB already "
                "allocated; 991.56 MiB free; 607.00 KiB cached)"
            ),
        ),
        (
            RuntimeError,
            "cuda runtime error (2) : out of memory at torch/lib/THC/generic/THCStorage.cu:65",
        ),  # pytorch#465
        # no full stop, which accelerate's find_executable_batch_size waits for; ComfyUI#13210, Wan2GP#1083
        (foreign("torch.AcceleratorError"), f"CUDA error: out of memory{ACCELERATOR_TAIL}"),
        (RuntimeError, f"CUDA error: out of memory{ACCELERATOR_TAIL}"),
        (foreign("torch.AcceleratorError"), f"HIP error: out of memory{ACCELERATOR_TAIL}"),
        (foreign("torch.OutOfMemoryError"), "HIP out of memory. Tried to allocate 20.00 MiB."),
        (RuntimeError, "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        (
            RuntimeError,
            (
                "cuDNN error: CUDNN_STATUS_NOT_SUPPORTED. This error may appear if you passed in a "
                "non-contiguous input."
            ),
        ),
        # pytorch#112377, #112950, #185240
        (
            RuntimeError,
            (
                "NVML_SUCCESS == r INTERNAL ASSERT FAILED at "
                '"../c10/cuda/CUDACachingAllocator.cpp":995, please report a '
                "bug to PyTorch. "
            ),
        ),
        (
            RuntimeError,
            (
                "NVML_SUCCESS == DriverAPI::get()->nvmlInit_v2_() INTERNAL ASSERT FAILED at "
                '"../c10/cuda/CUDACachingAllocator.cpp":1123, please report a bug to PyTorch.'
            ),
        ),
        # ComfyUI#7440
        (
            RuntimeError,
            (
                "MPS backend out of memory (MPS allocated: 9.57 GiB, other allocations: 17.35 GiB, max "
                "allowed: 27.20 GiB). Tried to allocate 292.50 MiB on private pool."
            ),
        ),
        # as a DataLoader or DataParallel raises it again
        (
            RuntimeError,
            (
                "Caught OutOfMemoryError in replica 0 on device 0.\nOriginal Traceback (most recent "
                "call last):\n"
                f"  File ...\ntorch.OutOfMemoryError: {TORCH_OOM}\n"
            ),
        ),
        # CuPy: cupy#2242, and before it cupy#1912; a MemoryError by ancestry
        (
            foreign("cupy.cuda.memory.OutOfMemoryError", MemoryError),
            "Out of memory allocating 25,600,000 bytes (allocated so far: 3,635,267,072 bytes).",
        ),
        (RuntimeError, "Out of memory allocating 25,600,000 bytes (allocated so far: 3,635,267,072 bytes)."),
        (RuntimeError, "out of memory to allocate 1073741824 bytes (total 12373894656 bytes)"),
        (
            foreign("cupy_backends.cuda.api.runtime.CUDARuntimeError"),
            "cudaErrorMemoryAllocation: out of memory",
        ),
        (
            MemoryError,
            (
                "std::bad_alloc: out_of_memory: CUDA error at: cuda_memory_resource.hpp:70: "
                "cudaErrorMemoryAllocation out of memory"
            ),
        ),  # RMM
        # JAX: alphafold#1023, #197, AFProfile#8
        (
            foreign("jaxlib.xla_extension.XlaRuntimeError"),
            "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 7406166528 bytes.",
        ),
        (RuntimeError, "Resource exhausted: Out of memory while trying to allocate 12582912 bytes."),
        (
            RuntimeError,
            (
                "Bad StatusOr access: RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. "
                "Ran out of memory in memory space hbm."
            ),
        ),
        (
            foreign("tensorflow.python.framework.errors_impl.ResourceExhaustedError", Exception),
            (
                "OOM when allocating tensor with shape[64,512,512] and type float on "
                "/job:localhost/replica:0/task:0/device:GPU:0 by allocator GPU_0_bfc"
            ),
        ),
        (
            RuntimeError,
            (
                "failed to alloc 2740606464 bytes unified memory; result: CUDA_ERROR_OUT_OF_MEMORY: "
                "out of memory"
            ),
        ),
        # llama-cpp-python: abetlen/llama-cpp-python#1944; -2 is GGML_STATUS_ALLOC_FAILED in llama-context.cpp
        (ValueError, "Failed to create llama_context"),
        (RuntimeError, "llama_decode returned -2"),
        # vLLM at its start
        (
            ValueError,
            (
                "No available memory for the cache blocks. Try increasing `gpu_memory_utilization` "
                "when initializing "
                "the engine."
            ),
        ),
        (
            ValueError,
            (
                "Free memory on device (10.1/79.1 GiB) on startup is less than desired GPU memory "
                "utilization (0.9, 71.2 GiB)."
            ),
        ),
    ],
)
def test_a_full_device_is_known_in_every_frameworks_words(type_: type[Exception], text: str) -> None:
    assert classify(type_(text)) is Failure.DEVICE_OOM


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        MemoryError("std::bad_alloc"),
        RuntimeError("std::bad_alloc"),
        foreign("numpy._core._exceptions._ArrayMemoryError", MemoryError)(
            "Unable to allocate 7.45 GiB for an array with shape (1000000000,) and data type float64"
        ),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate "
            "memory: you tried to "
            "allocate 2359296 bytes. Error code 12 (Cannot allocate memory)"
        ),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:80] data. DefaultCPUAllocator: not enough memory: you "
            "tried to allocate "
            "8589934592 bytes."
        ),
        RuntimeError(
            "unable to mmap 1073741824 bytes from file </model/weights.bin>: Cannot allocate memory (12)"
        ),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        foreign("ray.exceptions.OutOfMemoryError", Exception)("Task was killed due to the node running low"),
        foreign("tensorflow.python.framework.errors_impl.ResourceExhaustedError", Exception)(
            "OOM when allocating tensor with shape[64,512] and type float on "
            "/job:localhost/replica:0/task:0/device:CPU:0 by allocator cpu"
        ),
    ],
    ids=lambda error: f"{type(error).__name__}-{error}"[:60],
)
def test_a_full_host_is_told_from_a_full_device(error: Exception) -> None:
    assert classify(error) is Failure.HOST_OOM


@pytest.mark.parametrize(
    ("type_", "text"),
    [
        (foreign("torch.AcceleratorError"), "CUDA error: an illegal memory access was encountered"),
        (RuntimeError, f"CUDA error: an illegal memory access was encountered{ACCELERATOR_TAIL}"),
        (RuntimeError, "Triton Error [CUDA]: an illegal memory access was encountered"),
        (
            foreign("cupy_backends.cuda.api.driver.CUDADriverError"),
            "CUDA_ERROR_ILLEGAL_ADDRESS: an illegal memory access was encountered",
        ),
        (foreign("torch.AcceleratorError"), "CUDA error: device-side assert triggered"),
        (RuntimeError, "CUDA error: unspecified launch failure"),
        (RuntimeError, "HIP error: unspecified launch failure"),
        (RuntimeError, "CUDA error: misaligned address"),
        (RuntimeError, "CUDA error: an illegal instruction was encountered"),
        (RuntimeError, "CUDA error: the launch timed out and was terminated"),
        (RuntimeError, "CUDA error: uncorrectable ECC error encountered"),
        (
            RuntimeError,
            "CUDA error: Invalid access of peer GPU memory over nvlink or a hardware error",
        ),
        (
            RuntimeError,
            "!handles_.at(i) INTERNAL ASSERT FAILED at CUDACachingAllocator.cpp",
        ),  # pytorch#188008
        (RuntimeError, "level_zero backend failed with error: 20 (UR_RESULT_ERROR_DEVICE_LOST)"),
        (foreign("vllm.v1.engine.exceptions.EngineDeadError", Exception), "EngineCore encountered an issue."),
    ],
)
def test_a_context_that_nothing_can_mend_is_known(type_: type[Exception], text: str) -> None:
    assert classify(type_(text)) is Failure.POISONED_CONTEXT


@pytest.mark.parametrize(
    "error",
    [
        ValueError("the image has no pixels"),
        RuntimeError("mat1 and mat2 shapes cannot be multiplied (3x4 and 5x6)"),
        RuntimeError(
            f"CUDA error: invalid device ordinal{ACCELERATOR_TAIL}"
        ),  # its tail names device-side assertions
        # a kernel's scratch memory: triton#8182, pytorch/xla#9524
        foreign("triton.runtime.errors.OutOfResources", Exception)(
            "out of resource: shared memory, Required: 131072, Hardware limit: 101376. Reducing "
            "block sizes or "
            "`num_stages` may help."
        ),
        RuntimeError(
            "Bad StatusOr access: RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. "
            "Ran out of memory in memory space vmem."
        ),
        # RESOURCE_EXHAUSTED that is not of memory
        foreign("google.api_core.exceptions.ResourceExhausted", Exception)(
            "429 RESOURCE_EXHAUSTED: Quota exceeded for quota metric"
        ),
        RuntimeError("StatusCode.RESOURCE_EXHAUSTED: Received message larger than max (5000000 vs. 4194304)"),
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("llama_decode returned 1"),  # no room in the KV cache, which is not memory
        RuntimeError("llama_decode returned -1"),
        RuntimeError("llama_decode returned -20"),
        ValueError("Failed to load model from file: /models/chat.gguf"),
        ValueError("Requested tokens (1207) exceed context window of 1024"),
        RuntimeError("can't start new thread"),
        # errors of the program, quoting what they are about
        KeyError("CUDA out of memory"),
        TypeError("CUDA out of memory. Tried to allocate must be str"),
        AssertionError("expected 'CUDA error: an illegal memory access was encountered'"),
        KeyboardInterrupt("CUDA out of memory"),
        SystemExit(1),
        RuntimeError(),
    ],
    ids=lambda error: f"{type(error).__name__}-{error}"[:60],
)
def test_other_failures_are_not_taken_for_out_of_memory(error: BaseException) -> None:
    assert classify(error) is Failure.OTHER


def caught(raising: Callable[[], NoReturn]) -> BaseException:
    try:
        raising()
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is what the test is about
        return error


def throw(error: BaseException, cause: Exception | None = None) -> NoReturn:
    if cause is None:
        raise error
    raise error from cause


def wrapped(error: Exception, outer: Exception) -> BaseException:
    return caught(lambda: throw(outer, error))


def during(error: Exception, outer: BaseException) -> BaseException:
    def raising() -> NoReturn:
        try:
            throw(error)
        finally:
            throw(outer)

    return caught(raising)


OOM = RuntimeError(TORCH_OOM)
POISONED = RuntimeError("CUDA error: unspecified launch failure")


def test_a_wrapped_out_of_memory_is_found_through_the_cause() -> None:
    assert classify(wrapped(OOM, ValueError("cannot serve request 7"))) is Failure.DEVICE_OOM


def test_an_out_of_memory_that_another_error_covered_is_found_through_the_context() -> None:
    assert classify(during(OOM, KeyError("cache"))) is Failure.DEVICE_OOM


def test_an_error_raised_from_none_is_judged_alone() -> None:
    error = during(OOM, ValueError("bad request"))
    error.__suppress_context__ = True
    assert classify(error) is Failure.OTHER


def test_an_interrupt_while_recovering_stays_an_interrupt() -> None:
    assert classify(during(OOM, KeyboardInterrupt())) is Failure.OTHER


def test_of_two_out_of_memories_the_last_counts() -> None:
    on_the_way = during(
        OOM, RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8")
    )
    assert classify(on_the_way) is Failure.HOST_OOM


def test_a_poisoned_context_counts_however_deep_it_lies() -> None:
    assert classify(wrapped(POISONED, RuntimeError("CUDA out of memory. Tried"))) is Failure.POISONED_CONTEXT


def test_groups_are_looked_through() -> None:
    nested = ExceptionGroup("workers", [ValueError("one"), ExceptionGroup("gpu", [OOM])])
    assert classify(nested) is Failure.DEVICE_OOM
    assert classify(ExceptionGroup("both", [OOM, POISONED])) is Failure.POISONED_CONTEXT
    assert classify(ExceptionGroup("CUDA out of memory", [ValueError("one")])) is Failure.OTHER


def test_a_group_that_holds_an_interrupt_is_no_out_of_memory() -> None:
    assert classify(BaseExceptionGroup("both", [OOM, KeyboardInterrupt()])) is Failure.OTHER


def test_a_chain_that_bites_its_tail_ends() -> None:
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    assert classify(first) is Failure.OTHER


def test_the_words_are_found_at_both_ends_of_a_long_text() -> None:
    filler = "x" * 1_000_000
    assert classify(RuntimeError(filler + TORCH_OOM)) is Failure.DEVICE_OOM
    assert classify(RuntimeError(TORCH_OOM + filler)) is Failure.DEVICE_OOM


def test_an_error_that_cannot_be_written_out_is_judged_by_its_type() -> None:
    def no_words(_self: object) -> str:
        raise ValueError("no words")

    mute = type("OutOfMemoryError", (RuntimeError,), {"__module__": "torch", "__str__": no_words})
    assert classify(mute()) is Failure.DEVICE_OOM
    assert classify(type("Mute", (RuntimeError,), {"__str__": no_words})()) is Failure.OTHER


def test_where_the_error_says_little_the_log_of_the_native_library_decides() -> None:
    error = ValueError("Failed to load model from file: /models/chat.gguf")
    assert classify(error, LLAMA_LOG) is Failure.DEVICE_OOM
    assert classify(error, LLAMA_HOST_LOG) is Failure.HOST_OOM
    assert classify(error, "llama_model_load: error loading model: unknown architecture") is Failure.OTHER


def test_an_attempt_that_llama_cpp_mended_by_itself_is_no_failure() -> None:
    error = ValueError("Failed to load model from file: /models/chat.gguf")
    log = f"{LLAMA_LOG}retrying without pipeline parallelism\nerror loading model: tensor 'x' is missing"
    assert classify(error, log) is Failure.OTHER


def test_what_the_error_says_counts_before_the_log() -> None:
    assert classify(MemoryError(), LLAMA_LOG) is Failure.HOST_OOM
