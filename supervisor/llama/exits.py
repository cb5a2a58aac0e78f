"""Why a server died, from its last lines: one cause, the first of them; pure.

The words are those of llama.cpp, and of what else serves (torch, vLLM, TGI, torchserve, Triton). An exit
status tells nothing: llama-server 0.7.0 ends with 1 for a bad flag, a missing model, a port in use and want
of memory alike, and its last line is "exiting due to model loading error" for want of memory too.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Final

from supervisor.model.verdict import Death, Verdict
from supervisor.model.xid import HARDWARE

LINE_CHARACTERS: Final = 200  # quoted, of the line that tells
_LOOKED_AT: Final = 500  # characters of a line: a worker may print anything

# Sources: the real server's output in tests/llama/deaths; ggml-cuda.cu, llama-context.cpp and server.cpp of
# llama.cpp; the CUDA runtime's error names; c10/cuda/CUDACachingAllocator.cpp; Xids as NVIDIA documents them.
# A line is held against them from the top: "error loading model: unable to allocate CUDA0 buffer" is VRAM.
# Plain words, and patterns that begin with some: 200 ordinary lines take 1 ms, as one pattern a death 30.
_Table = Sequence[tuple[Death, tuple[str, ...], tuple[str, ...]]]
_WORDS: Final[_Table] = (
    (
        Death.HARDWARE,
        (
            "GPU has fallen off the bus",
            "GPU is lost",
            "CUDA_ERROR_ECC_UNCORRECTABLE",
            "uncorrectable ECC error encountered",
            "CUDA_ERROR_NVLINK_UNCORRECTABLE",
            "uncorrectable NVLink error detected",
            "Invalid access of peer GPU memory over nvlink or a hardware error",
            "CUDA error: hardware stack error",
        ),
        # Only those of the hardware: others are the application's own.
        (rf"NVRM: Xid \([^)]{{1,40}}\): (?:{'|'.join(map(str, HARDWARE))})\b",),
    ),
    (
        Death.POISONED,
        (
            "an illegal memory access was encountered",
            "CUDA_ERROR_ILLEGAL_ADDRESS",
            "device-side assert triggered",
            "an illegal instruction was encountered",
            "unspecified launch failure",
            "CUDA_ERROR_LAUNCH_FAILED",
            "the launch timed out and was terminated",
            "CUDA error: misaligned address",
            "CUDA error: invalid program counter",
            "CUDA error: context is destroyed",
            "CUDA error: operation not supported on global/shared address space",
            "!handles_.at(i) INTERNAL ASSERT FAILED",  # pytorch#188008
            "UR_RESULT_ERROR_DEVICE_LOST",
            "ErrorDeviceLost",
        ),
        (),
    ),
    (
        Death.HOST_OOM,
        (
            "ggml_aligned_malloc: insufficient memory",
            "failed to allocate CPU buffer",
            "unable to allocate CPU buffer",
            "ggml_backend_cpu_buffer_type_alloc_buffer: failed to allocate buffer of size",
            "GGML_ASSERT(ctx->mem_buffer != NULL) failed",
            "Cannot allocate memory",
            "DefaultCPUAllocator: can't allocate memory",
            "DefaultCPUAllocator: not enough memory",
            "ErrorOutOfHostMemory",
            "CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED",
        ),
        (r"OOM when allocating tensor.{0,200}? on \S{0,80}device:CPU",),
    ),
    (
        Death.VRAM_OOM,
        (
            "CUDA out of memory",
            "HIP out of memory",
            "XPU out of memory",
            "NPU out of memory",
            "MPS backend out of memory",
            "torch.OutOfMemoryError",
            "torch.cuda.OutOfMemoryError",
            "cupy.cuda.memory.OutOfMemoryError",
            "CUDA error: out of memory",
            "HIP error: out of memory",
            "cudaMalloc failed: out of memory",
            "hipMalloc failed: out of memory",
            "cuMemAlloc failed: out of memory",
            "cuda runtime error (2) : out of memory",
            "Cuda failure 2 'out of memory'",  # NCCL
            "CUDA_ERROR_OUT_OF_MEMORY",
            "cudaErrorMemoryAllocation",
            "hipErrorOutOfMemory",
            "CUBLAS_STATUS_ALLOC_FAILED",
            "HIPBLAS_STATUS_ALLOC_FAILED",
            "CUDNN_STATUS_ALLOC_FAILED",
            "CUSOLVER_STATUS_ALLOC_FAILED",
            "CUFFT_ALLOC_FAILED",
            "CUSPARSE_STATUS_INSUFFICIENT_RESOURCES",
            "CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
            "cuDNN error: CUDNN_STATUS_NOT_SUPPORTED",
            "UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY",
            "ErrorOutOfDeviceMemory",
            "kIOGPUCommandBufferCallbackErrorOutOfMemory",
            "[metal::malloc] Attempting to allocate",
            # Of the CPU's memory llama.cpp says so in a line before these.
            "failed to allocate buffer for kv cache",
            "failed to allocate compute pp buffers",
            "failed to allocate compute buffers",
            "Failed to create llama_context",
            "OOM when allocating tensor",  # TensorFlow
            "No available memory for the cache blocks",  # vLLM
            "is less than desired GPU memory utilization",
        ),
        (
            r" to allocate (?:CUDA|ROCm|Vulkan|SYCL|MTL|Metal)\w{0,9} buffer",
            r"code returned -2(?!\d)",  # of llama_decode and llama_encode
            r"NVML_SUCCESS == .{0,200}? INTERNAL ASSERT FAILED at \S{0,200}CUDACachingAllocator\.cpp",
            # Only with words of memory: gRPC and rate limits say RESOURCE_EXHAUSTED too.
            r"(?:RESOURCE_EXHAUSTED|Resource exhausted): .{0,80}?(?:[Oo]ut of memory|[Ff]ailed to allocate)",
            r"RESOURCE_EXHAUSTED: .{0,80}?(?:Attempting to (?:allocate|reserve)|memory space hbm)",
        ),
    ),
    (
        Death.HOST_OOM,  # after what is said of a GPU: pycuda and RMM say theirs with these words in front
        ("MemoryError", "std::bad_alloc"),
        (),
    ),
    (
        Death.PORT_IN_USE,
        (
            "couldn't bind HTTP server socket",  # llama.cpp
            "ddress already in use",
            "EADDRINUSE",
        ),
        (r"Socket '[^']{1,80}' already in use",),  # Triton
    ),
    (
        Death.BAD_ARGUMENTS,
        (
            "error: invalid argument: ",  # llama.cpp
            "error while handling argument ",
            "error: unrecognized arguments: ",  # Python
            "error: the following arguments are required: ",
        ),
        (r"error: argument .{1,80}?: (?:invalid|expected) ",),
    ),
    (
        Death.BAD_MODEL,
        (
            "invalid magic characters:",
            "unknown model architecture:",
            "key not found in model:",
            "Error while deserializing header:",  # safetensors
            "is not a local folder and is not a valid model identifier",
        ),
        (
            r"gguf_init_from_(?:file|reader): (?:failed to (?:open|read)|this GGUF file is version)",
            r"error loading model: (?!llama_model_loader: failed to load)",
        ),
    ),
)
_CAUSES: Final = tuple(
    (death, words, tuple(re.compile(one) for one in patterns)) for death, words, patterns in _WORDS
)

# After a line like these, what came before it was no end: a fallback worked, or the server served again.
_LIVED_ON: Final = (
    "retrying without pipeline parallelism",
    "listening on http",
    "all slots are idle",
    "processing task",
    "Application startup complete",
    '" 200 OK',
)


def why_it_died(lines: Iterable[str]) -> Verdict | None:
    """Return the first cause that the last lines of a life name; None where they name none.

    `lines` are of one life, oldest first. What a server survived, as far as its lines show, counts no longer.
    """
    found: Verdict | None = None
    for line in lines:
        begins = line[:_LOOKED_AT]
        if any(words in begins for words in _LIVED_ON):
            found = None
        elif found is None:
            found = _of_line(begins)
    return found


def _of_line(line: str) -> Verdict | None:
    for death, words, patterns in _CAUSES:
        for one in words:
            if one in line:
                return Verdict(death, _quoted(line, line.index(one)))
        for pattern in patterns:
            if (match := pattern.search(line)) is not None:
                return Verdict(death, _quoted(line, match.start()))
    return None


def _quoted(line: str, at: int) -> str:
    """Cut a long line around the words that count."""
    line, at = line.strip(), at - (len(line) - len(line.lstrip()))
    if len(line) <= LINE_CHARACTERS:
        return line
    begin = max(0, min(at - LINE_CHARACTERS // 4, len(line) - LINE_CHARACTERS))
    end = begin + LINE_CHARACTERS
    return f"{'...' if begin else ''}{line[begin:end]}{'...' if end < len(line) else ''}"
