"""What a worker is told: when, and never twice the same."""

from typing import Any

from decide.world import GIB, GPU_A, GPU_B, World, worker
from supervisor.model.action import Advise
from supervisor.model.phase import Phase, Pressure
from supervisor.model.plan import DrainRule, GpuChoice, GuardTarget
from supervisor.model.report import DrainWords, Words

CALM = Words(host=Pressure.NORMAL, gpu=Pressure.NORMAL)


def talking(**fields: Any) -> World:  # noqa: ANN401 - any field of a plan
    """Return a world with a worker on GPU 0 that has just reported for the first time."""
    world = World(worker(gpus=GpuChoice("listed", (0,)), **fields), gpus=[GPU_A, GPU_B])
    world.settle()
    world.turn(world.reports())
    return world


def said(world: World) -> list[Words]:
    return [one.words for one in world.did(Advise)]


def test_a_worker_is_told_at_its_first_report_and_not_before() -> None:
    world = World(worker(gpus=GpuChoice("listed", (0,))), gpus=[GPU_A])
    world.settle()
    assert said(world) == []
    world.turn(world.reports())
    assert said(world) == [CALM]
    world.pass_s(20.0, world.reports(beat=True))
    assert said(world) == []


def test_a_worker_without_a_gpu_knows_of_none() -> None:
    world = World(worker(gpus=GpuChoice("none")), gpus=[GPU_A])
    world.settle()
    world.turn(world.reports())
    assert said(world) == [Words(host=Pressure.NORMAL)]


def test_the_hosts_pressure_is_told_at_once_to_all_that_have_reported() -> None:
    world = World(*(worker(name, gpus=GpuChoice("none")) for name in ("a", "b", "mute")))
    world.settle()
    world.turn(world.reports("a"), world.reports("b"))
    world.available = 3 * GIB
    world.turn(look=False)
    assert [(one.worker, one.words.host) for one in world.did(Advise)] == [
        ("a", Pressure.HIGH),
        ("b", Pressure.HIGH),
    ]


def test_the_worst_of_its_own_gpus_is_told_and_no_others() -> None:
    world = talking()
    world.gpus[GPU_B].nobody_bytes = 23 * GIB
    world.pass_s(3.0)
    assert said(world) == []
    world.gpus[GPU_A].nobody_bytes = 19 * GIB
    world.pass_s(3.0)
    assert [words.gpu for words in said(world)] == [Pressure.HIGH]
    world.tree().vram[GPU_B] = GIB // 2  # pinned to the first all the same
    world.pass_s(3.0)
    assert said(world) == []


def test_where_no_gpu_is_pinned_those_count_on_which_it_holds_memory() -> None:
    world = World(worker(), gpus=[GPU_A, GPU_B])
    world.settle()
    world.turn(world.reports())
    assert [words.gpu for words in said(world)] == [None]
    world.tree().vram[GPU_B] = 20 * GIB
    world.pass_s(3.0)
    assert said(world)[-1].gpu is Pressure.HIGH


def test_a_hot_gpu_cools_down_before_the_advice_is_taken_back() -> None:
    world = talking()
    world.gpus[GPU_A].celsius = 85.5
    world.pass_s(3.0)
    assert [words.advice for words in said(world)] == [("cool-down",)]
    world.gpus[GPU_A].celsius = 83.0
    world.pass_s(10.0)
    assert said(world) == []
    world.gpus[GPU_A].celsius = 82.0
    world.pass_s(3.0)
    assert said(world) == [CALM]


def test_near_its_power_limit_a_worker_eases_off_and_does_not_flutter() -> None:
    world = talking()
    for watts in (286.0, 200.0, 286.0, 272.0, 200.0, 276.0):
        world.gpus[GPU_A].watts = watts
        world.pass_s(2.0)
    assert [one.words.advice for one in world.log if isinstance(one, Advise)] == [(), ("ease-off",)]
    world.gpus[GPU_A].watts = 200.0
    world.pass_s(8.0)
    assert said(world) == []
    world.pass_s(6.0)
    assert said(world) == [CALM]


def test_the_power_limit_is_the_configured_one() -> None:
    world = talking()
    world.gpus[GPU_A].watts = 285.0  # 95 %, and not above it
    world.pass_s(5.0)
    assert said(world) == []


def test_a_worker_that_drains_is_told_why_and_how_long_it_has() -> None:
    world = talking(drain=DrainRule(GuardTarget(), timeout_s=60.0), stop_timeout_s=20.0)
    world.tree().obeys = False
    world.turn(world.asks("stop", reason="upgrade"))
    assert [words.drain for words in said(world)] == [DrainWords("upgrade", 60.0)]
    world.turn(world.reports(drained=True))
    assert [words.drain for words in said(world)] == [DrainWords("upgrade", 20.0)]


def test_without_a_drain_the_stop_is_told_along_with_its_signal() -> None:
    world = talking(stop_timeout_s=20.0)
    world.tree().obeys = False
    world.turn(world.asks("stop", reason="upgrade"))
    assert world.phase() is Phase.STOPPING
    assert [words.drain for words in said(world)] == [DrainWords("upgrade", 20.0)]


def test_the_next_daemon_tells_again_at_the_first_report() -> None:
    world = talking()
    world.crash()
    world.settle()
    assert said(world) == []
    world.turn(world.reports())
    assert said(world) == [CALM]
