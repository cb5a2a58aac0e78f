"""When a busy llama.cpp server is hung: no progress, and nothing computed."""

from typing import Any

import pytest

from decide.world import GPU_A, GPU_B, World, worker
from supervisor.model.action import Probe, Signal
from supervisor.model.news import Probed
from supervisor.model.phase import Cause, Phase
from supervisor.model.plan import DrainRule, GpuChoice, HealthRule, LlamaTarget
from supervisor.model.reading import Missing
from supervisor.model.serving import Serving, SlotProgress

LLAMA = LlamaTarget("http://127.0.0.1:8081")
HEALTH = HealthRule(LLAMA, interval_s=10.0, timeout_s=60.0, failures=3)
IDLE = Serving("up", 0, ())
ASLEEP = Serving("asleep", 0, ())
NO_ANSWER = Missing("its task queue does not answer")
BLOCKED = Serving("blocked", NO_ANSWER, NO_ANSWER)


def busy(prompt: int = 0, decoded: int = 0, task: int = 1) -> Serving:
    return Serving("up", 1, (SlotProgress(0, task, prompt, decoded),))


def running(gpus: tuple[str, ...] = (), *, on_cpu: bool = False) -> World:
    choice = GpuChoice("none") if on_cpu else GpuChoice()
    world = World(worker(health=HEALTH, drain=DrainRule(LLAMA), gpus=choice), gpus=gpus)
    world.settle()
    assert world.phase() is Phase.READY
    return world


def ask(
    world: World, serving: Serving, cpu_s: float | Missing = 0.0, utilization: float | Missing = 0.0
) -> None:
    """Let the interval pass, in which the CPU and the GPUs are as given, and answer the probe so."""
    world.tree().cpu_s = cpu_s
    for gpu in world.gpus.values():
        gpu.utilization = utilization
    world.pass_s(10.0)
    probes, world.probes = world.probes, []
    assert [one.purpose for one in probes] == ["health"]
    world.settle(*(Probed(one.worker, one.run, "health", good=True, serving=serving) for one in probes))


def hung_after(world: World, serving: Serving, *, times: int = 20, **fields: Any) -> int | None:  # noqa: ANN401
    """Return how many equal answers in a row make it hung; None where none does."""
    for count in range(1, times + 1):
        ask(world, serving, **fields)
        if world.phase() is not Phase.READY:
            return count
    return None


def test_a_server_that_stands_still_for_its_timeout_is_restarted_undrained() -> None:
    world = running(gpus=(GPU_A,))
    world.tree().vram = {GPU_A: 1 << 30}
    assert hung_after(world, busy(2048, 5)) == 7  # the first begins its 60 s
    assert [one.reason for one in world.did(Signal)] == [
        "busy with 1 requests; no token read or written, and nothing computed, for 1min"
    ]
    assert world.of().down_for is Cause.HUNG


def test_each_token_and_each_task_begins_anew() -> None:
    world = running(on_cpu=True)
    for count in range(30):
        ask(world, busy(prompt=count * 2048))
        ask(world, busy(prompt=count * 2048, decoded=count))
        ask(world, busy(task=count + 2))
    assert world.phase() is Phase.READY


@pytest.mark.parametrize("quiet", [IDLE, ASLEEP])
def test_a_server_with_nothing_to_do_is_never_hung(quiet: Serving) -> None:
    world = running(on_cpu=True)
    assert hung_after(world, quiet) is None
    for _ in range(5):
        assert hung_after(world, busy(), times=6) is None
        ask(world, quiet)
    assert world.phase() is Phase.READY


def test_a_long_prompt_on_the_cpu_is_progress_while_its_counters_stand_still() -> None:
    world = running(on_cpu=True)
    for count in range(60):  # ten minutes in one batch, on one core
        ask(world, busy(2048), cpu_s=count * 10.0)
    assert world.phase() is Phase.READY
    stopped_s = 59 * 10.0
    assert hung_after(world, busy(2048), cpu_s=stopped_s) == 6  # since it was last seen to compute


def test_a_queue_that_does_not_answer_is_hung_once_nothing_computes() -> None:
    world = running(on_cpu=True)
    assert hung_after(world, BLOCKED) == 7
    assert [one.reason for one in world.did(Signal)] == [
        "its task queue does not answer; no token read or written, and nothing computed, for 1min"
    ]
    computing = running(on_cpu=True)
    for count in range(30):
        ask(computing, BLOCKED, cpu_s=count * 10.0)
    assert computing.phase() is Phase.READY


def test_a_queue_that_answers_again_as_before_has_not_moved() -> None:
    world = running(on_cpu=True)
    for serving in (busy(5), BLOCKED, BLOCKED, busy(5), BLOCKED, busy(5)):
        ask(world, serving)
    assert world.phase() is Phase.READY
    ask(world, busy(5))
    assert world.of().down_for is Cause.HUNG


def test_a_gpu_that_computes_is_progress_though_the_cpu_only_waits() -> None:
    world = running(gpus=(GPU_A,))
    world.tree().vram = {GPU_A: 1 << 30}
    assert hung_after(world, busy(), utilization=6.0) is None
    for count in range(40):  # one core spins on a driver that never answers
        if world.phase() is not Phase.READY:
            break
        ask(world, busy(), cpu_s=count * 10.0, utilization=0.0)
    assert world.of().down_for is Cause.HUNG


def test_two_cores_compute_beside_an_idle_gpu() -> None:
    world = running(gpus=(GPU_A,))
    world.tree().vram = {GPU_A: 1 << 30}
    for count in range(20):
        ask(world, busy(), cpu_s=count * 20.0)
    assert world.phase() is Phase.READY


def test_a_server_that_holds_no_gpu_memory_is_judged_by_its_cpu_as_well() -> None:
    world = running(gpus=(GPU_A, GPU_B))
    for count in range(20):
        ask(world, busy(), cpu_s=count * 1.0)
    assert world.phase() is Phase.READY
    assert hung_after(world, busy(), cpu_s=19.0) == 6


def test_only_the_gpus_that_it_holds_memory_on_count() -> None:
    world = running(gpus=(GPU_A, GPU_B))
    world.tree().vram = {GPU_A: 1 << 30}
    world.settle()
    world.pass_s(2.0)
    world.gpus[GPU_B].frozen_s = world.now_s  # nobody reads the other one
    assert hung_after(world, busy()) == 7


@pytest.mark.parametrize(
    ("gpus", "fields", "why"),
    [
        ((GPU_A,), {"utilization": Missing("not supported")}, "not supported"),
        ((), {}, "no GPU is known (gpus: none says that it computes on the CPU)"),
    ],
)
def test_what_cannot_be_seen_never_kills_and_is_told_once(
    gpus: tuple[str, ...], fields: dict[str, Any], why: str
) -> None:
    world = running(gpus=gpus)
    assert hung_after(world, busy(), times=30, **fields) is None
    told = [one.reason for one in world.log if getattr(one, "event", "") == "progress not judged"]
    assert told == [f"busy without progress, and whether it computes is unknown: {why}"]


def test_an_unknown_cpu_never_kills() -> None:
    world = running(on_cpu=True)
    assert hung_after(world, busy(), cpu_s=Missing("no /proc")) is None
    assert hung_after(world, busy(), cpu_s=5.0) == 7  # the first reading is where the minute begins


def test_an_unknown_reading_in_between_neither_kills_nor_clears() -> None:
    world = running(gpus=(GPU_A,))
    world.tree().vram = {GPU_A: 1 << 30}
    for _ in range(5):
        ask(world, busy())
    for _ in range(3):
        ask(world, busy(), utilization=Missing("busy driver"))
    assert world.phase() is Phase.READY
    ask(world, busy())
    assert world.of().down_for is Cause.HUNG


def test_a_server_that_shows_no_slots_is_judged_by_its_answers_alone() -> None:
    world = running(on_cpu=True)
    why = Missing("it runs with --no-slots and without --metrics")
    assert hung_after(world, Serving("up", why, why), times=30) is None
    told = [one.reason for one in world.log if getattr(one, "event", "") == "progress not judged"]
    assert told == [f"only whether it answers is judged: {why.why}"]


def test_a_process_that_ends_is_movement() -> None:
    world = running(on_cpu=True)
    for _ in range(4):
        ask(world, busy(), cpu_s=100.0)
    ask(world, busy(), cpu_s=40.0)
    assert hung_after(world, busy(), cpu_s=40.0) == 6


def test_a_new_daemon_begins_its_own_minute() -> None:
    world = running(on_cpu=True)
    for _ in range(6):
        ask(world, busy())
    world.crash()
    world.settle()
    assert world.life().still is None
    assert hung_after(world, busy()) == 7


def test_a_server_is_asked_with_a_deadline_of_its_own() -> None:
    world = running(on_cpu=True)
    world.pass_s(10.0)
    assert [one.timeout_s for one in world.did(Probe)] == [5.0]
