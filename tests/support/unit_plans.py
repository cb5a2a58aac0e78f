"""Workers whose units are looked at: the one that is shipped as an example, and one with everything set."""

from typing import Final

from supervisor.model.plan import GpuChoice, MemoryCaps, NotifyTarget, WorkerPlan

GIB: Final = 1 << 30

EXAMPLE: Final = WorkerPlan(
    "chat",
    "chat",
    ("llama-server", "--model", "/models/chat.gguf", "--port", "{port}", "--n-gpu-layers", "{n_gpu_layers}"),
    directory="/srv/chat",
    user="llm",
    group="llm",
    environment={"LLAMA_ARG_THREADS": "6"},
    environment_file="/etc/gpu-supervisor/chat.env",
    gpus=GpuChoice("listed", (0,)),
    memory=MemoryCaps(8 * GIB, 8 * GIB + GIB // 2, 9 * GIB, 0),
    vram_cap_bytes=6 * GIB,
    cpu_quota=6.0,
    settings={"port": 8081, "n_gpu_layers": 25},
)
RICH: Final = WorkerPlan(
    "rich-2",
    "rich",
    ("sleep", "--", "{port}", "", ";", "%n", "$HOME", 'a "b" c', "\t\n\\", "é"),
    replica=2,
    directory="/var/lib/%n a ",
    user="daemon",
    group="games",
    environment={"PATH": "/opt/a/bin:/usr/bin:bin", "EMPTY": "", "ODD": "a b\n%$\"'\\"},
    environment_file="/etc/os-release",
    memory=MemoryCaps(GIB, 2 * GIB, 3 * GIB, 4096),
    vram_cap_bytes=GIB,
    cpu_quota=0.125,
    stop_signal=40,
    stop_timeout_s=0.5,
    ready=NotifyTarget(),
    heartbeat_s=60.0,
    settings={"port": 8081},
)
