"""A worker starts where there is room for it beside what others are promised, and says what it waits for."""

import msgspec
import pytest
from msgspec.structs import replace

from decide.world import GIB, GPU_A, GPU_B, MIB, World, worker
from supervisor.decide.needs import need_of
from supervisor.decide.resume import after_reboot
from supervisor.model.action import Launch
from supervisor.model.memory import Footprint, Learned
from supervisor.model.phase import Phase
from supervisor.model.plan import GpuChoice, MemoryCaps, Needs, NotifyTarget, WorkerPlan
from supervisor.model.reading import Missing

ON_A = GpuChoice("listed", (0,))
AUTO = GpuChoice("auto", count=1)
NEEDS_5 = Needs(vram_bytes=5 * GIB)
NEEDS_10 = Needs(vram_bytes=10 * GIB)
READY = NotifyTarget()


def taken(memory: int | None = None, **vram: int) -> Footprint:
    by_gpu = {f"GPU-{name * 4}": size for name, size in vram.items()}
    return Footprint(memory, memory, by_gpu, by_gpu)


def lived(plan: WorkerPlan, *lives: Footprint) -> Learned:
    return Learned(plan.command, plan.settings, lives)


def remembering(world: World, name: str, *lives: Footprint) -> None:
    one = replace(world.of(name), learned=lived(world.plan.workers[name], *lives))
    world.memory = replace(world.memory, workers={**world.memory.workers, name: one})


# -- what is learned


def test_what_a_life_took_until_it_had_warmed_up_is_learned_when_it_ends() -> None:
    world = World(worker(gpus=ON_A, ready=READY), gpus=[GPU_A])
    world.newborn = {"memory_bytes": 2 * GIB, "vram": {GPU_A: 5 * GIB}}
    world.settle()
    world.settle(world.notifies(ready=True))
    world.pass_s(40.0)
    world.tree().memory_bytes, world.tree().vram[GPU_A] = 7 * GIB, 9 * GIB
    world.pass_s(4.0)
    assert world.of().learned == Learned()
    world.exits()
    world.settle()
    assert world.of().learned.lives == (Footprint(2 * GIB, 7 * GIB, {GPU_A: 5 * GIB}, {GPU_A: 9 * GIB}),)


def test_a_life_that_never_was_ready_teaches_nothing() -> None:
    world = World(worker(ready=READY))
    world.settle()
    world.pass_s(10.0)
    world.exits()
    world.settle()
    assert world.of().learned == Learned()


def test_a_life_that_was_ended_for_its_memory_while_it_came_up_teaches_nothing() -> None:
    world = World(worker())
    world.newborn = {"memory_bytes": 20 * GIB}
    world.settle()
    world.pass_s(10.0)
    world.available = GIB
    world.settle()
    assert world.phase() is Phase.WAITING
    assert world.of().learned == Learned()


def test_the_last_three_lives_count() -> None:
    world = World(worker())
    for gib in (9, 1, 3, 2):
        world.newborn = {"memory_bytes": gib * GIB}
        world.pass_s(60.0)
        world.exits()
        world.pass_s(0.0)
    assert [one.memory_steady_bytes for one in world.of().learned.lives] == [GIB, 3 * GIB, 2 * GIB]
    assert need_of(world.of(), world.plan.workers["chat"]).memory_bytes == 3 * GIB


def test_what_another_command_took_is_forgotten() -> None:
    plan = worker()
    world = World(plan)
    world.turn()
    remembering(world, "chat", taken(5 * GIB))
    assert need_of(world.of(), plan).memory_bytes == 5 * GIB
    assert need_of(world.of(), replace(plan, command=("serve", "other"))).memory_bytes is None
    assert need_of(world.of(), replace(plan, settings={"ctx": 1})).memory_bytes is None


def test_what_was_learned_outlives_the_daemon_and_the_machine() -> None:
    world = World(worker())
    world.turn()
    remembering(world, "chat", taken(5 * GIB, a=GIB))
    kept = msgspec.json.decode(msgspec.json.encode(world.memory), type=type(world.memory))
    assert after_reboot(kept).workers["chat"].learned == world.of().learned
    world.crash()
    assert need_of(world.of(), world.plan.workers["chat"]).vram_by_gpu == {GPU_A: GIB}


def test_a_need_is_what_is_written_else_learned_and_never_above_its_cap() -> None:
    plan = worker(memory=MemoryCaps(cap_bytes=4 * GIB), vram_cap_bytes=3 * GIB, gpus=ON_A)
    world = World(plan, gpus=[GPU_A])
    world.turn()
    remembering(world, "chat", taken(7 * GIB, a=9 * GIB))
    need = need_of(world.of(), plan)
    assert (need.memory_bytes, need.vram_bytes) == (4 * GIB, 3 * GIB)
    need = need_of(world.of(), replace(plan, needs=Needs(GIB, 2 * GIB)))
    assert (need.memory_bytes, need.vram_bytes, need.vram_by_gpu) == (GIB, 2 * GIB, {})


# -- what is promised


def test_memory_that_a_starting_worker_has_not_taken_yet_is_promised_to_it() -> None:
    first = worker("a", gpus=ON_A, needs=NEEDS_10, ready=READY, priority=1)
    world = World(first, worker("b", gpus=ON_A, needs=NEEDS_10), gpus=[GPU_A])
    world.gpus[GPU_A].nobody_bytes = 9 * GIB
    world.settle()
    world.settle(world.notifies("a", ready=True))
    assert world.phase("a") is Phase.READY
    assert world.of("b").waits_for == "10GiB on GPU GPU-aaaa: 15GiB free, of it 10GiB promised to a"
    world.tree("a").vram[GPU_A] = 4 * GIB
    world.turn()
    assert world.of("b").waits_for == "10GiB on GPU GPU-aaaa: 11GiB free, of it 6GiB promised to a"
    world.gpus[GPU_A].nobody_bytes = 3 * GIB
    world.settle()
    assert world.phase("b") is Phase.READY


def test_one_that_takes_less_than_it_needed_keeps_its_promise() -> None:
    world = World(worker("a", gpus=ON_A, needs=NEEDS_10), worker("b", gpus=ON_A, needs=NEEDS_5), gpus=[GPU_A])
    world.gpus[GPU_A].nobody_bytes = 10 * GIB
    world.settle()
    assert world.phase("b") is Phase.WAITING


def test_one_that_has_come_up_holds_no_promise_any_more() -> None:
    world = World(worker("a", gpus=ON_A, needs=NEEDS_10), worker("b", gpus=ON_A, needs=NEEDS_5), gpus=[GPU_A])
    world.gpus[GPU_A].nobody_bytes = 10 * GIB
    world.pass_s(30.0)
    assert world.phase("b") is Phase.WAITING
    world.pass_s(4.0)
    assert world.phase("b") is Phase.READY


def test_what_is_only_learned_is_waited_for_five_minutes() -> None:
    world = World(worker())
    world.settle()
    world.exits()
    world.pass_s(0.0)
    remembering(world, "chat", taken(50 * GIB))
    world.pass_s(290.0)
    assert world.of().waits_for == "50GiB of host memory: 38GiB free above critical_available"
    world.pass_s(15.0)
    assert world.phase() is Phase.READY


def test_what_is_written_is_waited_for_as_long_as_it_takes() -> None:
    world = World(worker(needs=Needs(50 * GIB)))
    world.pass_s(4000.0)
    assert world.phase() is Phase.WAITING


def test_what_cannot_be_seen_of_a_ready_worker_counts_as_taken() -> None:
    world = World(worker("a", gpus=ON_A, needs=NEEDS_10), worker("b", gpus=ON_A, needs=NEEDS_5), gpus=[GPU_A])
    world.newborn = {"vram": {GPU_A: 10 * GIB}}
    world.gpus[GPU_A].listed = False
    world.gpus[GPU_A].nobody_bytes = 8 * GIB
    world.settle()
    assert world.phase("b") is Phase.READY


def test_what_a_worker_had_is_kept_for_it_through_its_backoff() -> None:
    first = worker("a", gpus=ON_A, needs=NEEDS_10)
    late = worker("b", gpus=AUTO, needs=NEEDS_10)
    world = World(first, gpus=[GPU_A])
    world.gpus[GPU_A].nobody_bytes = 10 * GIB
    world.settle()
    world.reload(first, late)
    world.exits("a")
    world.settle()
    assert world.phase("a") is Phase.WAITING
    assert world.phase("b") is Phase.WAITING
    world.pass_s(2.0)
    assert world.phase("a") is Phase.READY
    assert world.phase("b") is Phase.WAITING


def test_one_of_a_higher_priority_does_not_wait_for_another_ones_backoff() -> None:
    first = worker("a", gpus=ON_A, needs=NEEDS_10)
    world = World(first, gpus=[GPU_A])
    world.gpus[GPU_A].nobody_bytes = 10 * GIB
    world.settle()
    world.reload(first, worker("b", gpus=AUTO, needs=NEEDS_10, priority=1))
    world.exits("a")
    world.settle()
    assert world.phase("b") is Phase.READY


# -- what is waited for


def test_nothing_known_keeps_nobody_back() -> None:
    world = World(worker(gpus=ON_A), gpus=[GPU_A])
    world.gpus[GPU_A].readable = False
    world.settle()
    assert world.phase() is Phase.READY


def test_a_need_is_not_met_by_a_gpu_that_cannot_be_read() -> None:
    world = World(worker(gpus=ON_A, needs=NEEDS_5), gpus=[GPU_A])
    world.gpus[GPU_A].readable = False
    world.settle()
    assert world.of().waits_for == "5GiB on GPU GPU-aaaa: what is free cannot be read: cannot read"


def test_a_need_is_not_met_by_a_host_that_cannot_be_read() -> None:
    world = World(worker(needs=Needs(GIB)))
    world.available = Missing("no meminfo")
    world.settle()
    assert world.phase() is Phase.WAITING


def test_more_than_a_gpu_has_is_told_as_that() -> None:
    world = World(worker(gpus=ON_A, needs=Needs(vram_bytes=30 * GIB)), gpus=[GPU_A])
    world.settle()
    assert world.of().waits_for == "30GiB on GPU GPU-aaaa: 23.71GiB free; it has 24GiB in all"


def test_two_that_fit_each_alone_do_not_start_into_the_same_host_memory() -> None:
    need = Needs(memory_bytes=6 * GIB)
    world = World(worker("a", needs=need), worker("b", needs=need))
    world.available = 12 * GIB
    world.turn()
    assert [one.worker for one in world.did(Launch)] == ["a"]
    assert world.of("b").waits_for == (
        "6GiB of host memory: 10GiB free, of it 6GiB promised to a above critical_available"
    )


def test_on_unified_memory_both_needs_are_one() -> None:
    world = World(worker(gpus=ON_A, needs=Needs(4 * GIB, 5 * GIB)), gpus=[GPU_A])
    world.gpus[GPU_A].unified = True
    world.gpus[GPU_A].readable = False
    world.available = 10 * GIB
    world.settle()
    assert world.of().waits_for == "9GiB of host memory: 8GiB free above critical_available"
    world.available = 11 * GIB
    world.settle()
    assert world.phase() is Phase.READY


def test_a_worker_on_two_gpus_needs_an_even_share_of_each() -> None:
    both = GpuChoice("listed", (0, 1))
    world = World(worker(gpus=both, needs=NEEDS_10), gpus=[GPU_A, GPU_B])
    world.gpus[GPU_B].nobody_bytes = 20 * GIB
    world.settle()
    assert world.of().waits_for == "5GiB on GPU GPU-bbbb: 4GiB free"


# -- which GPU


def test_auto_takes_the_fullest_gpu_that_has_the_room() -> None:
    world = World(worker(gpus=AUTO, needs=NEEDS_5), gpus=[GPU_A, GPU_B])
    world.gpus[GPU_B].nobody_bytes = 18 * GIB
    world.turn()
    assert world.did(Launch)[0].gpus == (GPU_B,)


MOST = "the most that one has free and nobody was promised is 4GiB"


@pytest.mark.parametrize(
    ("count", "told"),
    [
        (1, f"10GiB on one GPU: {MOST}"),
        (2, f"2 GPUs with 5GiB each, of which there are 0: {MOST}"),
    ],
)
def test_auto_says_what_it_misses(count: int, told: str) -> None:
    world = World(worker(gpus=GpuChoice("auto", count=count), needs=NEEDS_10), gpus=[GPU_A, GPU_B])
    world.gpus[GPU_A].nobody_bytes = world.gpus[GPU_B].nobody_bytes = 20 * GIB
    world.settle()
    assert world.of().waits_for == told


def test_auto_passes_over_a_gpu_whose_room_is_promised() -> None:
    auto = {"gpus": AUTO, "needs": NEEDS_10, "ready": READY}
    world = World(worker("a", **auto), worker("b", **auto), gpus=[GPU_A, GPU_B])
    world.gpus[GPU_A].nobody_bytes = world.gpus[GPU_B].nobody_bytes = 10 * GIB
    world.turn()
    assert {one.worker: one.gpus for one in world.did(Launch)} == {"a": (GPU_A,), "b": (GPU_B,)}


def test_what_was_learned_on_one_gpu_holds_for_another() -> None:
    plan = worker(gpus=AUTO)
    world = World(plan, gpus=[GPU_A, GPU_B])
    world.turn()
    world.exits()
    world.pass_s(0.0)
    remembering(world, "chat", taken(100 * MIB, a=8 * GIB))
    world.gpus[GPU_A].nobody_bytes = 20 * GIB
    world.pass_s(5.0)
    assert world.life().gpus == (GPU_B,)
