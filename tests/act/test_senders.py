import os
import socket
import struct
from pathlib import Path

from supervisor.act.senders import DEEPEST, MOST_KNOWN, Senders, in_cgroup, in_tree, sender_of
from supervisor.act.unit_lives import cgroup_of


def process(proc: Path, pid: int, parent: int) -> None:
    (proc / str(pid)).mkdir(parents=True)
    fields = " ".join(["0"] * 17)
    (proc / str(pid) / "stat").write_text(f"{pid} (a) b) S {parent} {fields} 1000 0 0\n")


def test_a_new_process_belongs_to_the_run_of_its_nearest_known_parent(tmp_path: Path) -> None:
    known = {100: "run-1", 200: "run-2"}
    for pid, parent in {101: 100, 102: 101, 201: 102, 300: 1, 301: 300, 400: 200}.items():
        process(tmp_path, pid, parent)
    asked = (100, 101, 102, 201, 200, 400, 300, 301, 999)
    said = [pid for pid in asked if in_tree(known.get, "run-1", pid, tmp_path)]
    assert said == [100, 101, 102, 201]
    assert [pid for pid in asked if in_tree(known.get, "run-2", pid, tmp_path)] == [200, 400]


def test_the_climb_ends(tmp_path: Path) -> None:
    process(tmp_path, 10, 11)
    process(tmp_path, 11, 10)
    assert not in_tree(lambda _: None, "run-1", 10, tmp_path)
    for pid in range(1000, 1000 + DEEPEST + 1):
        process(tmp_path, pid, pid + 1)
    root = {1000 + DEEPEST: "run-1"}
    assert in_tree(root.get, "run-1", 1001, tmp_path)
    assert not in_tree(root.get, "run-1", 1000, tmp_path)


def test_a_process_is_in_a_unit_by_its_cgroup_or_one_below_it(tmp_path: Path) -> None:
    proc, cgroups = tmp_path / "proc", Path("/sys/fs/cgroup")
    unit = cgroups / "gpu.slice/gpu-workers.slice/gpu-worker-chat.service"
    places = {
        10: "/gpu.slice/gpu-workers.slice/gpu-worker-chat.service",
        11: "/gpu.slice/gpu-workers.slice/gpu-worker-chat.service/of its own",
        12: "/gpu.slice/gpu-workers.slice/gpu-worker-chat.service (deleted)",
        20: "/gpu.slice/gpu-workers.slice/gpu-worker-chat.service2",
        21: "/gpu.slice/gpu-workers.slice/gpu-worker-embed.service",
        22: "/gpu.slice/gpu-workers.slice",
        23: "/user.slice/gpu-worker-chat.service",
    }
    for pid, place in places.items():
        (proc / str(pid)).mkdir(parents=True)
        (proc / str(pid) / "cgroup").write_text(f"1:name=systemd:/elsewhere\n0::{place}\n")
    (proc / "30").mkdir()
    (proc / "30/cgroup").write_text("1:name=systemd:/elsewhere\n")
    found = [pid for pid in (*places, 30, 31) if in_cgroup(unit, cgroup_of(pid, proc, cgroups))]
    assert found == [10, 11, 12]


def test_a_sender_is_looked_up_once_and_a_stranger_each_time() -> None:
    asked: list[tuple[str, int]] = []

    def verify(run: str, pid: int) -> bool:
        asked.append((run, pid))
        return pid < 1000

    senders = Senders("run-1", verify)
    assert [senders.may_speak(pid) for pid in (5, 5, 2000, 2000, 0, -1)] == [
        *(True, True),
        *(False, False, False, False),
    ]
    assert asked == [("run-1", 5), ("run-1", 2000), ("run-1", 2000)]
    for pid in range(1, MOST_KNOWN + 2):
        assert senders.may_speak(pid)
    asked.clear()
    assert senders.may_speak(5)
    assert asked == [("run-1", 5)]  # so many have spoken since


def test_who_cannot_be_looked_up_may_not_speak() -> None:
    def fails(_run: str, _pid: int) -> bool:
        raise OSError(24, "Too many open files")

    assert not Senders("run-1", fails).may_speak(5)


def test_the_pid_is_that_of_the_credentials() -> None:
    credentials = (socket.SOL_SOCKET, socket.SCM_CREDENTIALS, struct.pack("iII", os.getpid(), 0, 0))
    other = (socket.SOL_SOCKET, socket.SCM_RIGHTS, b"\0" * 4)
    assert sender_of([other, credentials]) == os.getpid()
    assert sender_of([other]) == 0
    assert sender_of([]) == 0
