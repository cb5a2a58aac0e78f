import os
import random
import resource
import shutil
from pathlib import Path

import pytest

from supervisor.model.reading import Missing
from supervisor.model.snapshot import Identity
from supervisor.sense.forest import Forest, Member, Root
from supervisor.sense.procfs import boot_id, read_stat
from support.procs import PROC, Child, eventually, kill, nursery, open_files, write_process

WIPED = "os.execve(sys.executable, [sys.executable, '-S', '-c', 'import time; time.sleep(60)'], {})"


def root_of(child: Child) -> Root:
    stat = read_stat(PROC, child.pid)
    assert stat is not None
    return Root("chat", child.run, Identity(boot_id(PROC), child.pid, stat.start_ticks))


def pids(forest: Forest, run: str) -> set[int]:
    forest.refresh()
    return {member.pid for member in forest.members(run)}


def test_the_root_is_a_member_at_once() -> None:
    with nursery() as place:
        child = place.spawn("rest()")
        forest = Forest()
        forest.track(root_of(child))
        assert [member.pid for member in forest.members(child.run)] == [child.pid]


def test_children_and_grandchildren_are_members() -> None:
    with nursery() as place:
        child = place.spawn("say(fork(lambda: (say(fork(rest)), rest())))\nrest()")
        forest = Forest()
        forest.track(root_of(child))
        family = {child.pid, int(child.hear()[0]), int(child.hear()[0])}
        assert pids(forest, child.run) == family


def test_a_grandchild_that_left_the_session_is_a_member() -> None:
    with nursery() as place:
        child = place.spawn("say(fork(lambda: (os.setsid(), say('out'), rest())))\nrest()")
        forest = Forest()
        forest.track(root_of(child))
        heard = [child.hear()[0], child.hear()[0]]
        heard.remove("out")
        assert pids(forest, child.run) == {child.pid, int(heard[0])}


DOUBLE_FORK = """
def daemon():
    os.setsid()
    if os.fork():
        os._exit(0)
    while os.getppid() != {parent}:
        time.sleep(0.001)
    say(os.getpid())
    rest()
os.waitpid(fork(daemon), 0)
rest()
"""


def test_a_double_forked_grandchild_that_was_reparented_is_found_by_its_environment() -> None:
    with nursery() as place:
        child = place.spawn(DOUBLE_FORK.format(parent=os.getpid()))
        daemon = int(child.hear()[0])
        forest = Forest()
        forest.track(root_of(child))
        assert pids(forest, child.run) == {child.pid, daemon}


def test_an_orphan_without_the_mark_is_found_by_the_session_that_a_member_led() -> None:
    with nursery() as place:
        child = place.spawn(f"say(os.getpid())\nif not os.fork():\n    {WIPED}\nos.read(0, 1)\nos._exit(0)")
        child.hear()
        forest = Forest()
        forest.track(root_of(child))
        forest.refresh()
        child.tell()
        child.process.wait()
        (orphan,) = pids(forest, child.run)
        place.owe(orphan)
        assert orphan != child.pid


UNSEEN_ORPHAN = f"""
os.read(0, 1)
if not os.fork():
    if not os.fork():
        while os.getppid() != int(os.environ["PARENT"]):
            time.sleep(0.001)
        say(os.getpid())
        {WIPED}
    os._exit(0)
os.wait()
rest()
"""


def test_a_new_orphan_that_wiped_its_environment_is_found_by_its_session_alone() -> None:
    with nursery() as place:
        child = place.spawn(UNSEEN_ORPHAN, PARENT=str(os.getpid()))
        forest = Forest()
        forest.track(root_of(child))
        forest.refresh()
        child.tell()
        orphan = place.owe(int(child.hear()[0]))
        assert eventually(lambda: not (PROC / str(orphan) / "environ").read_bytes().strip(b"\0"))
        assert orphan in pids(forest, child.run)


def test_once_a_member_a_process_stays_one() -> None:
    program = (
        "say(fork(lambda: (os.read(0, 1), os.setsid(), say('out'), {wiped})))\nos.read(0, 1)\nos._exit(0)"
    )
    with nursery() as place:
        child = place.spawn(program.format(wiped=WIPED))
        leaver = place.owe(int(child.hear()[0]))
        forest = Forest()
        forest.track(root_of(child))
        assert leaver in pids(forest, child.run)
        child.tell()
        child.tell()
        assert child.hear() == ["out"]
        child.process.wait()
        assert pids(forest, child.run) == {leaver}
        assert forest.members(child.run)[0].pid == leaver
        forest.refresh(full=True)
        assert [member.pid for member in forest.members(child.run)] == [leaver]


def test_processes_of_two_workers_are_told_apart() -> None:
    with nursery() as place:
        one = place.spawn("say(fork(rest))\nrest()")
        two = place.spawn("say(fork(rest))\nrest()")
        family = ({one.pid, int(one.hear()[0])}, {two.pid, int(two.hear()[0])})
        forest = Forest()
        forest.track(root_of(one))
        forest.track(root_of(two))
        assert (pids(forest, one.run), pids(forest, two.run)) == family
        assert os.getpid() not in family[0] | family[1]


def test_a_zombie_is_no_member_and_its_children_stay() -> None:
    with nursery() as place:
        child = place.spawn("say(fork(rest))\nrest()")
        orphan = int(child.hear()[0])
        forest = Forest()
        forest.track(root_of(child))
        forest.refresh()
        kill(child.pid)
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert pids(forest, child.run) == {orphan}


def test_a_process_that_vanished_since_the_pass_is_left_out_of_the_sum() -> None:
    with nursery() as place:
        child = place.spawn("say(fork(rest))\nrest()")
        gone = int(child.hear()[0])
        forest = Forest()
        forest.track(root_of(child))
        forest.refresh()
        kill(gone)
        assert eventually(lambda: forest.sight(child.run, 5.0).pids == (child.pid,))
        seen = forest.sight(child.run, 5.0)
        assert seen.read_s == 5.0
        assert isinstance(seen.memory_bytes, int)
        assert seen.memory_bytes > 1 << 20


def test_a_forgotten_worker_is_missing_and_holds_no_descriptor() -> None:
    before = open_files()
    with nursery() as place:
        child = place.spawn("rest()")
        inside = open_files()
        forest = Forest()
        forest.track(root_of(child))
        forest.refresh()
        forest.sight(child.run, 1.0)
        assert open_files() == inside + 2
        forest.forget(child.run)
        assert open_files() == inside
        assert forest.members(child.run) == ()
        assert forest.sight(child.run, 1.0).memory_bytes == Missing(f"run {child.run} is not tracked")
    assert open_files() == before


def test_without_a_descriptor_a_live_worker_is_missing_and_not_gone() -> None:
    with nursery() as place:
        child = place.spawn("rest()")
        forest = Forest(kept_files=0)
        forest.track(root_of(child))
        forest.refresh()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
            forest.refresh()
            seen = forest.sight(child.run, 1.0)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        why = f"cannot read /proc/{child.pid}/status: Too many open files"
        assert (seen.pids, seen.memory_bytes, seen.memory_file_bytes) == (
            (child.pid,),
            Missing(why),
            Missing(why),
        )
        assert pids(forest, child.run) == {child.pid}


def test_marked_finds_all_that_carry_a_run() -> None:
    with nursery() as place:
        child = place.spawn(DOUBLE_FORK.format(parent=os.getpid()))
        daemon = int(child.hear()[0])
        assert {member.pid for member in Forest().marked()[child.run]} == {child.pid, daemon}


# Trees of files: what cannot be had from a kernel on demand.


def forest_of(proc: Path, clock_s: list[float]) -> Forest:
    forest = Forest(proc, clock=lambda: clock_s[0])
    forest.track(Root("chat", "r1", Identity("boot", 100, 1000)))
    return forest


def tree(tmp_path: Path) -> Path:
    write_process(tmp_path, 1, ppid=0)
    write_process(tmp_path, 100, start=1000, session="100")
    return tmp_path


def test_a_root_whose_pid_was_reused_is_no_member(tmp_path: Path) -> None:
    write_process(tree(tmp_path), 100, start=2000, session="100")
    forest = forest_of(tmp_path, [0.0])
    forest.refresh()
    assert forest.members("r1") == ()


def test_a_member_whose_pid_was_reused_is_no_member_any_more(tmp_path: Path) -> None:
    write_process(tree(tmp_path), 200, ppid=100, start=1001, session="100")
    forest = forest_of(tmp_path, [0.0])
    forest.refresh()
    assert forest.members("r1") == (Member(100, 1000), Member(200, 1001))
    write_process(tmp_path, 200, ppid=1, start=5000, session="7")
    forest.refresh()
    assert forest.members("r1") == (Member(100, 1000),)


def test_a_child_that_took_the_pid_of_a_stranger_is_found_within_thirty_seconds(tmp_path: Path) -> None:
    for stranger in range(300, 360):
        write_process(tree(tmp_path), stranger, start=50)
    clock_s = [0.0]
    forest = forest_of(tmp_path, clock_s)
    forest.refresh()
    for pid in (300, 330, 359):
        write_process(tmp_path, pid, ppid=100, start=6000, session="100")
    for _ in range(16):
        clock_s[0] += 2.0
        forest.refresh()
    assert forest.members("r1")[0].pid == 100
    assert {member.pid for member in forest.members("r1")} == {100, 300, 330, 359}


def test_a_full_pass_finds_a_reused_pid_at_once(tmp_path: Path) -> None:
    write_process(tree(tmp_path), 300, start=50)
    forest = forest_of(tmp_path, [0.0])
    forest.refresh()
    write_process(tmp_path, 300, ppid=100, start=6000)
    forest.refresh(full=True)
    assert {member.pid for member in forest.members("r1")} == {100, 300}


def test_a_session_number_that_a_stranger_took_explains_nothing(tmp_path: Path) -> None:
    forest = forest_of(tree(tmp_path), [0.0])
    forest.refresh()
    write_process(tmp_path, 100, start=9000, session="100")
    write_process(tmp_path, 400, ppid=1, start=9001, session="100")
    forest.refresh()
    assert forest.members("r1") == ()


def test_the_mark_of_a_process_older_than_the_root_is_not_believed(tmp_path: Path) -> None:
    write_process(tree(tmp_path), 500, start=900, environ="GPU_SUPERVISOR_RUN=r1")
    write_process(tmp_path, 501, start=1001, environ="GPU_SUPERVISOR_RUN=r1")
    forest = forest_of(tmp_path, [0.0])
    forest.refresh()
    assert {member.pid for member in forest.members("r1")} == {100, 501}


def test_a_process_in_the_middle_of_its_exec_is_looked_at_again(tmp_path: Path) -> None:
    write_process(tree(tmp_path), 500, start=1001)
    (tmp_path / "500" / "environ").write_bytes(b"")
    forest = forest_of(tmp_path, [0.0])
    forest.refresh()
    assert forest.members("r1") == (Member(100, 1000),)
    write_process(tmp_path, 500, start=1001, environ="GPU_SUPERVISOR_RUN=r1")
    forest.refresh()
    assert {member.pid for member in forest.members("r1")} == {100, 500}


def test_a_child_seen_before_its_worker_was_tracked_is_found(tmp_path: Path) -> None:
    write_process(tree(tmp_path), 600, start=500)
    forest = Forest(tmp_path)
    forest.track(Root("other", "r0", Identity("boot", 600, 500)))
    write_process(tmp_path, 200, ppid=100, start=1001, session="100")
    forest.refresh()
    forest.track(Root("chat", "r1", Identity("boot", 100, 1000)))
    forest.refresh()
    assert {member.pid for member in forest.members("r1")} == {100, 200}


def test_a_chain_of_new_processes_is_followed_whatever_their_number(tmp_path: Path) -> None:
    tree(tmp_path)
    for pid in range(3000, 1800, -1):
        write_process(tmp_path, pid, ppid=pid + 1 if pid < 3000 else 100, start=1500, session=str(pid))
    forest = forest_of(tmp_path, [0.0])
    forest.refresh()
    assert len(forest.members("r1")) == 1201


@pytest.mark.parametrize(("lives", "expected"), [(1, {100, 700}), (2, {100})])
def test_an_orphan_that_left_no_trace_is_found_where_it_can_be_of_one_life_only(
    tmp_path: Path, lives: int, expected: set[int]
) -> None:
    write_process(tree(tmp_path), 50, start=10, session="40")  # the reaper: we
    write_process(tmp_path, 51, ppid=50, start=1500, session="40")  # a helper of its own
    forest = Forest(tmp_path, reaper=50)
    forest.track(Root("chat", "r1", Identity("boot", 100, 1000)))
    if lives == 2:
        write_process(tmp_path, 300, start=1200, session="300")
        forest.track(Root("other", "r2", Identity("boot", 300, 1200)))
    forest.refresh()
    write_process(tmp_path, 700, ppid=50, start=1600, session="690", environ="")
    forest.refresh()
    assert {member.pid for member in forest.members("r1")} == expected


def test_where_proc_cannot_be_listed_nothing_is_believed_gone(tmp_path: Path) -> None:
    proc = tmp_path / "proc"
    forest = forest_of(tree(proc), [0.0])
    forest.refresh()
    proc.rename(tmp_path / "away")
    forest.refresh()
    assert forest.members("r1") == (Member(100, 1000),)


def test_memory_is_anon_and_shmem_and_swap_over_the_tree_and_files_apart(tmp_path: Path) -> None:
    write_process(tree(tmp_path), 200, ppid=100, start=1001, rss_kib="1000")
    forest = forest_of(tmp_path, [0.0])
    forest.refresh()
    seen = forest.sight("r1", 7.0)
    assert (seen.memory_bytes, seen.memory_file_bytes) == ((100 + 1000 + 2 * (7 + 3)) * 1024, 600 * 1024)


def test_an_empty_tree_holds_nothing(tmp_path: Path) -> None:
    forest = forest_of(tree(tmp_path), [0.0])
    (tmp_path / "100").rename(tmp_path / "gone")
    forest.refresh()
    seen = forest.sight("r1", 7.0)
    assert (seen.pids, seen.memory_bytes, seen.memory_file_bytes) == ((), 0, 0)


def test_a_session_that_no_member_led_explains_nothing(tmp_path: Path) -> None:
    write_process(tmp_path, 50, ppid=1, start=10, session="50", comm="daemon")
    write_process(tmp_path, 100, ppid=50, start=1000, session="50")
    write_process(tmp_path, 101, ppid=50, start=1001, session="50", comm="helper")
    forest = forest_of(tmp_path, [0.0])
    forest.refresh()
    forest.refresh()
    assert forest.members("r1") == (Member(100, 1000),)


def test_a_root_that_took_the_pid_of_a_known_stranger_is_a_member_at_once(tmp_path: Path) -> None:
    write_process(tmp_path, 1, ppid=0)
    write_process(tmp_path, 60, start=5)
    write_process(tmp_path, 100, start=50)
    forest = Forest(tmp_path)
    forest.track(Root("other", "r0", Identity("boot", 60, 5)))
    forest.refresh()
    write_process(tmp_path, 100, start=1000, session="100")
    forest.track(Root("chat", "r1", Identity("boot", 100, 1000)))
    assert forest.members("r1") == (Member(100, 1000),)


class World:
    """A machine of few pids, where processes fork, leave their session, wipe their environment and die."""

    def __init__(self, proc: Path, seed: int) -> None:
        self.proc = proc
        self.random = random.Random(seed)  # noqa: S311 - drawn to be repeated
        self.ticks = 100
        self.rows: dict[int, tuple[int, int, int, str, str]] = {}  # start, parent, session, run, mark
        self._put(1, (0, 0, 1, "", ""))
        self._put(2, (10, 1, 2, "", ""))  # the daemon
        self.roots = {run: self._launch(run) for run in ("r1", "r2")}

    def _put(self, pid: int, row: tuple[int, int, int, str, str]) -> None:
        self.rows[pid] = row
        start, parent, session, _, mark = row
        write_process(
            self.proc,
            pid,
            ppid=parent,
            start=start,
            session=str(session),
            environ=f"GPU_SUPERVISOR_RUN={mark}",
        )

    def _free_pid(self) -> int:
        taken = self.rows.keys() | {row[2] for row in self.rows.values()}  # nor is a session's number reused
        return self.random.choice([pid for pid in range(3, 60) if pid not in taken])

    def _launch(self, run: str) -> Member:
        pid = self._free_pid()
        self.ticks += 1
        self._put(pid, (self.ticks, 2, pid, run, run))
        return Member(pid, self.ticks)

    def step(self) -> None:
        """Have one thing happen."""
        pid = self.random.choice(sorted(self.rows))
        start, parent, session, run, mark = self.rows[pid]
        self.ticks += 1
        match self.random.choice(["fork", "fork", "fork", "setsid", "wipe", "die", "die"]):
            case "fork" if len(self.rows) < 40:
                self._put(self._free_pid(), (self.ticks, pid, session, run, mark))
            case "setsid" if pid > 2 and session != pid:
                self._put(pid, (start, parent, pid, run, mark))
            case "wipe" if pid > 2:
                self._put(pid, (start, parent, session, run, ""))
            case "die" if pid > 2:
                del self.rows[pid]
                shutil.rmtree(self.proc / str(pid))
                for child, row in tuple(self.rows.items()):
                    if row[1] == pid:
                        self._put(child, (row[0], 2 if run else 1, *row[2:]))
            case _:
                pass

    def of(self, run: str) -> set[Member]:
        return {Member(pid, row[0]) for pid, row in self.rows.items() if row[3] == run}


def forest_in(world: World) -> Forest:
    # A kept descriptor of an ordinary file answers on when the file is replaced; one of /proc does not.
    forest = Forest(world.proc, clock=lambda: float(world.ticks), kept_files=0)
    for run, root in world.roots.items():
        forest.track(Root(run, run, Identity("boot", root.pid, root.start_ticks)))
    return forest


@pytest.mark.parametrize("seed", range(12))
def test_whatever_happens_the_members_are_those_of_the_worker(tmp_path: Path, seed: int) -> None:
    world = World(tmp_path, seed)
    forest = forest_in(world)
    for turn in range(150):
        world.step()
        forest.refresh(full=turn % 2 == 0)
        for run in world.roots:
            found = set(forest.members(run))
            assert found <= world.of(run), f"turn {turn}: strangers in {run}"
            if turn % 2 == 0:
                assert found == world.of(run), f"turn {turn}: not all of {run}"


@pytest.mark.parametrize("seed", range(12))
def test_however_much_happens_between_passes_no_stranger_becomes_a_member(tmp_path: Path, seed: int) -> None:
    world = World(tmp_path, seed)
    forest = forest_in(world)
    for _ in range(40):
        for _ in range(6):
            world.step()
        forest.refresh()
        for run in world.roots:
            assert set(forest.members(run)) <= world.of(run)
