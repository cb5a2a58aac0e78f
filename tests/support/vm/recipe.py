"""What the test machine is made of: Debian 12's packages, and the few files that make it a test machine."""

import hashlib
from pathlib import Path
from typing import Final

SUITE: Final = "bookworm"
PACKAGES: Final = (
    *("systemd", "systemd-sysv", "dbus", "udev", "kmod", "procps", "linux-image-cloud-amd64"),
    *("python3", "python3-venv"),
    *("man-db", "bash-completion"),  # an operator has them
)
DISK_BYTES: Final = 6 << 30  # sparse: 0.5 GB are used
GUEST: Final = Path(__file__).parent / "guest"

# One for all boots: an image without one would be a machine in its first boot, which enables what it finds.
MACHINE_ID: Final = "5a1f9c0e7d3b4f2c8e6a0b9d4c7f1e23"

FILES: Final = {
    "etc/fstab": "/dev/vda / ext4 defaults 0 1\n",
    "etc/hostname": "testmachine\n",
    "etc/machine-id": f"{MACHINE_ID}\n",
    # What was logged before a reboot is part of what is tested, and nothing of it may be dropped.
    "etc/systemd/journald.conf.d/tests.conf": "[Journal]\nStorage=persistent\nRateLimitBurst=0\n",
    "etc/systemd/system/testagent.service": (GUEST / "testagent.service").read_text(),
    "etc/systemd/system/testagent.slice": (GUEST / "testagent.slice").read_text(),
    "usr/local/lib/testagent/agent.py": (GUEST / "agent.py").read_text(),
}
LINKS: Final = {
    "etc/systemd/system/sysinit.target.wants/testagent.service": "../testagent.service",
    # The console is read from a file: nobody logs in there.
    "etc/systemd/system/serial-getty@ttyS0.service": "/dev/null",
    "etc/systemd/system/getty@tty1.service": "/dev/null",
    # What works of its own accord, and would do so in the middle of a measurement.
    **{
        f"etc/systemd/system/{timer}.timer": "/dev/null"
        for timer in ("apt-daily", "apt-daily-upgrade", "dpkg-db-backup", "e2scrub_all", "fstrim", "man-db")
    },
}


def print_of_recipe() -> str:
    """Return a name that changes with all that the image is made of, but for the versions of packages."""
    parts = (SUITE, PACKAGES, DISK_BYTES, sorted(FILES.items()), sorted(LINKS.items()))
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def write_files(root: Path) -> None:
    """Write the files and links below `root`."""
    for name, text in FILES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for name, target in LINKS.items():
        link = root / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(target)
