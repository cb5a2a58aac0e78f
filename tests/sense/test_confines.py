"""What cgroups leave to this process, from trees of files."""

import os
from pathlib import Path

import pytest

from supervisor.sense.confines import read_confines


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    (tmp_path / "proc/self").mkdir(parents=True)
    return tmp_path / "proc"


@pytest.fixture
def cgroups(tmp_path: Path) -> Path:
    (tmp_path / "cgroup").mkdir()
    return tmp_path / "cgroup"


def write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


CORES = float(len(os.sched_getaffinity(0)))


def test_the_tightest_cgroup_above_counts(proc: Path, cgroups: Path) -> None:
    write(proc / "self", cgroup="0::/a/b\n")
    write(cgroups / "a", memory__max="1000\n", memory__current="400\n", memory__stat="active_file 100\n")
    write(cgroups / "a/b", memory__max="5000\n", memory__current="4900\n", memory__stat="anon 4000\n")
    found = read_confines(proc, cgroups)
    assert (found.memory_limit_bytes, found.memory_left_bytes, found.cores) == (1000, 100, CORES)


def test_the_page_cache_is_not_counted_as_held(proc: Path, cgroups: Path) -> None:
    write(proc / "self", cgroup="0::/a\n")
    stat = "anon 100\ninactive_file 300\nactive_file 200\n"
    write(cgroups / "a", memory__max="1000", memory__current="600", memory__stat=stat)
    assert read_confines(proc, cgroups).memory_left_bytes == 900


def test_without_limits_there_are_none(proc: Path, cgroups: Path) -> None:
    write(proc / "self", cgroup="0::/a\n")
    write(cgroups / "a", memory__max="max\n", cpu__max="max 100000\n")
    found = read_confines(proc, cgroups)
    assert (found.memory_limit_bytes, found.memory_left_bytes, found.cores) == (None, None, CORES)
    (proc / "self/cgroup").unlink()
    assert read_confines(proc, cgroups) == found


def test_a_quota_is_fewer_cores(proc: Path, cgroups: Path) -> None:
    write(proc / "self", cgroup="0::/a\n")
    write(cgroups / "a", cpu__max="50000 100000\n")
    assert read_confines(proc, cgroups).cores == 0.5
    write(cgroups / "a", cpu__max="50000 0\n")
    assert read_confines(proc, cgroups).cores == CORES


def test_the_first_version_of_cgroups_is_read_too(proc: Path, cgroups: Path) -> None:
    write(proc / "self", cgroup="4:memory:/box\n1:cpu,cpuacct:/\n0::/\n")
    write(cgroups / "memory", memory__limit_in_bytes="9223372036854771712\n")
    write(cgroups / "memory/box", memory__limit_in_bytes="2000\n", memory__usage_in_bytes="500\n")
    write(cgroups / "cpu", cpu__cfs_quota_us="25000\n", cpu__cfs_period_us="100000\n")
    found = read_confines(proc, cgroups)
    assert (found.memory_limit_bytes, found.memory_left_bytes, found.cores) == (2000, 1500, 0.25)


def test_this_process_has_cores() -> None:
    cores = read_confines().cores
    assert isinstance(cores, float)
    assert 0 < cores <= CORES
