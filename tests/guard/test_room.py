from pathlib import Path

import pytest

from supervisor.guard.device import DeviceMemory, Surroundings, device_reader
from supervisor.guard.memory import MemoryManager
from supervisor.guard.pressure import Pressure
from supervisor.guard.room import Room, Roots, Unreadable, host_room, rooms, smallest_room

MIB = 1 << 20
GIB = 1 << 30
MEMINFO = "MemTotal:       16777216 kB\nMemFree:         1048576 kB\nMemAvailable:    8388608 kB\n"
STATUS = "VmRSS:  900000 kB\nRssAnon:  524288 kB\nRssFile:  1 kB\nRssShmem:  262144 kB\nVmSwap:  262144 kB\n"
HOST = Room(8 * GIB, 16 * GIB, "MemAvailable of the host")
# Of either, 1 GiB could be reclaimed.
V2_STAT = f"anon 5\ninactive_file {256 * MIB}\nactive_file {512 * MIB}\nslab_reclaimable {256 * MIB}\n"
V1_STAT = f"inactive_file 7\ntotal_inactive_file {256 * MIB}\ntotal_active_file {768 * MIB}\n"
NO_LIMIT_OF_V1 = 9223372036854771712


class Tree:
    """A /proc and a /sys/fs/cgroup of files."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.environment: dict[str, str] = {}
        self.proc = path / "proc"
        self.cgroup = path / "cgroup"
        self.write(self.proc, {"meminfo": MEMINFO, "self/status": STATUS, "self/cgroup": "0::/\n"})
        self.cgroup.mkdir()

    @property
    def roots(self) -> Roots:
        return Roots(str(self.proc), str(self.cgroup), self.environment)

    def member_of(self, lines: str) -> None:
        self.write(self.proc, {"self/cgroup": lines})

    def v2(self, name: str, used: int = 2 * GIB, **limits: int | str) -> None:
        files = {f"memory.{which}": f"{limit}\n" for which, limit in limits.items()}
        files |= {"memory.current": f"{used}\n", "memory.stat": V2_STAT}
        self.write(self.cgroup / name, files)

    def v1(self, name: str, limit: int, used: int = 2 * GIB) -> None:
        files = {"memory.limit_in_bytes": f"{limit}\n", "memory.usage_in_bytes": f"{used}\n"}
        self.write(self.cgroup / "memory" / name, {**files, "memory.stat": V1_STAT})

    def write(self, folder: Path, files: dict[str, str]) -> None:
        for name, text in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def test_outside_of_any_limit_the_room_is_the_hosts(tree: Tree) -> None:
    assert rooms(tree.roots) == (HOST,)
    assert smallest_room(tree.roots) == HOST


def test_the_room_of_this_process_can_be_read() -> None:
    room = smallest_room()
    assert isinstance(room, Room)
    assert 0 <= room.available_bytes <= room.limit_bytes


def test_a_cgroup_leaves_its_limit_less_what_it_holds_and_cannot_give_back(tree: Tree) -> None:
    tree.member_of("0::/workers/chat\n")
    tree.v2("workers/chat", max=4 * GIB, high="max")
    expected = Room(3 * GIB, 4 * GIB, "memory.max of the cgroup /workers/chat")
    assert rooms(tree.roots) == (HOST, expected)
    assert smallest_room(tree.roots) == expected


def test_memory_high_counts_where_it_is_lower(tree: Tree) -> None:
    tree.member_of("0::/chat\n")
    tree.v2("chat", max=4 * GIB, high=2 * GIB)
    assert smallest_room(tree.roots) == Room(1 * GIB, 2 * GIB, "memory.high of the cgroup /chat")


def test_a_cgroup_above_counts_where_it_leaves_less(tree: Tree) -> None:
    tree.member_of("0::/workers/chat\n")
    tree.v2("workers", used=5 * GIB, max=6 * GIB, high="max")
    tree.v2("workers/chat", max=4 * GIB, high="max")
    assert rooms(tree.roots) == (
        HOST,
        Room(3 * GIB, 4 * GIB, "memory.max of the cgroup /workers/chat"),
        Room(2 * GIB, 6 * GIB, "memory.max of the cgroup /workers"),
    )
    assert smallest_room(tree.roots) == Room(2 * GIB, 6 * GIB, "memory.max of the cgroup /workers")


def test_the_host_counts_where_it_leaves_less_than_the_cgroup(tree: Tree) -> None:
    tree.member_of("0::/chat\n")
    tree.v2("chat", max=32 * GIB, high="max")
    assert smallest_room(tree.roots) == HOST


def test_a_cgroup_over_its_limit_has_no_room(tree: Tree) -> None:
    tree.member_of("0::/chat\n")
    tree.v2("chat", used=8 * GIB, max=4 * GIB, high=0)
    assert smallest_room(tree.roots) == Room(0, 1, "memory.high of the cgroup /chat")


def test_what_could_be_reclaimed_is_never_more_room_than_the_limit(tree: Tree) -> None:
    tree.member_of("0::/chat\n")
    tree.v2("chat", used=5 * MIB, max=4 * GIB)
    assert smallest_room(tree.roots) == Room(4 * GIB, 4 * GIB, "memory.max of the cgroup /chat")


def test_a_container_is_the_root_of_its_own_namespace(tree: Tree) -> None:
    tree.v2("", max=4 * GIB, high="max")
    assert smallest_room(tree.roots) == Room(3 * GIB, 4 * GIB, "memory.max of the cgroup /")


@pytest.mark.parametrize("name", ["/docker/3f9c", "/docker/3f9c/chat"])
def test_a_container_that_is_told_its_name_on_the_host_finds_its_own_part(tree: Tree, name: str) -> None:
    tree.member_of(f"0::{name}\n")
    tree.v2("", max=4 * GIB, high="max")
    tree.v2("chat", max="max", high="max")
    assert smallest_room(tree.roots) == Room(3 * GIB, 4 * GIB, "memory.max of the cgroup /")


def test_a_cgroup_outside_of_the_namespace_is_not_guessed_at(tree: Tree) -> None:
    tree.member_of("0::/../other\n")
    tree.v2("", max=1 * MIB, high="max")
    assert rooms(tree.roots) == (
        HOST,
        Unreadable("cannot read cgroup /../other: it lies outside of this cgroup namespace"),
    )
    assert smallest_room(tree.roots) == HOST


@pytest.mark.parametrize("controllers", ["memory", "cpu,memory"])
def test_in_a_hybrid_the_hierarchy_that_accounts_for_memory_counts(tree: Tree, controllers: str) -> None:
    tree.member_of(f"9:name=systemd:/init\n4:{controllers}:/workers/chat\n0::/elsewhere\n")
    tree.v1("", NO_LIMIT_OF_V1)
    tree.v1("workers", 6 * GIB, used=5 * GIB)
    tree.v1("workers/chat", 4 * GIB)
    tree.v2("elsewhere", max=1 * MIB, high="max")
    assert rooms(tree.roots) == (
        HOST,
        Room(3 * GIB, 4 * GIB, "memory.limit_in_bytes of the cgroup /workers/chat"),
        Room(2 * GIB, 6 * GIB, "memory.limit_in_bytes of the cgroup /workers"),
    )


def test_a_hierarchy_without_memory_is_no_limit(tree: Tree) -> None:
    tree.member_of("9:name=systemd:/init\n1:cpu:/chat\n")
    assert rooms(tree.roots) == (HOST,)


def test_a_kernel_without_cgroups_has_no_such_limit(tree: Tree) -> None:
    (tree.proc / "self/cgroup").unlink()
    tree.cgroup.rmdir()
    assert rooms(tree.roots) == (HOST,)


def test_a_membership_that_cannot_be_read_is_told(tree: Tree) -> None:
    (tree.proc / "self/cgroup").unlink()
    why = f"cannot read {tree.proc}/self/cgroup: No such file or directory"
    assert rooms(tree.roots) == (HOST, Unreadable(why))


def test_a_limit_whose_use_is_unknown_is_told_and_passed_over(tree: Tree) -> None:
    tree.member_of("0::/chat\n")
    tree.v2("chat", max=1 * MIB, high="max")
    (tree.cgroup / "chat/memory.current").unlink()
    why = f"cannot read {tree.cgroup}/chat/memory.current: No such file or directory"
    assert rooms(tree.roots) == (HOST, Unreadable(why))
    tree.v2("chat", max="plenty", high="max")
    why = f"cannot read {tree.cgroup}/chat: invalid literal for int() with base 10: b'plenty'"
    assert rooms(tree.roots) == (HOST, Unreadable(why))
    assert smallest_room(tree.roots) == HOST


def test_a_limit_that_may_not_be_read_is_told(tree: Tree) -> None:
    tree.member_of("0::/chat\n")
    (tree.cgroup / "chat/memory.max").mkdir(parents=True)  # as unreadable to root as to others
    why = f"cannot read {tree.cgroup}/chat/memory.max: Is a directory"
    assert rooms(tree.roots) == (HOST, Unreadable(why))


def test_the_cap_leaves_what_this_process_does_not_hold(tree: Tree) -> None:
    tree.environment["GPU_SUPERVISOR_MEMORY_CAP"] = str(3 * GIB)
    assert smallest_room(tree.roots) == Room(2 * GIB, 3 * GIB, "GPU_SUPERVISOR_MEMORY_CAP")
    tree.environment["GPU_SUPERVISOR_MEMORY_CAP"] = str(512 * MIB)
    assert smallest_room(tree.roots) == Room(0, 512 * MIB, "GPU_SUPERVISOR_MEMORY_CAP")


@pytest.mark.parametrize("cap", ["8G", "0", "-1"])
def test_a_cap_that_is_no_number_of_bytes_is_told(tree: Tree, cap: str) -> None:
    tree.environment["GPU_SUPERVISOR_MEMORY_CAP"] = cap
    why = f"cannot use GPU_SUPERVISOR_MEMORY_CAP={cap}: it is no number of bytes above 0"
    assert rooms(tree.roots) == (HOST, Unreadable(why))


def test_a_cap_against_an_unknown_use_is_told(tree: Tree) -> None:
    tree.environment["GPU_SUPERVISOR_MEMORY_CAP"] = str(GIB)
    tree.write(tree.proc, {"self/status": "RssAnon:  524288 kB\n"})
    why = f"cannot read {tree.proc}/self/status: it has no RssAnon, RssShmem, VmSwap"
    assert rooms(tree.roots) == (HOST, Unreadable(why))
    (tree.proc / "self/status").unlink()
    why = f"cannot read {tree.proc}/self/status: No such file or directory"
    assert rooms(tree.roots) == (HOST, Unreadable(why))


def test_a_host_that_cannot_be_read_leaves_the_cgroup_to_tell(tree: Tree) -> None:
    (tree.proc / "meminfo").unlink()
    why = f"cannot read {tree.proc}/meminfo: No such file or directory"
    assert host_room(str(tree.proc)) == Unreadable(why)
    assert smallest_room(tree.roots) == Unreadable(why)
    tree.v2("", max=4 * GIB, high="max")
    assert smallest_room(tree.roots) == Room(3 * GIB, 4 * GIB, "memory.max of the cgroup /")


def cpu(tree: Tree) -> Surroundings:
    return Surroundings({}, tree.environment, str(tree.proc), str(tree.cgroup))


def test_the_cpus_memory_is_that_of_whatever_is_fullest(tree: Tree) -> None:
    assert device_reader("cpu", cpu(tree))() == DeviceMemory(16 * GIB, 8 * GIB)
    tree.member_of("0::/chat\n")
    tree.v2("chat", used=2 * GIB, max=4 * GIB)  # 1 of 4 GiB: less room than the host, and less full
    assert device_reader("cpu", cpu(tree))() == DeviceMemory(16 * GIB, 8 * GIB)
    tree.v2("chat", used=4 * GIB, max=4 * GIB)
    assert device_reader("cpu", cpu(tree))() == DeviceMemory(4 * GIB, 1 * GIB)
    tree.environment["GPU_SUPERVISOR_MEMORY_CAP"] = str(1 * GIB)
    assert device_reader("cpu", cpu(tree))() == DeviceMemory(1 * GIB, 0)


def test_a_worker_on_the_cpu_feels_its_cgroup_before_the_host_does(tree: Tree) -> None:
    tree.member_of("0::/chat\n")
    tree.v2("chat", used=4 * GIB, max=4 * GIB)
    manager = MemoryManager(
        "cpu", reader_for=lambda device: device_reader(device, cpu(tree)), check_interval=0
    )
    assert manager.check_memory_pressure() is Pressure.HIGH
    tree.v2("chat", used=4 * GIB + 900 * MIB, max=4 * GIB)
    assert manager.check_memory_pressure() is Pressure.EXTREME
