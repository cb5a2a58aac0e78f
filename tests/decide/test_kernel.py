"""What follows from the kernel's log: Xids, and kills for want of memory."""

from typing import Any

import pytest
from msgspec.structs import replace

from decide.world import GIB, GPU_A, GPU_B, World, worker
from supervisor.model.action import Kill, Launch, Signal
from supervisor.model.memory import LastXid
from supervisor.model.news import Exited, OomKilled, XidSeen
from supervisor.model.phase import Cause, GpuState, Phase
from supervisor.model.plan import GpuChoice, MemoryCaps
from supervisor.model.verdict import Death, Verdict

ON_A = GpuChoice("listed", (0,))
BUS = "0000:3b:00"
FALLEN = "GPU has fallen off the bus."
MMU = "Ch 0000000a, intr 00000000. MMU Fault"


def two() -> World:
    """Return a world where chat is on the first GPU, other on both, and away on the second."""
    world = World(
        worker("chat", gpus=ON_A),
        worker("other", gpus=GpuChoice("listed", (0, 1))),
        worker("away", gpus=GpuChoice("listed", (1,))),
        gpus=(GPU_A, GPU_B),
    )
    world.settle()
    world.pass_s(10.0)
    return world


def xid(  # any field of the news
    world: World,
    code: int,
    text: str,
    seq: int = 100,
    of: str | None = None,
    **fields: Any,  # noqa: ANN401
) -> XidSeen:
    """Return an Xid of the first GPU, heard now; with `of`, one that names that worker's process."""
    seen = XidSeen(code, text, BUS, seq, world.now_s, gpu=GPU_A)
    if of is not None:
        seen = replace(seen, pid=world.tree(of).pid, worker=of, run=world.life(of).run)
    return replace(seen, **fields)


def killed(world: World, pid: int, name: str = "chat", **fields: Any) -> OomKilled:  # noqa: ANN401
    told = OomKilled(name, world.life(name).run, pid, "llama-server", world.now_s)
    return replace(told, **fields)


SIZES: dict[str, Any] = {"scope": "the machine", "anon_bytes": 6 * GIB, "file_bytes": 0, "shmem_bytes": 4096}


# -- of the hardware


def test_an_xid_of_the_hardware_quarantines_its_gpu_until_an_operator_trusts_it() -> None:
    world = two()
    world.settle(xid(world, 79, FALLEN))
    why = (
        "Xid 79 (fallen off the bus): GPU has fallen off the bus.; once it was reset,"
        " `gpu-supervisor reset chat` trusts it again"
    )
    [told] = world.told("gpu quarantined")
    assert (told.level, told.gpu, told.cause, told.reason) == ("error", GPU_A, Cause.GPU_FAULT, why)
    [first] = world.told("gpu xid")
    assert (first.level, first.gpu, first.outcome) == ("error", GPU_A, None)
    assert first.incident == told.incident == "xid-0000:3b:00-1800000010-100"
    assert told.outcome == "it is quarantined"
    assert first.fields == {"xid": 79, "bus_id": BUS, "count": 1}
    assert not world.did(Signal)
    assert not world.did(Kill)

    world.exits("chat")
    world.pass_s(60.0)
    assert (world.phase("chat"), world.of("chat").waits_for) == (Phase.WAITING, f"GPU {GPU_A}: {why}")
    assert world.phase("away") is Phase.READY
    world.crash()
    world.pass_s(10.0)
    assert world.phase("chat") is Phase.WAITING
    world.settle(world.asks("reset", "chat"))
    world.pass_s(3.0)
    assert world.phase("chat") is Phase.READY


@pytest.mark.parametrize("code", [46, 48, 54, 62, 64, 74, 95, 110, 119, 120, 136, 140, 143, 155, 156, 158])
def test_what_asks_for_a_reset_of_the_gpu_quarantines_it(code: int) -> None:
    world = two()
    world.settle(xid(world, code, "text"))
    assert world.memory.gpus[GPU_A].until_reset
    assert (world.memory.gpus[GPU_A].quarantine or "").startswith(f"Xid {code} (")


@pytest.mark.parametrize("code", [13, 31, 43, 45, 68, 94, 109, 63, 92, 149, 154, 400])
def test_what_asks_for_no_reset_quarantines_nothing(code: int) -> None:
    world = two()
    world.settle(xid(world, code, "text"))
    assert world.memory.gpus[GPU_A].quarantine is None
    [told] = world.told("gpu xid")
    assert (told.level, told.incident) == ("warning", None)


def test_a_quarantine_by_an_xid_keeps_its_reason_whatever_the_driver_answers_then() -> None:
    world = two()
    world.settle(xid(world, 79, FALLEN))
    world.gpus[GPU_A].state = GpuState.LOST
    world.pass_s(10.0)
    assert (world.memory.gpus[GPU_A].quarantine or "").startswith("Xid 79 (fallen off the bus)")
    world.gpus[GPU_A].state = GpuState.OK
    world.pass_s(10.0)
    assert world.memory.gpus[GPU_A].until_reset


def test_a_gpu_that_was_lost_first_stays_quarantined_once_it_answers_again() -> None:
    world = two()
    world.gpus[GPU_A].state = GpuState.LOST
    world.pass_s(5.0)
    world.settle(xid(world, 79, FALLEN))
    world.gpus[GPU_A].state = GpuState.OK
    world.pass_s(10.0)
    assert (world.memory.gpus[GPU_A].quarantine or "").startswith("Xid 79 (fallen off the bus)")


def test_an_xid_of_a_gpu_that_nobody_knows_is_told_and_quarantines_nothing() -> None:
    world = two()
    world.settle(xid(world, 79, FALLEN, gpu=None))
    [told] = world.told("gpu xid")
    assert (told.gpu, told.outcome) == (
        BUS,
        "nothing is quarantined: no GPU is known at that address",
    )
    assert all(gpu.quarantine is None for gpu in world.memory.gpus.values())


# -- counted, told, kept


def test_xids_are_counted_over_restarts_of_the_daemon_and_none_twice() -> None:
    world = two()
    world.settle(xid(world, 31, MMU, seq=7), xid(world, 13, "warp", seq=8, count=3))
    world.wall_s += 5.0
    assert world.memory.gpus[GPU_A].xids == 4
    assert world.memory.gpus[GPU_A].last_xid == LastXid(13, "warp", 1_800_000_010.0, 8)
    world.crash()
    world.settle(xid(world, 31, MMU, seq=7), xid(world, 13, "warp", seq=8), xid(world, 31, MMU, seq=9))
    assert world.memory.gpus[GPU_A].xids == 5
    assert world.memory.gpus[GPU_A].last_xid == LastXid(31, MMU, 1_800_000_015.0, 9)


def test_an_xid_has_the_time_of_its_line() -> None:
    world = two()
    world.settle(xid(world, 31, MMU, at_s=world.now_s - 4.0))
    last = world.memory.gpus[GPU_A].last_xid
    assert last is not None
    assert last.wall_s == 1_800_000_006.0


def test_a_storm_is_told_once_a_minute_for_each_code() -> None:
    world = two()
    told: list[str] = []
    for seq in range(100, 160):
        world.pass_s(1.0, xid(world, 31, MMU, seq=2 * seq), xid(world, 13, "warp", seq=2 * seq + 1))
        told += [one.reason for one in world.told("gpu xid")]
    assert len(told) == 2
    assert world.memory.gpus[GPU_A].xids == 120
    world.pass_s(1.0, xid(world, 31, MMU, seq=1000))
    assert len(world.told("gpu xid")) == 1


# -- why a worker ends


def test_a_worker_that_ends_soon_after_an_xid_of_its_process_ends_of_that() -> None:
    world = two()
    world.settle(xid(world, 31, MMU, of="chat"))
    [told] = world.told("gpu xid")
    assert told.reason == f"Xid 31 (page fault in its memory): {MMU}; pid {world.tree('chat').pid}, of chat"
    world.pass_s(3.0)
    world.exits("chat")
    world.settle()
    [ended] = world.told("worker exited")
    assert ended.cause is Cause.GPU_FAULT
    assert ended.reason == (
        "exited with status 1 after 13.0 s: the kernel's log has Xid 31 (page fault in its memory):"
        " Ch 0000000a, intr 00000000. MMU Fault"
    )
    assert world.of("chat").other_failures_s.keys() == {"gpu"}
    world.pass_s(3.0)
    assert world.phase("chat") is Phase.READY


def test_others_on_that_gpu_do_not_end_of_an_applications_xid() -> None:
    world = two()
    world.settle(xid(world, 31, MMU, of="chat"))
    world.exits("other")
    world.settle()
    assert world.told("worker exited")[0].cause is Cause.EXIT


def test_all_on_a_gpu_whose_hardware_fails_end_of_that() -> None:
    world = two()
    world.settle(xid(world, 48, "DBE"))
    for name in ("chat", "other", "away"):
        world.exits(name, signum=6)
    world.settle()
    assert {one.worker: one.cause for one in world.told("worker exited")} == {
        "chat": Cause.GPU_FAULT,
        "other": Cause.GPU_FAULT,
        "away": Cause.CRASH,
    }


def test_the_first_xid_counts_and_the_hardwares_before_an_applications() -> None:
    world = two()
    world.settle(xid(world, 13, "warp", seq=1, of="chat"))
    world.pass_s(8.0)
    world.settle(xid(world, 45, "Ch 8", seq=2, of="chat"), xid(world, 31, MMU, seq=3, of="other"))
    world.settle(xid(world, 48, "DBE", seq=4, of="other"), xid(world, 45, "Ch 9", seq=5, of="other"))
    world.pass_s(8.0)
    world.exits("other")
    world.settle()
    assert "Xid 48 (uncorrectable memory error): DBE" in world.told("worker exited")[0].reason

    world = two()
    world.settle(xid(world, 13, "warp", seq=1, of="chat"))
    world.pass_s(8.0)
    world.settle(xid(world, 45, "Ch 8", seq=2, of="chat"))
    world.pass_s(8.0)
    world.exits("chat")
    world.settle()
    assert "Xid 13 (exception of the graphics engine): warp" in world.told("worker exited")[0].reason


@pytest.mark.parametrize(("code", "signum"), [(0, None), (None, 9), (None, 15), (None, 2)])
def test_what_ended_well_or_was_ended_by_somebody_did_not_end_of_an_xid(
    code: int | None, signum: int | None
) -> None:
    world = two()
    world.settle(xid(world, 45, "Ch 8", of="chat"))
    world.exits("chat", code=code, signum=signum)
    world.settle()
    assert world.told("worker exited")[0].cause is (Cause.EXIT if signum is None else Cause.CRASH)


def test_an_xid_of_long_ago_explains_nothing() -> None:
    world = two()
    world.settle(xid(world, 31, MMU, of="chat"))
    world.pass_s(10.5)
    world.exits("chat")
    world.settle()
    assert world.told("worker exited")[0].cause is Cause.EXIT


@pytest.mark.parametrize(
    ("death", "cause", "words"),
    [
        (Death.VRAM_OOM, Cause.VRAM_OOM, "out of GPU memory: its line;"),
        (Death.POISONED, Cause.GPU_FAULT, "was lost: its line; the kernel's log has Xid 31 (page fault"),
    ],
)
def test_what_the_worker_says_itself_counts_before_an_xid(death: Death, cause: Cause, words: str) -> None:
    world = two()
    world.settle(xid(world, 31, MMU, of="chat"))
    tree = world.tree("chat")
    world.end_main(tree, code=1, signum=None, verdict=Verdict(death, "its line"))
    world.settle()
    [ended] = world.told("worker exited")
    assert ended.cause is cause
    assert words in ended.reason


# -- killed for want of memory


def test_a_worker_whose_process_the_kernel_has_killed_ends_of_that_with_the_numbers() -> None:
    world = two()
    pid = world.tree("chat").pid
    world.exits("chat", signum=9)
    world.inbox.insert(0, killed(world, pid, **SIZES))
    world.settle()
    [ended] = world.told("worker exited")
    assert ended.cause is Cause.HOST_OOM_KILL
    assert ended.reason.startswith(
        f"killed by the kernel's OOM killer (pid {pid} (llama-server) killed for want of memory"
        " of the machine; it held anon 6GiB, file 0B, shmem 4KiB) after 10.0 s"
    )
    assert world.of("chat").oom_events == 1
    assert world.told("process oom-killed") == []


def test_a_child_that_the_kernel_has_killed_is_told_and_so_is_a_main_process_that_fails_of_it() -> None:
    world = two()
    world.tree("chat").others = [9999]
    world.settle(killed(world, 9999, scope="the cgroup /x"))
    [told] = world.told("process oom-killed")
    assert told.reason == "pid 9999 (llama-server) killed for want of memory of the cgroup /x"
    world.tree("chat").others = []
    world.settle(killed(world, 9999, **SIZES))  # the second line of the same kill
    assert world.told("process oom-killed") == []
    assert world.phase("chat") is Phase.READY
    world.pass_s(2.0)
    world.exits("chat")
    world.settle()
    assert world.told("worker exited")[0].cause is Cause.HOST_OOM_KILL


def test_a_kill_that_an_earlier_daemon_has_told_is_not_told_again_and_still_explains_an_end() -> None:
    world = two()
    world.tree("chat").others = [9999]
    kill = killed(world, 9999, **SIZES)
    world.settle(kill)
    world.tree("chat").others = []
    world.crash()
    world.settle(kill)  # the log of the last minute is read anew
    assert world.told("process oom-killed") == []
    world.exits("chat")
    world.settle()
    assert world.told("worker exited")[0].cause is Cause.HOST_OOM_KILL


def test_an_xid_that_an_earlier_daemon_has_counted_still_explains_an_end() -> None:
    world = two()
    seen = xid(world, 31, MMU, of="chat")
    world.settle(seen)
    world.crash()
    world.settle(seen)
    world.exits("chat", code=1)
    world.settle()
    [told] = world.told("worker exited")
    assert told.cause is Cause.GPU_FAULT
    assert "Xid 31" in told.reason


def test_of_a_worker_whose_processes_the_kernel_kills_together_one_is_told_at_most() -> None:
    world = two()
    pid = world.tree("chat").pid
    world.exits("chat", signum=9)
    world.inbox = [killed(world, 9997), killed(world, pid, **SIZES), killed(world, 9998), *world.inbox]
    world.settle()
    assert len(world.told("process oom-killed")) == 1
    assert f"(pid {pid} (llama-server) killed" in world.told("worker exited")[0].reason


@pytest.mark.parametrize(("after_s", "code"), [(2.0, 0), (30.0, 1)])
def test_a_main_process_that_ends_well_or_much_later_did_not_end_of_its_child(
    after_s: float, code: int
) -> None:
    world = two()
    world.settle(killed(world, 9999))
    world.pass_s(after_s)
    world.exits("chat", code=code)
    world.settle()
    assert world.told("worker exited")[0].cause is Cause.EXIT


def test_a_worker_that_was_asked_to_end_did_not_end_of_its_child() -> None:
    world = two()
    world.tree("chat").obeys = False
    world.settle(killed(world, 9999))
    world.settle(world.asks("stop", "chat", now=True))
    world.exits("chat", signum=15)
    world.settle()
    assert world.told("worker exited")[0].reason == "killed by SIGTERM"
    assert world.of("chat").oom_events == 0


def test_a_kill_of_an_earlier_life_is_no_evidence_against_this_one() -> None:
    world = two()
    late = killed(world, world.tree("chat").pid)
    world.exits("chat", code=1)
    world.pass_s(3.0)
    assert world.phase("chat") is Phase.READY
    world.settle(late)
    world.exits("chat", signum=9)
    world.settle()
    assert world.told("worker exited")[0].cause is Cause.CRASH


def test_the_kernel_that_was_quicker_than_a_restart_at_the_cap_counts() -> None:
    world = World(worker("chat", memory=MemoryCaps(cap_bytes=GIB)))
    world.settle()
    world.pass_s(60.0)
    world.tree().obeys = False
    world.tree().memory_bytes = 2 * GIB
    world.pass_s(10.0)
    assert world.phase() is Phase.STOPPING
    tree = world.tree()
    tree.main = False
    world.settle(killed(world, tree.pid, **SIZES), Exited("chat", tree.run, signal=9))
    last = world.of().last
    assert last is not None
    assert last.cause is Cause.HOST_OOM_KILL


def test_evidence_starts_and_ends_nobody() -> None:
    world = two()
    world.settle(xid(world, 79, FALLEN, of="chat"), killed(world, 9999))
    world.pass_s(120.0)
    assert not [one for one in world.actions if isinstance(one, Signal | Kill | Launch)]
