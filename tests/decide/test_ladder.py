"""One rung down at each out-of-memory death; sticky, remembered, and undone."""

from typing import Any

import msgspec
import pytest

from decide.test_endings import dies
from decide.world import GIB, GPU_A, World, worker
from supervisor.decide.ladder import settings_on
from supervisor.decide.resume import after_reboot
from supervisor.model.action import Launch, Notice
from supervisor.model.memory import After, Memory, WorkerMemory
from supervisor.model.phase import Cause, Phase
from supervisor.model.plan import BreachRule, GpuChoice, MemoryCaps, RestartRule, WorkerPlan
from supervisor.model.verdict import Death

LADDER: tuple[dict[str, str | int | float | bool], ...] = (
    {"n_gpu_layers": 15},
    {"n_gpu_layers": 8, "ctx": 2048},
)
SETTINGS = {"n_gpu_layers": 25, "ctx": 4096}
COMMAND = ("llama-server", "-ngl", "{n_gpu_layers}", "-c", "{ctx}")


def llama(**more: Any) -> WorkerPlan:  # noqa: ANN401 - any field of a plan
    fields: dict[str, Any] = {
        "command": COMMAND,
        "settings": SETTINGS,
        "ladder": LADDER,
        "gpus": GpuChoice("listed", (0,)),
        "restart": RestartRule(first_s=1.0, max_s=4.0, starts=3, within_s=600.0),
    }
    return worker(**(fields | more))


def begun(plan: WorkerPlan) -> World:
    world = World(plan, gpus=(GPU_A,))
    world.settle()
    return world


def dies_of_vram(world: World, *, then_s: float = 6.0) -> str:
    """Let a worker die for want of GPU memory and time pass; return the reason that was told."""
    dies(world, Death.VRAM_OOM, "cudaMalloc failed: out of memory")
    told: str = world.told("worker exited")[0].reason
    world.pass_s(then_s)
    return told


def launched(world: World) -> tuple[dict[str, Any], tuple[str, ...] | None]:
    """Return the settings and GPUs of the newest launch."""
    newest = [one for one in world.log if isinstance(one, Launch)][-1]
    return dict(newest.settings), newest.gpus


def test_rungs_are_differences_that_add_up() -> None:
    plan = llama(ladder=({"n_gpu_layers": 8, "ctx": 2048}, {"n_gpu_layers": 0}))
    assert settings_on(plan, 0) == {"n_gpu_layers": 25, "ctx": 4096}
    assert settings_on(plan, 1) == {"n_gpu_layers": 8, "ctx": 2048}
    assert settings_on(plan, 2) == {"n_gpu_layers": 0, "ctx": 2048}


def test_each_out_of_memory_death_is_followed_by_the_next_rung_and_in_the_end_by_the_cpu() -> None:
    world = begun(llama())
    reasons = [dies_of_vram(world)]
    assert launched(world) == ({"n_gpu_layers": 15, "ctx": 4096}, (GPU_A,))
    reasons.append(dies_of_vram(world))
    assert launched(world) == ({"n_gpu_layers": 8, "ctx": 2048}, (GPU_A,))
    reasons.append(dies_of_vram(world))
    assert launched(world) == ({"n_gpu_layers": 0, "ctx": 2048}, ())
    died = "out of GPU memory: cudaMalloc failed: out of memory"
    assert [reason.partition(" s: ")[2] for reason in reasons] == [
        f"{died}; next with n_gpu_layers 25 -> 15 (rung 1 of 2)",
        f"{died}; next with n_gpu_layers 15 -> 8, ctx 4096 -> 2048 (rung 2 of 2)",
        f"{died}; next on the CPU: n_gpu_layers 8 -> 0, no GPU visible",
    ]
    assert (world.of().rung, world.of().oom_events, world.of().failures_s) == (3, 3, ())
    dies_of_vram(world)
    assert world.phase() is Phase.HELD
    assert (world.of().held or "").endswith(
        "; its ladder has no rung left: `gpu-supervisor reset chat` begins it anew"
    )


def test_a_rung_does_not_eat_the_budget_of_crashes() -> None:
    world = begun(llama(restart=RestartRule(first_s=1.0, max_s=4.0, starts=2, within_s=600.0)))
    dies_of_vram(world)
    dies(world, None)
    world.pass_s(6.0)
    dies_of_vram(world)
    assert world.phase() is Phase.READY
    assert world.of().rung == 2


def test_a_worker_without_a_ladder_leaves_the_gpu_after_three_deaths() -> None:
    world = begun(llama(ladder=()))
    assert "no ladder is written: the same settings again, and the CPU if it happens 2 times more" in (
        dies_of_vram(world)
    )
    assert launched(world) == (SETTINGS, (GPU_A,))
    assert "and the CPU if it happens once more" in dies_of_vram(world)
    assert "next on the CPU: n_gpu_layers 25 -> 0, no GPU visible" in dies_of_vram(world)
    assert launched(world) == ({"n_gpu_layers": 0, "ctx": 4096}, ())


def test_a_written_rung_without_layers_sees_no_gpu_and_needs_none() -> None:
    world = begun(llama(ladder=({"n_gpu_layers": 0},)))
    dies(world, Death.VRAM_OOM)
    world.gpus[GPU_A].there = False
    world.pass_s(6.0)
    assert launched(world) == ({"n_gpu_layers": 0, "ctx": 4096}, ())
    assert world.phase() is Phase.READY


def test_for_want_of_the_machines_memory_the_cpu_is_no_refuge() -> None:
    world = begun(llama())
    for _ in range(2):
        dies(world, Death.HOST_OOM, "std::bad_alloc")
        assert world.told("worker exited")[0].cause is Cause.HOST_OOM
        world.pass_s(6.0)
    assert world.of().rung == 2
    dies(world, Death.HOST_OOM, "std::bad_alloc")
    assert world.phase() is Phase.HELD


def test_a_kill_by_the_kernel_is_followed_by_the_next_rung() -> None:
    world = begun(llama())
    world.end_main(world.tree(), code=None, signum=9, counters={"oom_kill": 1})
    world.settle()
    [told] = world.told("worker exited")
    assert told.cause is Cause.HOST_OOM_KILL
    assert told.reason.endswith("; next with n_gpu_layers 25 -> 15 (rung 1 of 2)")
    world.pass_s(6.0)
    assert launched(world)[0]["n_gpu_layers"] == 15


def test_a_kill_by_the_kernel_on_the_way_down_from_a_cap_is_followed_by_the_next_rung() -> None:
    caps = MemoryCaps(cap_bytes=GIB, max_bytes=2 * GIB)
    world = begun(llama(memory=caps, breach=BreachRule(1, 1, 0.0)))
    tree = world.tree()
    tree.obeys, tree.memory_bytes = False, GIB + 1
    world.pass_s(4.0)
    world.end_main(tree, code=None, signum=9, counters={"oom_kill": 1})
    world.pass_s(6.0)
    assert launched(world)[0]["n_gpu_layers"] == 15
    last = world.of().last
    assert last is not None
    assert "(rung 1 of 2); memory 1GiB is above its cap" in last.reason


def test_a_worker_that_shall_rest_does_not_start_on_a_rung() -> None:
    caps = MemoryCaps(cap_bytes=GIB, max_bytes=2 * GIB)
    world = begun(llama(memory=caps, breach=BreachRule(1, 1, 0.0)))
    tree = world.tree()
    tree.obeys, tree.memory_bytes = False, GIB + 1
    world.pass_s(4.0)
    world.settle(world.asks("stop"))
    assert world.of().stop is not None
    assert world.of().stop.then is After.REST  # type: ignore[union-attr]
    world.end_main(tree, code=None, signum=9, counters={"oom_kill": 1})
    world.pass_s(6.0)
    assert world.phase() is Phase.STOPPED


def test_a_rung_that_changes_nothing_is_passed_over() -> None:
    ladder = ({"ctx": 4096}, {"colour": "red"}, {"ctx": 1024})
    world = begun(llama(ladder=ladder, settings={**SETTINGS, "colour": "blue"}))
    assert "next with ctx 4096 -> 1024 (rung 3 of 3)" in dies_of_vram(world)
    assert world.of().rung == 3


def test_the_rung_outlives_the_daemon_and_the_machine() -> None:
    world = begun(llama())
    dies_of_vram(world)
    world.crash()
    world.pass_s(2.0)
    dies(world, None)
    world.pass_s(6.0)
    assert launched(world)[0]["n_gpu_layers"] == 15
    kept = msgspec.json.decode(msgspec.json.encode(after_reboot(world.memory)), type=Memory)
    later = begun(llama())
    later.memory = kept
    later.trees.clear()
    later.settle()
    assert launched(later)[0]["n_gpu_layers"] == 15


@pytest.mark.parametrize(
    "changed",
    [
        {"command": (*COMMAND, "--model", "other.gguf")},
        {"settings": {"n_gpu_layers": 25, "ctx": 8192}},
        {"ladder": ({"ctx": 1024},)},
        {"gpus": GpuChoice("listed", (GPU_A,))},
        {"environment": {"LLAMA_ARG_MODEL": "other.gguf"}},
    ],
)
def test_another_model_or_gpu_begins_the_ladder_anew(changed: dict[str, Any]) -> None:
    world = begun(llama())
    dies_of_vram(world)
    world.reload(llama(**changed))
    world.pass_s(6.0)
    assert (world.of().rung, world.of().oom_events) == (0, 0)
    assert launched(world)[0]["n_gpu_layers"] == 25
    assert "ladder begun anew" in {one.event for one in world.log if isinstance(one, Notice)}


def test_another_gpu_at_the_same_index_begins_the_ladder_anew() -> None:
    world = begun(llama())
    dies_of_vram(world)
    world.exits()
    world.settle()
    world.gpus["GPU-new"] = world.gpus.pop(GPU_A)
    world.gpus["GPU-new"].uuid = "GPU-new"
    world.pass_s(60.0)
    assert world.of().rung == 0


def test_a_changed_age_does_not_begin_the_ladder_anew() -> None:
    world = begun(llama())
    dies_of_vram(world)
    world.reload(llama(max_age_s=3600.0))
    world.pass_s(6.0)
    assert (world.of().rung, world.life().plan.max_age_s) == (1, 3600.0)


def test_a_reset_undoes_the_rungs() -> None:
    world = begun(llama())
    dies_of_vram(world)
    world.settle(world.asks("reset"))
    assert (world.of().rung, world.of().oom_events, world.of().footing) == (0, 0, None)
    world.settle(world.asks("restart", now=True))
    world.pass_s(3.0)
    assert launched(world)[0]["n_gpu_layers"] == 25


def test_a_life_that_was_reset_and_dies_before_its_restart_does_not_come_back_as_it_died() -> None:
    world = begun(llama())
    dies_of_vram(world)
    world.settle(world.asks("reset"))
    dies_of_vram(world)
    assert launched(world)[0] == {"n_gpu_layers": 8, "ctx": 2048}
    assert world.of().rung == 2


def test_a_healthy_worker_climbs_back_one_rung_at_a_time_where_that_was_asked_for() -> None:
    world = begun(llama(climb_after_s=3600.0))
    dies_of_vram(world)
    dies_of_vram(world)
    assert world.of().rung == 2
    world.pass_s(3610.0)
    assert (world.of().rung, launched(world)[0]) == (1, {"n_gpu_layers": 15, "ctx": 4096})
    last = world.of().last
    assert last is not None
    assert last.cause is Cause.LADDER
    assert last.reason == "ready for 1h on rung 2, next with n_gpu_layers 8 -> 15, ctx 2048 -> 4096"
    world.pass_s(3610.0)
    assert (world.of().rung, launched(world)[0]) == (0, SETTINGS)
    world.pass_s(7300.0)
    assert world.of().restarts == 4


def test_a_worker_without_climb_after_stays_on_its_rung() -> None:
    world = begun(llama())
    dies_of_vram(world)
    world.pass_s(100_000.0)
    assert (world.of().rung, world.of().restarts) == (1, 1)


def test_what_an_older_daemon_remembered_is_read() -> None:
    old = b'{"name":"chat","failures_s":[1.0],"backoff":1,"oom_events":2,"rung":1}'
    found = msgspec.json.decode(old, type=WorkerMemory)
    assert (found.rung, found.footing, found.other_failures_s) == (1, None, {})
