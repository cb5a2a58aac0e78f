"""Where no ladder is written, a llama.cpp server goes down the rungs that were reckoned for it."""

from typing import Any

import msgspec
import pytest

from decide.offers import GIB, IN_BRACES, LITERAL, half_the_context
from decide.test_endings import dies
from decide.world import GPU_A, GPU_B, World, worker
from supervisor.decide.ladder import plan_on
from supervisor.decide.resume import after_reboot
from supervisor.model.action import Launch, Reckon
from supervisor.model.fit import Fit
from supervisor.model.memory import Memory
from supervisor.model.phase import Phase
from supervisor.model.plan import GpuChoice, LlamaTarget, RestartRule, WorkerPlan
from supervisor.model.rungs import Rungs
from supervisor.model.verdict import Death

ON_A = GpuChoice("listed", (0,))


def llama(**more: Any) -> WorkerPlan:  # noqa: ANN401 - any field of a plan
    fields: dict[str, Any] = {
        "command": LITERAL,
        "gpus": ON_A,
        "restart": RestartRule(first_s=1.0, max_s=4.0, starts=3, within_s=600.0),
    }
    return worker(**(fields | more))


def begun(plan: WorkerPlan, gpus: tuple[str, ...] = (GPU_A,)) -> World:
    world = World(plan, gpus=gpus)
    world.fits, world.offers = (Fit({}, GIB, 0, (2 * GIB,)),), half_the_context
    world.answer = True
    world.settle()
    return world


def dies_of(world: World, death: Death = Death.VRAM_OOM) -> str:
    """Let the worker die for want of memory and time pass; return what follows, as it was told."""
    dies(world, death, "its line")
    reason: str = world.told("worker exited")[0].reason
    world.pass_s(6.0)
    return reason.partition("its line; ")[2]


def launched(world: World) -> Launch:
    newest: Launch = world.did(Launch)[-1]
    return newest


def test_two_rungs_and_then_the_cpu_follow_each_from_what_was_reckoned_of_the_one_before() -> None:
    world = begun(llama())
    assert launched(world).plan.command == LITERAL
    assert dies_of(world) == (
        "next with ctx 8192 -> 4096 (rung 1, made: reckoned 8GiB -> 4GiB of what ran out)"
    )
    assert launched(world).plan.command == IN_BRACES
    assert launched(world).settings == {"ctx": 4096, "n_gpu_layers": 33}
    assert dies_of(world) == (
        "next with ctx 4096 -> 2048 (rung 2, made: reckoned 4GiB -> 2GiB of what ran out)"
    )
    assert dies_of(world) == "next on the CPU: n_gpu_layers 33 -> 0, no GPU visible (rung 3, made)"
    assert (launched(world).settings, launched(world).gpus) == ({"ctx": 2048, "n_gpu_layers": 0}, ())
    assert (world.of().rung, world.of().oom_events, world.of().failures_s) == (3, 3, ())
    assert world.life().plan == world.plan.workers["chat"]  # as it is written: nothing has changed there


def test_a_smaller_context_is_announced() -> None:
    world = begun(llama())
    dies(world, Death.VRAM_OOM, "its line")
    [told] = world.told("context made smaller")
    assert told.reason == "requests of more than 4096 tokens are refused from now on; 8192 were taken before"
    assert (told.level, told.fields) == ("warning", {"ctx_before": 8192, "ctx": 4096})


def test_where_the_reckoning_offers_nothing_smaller_the_cpu_follows_at_once() -> None:
    world = begun(llama())
    world.offers = lambda order: Rungs(cpu=half_the_context(order).cpu)
    world.exits()
    world.pass_s(6.0)
    assert dies_of(world) == "next on the CPU: n_gpu_layers 33 -> 0, no GPU visible (rung 1, made)"


def test_for_want_of_the_machines_memory_it_goes_on_down_and_is_held_at_the_end() -> None:
    world = begun(llama())
    for ctx in (4096, 2048, 1024):
        dies_of(world, Death.HOST_OOM)
        assert launched(world).settings == {"ctx": ctx, "n_gpu_layers": 33}
    ends = dies_of(world, Death.HOST_OOM)
    assert ends == "the reckoning knows of nothing smaller: `gpu-supervisor reset chat` begins anew"
    assert world.phase() is Phase.HELD
    world.settle(world.asks("reset"))
    assert launched(world).plan.command == LITERAL
    assert (world.of().rung, world.of().made) == (0, ())


@pytest.mark.parametrize(("served", "rung"), [(False, "loading"), (True, "serving")])
def test_what_is_offered_is_for_the_memory_that_ran_out_and_when(served: bool, rung: str) -> None:  # noqa: FBT001
    world = World(llama(ready=LlamaTarget("http://127.0.0.1:1")), gpus=[GPU_A])
    world.fits, world.offers = (Fit({}, GIB, 0, (2 * GIB,)),), half_the_context
    world.answer = True if served else None
    world.settle()
    world.pass_s(1.0)
    offered = world.of().reckoning
    dies(world, Death.HOST_OOM)
    assert offered is not None
    assert world.of().made == (getattr(offered.rungs, rung),)


def test_on_a_gpu_that_shares_the_machines_memory_it_is_both_that_have_to_need_less() -> None:
    world = World(llama(), gpus=[GPU_A])
    world.gpus[GPU_A].unified = True
    world.fits, world.answer = (Fit({}, GIB, 0, (2 * GIB,)),), True
    world.offers = lambda order: Rungs(shared=half_the_context(order).device)
    world.settle()
    for death, ctx in ((Death.VRAM_OOM, 4096), (Death.HOST_OOM, 2048)):
        dies_of(world, death)
        assert launched(world).settings["ctx"] == ctx


def test_a_kill_by_the_kernel_is_followed_by_a_made_rung() -> None:
    world = begun(llama())
    world.end_main(world.tree(), code=None, signum=9, counters={"oom_kill": 1})
    world.pass_s(6.0)
    assert launched(world).settings == {"ctx": 4096, "n_gpu_layers": 33}


def test_a_written_ladder_counts_alone() -> None:
    plan = llama(command=IN_BRACES, settings={"n_gpu_layers": 33, "ctx": 8192}, ladder=({"ctx": 512},))
    world = begun(plan)
    assert dies_of(world) == "next with ctx 8192 -> 512 (rung 1 of 1)"
    assert world.of().made == ()


def test_it_stays_there_over_restarts_of_the_daemon_and_the_machine() -> None:
    world = begun(llama())
    dies_of(world)
    dies_of(world)
    world.crash()
    world.pass_s(2.0)
    dies(world, None)
    world.pass_s(6.0)
    assert launched(world).settings == {"ctx": 2048, "n_gpu_layers": 33}
    kept = msgspec.json.decode(msgspec.json.encode(after_reboot(world.memory)), type=Memory)
    later = begun(llama())
    later.memory = kept
    later.trees.clear()
    later.settle()
    assert launched(later).plan.command == IN_BRACES
    assert launched(later).settings == {"ctx": 2048, "n_gpu_layers": 33}


def test_a_changed_command_begins_anew() -> None:
    world = begun(llama())
    dies_of(world)
    world.reload(llama(command=(*LITERAL, "--jinja")))
    world.pass_s(6.0)
    assert (world.of().rung, world.of().made) == (0, ())
    assert launched(world).plan.command == (*LITERAL, "--jinja")


def test_an_unchanged_configuration_restarts_nothing() -> None:
    world = begun(llama())
    dies_of(world)
    runs = world.of().lives
    world.reload(llama())
    world.pass_s(60.0)
    assert (world.of().lives, world.of().rung) == (runs, 1)


def test_it_climbs_back_to_the_command_that_is_written() -> None:
    world = begun(llama(climb_after_s=3600.0))
    dies_of(world)
    dies_of(world)
    world.pass_s(3610.0)
    assert (world.of().rung, launched(world).settings["ctx"]) == (1, 4096)
    world.pass_s(3610.0)
    last = world.of().last
    assert last is not None
    assert last.reason == "ready for 1h on rung 1, next with ctx 4096 -> 8192"
    assert (world.of().rung, launched(world).plan.command) == (0, LITERAL)
    dies_of(world)
    assert launched(world).settings == {"ctx": 4096, "n_gpu_layers": 33}
    assert len(world.of().made) == 1


def test_a_life_that_was_reset_and_dies_goes_down_from_what_it_died_with() -> None:
    world = begun(llama())
    dies_of(world)
    world.settle(world.asks("reset"))
    assert "next with ctx 4096 -> 2048 (rung 1" in dies_of(world)
    assert launched(world).settings["ctx"] == 2048


def test_each_rung_is_reckoned_before_it_is_started() -> None:
    world = begun(llama())
    dies_of(world)
    asked = world.did(Reckon)[-1]
    assert (asked.plan.command, asked.settings) == (IN_BRACES, {"ctx": 4096, "n_gpu_layers": 33})


def test_an_answer_about_an_earlier_life_is_not_used() -> None:
    world = begun(llama())
    world.fits = None
    world.exits()
    world.pass_s(20.0)
    assert dies_of(world) == "no ladder is written, so it goes on with the same settings"
    assert plan_on(world.of(), world.plan.workers["chat"]).command == LITERAL


def test_on_a_rung_that_could_not_be_reckoned_it_goes_on_with_the_same_settings() -> None:
    world = begun(llama())
    dies_of(world)
    world.fits = ()
    world.exits()
    world.pass_s(20.0)
    assert dies_of(world) == "it was not reckoned this time, so it goes on with the same settings"
    assert (world.phase(), world.of().rung) == (Phase.READY, 1)
    assert launched(world).settings == {"ctx": 4096, "n_gpu_layers": 33}


def test_after_a_gpu_ran_out_of_memory_another_one_with_room_comes_first() -> None:
    world = begun(llama(gpus=GpuChoice("auto")), gpus=(GPU_A, GPU_B))
    world.gpus[GPU_B].nobody_bytes = GIB
    world.exits()
    world.pass_s(6.0)
    assert launched(world).gpus == (GPU_B,)  # the fuller one
    dies_of(world)
    assert launched(world).gpus == (GPU_A,)
    assert world.of().starved_gpus == (GPU_B,)
