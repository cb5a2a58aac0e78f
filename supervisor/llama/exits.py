"""Why a server died, from its last lines: one cause, the first of them; pure.

The words are those of llama.cpp, and of what else serves (torch, vLLM, TGI, torchserve, Triton). An exit
status tells nothing: llama-server 0.7.0 ends with 1 for a bad flag, a missing model, a port in use and want
of memory alike, and its last line is "exiting due to model loading error" for want of memory too.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Final

from supervisor.model.verdict import Death, Verdict

LINE_CHARACTERS: Final = 200  # quoted, of the line that tells

# Sources: the real server's output in tests/llama/deaths; ggml-cuda.cu, llama-context.cpp and server.cpp of
# llama.cpp; the CUDA runtime's error names; c10/cuda/CUDACachingAllocator.cpp; Xids as NVIDIA documents them.
# A line is held against them from the top: "error loading model: unable to allocate CUDA0 buffer" is VRAM.
_WORDS: Final[Mapping[Death, tuple[str, ...]]] = {
    Death.HARDWARE: (
        # Of the Xids only those of the hardware: 13, 31, 43, 45, 68 and 109 are the application's own.
        r"NVRM: Xid \([^)]*\): (?:48|62|63|64|74|79|92|94|95|119|120|140)\b",
        r"GPU has fallen off the bus|GPU is lost",
        r"CUDA_ERROR_ECC_UNCORRECTABLE|uncorrectable ECC error encountered",
        r"CUDA_ERROR_NVLINK_UNCORRECTABLE|uncorrectable NVLink error detected",
        r"Invalid access of peer GPU memory over nvlink or a hardware error",
        r"CUDA error: hardware stack error",
    ),
    Death.POISONED: (
        r"an illegal memory access was encountered|CUDA_ERROR_ILLEGAL_ADDRESS",
        r"device-side assert triggered|an illegal instruction was encountered",
        r"unspecified launch failure|CUDA_ERROR_LAUNCH_FAILED|the launch timed out and was terminated",
        r"CUDA error: (?:misaligned address|invalid program counter|context is destroyed)",
        r"CUDA error: operation not supported on global/shared address space",
        r"!handles_\.at\(i\) INTERNAL ASSERT FAILED",  # pytorch#188008
        r"UR_RESULT_ERROR_DEVICE_LOST|ErrorDeviceLost",
    ),
    Death.HOST_OOM: (
        r"ggml_aligned_malloc: insufficient memory|(?:failed|unable) to allocate CPU buffer",
        r"ggml_backend_cpu_buffer_type_alloc_buffer: failed to allocate buffer of size",
        r"GGML_ASSERT\(ctx->mem_buffer != NULL\) failed",
        r"\bCannot allocate memory\b|ErrorOutOfHostMemory",
        r"std::bad_alloc(?!.*cuda)",  # RMM's goes on with what CUDA said
        r"DefaultCPUAllocator: (?:can't allocate|not enough) memory",
        r"OOM when allocating tensor.* on \S*device:CPU",
        r"CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED",
        r"^(?:numpy[\w.]*\.)?_?(?:Array)?MemoryError\b|java\.lang\.OutOfMemoryError",
    ),
    Death.VRAM_OOM: (
        r"\b(?:CUDA|HIP|XPU|NPU|MPS backend) out of memory|(?:torch|cupy)\S*\.OutOfMemoryError\b",
        r"(?:CUDA|HIP) error: out of memory|(?:cuda|hip)Malloc failed: out of memory",
        r"cuda runtime error \(2\) : out of memory|cuMemAlloc failed: out of memory",
        r"CUDA_ERROR_OUT_OF_MEMORY|cudaErrorMemoryAllocation|hipErrorOutOfMemory",
        r"Cuda failure 2 'out of memory'",  # NCCL
        r"(?:CUBLAS|HIPBLAS|CUDNN|CUSOLVER)_STATUS_ALLOC_FAILED|CUFFT_ALLOC_FAILED",
        r"CUSPARSE_STATUS_INSUFFICIENT_RESOURCES|cuDNN error: CUDNN_STATUS_NOT_SUPPORTED",
        r"CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
        r"UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY|ErrorOutOfDeviceMemory",
        r"kIOGPUCommandBufferCallbackErrorOutOfMemory|\[metal::malloc\] Attempting to allocate",
        r"(?:unable|failed) to allocate (?:CUDA|ROCm|Vulkan|SYCL|MTL|Metal)\w* buffer",
        # Of the CPU's memory llama.cpp says so in a line before these.
        r"failed to allocate buffer for kv cache|failed to allocate compute (?:pp )?buffers",
        r"Failed to create llama_context|llama_(?:decode|encode) returned -2(?!\d)",
        r"OOM when allocating tensor",  # TensorFlow
        r"NVML_SUCCESS == .* INTERNAL ASSERT FAILED at \S*CUDACachingAllocator\.cpp",
        # Only with words of memory: gRPC and rate limits say RESOURCE_EXHAUSTED too.
        r"(?i:RESOURCE.EXHAUSTED): (?!.*memory space [vs]mem).*?(?i:out of memory|failed to allocate)",
        r"(?i:RESOURCE.EXHAUSTED): (?!.*memory space [vs]mem).*?(?:Attempting to (?:allocate|reserve)|hbm)",
        r"No available memory for the cache blocks|is less than desired GPU memory utilization",  # vLLM
    ),
    Death.PORT_IN_USE: (
        r"couldn't bind HTTP server socket|Socket '\S+' already in use",  # llama.cpp, Triton
        r"[Aa]ddress already in use|\bEADDRINUSE\b",
    ),
    Death.BAD_ARGUMENTS: (
        r"\berror: invalid argument: |\berror while handling argument ",  # llama.cpp
        r"\berror: unrecognized arguments: |\berror: the following arguments are required: ",  # Python
        r"\berror: argument .+: (?:invalid|expected) ",
    ),
    Death.BAD_MODEL: (
        r"gguf_init_from_(?:file|reader): (?:failed to (?:open|read)|this GGUF file is version)",
        r"error loading model: (?!llama_model_loader: failed to load)|error loading model architecture:",
        r"invalid magic characters:|unknown model architecture:|key not found in model:",
        r"Error while deserializing header:|is not a local folder and is not a valid model identifier",
    ),
}
_CAUSES: Final = tuple((death, re.compile("|".join(words))) for death, words in _WORDS.items())

# After a line like these, what came before it was no end: a fallback worked, or the server served again.
_LIVED_ON: Final = re.compile(
    r"retrying without pipeline parallelism"
    r"|\bmodel loaded$|\blistening on http|all slots are idle|processing task|Application startup complete"
    r"|\" 2\d\d\b"
)


def why_it_died(lines: Iterable[str]) -> Verdict | None:
    """Return the first cause that the last lines of a life name; None where they name none.

    `lines` are of one life, oldest first. What a server survived, as far as its lines show, counts no longer.
    """
    found: Verdict | None = None
    for line in lines:
        if _LIVED_ON.search(line):
            found = None
        elif found is None:
            found = _of_line(line)
    return found


def _of_line(line: str) -> Verdict | None:
    for death, words in _CAUSES:
        match = words.search(line)
        if match is not None:
            return Verdict(death, _quoted(line.strip(), match))
    return None


def _quoted(line: str, match: re.Match[str]) -> str:
    """Cut a long line around the words that count."""
    if len(line) <= LINE_CHARACTERS:
        return line
    begin = max(0, min(match.start() - LINE_CHARACTERS // 4, len(line) - LINE_CHARACTERS))
    return f"{'...' if begin else ''}{line[begin : begin + LINE_CHARACTERS]}..."
