"""What is gathered, from trees of files and programs that stand in for those of a machine."""

import os
import threading
import time
from pathlib import Path

import pytest

from supervisor.cli.diagnose.facts import Driver, Host, KernelLog, Owner, ServiceSeen, Units, UnitSeen
from supervisor.cli.diagnose.gather.config import read_configuration
from supervisor.cli.diagnose.gather.driver import read_driver
from supervisor.cli.diagnose.gather.gpus import find_owners
from supervisor.cli.diagnose.gather.host import read_disks, read_host
from supervisor.cli.diagnose.gather.kernel_log import read_kernel_log
from supervisor.cli.diagnose.gather.output import read_output
from supervisor.cli.diagnose.gather.task import Task
from supervisor.cli.diagnose.gather.units import read_units
from supervisor.model.reading import Missing
from supervisor.model.snapshot import GpuProcess
from support.control_desk import worker
from support.diagnosing import gpu
from support.fakenvml.state import FakeDriver

NVRM = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.14  Thu Feb 22 01:44:30 UTC 2024\n"
OPEN_NVRM = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.15  Release Build  (dvs)\n"


def program(folder: Path, name: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a program before all others in PATH."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{text}")
    (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


@pytest.mark.parametrize(("text", "version"), [(NVRM, "550.54.14"), (OPEN_NVRM, "570.86.15")])
def test_the_two_versions_of_the_driver_are_read_without_the_driver(
    text: str, version: str, fakenvml: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = tmp_path / "libnvidia-ml.so.535.183.01"
    library.write_bytes(fakenvml.read_bytes())
    (tmp_path / "libnvidia-ml.so.1").symlink_to(library)
    (tmp_path / "driver/nvidia").mkdir(parents=True)
    (tmp_path / "driver/nvidia/version").write_text(text)
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    assert read_driver(tmp_path) == Driver(version, "535.183.01")


def test_a_library_without_a_version_is_told_as_that(
    driver: FakeDriver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LD_LIBRARY_PATH", driver.environment["LD_LIBRARY_PATH"])
    seen = read_driver(tmp_path)
    assert seen.module == Missing("the NVIDIA kernel module is not loaded")
    assert isinstance(seen.library, Missing)
    assert seen.library.why.endswith("libnvidia-ml.so.1 has no version in its name")


def test_the_kernels_log_is_read_record_by_record(tmp_path: Path) -> None:
    kmsg = tmp_path / "kmsg"
    kmsg.write_text(
        "6,1234,5000000,-;NVRM: Xid (PCI:0000:65:00): 79, pid=1; x\n SUBSYSTEM=pci\n4,1235,6000000,-;next\n"
    )
    log = read_kernel_log(kmsg)
    assert isinstance(log, KernelLog)
    assert (log.source, [line.text for line in log.lines]) == (
        str(kmsg),
        ["NVRM: Xid (PCI:0000:65:00): 79, pid=1; x", "next"],
    )
    first_s, second_s = (line.wall_s or 0.0 for line in log.lines)
    assert second_s - first_s == pytest.approx(1.0)
    assert first_s == pytest.approx(time.time() - time.monotonic() + 5.0, abs=2.0)


def test_where_the_device_is_closed_journald_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = "1763692628.500000 box kernel: Out of memory: Killed process 1 (x)"
    program(tmp_path / "bin", "journalctl", f"echo '{said}'\n", monkeypatch)
    log = read_kernel_log(tmp_path / "none")
    assert isinstance(log, KernelLog)
    assert log.source == "the journal"
    assert [(line.wall_s, line.text) for line in log.lines] == [
        (1763692628.5, "Out of memory: Killed process 1 (x)")
    ]


def test_a_log_that_nobody_shows_is_missing_with_both_reasons(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path / "bin", "journalctl", "echo 'no access' >&2; exit 1\n", monkeypatch)
    why = f"cannot read {tmp_path}/none: No such file or directory; cannot read the journal: no access"
    assert read_kernel_log(tmp_path / "none") == Missing(why)
    program(tmp_path / "bin", "journalctl", "exit 0\n", monkeypatch)
    log = read_kernel_log(tmp_path / "none")
    assert isinstance(log, Missing)
    assert log.why.endswith("the journal shows us no kernel line")


SYSTEMCTL = """\
case "$*" in
*gpu-supervisor.service) cat <<END
Id=gpu-supervisor.service
LoadState=loaded
ActiveState=active
Result=success
NRestarts=2
WatchdogUSec=30s
END
;;
*) cat <<END
Id=gpu-worker-chat.service
LoadState=loaded
ActiveState=active
MemoryHigh=infinity
MemoryMax=9663676416
MemorySwapMax=0
CPUQuotaPerSecUSec=6s
DropInPaths=/etc/systemd/system/gpu-worker-chat.service.d/a.conf /run/b.conf
NeedDaemonReload=no

Id=gpu-worker-embed.service
LoadState=not-found
ActiveState=inactive
MemoryMax=18446744073709551615
CPUQuotaPerSecUSec=infinity
NeedDaemonReload=yes
END
;;
esac
"""


def test_systemd_is_asked_for_the_limits_in_force(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path / "bin", "systemctl", SYSTEMCTL, monkeypatch)
    assert read_units(("chat", "embed")) == Units(
        {
            "chat": UnitSeen(
                "chat",
                loaded=True,
                active=True,
                memory_high_bytes=None,
                memory_max_bytes=9663676416,
                swap_max_bytes=0,
                cpu_quota=6.0,
                drop_ins=("/etc/systemd/system/gpu-worker-chat.service.d/a.conf", "/run/b.conf"),
            ),
            "embed": UnitSeen(
                "embed",
                loaded=False,
                active=False,
                memory_high_bytes=None,
                memory_max_bytes=None,
                swap_max_bytes=None,
                cpu_quota=None,
                stale=True,
            ),
        },
        ServiceSeen("active", "success", 2, 30.0),
    )


def test_without_systemd_its_own_words_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path / "bin", "systemctl", "echo 'not booted with systemd' >&2; exit 1\n", monkeypatch)
    assert read_units(("chat",)) == Missing("not booted with systemd")


def test_a_process_is_a_workers_by_its_cgroup_its_parents_or_its_environment(tmp_path: Path) -> None:
    def process(pid: int, parent: int, cgroup: str = "/", environ: bytes = b"") -> None:
        folder = tmp_path / str(pid)
        folder.mkdir()
        (folder / "stat").write_text(f"{pid} (name {pid}) S {parent} 1 1 {'0 ' * 15}100 0 0\n")
        (folder / "cgroup").write_text(f"0::{cgroup}\n")
        (folder / "environ").write_bytes(environ)

    process(10, 1, "/gpu.slice/gpu-workers.slice/gpu-worker-chat.service")
    process(20, 1)
    process(21, 20)
    process(30, 1, environ=b"A=1\0GPU_SUPERVISOR_WORKER=embed\0")
    process(40, 1, "/user.slice/gpu-worker-chat.service.d")
    seen = gpu(processes=tuple(GpuProcess(pid, 1) for pid in (10, 20, 21, 30, 40, 50)))
    owners = find_owners((seen,), (worker("batch", pid=20),), tmp_path)
    me = owners[10].user
    assert owners == {
        10: Owner("chat", "name 10", me),
        20: Owner("batch", "name 20", me),
        21: Owner("batch", "name 21", me),
        30: Owner("embed", "name 30", me),
        40: Owner(None, "name 40", me),
    }


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (("cgroup.controllers",), "v2"),
        (("unified/cgroup.controllers", "memory/x"), "hybrid"),
        (("memory/x",), "v1"),
    ],
)
def test_the_version_of_cgroups_is_seen_by_their_files(
    made: tuple[str, ...], expected: str, tmp_path: Path
) -> None:
    for name in made:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    (tmp_path / "swaps").write_text("Filename Type Size Used Priority\n/dev/zram0 partition 1 0 100\n")
    seen = read_host(tmp_path, tmp_path)
    assert isinstance(seen, Host)
    assert (seen.cgroup, seen.swaps) == (expected, ("/dev/zram0",))
    assert isinstance(seen.sample.memory_total_bytes, Missing)


def test_the_space_is_that_of_the_directory_that_will_be_made(tmp_path: Path) -> None:
    (disk,) = read_disks((tmp_path / "a/b", tmp_path / "c"))
    assert disk.path == str(tmp_path / "a/b")
    assert 0 < disk.free_bytes <= disk.total_bytes


def test_the_last_lines_of_a_file_come_without_colours(tmp_path: Path) -> None:
    (tmp_path / "chat.log").write_text("one\n\x1b[31mtw\x1b[0mo\nthree\n")
    seen = read_output((), ("chat", "embed"), tmp_path, 2)
    assert seen == {
        "chat": ("two", "three"),
        "embed": Missing(f"it has printed nothing yet ({tmp_path}/embed.log)"),
    }


def test_the_last_lines_of_a_unit_are_those_of_its_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path / "bin", "journalctl", 'echo "$1"; echo "$5"\n', monkeypatch)
    seen = read_output(("chat",), (), tmp_path, 7)
    assert seen == {"chat": ("--lines=7", "_SYSTEMD_UNIT=gpu-worker-chat.service")}
    program(tmp_path / "other", "journalctl", "echo 'no journal' >&2; exit 1\n", monkeypatch)
    assert read_output(("chat",), (), tmp_path, 7) == {"chat": Missing("cannot read the journal: no journal")}


def test_what_hangs_is_left_behind_at_its_deadline() -> None:
    ever = threading.Event()

    def hang() -> int:
        ever.wait()
        return 1

    asked = Task("the disk", hang, 0.05)
    assert asked.result() == Missing("cannot read the disk: no answer within 0.05 s")
    ever.set()


def test_what_fails_is_told_and_the_rest_goes_on() -> None:
    def fail() -> int:
        raise ValueError("bad")

    assert Task("the disk", fail, 5.0).result() == Missing("cannot read the disk: ValueError: bad")
    assert Task("the disk", lambda: 3, 5.0).result() == 3


def test_the_text_of_a_file_keeps_all_but_its_secrets_and_its_comments(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(
        "# mine\nworkers:\n  chat:\n    command: [serve, --api-key, abc123xyz, --port, '1']\n"
        "    environment:\n      API_TOKEN: >-\n        two\n        words\n      N: 6\n"
        "    environment_file: /etc/chat.env\n"
    )
    seen = read_configuration(path)
    assert seen.text == (
        "workers:\n  chat:\n    command:\n    - serve\n    - --api-key\n    - '[removed]'\n    - --port\n"
        "    - '1'\n    environment:\n      API_TOKEN: '[removed]'\n      N: '6'\n"
        "    environment_file: /etc/chat.env\n"
    )
    assert seen.secrets == ("abc123xyz", "two words")


@pytest.mark.parametrize(
    ("command", "secrets"),
    [
        ("[serve, --api-key=abc123xyz]", ("abc123xyz",)),
        ("serve --api-key abc123xyz --port 1", ("abc123xyz",)),
        ("serve --auth-token='abc123xyz' x", ("abc123xyz",)),
        ("serve --port 1 --max-tokens 5", ()),
        ("serve http://ann:pw12@h/x", ("://ann:pw12@h/x", "ann:pw12", "pw12")),
    ],
)
def test_the_secrets_of_a_command_are_known_however_it_is_written(
    command: str, secrets: tuple[str, ...], tmp_path: Path
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(f"workers:\n  chat:\n    command: {command}\n")
    seen = read_configuration(path)
    assert seen.secrets == secrets
    assert isinstance(seen.text, str)
    assert "abc123xyz" not in seen.text
    assert "pw12" not in seen.text
