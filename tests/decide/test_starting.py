"""When a worker may start, and when it is ready."""

from typing import Any

import pytest

from decide.world import GIB, GPU_A, GPU_B, World, worker
from supervisor.model.action import Launch, Probe, Signal
from supervisor.model.phase import Cause, Phase
from supervisor.model.plan import (
    AfterTarget,
    CommandTarget,
    DrainRule,
    GpuChoice,
    HttpTarget,
    NotifyTarget,
    TcpTarget,
)

HTTP = HttpTarget("http://127.0.0.1:8081/health")


def on(*gpus: int | str, **fields: Any) -> dict[str, Any]:  # noqa: ANN401 - any field of a plan
    return {"gpus": GpuChoice("listed", gpus), **fields}


def test_a_worker_starts_once_all_replicas_of_what_it_needs_are_ready() -> None:
    first = worker("db-1", base="db", replica=1, ready=NotifyTarget())
    second = worker("db-2", base="db", replica=2, ready=NotifyTarget())
    world = World(first, second, worker("web", after=("db",)))
    world.settle()
    assert world.of("web").waits_for == "db-1 to be ready"
    world.settle(world.notifies("db-1", ready=True))
    assert world.of("web").waits_for == "db-2 to be ready"
    world.settle(world.notifies("db-2", ready=True))
    assert world.phase("web") is Phase.READY


def test_workers_on_one_gpu_start_one_after_the_other_by_priority() -> None:
    low = worker("low", **on(0, ready=NotifyTarget()))
    high = worker("xhigh", **on(0, ready=NotifyTarget(), priority=5))
    elsewhere = worker("zelse", **on(1, ready=NotifyTarget()))
    world = World(low, high, elsewhere, gpus=[GPU_A, GPU_B])
    world.settle()
    assert [one.worker for one in world.did(Launch)] == ["xhigh", "zelse"]
    assert world.of("low").waits_for == "its turn on GPU GPU-aaaa, where xhigh starts or stops"
    world.settle(world.notifies("xhigh", ready=True))
    assert [one.worker for one in world.did(Launch)] == ["low"]


def test_a_worker_gets_its_gpus_by_uuid_whatever_names_them() -> None:
    world = World(worker(**on(1, GPU_A)), gpus=[GPU_A, GPU_B])
    world.turn()
    assert world.did(Launch)[0].gpus == (GPU_B, GPU_A)


@pytest.mark.parametrize(("choice", "expected"), [(GpuChoice("any"), None), (GpuChoice("none"), ())])
def test_a_worker_may_see_all_gpus_or_none(choice: GpuChoice, expected: tuple[str, ...] | None) -> None:
    world = World(worker(gpus=choice), gpus=[GPU_A])
    world.turn()
    assert world.did(Launch)[0].gpus == expected


def test_auto_takes_the_emptiest_gpu_that_is_not_busy() -> None:
    auto = {"gpus": GpuChoice("auto", count=1), "ready": NotifyTarget()}
    world = World(worker("a", **auto), worker("b", **auto), gpus=[GPU_A, GPU_B])
    world.gpus[GPU_A].nobody_bytes = 9 * GIB
    world.turn()
    assert {one.worker: one.gpus for one in world.did(Launch)} == {"a": (GPU_B,), "b": (GPU_A,)}


def test_too_few_gpus_are_told_in_words() -> None:
    world = World(worker(gpus=GpuChoice("auto", count=2)), gpus=[GPU_A])
    world.turn()
    assert world.of().waits_for == "2 usable GPUs, of which there are 1"


def test_a_gpu_that_is_not_there_is_told_in_words_and_once() -> None:
    world = World(worker(**on(3)), gpus=[GPU_A])
    world.gpu_missing = "no NVIDIA driver"
    world.pass_s(60.0)
    assert world.phase() is Phase.WAITING
    [told] = world.told("worker waiting")
    assert told.reason == "GPU 3, which is not there: no NVIDIA driver"


def test_without_a_target_a_worker_is_ready_when_it_is_launched() -> None:
    world = World(worker())
    world.turn()
    assert world.phase() is Phase.STARTING
    world.turn()
    assert world.phase() is Phase.READY


def test_after_a_delay_a_worker_is_ready() -> None:
    world = World(worker(ready=AfterTarget(3.0)))
    world.settle()
    world.pass_s(2.9)
    assert world.phase() is Phase.STARTING
    world.pass_s(0.2)
    assert world.phase() is Phase.READY


@pytest.mark.parametrize("target", [HTTP, TcpTarget("127.0.0.1", 8081)])
def test_a_probe_is_repeated_until_it_is_good(target: HttpTarget | TcpTarget) -> None:
    world = World(worker(ready=target))
    world.answer = False
    world.settle()
    world.pass_s(5.0)
    probes = world.did(Probe)
    assert 10 < len(probes) < 60
    assert all((one.purpose, one.target) == ("ready", target) for one in probes)
    world.answer = True
    world.pass_s(1.0)
    assert world.phase() is Phase.READY


def test_a_message_makes_only_those_ready_that_are_to_send_one() -> None:
    world = World(worker("a", ready=NotifyTarget()), worker("b", ready=HTTP))
    world.settle()
    world.settle(world.notifies("a", ready=True), world.notifies("b", ready=True))
    assert (world.phase("a"), world.phase("b")) == (Phase.READY, Phase.STARTING)


def test_a_worker_that_is_not_ready_in_time_is_stopped_undrained_and_counted() -> None:
    drain = DrainRule(CommandTarget(("idle",)))
    world = World(worker(ready=NotifyTarget(), start_timeout_s=20.0, drain=drain))
    world.settle()
    world.pass_s(19.9)
    assert not world.did(Signal)
    world.pass_s(0.2)
    assert world.did(Signal)[0].reason == "not ready within 20s of its launch"
    assert world.of().last.cause is Cause.START_TIMEOUT  # type: ignore[union-attr]
    assert len(world.of().failures_s) == 1


def test_a_worker_that_loads_for_long_may_ask_for_more_time() -> None:
    world = World(worker(ready=NotifyTarget(), start_timeout_s=20.0))
    world.settle()
    world.pass_s(15.0)
    world.settle(world.notifies(extend_s=60.0))
    world.pass_s(59.0)
    assert world.phase() is Phase.STARTING
    world.pass_s(2.0)
    assert world.of().last.cause is Cause.START_TIMEOUT  # type: ignore[union-attr]


def test_a_launch_of_which_nothing_is_heard_times_out_without_a_busy_loop() -> None:
    world = World(worker(ready=AfterTarget(1.0), start_timeout_s=20.0))
    world.turn()
    world.inbox.clear()
    world.pass_s(19.0)
    assert world.phase() is Phase.STARTING
    world.pass_s(2.0)
    assert world.did(Signal)


def test_the_last_answers_of_a_life_that_is_over_change_nothing() -> None:
    world = World(worker(ready=HTTP))
    world.settle()
    world.pass_s(0.2)
    late = list(world.probes)
    world.exits()
    world.pass_s(3.0)
    assert world.life().run != late[0].run
    world.probes = late[:1]
    world.answers(good=True)
    world.turn()
    assert world.phase() is Phase.STARTING


def test_an_incident_ends_when_the_successor_is_ready() -> None:
    world = World(worker())
    world.settle()
    run = world.life().run
    world.exits(signum=11)
    world.pass_s(3.0)
    [exited] = world.told("worker exited")
    assert (exited.incident, exited.cause, exited.reason) == (
        run,
        Cause.CRASH,
        "killed by SIGSEGV after 0.0 s",
    )
    [ready] = world.told("worker ready")
    assert ready.incident == run
    assert ready.outcome == "ready again after 0.0 s"
