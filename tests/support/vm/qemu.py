"""One QEMU process without KVM: its command, its console, and its end."""

import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from support.vm.image import Image

CPUS: Final = 2
TAIL_LINES: Final = 60
# The kernel says on the console what it kills and what it trips over; `quiet` leaves out the rest.
KERNEL: Final = "root=/dev/vda rw console=ttyS0 quiet panic=-1 systemd.show_status=0"


@dataclass(frozen=True, slots=True)
class Shape:
    """What a machine is like: its memory in MiB, its further disks (/dev/vdb, ...), more for its kernel."""

    memory_mib: int = 1500
    disks: tuple[Path, ...] = ()
    kernel: str = ""


class Qemu:
    """One machine in QEMU, started again at each of its boots. It ends with its maker, however that one ends.

    A reset within QEMU boots three times as slowly (20 s for 7 s, seen with 7.2), so a reboot ends QEMU, and
    `start` goes on with the same disk.
    """

    def __init__(self, image: Image, shape: Shape) -> None:
        # A short path: a Unix socket's has room for 107 bytes. Not in /tmp, which may be memory.
        self._folder = tempfile.TemporaryDirectory(prefix="gpu-supervisor-vm-", dir="/var/tmp")
        folder = Path(self._folder.name)
        self.port = folder / "agent"
        self._console = folder / "console"
        self._said = folder / "qemu"
        self._image = image
        self._shape = shape
        self._disk = folder / "disk.img"
        self._process: subprocess.Popen[bytes] | None = None
        copy = ["cp", "--sparse=always", "--reflink=auto", str(image.disk), str(self._disk)]
        subprocess.run(copy, check=True)

    def start(self) -> None:
        """Boot."""
        self.port.unlink(missing_ok=True)
        command = ["setpriv", "--pdeathsig", "KILL", *self._command()]
        with self._said.open("ab") as said:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said)

    def alive(self) -> bool:
        """Say whether the machine is on."""
        return self._process is not None and self._process.poll() is None

    def await_off(self, within_s: float) -> bool:
        """Wait until the machine is off, or asks to be booted again; say whether it is."""
        if self._process is None:
            return True
        try:
            self._process.wait(within_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def tail(self, lines: int = TAIL_LINES) -> str:
        """Return the end of the console's output, and of what QEMU itself has to say."""
        texts = [path.read_text(errors="replace") for path in (self._console, self._said) if path.exists()]
        return "\n".join("\n".join(texts).splitlines()[-lines:])

    def end(self) -> None:
        """End the machine at once, and forget its disk; may be called again."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._folder.cleanup()

    def _command(self) -> Sequence[str]:
        shape, image = self._shape, self._image
        # The machine's disk need not outlive a power cut of this one, so the host may write it when it likes.
        disks = [f"file={self._disk},if=virtio,format=raw,cache=unsafe"]
        disks += [f"file={disk},if=virtio,format=raw,snapshot=on" for disk in shape.disks]
        return (
            *(
                "qemu-system-x86_64",
                "-machine",
                "q35,accel=tcg",
                "-cpu",
                "max",
                "-smp",
                str(CPUS),
                "-no-reboot",
            ),
            *("-m", str(shape.memory_mib), "-display", "none", "-monitor", "none", "-parallel", "none"),
            *("-no-user-config", "-nic", "none", "-device", "virtio-rng-pci"),
            *("-kernel", str(image.kernel), "-initrd", str(image.initrd)),
            *("-append", f"{KERNEL} {shape.kernel}".strip()),
            *(word for disk in disks for word in ("-drive", disk)),
            *("-chardev", f"file,id=console,path={self._console},append=on", "-serial", "chardev:console"),
            *("-chardev", f"socket,id=agent,path={self.port},server=on,wait=off"),
            *("-device", "virtio-serial-pci", "-device", "virtserialport,chardev=agent,name=agent"),
        )
