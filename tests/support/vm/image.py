"""Build the test machine's image with mmdebstrap, once for each recipe, into the cache.

Takes some 50 s, 150 MB of download and 0.6 GB of disk. Two processes that build at once wait for one another.
"""

import fcntl
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from support.cache import cache_dir
from support.vm.recipe import DISK_BYTES, PACKAGES, SUITE, print_of_recipe, write_files

BUILD_TIMEOUT_S: Final = 900  # a slow mirror; under a minute on a good one
KEPT_S: Final = 7 * 86_400  # images of other recipes: a colleague's branch may want them back
KEYRING: Final = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
TARGET: Final = "deb [signed-by=$(SIGNED_BY)] $(REPO_URI) $(RELEASE) $(COMPONENT)"


@dataclass(frozen=True, slots=True)
class Image:
    """What QEMU boots: the kernel and its initrd by name, and the disk, which it never writes to."""

    folder: Path

    @property
    def kernel(self) -> Path:
        """Return the kernel."""
        return self.folder / "vmlinuz"

    @property
    def initrd(self) -> Path:
        """Return its initial file system."""
        return self.folder / "initrd.img"

    @property
    def disk(self) -> Path:
        """Return the root file system, raw."""
        return self.folder / "disk.img"


def missing_tools() -> list[str]:
    """Return the programs that are needed and are not here, each with what gives it."""
    sbin = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
    needed = {
        "qemu-system-x86_64": "qemu-system-x86",
        "mmdebstrap": "mmdebstrap",
        "mkfs.ext4": "e2fsprogs",
        "setpriv": "util-linux",
        **({} if os.geteuid() == 0 else {"fakeroot": "fakeroot"}),
    }
    return [
        f"{tool} (package {package})" for tool, package in needed.items() if not shutil.which(tool, path=sbin)
    ]


def built() -> Image | None:
    """Return the image of this recipe if it is in the cache."""
    image = Image(cache_dir() / f"vm-{print_of_recipe()}")
    return image if image.disk.exists() else None


def build() -> Image:
    """Return the image of this recipe, built if need be; raises RuntimeError with what went wrong."""
    cache = cache_dir()
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "vm.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (image := built()) is not None:
            return image
        _forget_old(cache)
        with tempfile.TemporaryDirectory(prefix="vm-building-", dir=cache) as work:
            _make(Path(work))
            (Path(work) / "image").rename(cache / f"vm-{print_of_recipe()}")
    image = built()
    assert image is not None
    return image


def mirrors() -> list[str]:
    """Return this suite's sources as apt has them on this machine; none where it is another distribution."""
    asked = [
        "apt-get",
        "indextargets",
        "--format",
        TARGET.replace("$(SIGNED_BY)", str(KEYRING)),
        "Created-By: Packages",
    ]
    lines = subprocess.run(asked, capture_output=True, text=True, check=False, timeout=60).stdout.splitlines()
    suites = (SUITE, f"{SUITE}-updates", f"{SUITE}-security")
    return list(
        dict.fromkeys(line for line in lines if line.split()[-2:] in [[suite, "main"] for suite in suites])
    )


def make_disk(disk: Path, folder: Path, size_bytes: int, as_root: Sequence[str] = ()) -> None:
    """Make a sparse disk image with a file system that holds what is in `folder`."""
    with disk.open("wb") as new:
        new.truncate(size_bytes)
    _run(
        [
            *as_root,
            "mkfs.ext4",
            "-q",
            "-F",
            "-m",
            "0",
            "-E",
            "lazy_itable_init=1",
            "-d",
            str(folder),
            str(disk),
        ]
    )


def _make(work: Path) -> None:
    overlay, root, image = work / "overlay", work / "root", work / "image"
    for folder in (overlay, root, image):
        folder.mkdir()
    write_files(overlay)
    tar = work / "root.tar"
    packages = ",".join(PACKAGES)
    _run(["mmdebstrap", "--variant=minbase", f"--include={packages}", SUITE, str(tar), *mirrors()])
    # As root, or as one who is told that it is: the files of the disk belong to root.
    as_root = (
        [] if os.geteuid() == 0 else ["fakeroot", "-s", str(work / "owners"), "-i", str(work / "owners")]
    )
    if as_root:
        (work / "owners").touch()
    _run([*as_root, "tar", "-C", str(root), "--exclude=./dev/*", "-xf", str(tar)])
    tar.unlink()
    _run(
        [
            *as_root,
            "cp",
            "-r",
            "--remove-destination",
            "--no-dereference",
            "--preserve=mode,links",
            f"{overlay}/.",
            str(root),
        ]
    )
    for name in ("vmlinuz", "initrd.img"):
        shutil.copyfile(root / "boot" / (root / name).readlink().name, image / name)
    make_disk(image / "disk.img", root, DISK_BYTES, as_root)


def _forget_old(cache: Path) -> None:
    for folder in cache.glob("vm-*"):
        if folder.is_dir() and time.time() - folder.stat().st_mtime > KEPT_S:
            shutil.rmtree(folder, ignore_errors=True)


def _run(command: Sequence[str]) -> None:
    environment = {
        **os.environ,
        "PATH": f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin",
        "LC_ALL": "C.UTF-8",
    }
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=BUILD_TIMEOUT_S
    )
    if done.returncode != 0:
        told = "\n".join((done.stderr or done.stdout).strip().splitlines()[-15:])
        raise RuntimeError(
            f"cannot build the test machine: {command[0]} ended with {done.returncode}:\n{told}"
        )
