"""What follows from what a worker died of."""

import pytest

from decide.world import GPU_A, GPU_B, World, worker
from supervisor.model.memory import Budget
from supervisor.model.news import Exited
from supervisor.model.phase import Cause, Phase
from supervisor.model.plan import GpuChoice, NotifyTarget, RestartRule, WorkerPlan
from supervisor.model.verdict import Death, Verdict

ON_A = GpuChoice("listed", (0,))


def dies(world: World, death: Death | None, line: str = "what it said", name: str = "chat") -> None:
    """End a worker by itself, with a verdict on it."""
    tree = world.tree(name)
    tree.main = False
    tree.vram.clear()
    verdict = None if death is None else Verdict(death, line)
    world.settle(Exited(name, tree.run, code=1, verdict=verdict))


def begun(*workers: WorkerPlan, gpus: tuple[str, ...] = ()) -> World:
    world = World(*workers, gpus=gpus)
    world.settle()
    world.pass_s(10.0)
    return world


@pytest.mark.parametrize(
    ("death", "line", "words"),
    [
        (
            Death.BAD_ARGUMENTS,
            "error: invalid argument: --x",
            "it does not take its arguments: error: invalid argument: --x",
        ),
        (Death.BAD_MODEL, "failed to read magic", "its model cannot be loaded: failed to read magic"),
    ],
)
def test_what_cannot_help_itself_is_held_at_once_with_the_line_and_the_words_that_release_it(
    death: Death, line: str, words: str
) -> None:
    world = World(worker(ready=NotifyTarget()))
    world.settle()
    world.pass_s(1.5)
    dies(world, death, line)
    assert world.phase() is Phase.HELD
    assert world.of().held == (
        f"exited with status 1 after 1.5 s, starting: {words}; `gpu-supervisor reset chat` tries again"
    )
    assert world.told("worker held")[0].cause is Cause.EXIT
    world.settle(world.asks("reset"))
    assert world.phase() is Phase.STARTING


def test_a_worker_that_has_served_is_not_held_for_words_about_a_model() -> None:
    """It may have been asked to load another one; whether its own is bad its next start shows."""
    world = World(worker(ready=NotifyTarget()))
    world.settle()
    world.settle(world.notifies(ready=True))
    assert world.phase() is Phase.READY
    dies(world, Death.BAD_MODEL, "failed to read magic")
    assert world.phase() is Phase.WAITING
    assert world.told("worker exited")[0].reason == (
        "exited with status 1 after 0.0 s, serving: its model cannot be loaded: failed to read magic"
    )


def test_a_port_in_use_is_tried_again_in_its_own_words() -> None:
    world = begun(worker())
    dies(world, Death.PORT_IN_USE, "couldn't bind HTTP server socket")
    assert world.phase() is Phase.WAITING
    [told] = world.told("worker exited")
    assert told.reason == (
        "exited with status 1 after 10.0 s: it cannot listen on its port: couldn't bind HTTP server socket"
    )
    world.pass_s(2.0)
    assert world.phase() is Phase.READY


def test_a_poisoned_context_is_a_fault_of_the_gpu_that_a_new_process_mends() -> None:
    world = begun(worker(gpus=ON_A), gpus=(GPU_A,))
    dies(world, Death.POISONED, "CUDA error: an illegal memory access was encountered")
    assert world.told("worker exited")[0].cause is Cause.GPU_FAULT
    assert world.told("gpu quarantined") == []
    world.pass_s(3.0)
    assert world.phase() is Phase.READY


def test_a_gpu_that_its_worker_calls_broken_is_quarantined_until_an_operator_trusts_it() -> None:
    world = begun(worker(gpus=ON_A), worker("other", gpus=ON_A), gpus=(GPU_A, GPU_B))
    dies(world, Death.HARDWARE, "CUDA error: uncorrectable ECC error encountered")
    [told] = world.told("gpu quarantined")
    why = (
        "chat ended by a fault of it: CUDA error: uncorrectable ECC error encountered;"
        " `gpu-supervisor reset chat` trusts it again"
    )
    assert (told.gpu, told.reason, told.cause) == (GPU_A, why, Cause.GPU_FAULT)
    world.pass_s(60.0)
    assert world.phase() is Phase.WAITING
    assert world.of().waits_for == f"GPU {GPU_A}: {why}"
    assert world.phase("other") is Phase.READY
    world.crash()
    world.pass_s(10.0)
    assert world.phase() is Phase.WAITING
    world.settle(world.asks("reset"))
    world.pass_s(3.0)
    assert world.phase() is Phase.READY


def test_where_several_gpus_may_have_failed_none_is_quarantined() -> None:
    both = GpuChoice("listed", (0, 1))
    world = begun(worker(gpus=both), gpus=(GPU_A, GPU_B))
    dies(world, Death.HARDWARE, "GPU has fallen off the bus")
    assert world.told("gpu quarantined") == []
    assert "which GPU it was is not known" in world.told("worker exited")[0].reason


def test_each_kind_of_death_has_a_budget_of_its_own() -> None:
    rule = RestartRule(first_s=1.0, max_s=2.0, starts=3, within_s=600.0)
    world = begun(worker(restart=rule))
    for death in (None, Death.PORT_IN_USE, Death.POISONED, Death.VRAM_OOM) * 2:
        dies(world, death)
        world.pass_s(5.0)
        assert world.phase() is Phase.READY, (death, world.of().held)
    assert len(world.of().failures_s) == 2
    assert {kind: len(all_s) for kind, all_s in world.of().other_failures_s.items()} == {
        Budget.PORT: 2,
        Budget.GPU: 2,
        Budget.OOM: 2,
    }
    dies(world, Death.PORT_IN_USE)
    assert (world.of().held or "").startswith("3 failures within 10min, the last: exited with status 1")
    world.settle(world.asks("reset"))
    assert world.of().other_failures_s == {}


def test_a_model_that_was_cut_while_it_was_mapped_is_told_as_that() -> None:
    world = begun(worker())
    world.exits(signum=7)
    world.settle()
    assert world.told("worker exited")[0].reason == (
        "killed by SIGBUS (a file that it had mapped, its model say, was cut or cannot be read) after 10.0 s"
    )


def test_an_end_that_was_asked_for_is_not_judged_by_its_lines() -> None:
    world = begun(worker())
    world.tree().obeys = False
    world.settle(world.asks("restart", now=True))
    dies(world, Death.BAD_MODEL)
    assert world.phase() is Phase.STARTING or world.phase() is Phase.READY
    assert world.of().last is not None
    assert world.of().last.cause is Cause.OPERATOR  # type: ignore[union-attr]
