"""What an Xid, an error that the NVIDIA driver writes into the kernel's log, says of its GPU.

The one table of codes. Source: NVIDIA's Xid catalog (docs.nvidia.com/deploy/xid-errors, release of
October 2025), column "Resolution Bucket (Immediate Action)". What asks for a reset of the GPU, a
restart of the machine or a hand at the hardware is the hardware's; what asks for a restart of the
application is the application's; all else is told and counted.
"""

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Final


class XidKind(StrEnum):
    """Whose fault an Xid is."""

    HARDWARE = "hardware"  # the GPU is not to be used before somebody has reset it
    APPLICATION = "application"  # the process loses its context on the GPU, and a new one works
    NOTE = "note"  # of something that mended itself, or that nobody has to act on at once


# RESET_GPU, RESTART_BM, CHECK_MECHANICALS (54), WORKFLOW_XID_48 and WORKFLOW_NVLINK_ERR (74).
HARDWARE: Final[Mapping[int, str]] = {
    46: "it stopped processing",
    48: "uncorrectable memory error",
    54: "its auxiliary power is not connected",
    62: "its micro-controller halted",
    64: "bad memory could not be remapped",
    74: "NVLink error",
    79: "fallen off the bus",
    95: "uncontained memory error",
    110: "security fault",
    119: "its system processor (GSP) does not answer",
    120: "error of its system processor (GSP)",
    136: "its NVLink cannot be trained",
    140: "uncorrectable memory error, not recovered",
    143: "it cannot be initialized",
    155: "NVLink error, as software defines it",
    156: "a part of it is to be retired",
    158: "fatal timeout",
}
# RESTART_APP; 43, 44 and 45 follow from what an application did, or from another Xid. 109 is here although
# the catalog resets the GPU for it: a kernel that never yields causes it, and NVIDIA's own device plugin for
# Kubernetes takes it for the application's, with 13, 31, 43, 45 and 68.
APPLICATION: Final[Mapping[int, str]] = {
    8: "it stopped processing",
    11: "invalid push buffer stream",
    13: "exception of the graphics engine",
    25: "invalid push buffer stream",
    31: "page fault in its memory",
    32: "invalid push buffer stream",
    43: "it stopped processing",
    44: "fault during a context switch",
    45: "preemptive cleanup after another error",
    60: "exception of the video processor",
    69: "class error of the graphics engine",
    80: "corrupted data was sent to it",
    94: "memory error, contained to one process",
    109: "timeout of a context switch",
    **dict.fromkeys((39, 40, 41, 70, 71, 72, 75, 76, 77, 85, *range(126, 136)), "error of a copy engine"),
    **dict.fromkeys((68, 83, 84, 88, 89, 96, 97, 98), "error of a video decoder"),
    **dict.fromkeys((82, *range(99, 106)), "error of a JPEG decoder"),
    **dict.fromkeys((86, 139), "error of the optical flow engine"),
}
NOTES: Final[Mapping[int, str]] = {
    63: "bad memory was remapped; a reset activates that",
    92: "many single-bit memory errors, corrected",
    93: "the wear limit of its InfoROM is exceeded",
    121: "error of its link to the CPU, corrected",
    154: "its recovery action has changed",
}
RECOVERY_ACTION: Final = 154
# NVML's nvmlDeviceGpuRecoveryAction: 1 reset, 2 reboot, 4 drain and reset. 0 is none; 3, drain peer-to-peer
# traffic, is no business of what runs on one GPU.
_NEEDS_RECOVERY: Final = re.compile(r"recovery action changed from .{1,60}? to 0x0*[124]\b")

# As NVML ("00000000:3B:00.0") and the driver's lines ("PCI:0000:3b:00", "0000:03:00", "03:00") have it.
_ADDRESS: Final = re.compile(
    r"(?:\b([0-9a-f]{4,8}):)?\b([0-9a-f]{2}):([0-9a-f]{2})(?:\.[0-7])?(?![0-9a-f:])", re.IGNORECASE
)


def kind_of(code: int, text: str) -> XidKind:
    """Say whose fault an Xid is; `text` is what the line says beyond the code."""
    if code in HARDWARE or (code == RECOVERY_ACTION and _NEEDS_RECOVERY.search(text)):
        return XidKind.HARDWARE
    return XidKind.APPLICATION if code in APPLICATION else XidKind.NOTE


def words_for(code: int) -> str:
    """Return the name of an Xid with what it means, where that is known: `Xid 79 (fallen off the bus)`."""
    meaning = HARDWARE.get(code) or APPLICATION.get(code) or NOTES.get(code)
    return f"Xid {code}" if meaning is None else f"Xid {code} ({meaning})"


def bus_address(text: str) -> str | None:
    """Return the PCI address in `text` in one form, `0000:3b:00`, whatever form it has there."""
    found = _ADDRESS.search(text)
    if found is None:
        return None
    domain, bus, device = found.groups()
    return f"{int(domain or '0', 16):04x}:{bus.lower()}:{device.lower()}"
