"""What a worker's unit takes away from it: only what no worker needs, so that none breaks by default.

Left out on purpose, each because something that people run here needs it:

* NoNewPrivileges=, and whatever implies it for a User= (SystemCallFilter=, RestrictNamespaces=,
  LockPersonality=, ProtectKernelModules=, RestrictSUIDSGID= ...): CUDA calls the setuid program
  nvidia-modprobe where /dev/nvidia-uvm is not there yet.
* PrivateDevices=, DeviceAllow=, ProtectClock= (which sets DevicePolicy=closed): the names and numbers of
  GPU devices change with driver and vendor (char-nvidia-frontend became char-nvidia, nvidia-uvm has a
  dynamic major, nvidia-caps, kfd, dri, infiniband), and a device filter is lost and laid anew at each
  daemon-reload, at which running CUDA programs in containers lost their GPU.
* MemoryDenyWriteExecute=: CUDA, PyTorch, Triton and JAX compile into memory.
* PrivateTmp=, PrivateIPC=, RemoveIPC=: MPS, NCCL and torch share sockets and memory in /tmp and /dev/shm.
* ProtectHome=, ProtectSystem=: models and compiled kernels lie in homes, and a home may be in /usr/share.
* ProtectControlGroups=, Delegate=: a worker may be a container's engine.
* RestrictRealtime=, PrivateNetwork=, IPAddressDeny=: servers answer whom they are told to answer.

Whoever knows his worker adds them in a drop-in.
"""

from typing import Final

SAFE_FOR_WORKERS: Final = (
    "# All devices: a list of GPU devices goes stale with the driver, and CUDA then fails in odd ways.",
    "DevicePolicy=auto",
    "# To reboot, to set the clock and to change security policies is no worker's work, not even root's.",
    "CapabilityBoundingSet=~CAP_SYS_BOOT CAP_SYS_TIME CAP_WAKE_ALARM CAP_MAC_ADMIN CAP_MAC_OVERRIDE",
)
