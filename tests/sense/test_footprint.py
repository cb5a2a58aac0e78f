import time
from pathlib import Path

import pytest

from supervisor.model.snapshot import Identity, Sighting
from supervisor.sense.footprint import Footprint, measure_share, parse_rollup, parse_status
from supervisor.sense.forest import Forest, Root
from supervisor.sense.procfs import boot_id, read_stat
from support.procs import PROC, Child, eventually, kill, nursery, write_process

MIB = 1 << 20
WAIT = "say('ready')\nos.read(0, 1)\n"
FILL = "for at in range(0, 100 << 20, 4096): kept[at] = 1\n"


def watched(child: Child, forest: Forest) -> Sighting:
    stat = read_stat(PROC, child.pid)
    assert stat is not None
    forest.track(Root("chat", child.run, Identity(boot_id(PROC), child.pid, stat.start_ticks)))
    forest.refresh()
    return forest.sight(child.run, time.monotonic())


def growth(program: str, **environment: str) -> tuple[float, float]:
    """Return by how many MiB the memory and the mapped files of a process grow when it runs `program`."""
    with nursery() as place:
        child = place.spawn(WAIT + program + "say('done')\nrest()", **environment)
        forest = Forest()
        child.hear()
        before = watched(child, forest)
        child.tell()
        assert child.hear() == ["done"]
        after = forest.sight(child.run, time.monotonic())
    sizes = (after.memory_bytes, before.memory_bytes, after.memory_file_bytes, before.memory_file_bytes)
    assert all(isinstance(size, int) for size in sizes)
    own, own_before, file, file_before = (size for size in sizes if isinstance(size, int))
    return (own - own_before) / MIB, (file - file_before) / MIB


def test_anonymous_memory_counts() -> None:
    own, file = growth("kept = bytearray(100 << 20)\n" + FILL)
    assert own == pytest.approx(100, abs=2)
    assert file == pytest.approx(0, abs=2)


def test_shared_memory_counts() -> None:
    own, file = growth("kept = mmap.mmap(-1, 100 << 20)\n" + FILL)
    assert own == pytest.approx(100, abs=2)
    assert file == pytest.approx(0, abs=2)


def test_a_mapped_file_is_kept_apart(tmp_path: Path) -> None:
    weights = tmp_path / "weights"
    weights.write_bytes(bytes(50 * MIB))
    program = """
fd = os.open(os.environ["WEIGHTS"], os.O_RDONLY)
kept = mmap.mmap(fd, 0, prot=mmap.PROT_READ)
total = sum(kept[at] for at in range(0, len(kept), 4096))
"""
    own, file = growth(program, WEIGHTS=str(weights))
    assert own == pytest.approx(0, abs=2)
    assert file == pytest.approx(50, abs=2)


HEADLESS = """
kept = bytearray(100 << 20)
for at in range(0, 100 << 20, 4096): kept[at] = 1
threading.Thread(target=rest).start()
say("ready")
libc.syscall(60, 0)
"""


def test_a_process_without_its_main_thread_still_holds_its_memory() -> None:
    with nursery() as place:
        child = place.spawn(HEADLESS)
        child.hear()

        def headless() -> bool:
            stat = read_stat(PROC, child.pid)
            return stat is not None and stat.state == "Z"

        assert eventually(headless)
        forest = Forest()
        seen = watched(child, forest)
        exact = forest.exact(child.run)
        assert seen.pids == (child.pid,)
        assert isinstance(seen.memory_bytes, int)
        assert exact is not None
        assert seen.memory_bytes / MIB == pytest.approx(108, abs=8)
        assert exact / MIB == pytest.approx(108, abs=8)


PREFORK = """
kept = bytearray(200 << 20)
for at in range(0, len(kept), 4096): kept[at] = 1
def worker():
    say("forked")
    while True:
        os.read(0, 1)
        for at in range(0, 50 << 20, 4096): kept[at] = 2
        say("wrote")
for _ in range(4): fork(worker)
rest()
"""


def memory(forest: Forest, run: str) -> float:
    seen = forest.sight(run, time.monotonic())
    assert isinstance(seen.memory_bytes, int)
    return seen.memory_bytes / MIB


def test_pages_that_a_forked_tree_shares_count_once_after_a_fair_measure() -> None:
    with nursery() as place:
        child = place.spawn(PREFORK)
        assert [child.hear() for _ in range(4)] == [["forked"]] * 4
        forest = Forest()
        watched(child, forest)
        assert memory(forest, child.run) == pytest.approx(1030, abs=40)
        assert forest.exact_due(child.run, 900 * MIB, time.monotonic())
        exact = forest.exact(child.run)
        assert exact is not None
        assert exact / MIB == pytest.approx(215, abs=20)
        assert memory(forest, child.run) == pytest.approx(exact / MIB, abs=5)
        assert not forest.exact_due(child.run, 100 * MIB, time.monotonic())

        child.tell()  # one of the four writes to 50 MB of the shared pages, which makes them its own
        assert child.hear() == ["wrote"]
        assert forest.exact_due(child.run, 100 * MIB, time.monotonic() + 10)
        exact = forest.exact(child.run)
        assert exact is not None
        assert exact / MIB == pytest.approx(265, abs=20)
        assert memory(forest, child.run) == pytest.approx(exact / MIB, abs=5)


def test_a_fair_measure_is_never_below_what_one_process_holds_alone() -> None:
    with nursery() as place:
        child = place.spawn(PREFORK)
        assert [child.hear() for _ in range(4)] == [["forked"]] * 4
        forest = Forest()
        watched(child, forest)
        forest.exact(child.run)
        for member in forest.members(child.run)[1:4]:
            kill(member.pid)
        assert eventually(lambda: len(forest.sight(child.run, time.monotonic()).pids) == 2)
        assert memory(forest, child.run) >= 200


def test_a_fair_measure_that_went_stale_is_not_believed() -> None:
    with nursery() as place:
        child = place.spawn(PREFORK)
        assert [child.hear() for _ in range(4)] == [["forked"]] * 4
        forest = Forest()
        watched(child, forest)
        forest.exact(child.run)
        later = forest.sight(child.run, time.monotonic() + 3600)
        assert isinstance(later.memory_bytes, int)
        assert later.memory_bytes / MIB == pytest.approx(1030, abs=40)


def test_where_page_tables_cannot_be_walked_the_plain_sum_stays(tmp_path: Path) -> None:
    for pid in (100, 101):
        write_process(tmp_path, pid, ppid=100, start=1000, session="100")
        (tmp_path / str(pid) / "smaps_rollup").write_text("Rss: 5 kB\nPss: 5 kB\n")
    forest = Forest(tmp_path, clock=lambda: 50.0)
    forest.track(Root("chat", "r1", Identity("boot", 100, 1000)))
    forest.refresh()
    assert forest.exact("r1") is None
    assert forest.sight("r1", 50.0).memory_bytes == 220 * 1024
    assert not forest.exact_due("r1", 1, 55.0)
    assert forest.exact_due("r1", 1, 60.0)


def test_one_process_alone_is_never_measured() -> None:
    with nursery() as place:
        child = place.spawn("rest()")
        forest = Forest()
        watched(child, forest)
        assert not forest.exact_due(child.run, 0, time.monotonic())


def test_another_process_with_the_same_pid_is_not_measured() -> None:
    with nursery() as place:
        child = place.spawn("rest()")
        assert measure_share(PROC, child.pid, 1) is None


def test_a_name_that_looks_like_memory_is_not_believed() -> None:
    memory = b"RssAnon:\t 1 kB\nRssFile:\t 2 kB\nRssShmem:\t 4 kB\nVmLib:\t5 kB\nVmSwap:\t 8 kB\n"
    status = b"Name:\tRssAnon: 9 kB\n" + memory
    assert parse_status(status) == Footprint(13 * 1024, 2 * 1024)


def test_a_status_without_memory_is_none() -> None:
    assert parse_status(b"Name:\tx\nState:\tZ (zombie)\nThreads:\t1\n") is None


def test_a_fair_share_is_anon_and_shmem_and_swap() -> None:
    rollup = (
        b"Rss: 9 kB\nPss: 8 kB\nPss_Anon: 1 kB\nPss_File: 2 kB\nPss_Shmem: 4 kB\nSwap: 9 kB\nSwapPss: 8 kB\n"
    )
    assert parse_rollup(rollup) == 13 * 1024
    assert parse_rollup(b"Rss: 9 kB\nPss: 8 kB\n") is None
