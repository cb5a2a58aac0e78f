import resource
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from supervisor.model.reading import Missing
from supervisor.model.snapshot import Identity, Sighting
from supervisor.sense.cgroup import CgroupTrees
from supervisor.sense.cgroup_memory import CgroupMemory, parse_memory
from support.procs import open_files

# Of Linux 6.1, cut short: 100 of anon, 7 of kernel without the reclaimable 3, 20 of shmem, 30 of other files.
STAT = """anon 100
file 50
kernel 10
kernel_stack 4
sock 1000
vmalloc 9999
shmem 20
file_mapped 5
anon_thp 77
inactive_file 12
slab_reclaimable 3
slab_unreclaimable 2
slab 5
pgfault 10731
"""
# Of Linux 5.15: no `kernel`, and what it would be made of is 4 + 2 + 1 + 2.
OLD_STAT = """anon 100
file 50
kernel_stack 4
pagetables 2
percpu 1
sock 1000
shmem 20
slab_reclaimable 3
slab_unreclaimable 2
slab 5
"""
ROOT = Identity("boot", 41, 7)


def cgroup(at: Path, *pids: int, swap: str | None = "5\n") -> Path:
    """Make what the kernel shows of a cgroup with these processes in it."""
    at.mkdir(parents=True, exist_ok=True)
    inhabit(at, *pids)
    (at / "memory.stat").write_text(STAT)
    if swap is not None:
        (at / "memory.swap.current").write_text(swap)
    return at


def inhabit(at: Path, *pids: int, populated: bool | None = None) -> None:
    (at / "cgroup.procs").write_text("".join(f"{pid}\n" for pid in pids))
    lives = bool(pids) if populated is None else populated
    (at / "cgroup.events").write_text(f"populated {int(lives)}\nfrozen 0\n")


def make_unreadable(path: Path) -> None:
    """Put a directory in the place of a file, which not even root can read."""
    path.unlink()
    path.mkdir()


@contextmanager
def no_descriptor_left() -> Generator[None]:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@pytest.fixture
def trees() -> Generator[CgroupTrees]:
    made = CgroupTrees()
    yield made
    made.close()


def tracked(trees: CgroupTrees, at: Path, root: Identity | None = ROOT) -> CgroupTrees:
    trees.track("run", at, root)
    return trees


def test_memory_is_what_cannot_be_taken_from_the_processes() -> None:
    assert parse_memory(STAT.encode(), swap_bytes=5) == CgroupMemory(own_bytes=132, file_bytes=30)


def test_an_older_kernel_has_its_memory_added_up() -> None:
    assert parse_memory(OLD_STAT.encode(), swap_bytes=0) == CgroupMemory(own_bytes=129, file_bytes=30)


def test_reclaimable_slab_that_is_counted_early_takes_nothing_from_the_rest() -> None:
    stat = STAT.replace("slab_reclaimable 3", "slab_reclaimable 11")
    assert parse_memory(stat.encode(), swap_bytes=0) == CgroupMemory(own_bytes=120, file_bytes=30)


@pytest.mark.parametrize("stat", ["", "anon 100\n", STAT.replace("shmem 20", "shmem lots"), "\xff\0"])
def test_a_memory_stat_that_tells_too_little_is_no_memory(stat: str) -> None:
    assert parse_memory(stat.encode(), swap_bytes=0) is None


def test_a_life_is_seen_whole(trees: CgroupTrees, tmp_path: Path) -> None:
    at = cgroup(tmp_path / "chat.service", 41, 42)
    assert tracked(trees, at).sight("run", 3.0) == Sighting("run", 3.0, (41, 42), 132, 30)


def test_a_second_look_sees_what_has_changed(trees: CgroupTrees, tmp_path: Path) -> None:
    at = cgroup(tmp_path / "chat.service", 41, 42)
    tracked(trees, at).sight("run", 3.0)
    inhabit(at, 42)
    (at / "memory.stat").write_text(STAT.replace("anon 100", "anon 300"))
    (at / "memory.swap.current").write_text("0\n")
    assert trees.sight("run", 4.0) == Sighting("run", 4.0, (42,), 327, 30)


def test_where_swap_is_not_accounted_for_it_is_none(trees: CgroupTrees, tmp_path: Path) -> None:
    at = cgroup(tmp_path / "chat.service", 41, swap=None)
    assert tracked(trees, at).sight("run", 3.0).memory_bytes == 127


def test_processes_in_cgroups_below_count(trees: CgroupTrees, tmp_path: Path) -> None:
    at = cgroup(tmp_path / "chat.service")
    inhabit(at, populated=True)
    cgroup(at / "one", 50)
    cgroup(at / "one/deeper", 51)
    assert sorted(tracked(trees, at).sight("run", 3.0).pids) == [50, 51]


def test_thousands_of_processes_are_all_listed(trees: CgroupTrees, tmp_path: Path) -> None:
    pids = tuple(range(1_000_001, 1_004_001))
    at = cgroup(tmp_path / "chat.service", *pids)
    assert tracked(trees, at).sight("run", 3.0).pids == pids


def test_a_cgroup_that_the_kernel_calls_empty_is_empty(trees: CgroupTrees, tmp_path: Path) -> None:
    at = cgroup(tmp_path / "chat.service", 41)
    tracked(trees, at).sight("run", 3.0)
    inhabit(at, 41, populated=False)
    assert trees.sight("run", 4.0) == Sighting("run", 4.0, (), 132, 30)


def test_a_cgroup_that_is_populated_and_lists_nobody_is_not_empty(trees: CgroupTrees, tmp_path: Path) -> None:
    at = cgroup(tmp_path / "chat.service", 41)
    tracked(trees, at).sight("run", 3.0)
    inhabit(at, populated=True)
    assert trees.sight("run", 4.0).pids == (41,)
    trees.track("of nobody known", at, None)
    assert trees.sight("of nobody known", 4.0).pids == (0,)


def test_a_removed_cgroup_is_empty_and_has_no_memory(trees: CgroupTrees, tmp_path: Path) -> None:
    at = cgroup(tmp_path / "chat.service", 41)
    before = open_files()
    tracked(trees, at).sight("run", 3.0)
    shutil.rmtree(at)
    gone = Missing(f"cgroup {at} is removed")
    assert trees.sight("run", 4.0) == Sighting("run", 4.0, (), gone, gone)
    assert open_files() == before


def test_a_later_cgroup_of_the_same_name_is_not_the_lifes(trees: CgroupTrees, tmp_path: Path) -> None:
    at = cgroup(tmp_path / "chat.service", 41)
    tracked(trees, at).sight("run", 3.0)
    at.rename(tmp_path / "removed")
    cgroup(at, 99)
    trees.track("next run", at, Identity("boot", 99, 8))
    assert trees.sight("run", 4.0).pids == ()
    assert trees.sight("next run", 4.0).pids == (99,)
    trees.forget("run")
    assert trees.sight("next run", 5.0) == Sighting("next run", 5.0, (99,), 132, 30)


def test_a_cgroup_may_come_after_it_is_tracked(trees: CgroupTrees, tmp_path: Path) -> None:
    at = tmp_path / "chat.service"
    none = Missing(f"cannot read {at}/memory.stat: there is none")
    assert tracked(trees, at, None).sight("run", 3.0) == Sighting("run", 3.0, (), none, none)
    cgroup(at, 41)
    assert trees.sight("run", 4.0) == Sighting("run", 4.0, (41,), 132, 30)


@pytest.mark.parametrize("name", ["cgroup.events", "cgroup.procs"])
def test_a_life_whose_processes_cannot_be_told_keeps_those_it_had(
    name: str, trees: CgroupTrees, tmp_path: Path
) -> None:
    at = cgroup(tmp_path / "chat.service", 42, 43)
    make_unreadable(at / name)
    assert tracked(trees, at).sight("run", 3.0).pids == (41,)  # its main process, until it was read
    (at / name).rmdir()
    inhabit(at, 42, 43)
    assert trees.sight("run", 4.0).pids == (42, 43)
    trees.close()
    make_unreadable(at / name)
    assert trees.sight("run", 5.0) == Sighting("run", 5.0, (42, 43), 132, 30)


@pytest.mark.parametrize("name", ["memory.stat", "memory.swap.current"])
def test_memory_that_cannot_be_read_is_missing(name: str, trees: CgroupTrees, tmp_path: Path) -> None:
    at = cgroup(tmp_path / "chat.service", 41)
    make_unreadable(at / name)
    why = Missing(f"cannot read {at}/{name}: Is a directory")
    assert tracked(trees, at).sight("run", 3.0) == Sighting("run", 3.0, (41,), why, why)


def test_a_memory_stat_that_tells_too_little_is_missing(trees: CgroupTrees, tmp_path: Path) -> None:
    at = cgroup(tmp_path / "chat.service", 41)
    (at / "memory.stat").write_text("anon 1\n")
    why = Missing(f"cannot read {at}/memory.stat: it does not tell anon, shmem and file")
    assert tracked(trees, at).sight("run", 3.0).memory_bytes == why


def test_without_a_descriptor_nothing_is_known_and_nobody_is_gone(tmp_path: Path) -> None:
    trees = CgroupTrees(kept_files=0)
    at = cgroup(tmp_path / "chat.service", 41, 42)
    tracked(trees, at).sight("run", 3.0)
    inhabit(at)
    with no_descriptor_left():
        seen = trees.sight("run", 4.0)
    why = Missing(f"cannot read {at}/memory.stat: Too many open files")
    assert seen == Sighting("run", 4.0, (41, 42), why, why)
    assert trees.sight("run", 5.0).pids == ()


def test_a_life_that_is_not_tracked_is_missing(trees: CgroupTrees) -> None:
    why = Missing("run nobody is not tracked")
    assert trees.sight("nobody", 3.0) == Sighting("nobody", 3.0, (), why, why)


def test_nothing_is_measured_twice(trees: CgroupTrees, tmp_path: Path) -> None:
    at = cgroup(tmp_path / "chat.service", 41, 42)
    tracked(trees, at).refresh()
    trees.sight("run", 3.0)
    assert trees.exact_due("run", 0, 3.0) is False
    assert trees.exact("run") is None


def test_what_is_forgotten_leaves_no_descriptor(tmp_path: Path) -> None:
    before = open_files()
    trees = CgroupTrees()
    at = cgroup(tmp_path / "chat.service", 41)
    tracked(trees, at).sight("run", 3.0)
    assert open_files() == before + 4
    trees.forget("run")
    trees.forget("run")
    assert open_files() == before
