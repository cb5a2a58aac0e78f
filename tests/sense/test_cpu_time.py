"""The CPU time of processes, on files and on a real one."""

import os
from pathlib import Path

from supervisor.model.reading import Missing
from supervisor.sense.cpu_time import cpu_time_s

STAT = "{pid} (a ) R 1 (b) S 1 1 1 0 -1 0 0 0 0 0 {user} {system} 0 0 20 0 1 0 77 0 0\n"


def lay(proc: Path, pid: int, user: int, system: int) -> None:
    (proc / str(pid)).mkdir()
    (proc / str(pid) / "stat").write_text(STAT.format(pid=pid, user=user, system=system))


def test_user_and_system_time_of_all_processes_count(tmp_path: Path) -> None:
    ticks = os.sysconf("SC_CLK_TCK")
    lay(tmp_path, 5, ticks, 2 * ticks)
    lay(tmp_path, 6, 0, ticks)
    assert cpu_time_s(tmp_path, (5, 6)) == 4.0
    assert cpu_time_s(tmp_path, (5, 7)) == 3.0  # one that is gone is left out


def test_processes_that_cannot_be_seen_have_no_time_rather_than_none(tmp_path: Path) -> None:
    lay(tmp_path, 5, 1, 1)
    unseen = Missing("its processes cannot be seen")
    assert cpu_time_s(tmp_path, ()) == unseen
    assert cpu_time_s(tmp_path, (7,)) == unseen
    assert cpu_time_s(tmp_path, (5, 0)) == unseen
    (tmp_path / "8").mkdir()
    (tmp_path / "8" / "stat").mkdir()
    assert cpu_time_s(tmp_path, (5, 8)) == Missing(f"cannot read {tmp_path}/8/stat: Is a directory")


def test_a_process_that_computes_is_seen_to() -> None:
    pid = os.getpid()
    before = cpu_time_s(Path("/proc"), (pid,))
    assert isinstance(before, float)
    spent, after = 0, cpu_time_s(Path("/proc"), (pid,))
    while not isinstance(after, Missing) and after < before + 0.05:
        spent += sum(range(100_000))
        after = cpu_time_s(Path("/proc"), (pid,))
    assert isinstance(after, float)
