"""Tells out-of-memory from other failures, by the error's type and words; no framework is imported for it."""

import errno
import re
from collections.abc import Iterator
from enum import StrEnum
from typing import Final

_LONGEST_TEXT: Final = 8192  # at each end: a DataLoader puts a whole traceback before the words that count


class Failure(StrEnum):
    """What went wrong, as far as a retry is concerned."""

    DEVICE_OOM = "device-oom"
    """The device's memory ran out: smaller work may pass."""
    HOST_OOM = "host-oom"
    """The machine's memory, or the cgroup's, ran out: smaller work may pass, the CPU is no refuge."""
    POISONED_CONTEXT = "poisoned-context"
    """The device's context is lost; every later call fails, and only a new process has a new one."""
    BRAKE = "brake"
    """The emergency brake: the work is to end, whatever else the words quote."""
    OTHER = "other"
    """None of these: to try again smaller is no remedy."""


# Sources: the CUDA runtime's error names with "the process must be terminated and relaunched" in their
# description (cudaErrorIllegalAddress 700 and others), HIP's twins, Level Zero, Vulkan, pytorch#188008, vLLM.
_POISONED: Final = (
    "an illegal memory access was encountered",
    "CUDA_ERROR_ILLEGAL_ADDRESS",
    # The whole of it: torch ends every CUDA error with how "to enable device-side assertions".
    "device-side assert triggered",
    "unspecified launch failure",
    "CUDA_ERROR_LAUNCH_FAILED",
    "an illegal instruction was encountered",
    "CUDA error: misaligned address",
    "CUDA error: invalid program counter",
    "CUDA error: hardware stack error",
    "CUDA error: operation not supported on global/shared address space",
    "the launch timed out and was terminated",
    "CUDA error: context is destroyed",
    "uncorrectable ECC error encountered",
    "uncorrectable NVLink error detected",
    "Invalid access of peer GPU memory over nvlink or a hardware error",
    "!handles_.at(i) INTERNAL ASSERT FAILED",
    "UR_RESULT_ERROR_DEVICE_LOST",
    "ErrorDeviceLost",
)

# Looked for before the device's: llama.cpp goes on to say of either that the buffer for the cache failed.
_HOST_OOM: Final = (
    "DefaultCPUAllocator: can't allocate memory",  # c10/core/impl/alloc_cpu.cpp
    "DefaultCPUAllocator: not enough memory",  # the same on Windows
    ": Cannot allocate memory (12)",  # torch: unable to mmap ... bytes from file
    "failed to allocate CPU buffer of size",  # llama.cpp
    "ggml_backend_cpu_buffer_type_alloc_buffer: failed to allocate buffer of size",
    "ErrorOutOfHostMemory",
    "CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED",
)

_DEVICE_OOM: Final = (
    "CUDA out of memory",  # c10/cuda/CUDACachingAllocator.cpp; with and without "Tried to allocate"
    "HIP out of memory",
    "XPU out of memory",
    "NPU out of memory",
    "MPS backend out of memory",  # aten/src/ATen/mps/MPSAllocator.mm
    "CUDA error: out of memory",  # torch.AcceleratorError, and llama.cpp before it aborts
    "HIP error: out of memory",
    "cuda runtime error (2) : out of memory",  # torch before 1.5; pytorch#465
    "CUDA_ERROR_OUT_OF_MEMORY",  # the driver API: TensorFlow, XLA, Numba
    "cudaErrorMemoryAllocation",  # the runtime API: CuPy, RMM
    "hipErrorOutOfMemory",
    "cuMemAlloc failed: out of memory",  # PyCUDA
    "Cuda failure 2 'out of memory'",  # NCCL
    "CUBLAS_STATUS_ALLOC_FAILED",
    "HIPBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
    "CUSOLVER_STATUS_ALLOC_FAILED",
    "CUSPARSE_STATUS_INSUFFICIENT_RESOURCES",
    "CUFFT_ALLOC_FAILED",
    "cuDNN error: CUDNN_STATUS_NOT_SUPPORTED",  # want of workspace; accelerate and Lightning think so too
    "UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY",
    "ErrorOutOfDeviceMemory",  # Vulkan, as llama.cpp says it
    "kIOGPUCommandBufferCallbackErrorOutOfMemory",  # Metal
    "[metal::malloc] Attempting to allocate",  # MLX
    "cudaMalloc failed: out of memory",  # llama.cpp, in its log
    "failed to allocate buffer for kv cache",
    "failed to allocate compute pp buffers",
    "failed to allocate compute buffers",
    "Failed to create llama_context",  # llama-cpp-python: the weights were loaded, the cache found no room
    "No available memory for the cache blocks",  # vLLM
    "is less than desired GPU memory utilization",
)

# What takes more than fixed words.
_HOST_PATTERN: Final = re.compile(
    r"OOM when allocating tensor.* on \S*device:CPU"  # TensorFlow
    r"|\Astd::bad_alloc\Z"  # C++; RMM's goes on with what CUDA said
)
_DEVICE_PATTERN: Final = re.compile(
    r"OOM when allocating tensor"
    # XLA. Only with words of memory: gRPC and rate limits say RESOURCE_EXHAUSTED too.
    r"|(?:RESOURCE_EXHAUSTED|Resource exhausted): .*?"
    r"(?:out of memory|failed to allocate|Attempting to (?:allocate|reserve)|memory space hbm)"
    # An assertion in CUDACachingAllocator.cpp while it words an OOM: pytorch#112377, #185240 (Jetson)
    r"|NVML_SUCCESS == .* INTERNAL ASSERT FAILED at \S*CUDACachingAllocator\.cpp"
    r"|(?:unable|failed) to allocate (?:CUDA|ROCm|Vulkan|SYCL|MTL|Metal)\d* buffer"  # llama.cpp
    r"|llama_(?:decode|encode) returned -2(?!\d)"  # GGML_STATUS_ALLOC_FAILED, in llama-context.cpp
    # CuPy's words, where its type is lost: cupy#2242, and before it cupy#314
    r"|^Out of memory allocating [\d,]+ bytes|^out of memory to allocate \d+ bytes",
    re.IGNORECASE,
)

# A kernel's own scratch memory: no batch is small enough.
_SCRATCH: Final = re.compile(r"out of resource: shared memory|memory space [vs]mem\b", re.IGNORECASE)

_MENDED: Final = "retrying without pipeline parallelism"  # llama.cpp: what was refused before it was no end

# By the qualified name, along the type's ancestry; the text may then be anything ("Allocation on device 0").
_TYPES: Final = {
    "torch.OutOfMemoryError": Failure.DEVICE_OOM,
    "torch.cuda.OutOfMemoryError": Failure.DEVICE_OOM,  # until torch 2.4
    "torch._C._OutOfMemoryError": Failure.DEVICE_OOM,
    "cupy.cuda.memory.OutOfMemoryError": Failure.DEVICE_OOM,  # a MemoryError
    "pycuda._driver.MemoryError": Failure.DEVICE_OOM,
    "ray.exceptions.OutOfMemoryError": Failure.HOST_OOM,
    "vllm.v1.engine.exceptions.EngineDeadError": Failure.POISONED_CONTEXT,  # its engine is another process
    "supervisor.guard.brake.MemoryEmergency": Failure.BRAKE,
    "optuna.exceptions.TrialPruned": Failure.BRAKE,
}

# No framework says by one of these that memory ran out; they quote what they are about, be it such words.
_NEVER: Final = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    NameError,
    SyntaxError,
    TypeError,
    UnicodeError,
)


def classify(error: BaseException, log: str = "") -> Failure:
    """Tell what kind of failure `error` is, by itself and by the errors that it came from or holds.

    `log` is what a native library wrote while it failed, where its error says less: llama-cpp-python raises
    "Failed to load model from file" for a bad file and for a full GPU alike, and llama.cpp's log knows which.

    A poisoned context counts wherever it is found, since it does not pass; else the brake or the
    out-of-memory error that is nearest to the surface. KeyboardInterrupt and the like are OTHER, whatever
    they interrupted.
    """
    if not isinstance(error, Exception):
        return Failure.OTHER
    kinds = [kind for each in _related(error) if (kind := _kind_of(each)) is not Failure.OTHER]
    if Failure.POISONED_CONTEXT in kinds:
        return Failure.POISONED_CONTEXT
    if kinds:
        return kinds[0]
    return _kind_in_words(log.rpartition(_MENDED)[2])


def _related(error: BaseException) -> Iterator[BaseException]:
    """Yield the error, those it holds and those it came from, nearest first and each once."""
    found: list[BaseException] = [error]
    seen = {id(error)}
    for each in found:  # which grows
        yield each
        for other in _next_to(each):
            if id(other) not in seen:
                seen.add(id(other))
                found.append(other)


def _next_to(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        yield from error.exceptions  # pyright: ignore[reportUnknownMemberType] - of whatever it holds
    if error.__cause__ is not None:
        yield error.__cause__
    elif error.__context__ is not None and not error.__suppress_context__:
        yield error.__context__


def _kind_of(error: BaseException) -> Failure:
    if isinstance(error, BaseExceptionGroup) or not isinstance(error, Exception) or isinstance(error, _NEVER):
        return Failure.OTHER
    for ancestor in type(error).__mro__:
        kind = _TYPES.get(f"{ancestor.__module__}.{ancestor.__qualname__}")
        if kind is not None:
            return kind
    in_words = _kind_in_words(_words_of(error))
    if in_words is not Failure.OTHER:
        return in_words
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return Failure.HOST_OOM
    return Failure.OTHER


def _kind_in_words(text: str) -> Failure:
    if not text:
        return Failure.OTHER
    text = text if len(text) <= 2 * _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}\n{text[-_LONGEST_TEXT:]}"
    if any(words in text for words in _POISONED):
        return Failure.POISONED_CONTEXT
    if _SCRATCH.search(text):
        return Failure.OTHER
    if any(words in text for words in _HOST_OOM) or _HOST_PATTERN.search(text):
        return Failure.HOST_OOM
    if any(words in text for words in _DEVICE_OOM) or _DEVICE_PATTERN.search(text):
        return Failure.DEVICE_OOM
    return Failure.OTHER


def _words_of(error: Exception) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - a foreign __str__ may raise anything, and the failure is still to be told
        return ""
