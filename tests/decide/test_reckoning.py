"""What a llama.cpp server needs is asked before each start, kept back for, and chosen for what is `auto`."""

from typing import Any

from decide.world import GIB, GPU_A, GPU_B, World, worker
from supervisor.decide.needs import need_of
from supervisor.model.action import Launch, Notice, Reckon
from supervisor.model.fit import Fit
from supervisor.model.news import Reckoned
from supervisor.model.phase import Phase
from supervisor.model.plan import GpuChoice, MemoryCaps, Needs, NotifyTarget, Setting, WorkerPlan
from supervisor.model.reading import Missing
from supervisor.model.verdict import Death, Verdict

ON_A = GpuChoice("listed", (0,))
COMMAND = ("/usr/bin/llama-server", "-m", "m.gguf", "-ngl", "{n_gpu_layers}", "-c", "{ctx}")
BOTH: dict[str, Setting] = {"n_gpu_layers": "auto", "ctx": "auto"}


def llama(name: str = "chat", settings: dict[str, Setting] | None = None, **fields: Any) -> WorkerPlan:  # noqa: ANN401
    given: dict[str, Any] = {"gpus": ON_A, "ready": NotifyTarget()}
    written: dict[str, Setting] = {"n_gpu_layers": 33, "ctx": 4096} if settings is None else settings
    return worker(name, command=COMMAND, settings=written, **(given | fields))


def fit(layers: int, ctx: int, vram_gib: int, memory_gib: int = 1) -> Fit:
    return Fit({"n_gpu_layers": layers, "ctx": ctx}, memory_gib * GIB, 0, (vram_gib * GIB,))


CHOICES = (
    fit(33, 8192, 20),
    fit(33, 4096, 15),
    fit(20, 4096, 10),
    fit(10, 4096, 5),
    Fit({"n_gpu_layers": 0, "ctx": 4096}, 9 * GIB),
)


def launched(world: World, name: str = "chat") -> dict[str, Setting]:
    return dict(world.did(Launch, name)[-1].settings)


# -- asked


def test_it_is_asked_before_the_start_and_started_with_the_answer() -> None:
    world = World(llama(), gpus=[GPU_A])
    world.fits = (Fit({}, 2 * GIB, 0, (6 * GIB,)),)
    world.turn()
    asked = world.did(Reckon)
    assert [(one.settings, one.shares) for one in asked] == [({"n_gpu_layers": 33, "ctx": 4096}, (1,))]
    assert not world.did(Launch)
    assert (world.phase(), world.of().waits_for) == (Phase.WAITING, "its model to be reckoned")
    assert not world.told("worker waiting")
    world.turn()
    assert len(world.did(Launch)) == 1
    need = need_of(world.of(), world.plan.workers["chat"])
    assert (need.memory_bytes, need.vram_bytes, need.vram_by_gpu) == (2 * GIB, 6 * GIB, {GPU_A: 6 * GIB})


def test_nobody_else_is_asked_for() -> None:
    world = World(worker(), gpus=[GPU_A])
    world.settle()
    assert not world.did(Reckon)
    assert world.of().reckoning is None


def test_what_cannot_be_reckoned_keeps_nothing_back_and_is_told_once() -> None:
    world = World(llama(), gpus=[GPU_A])
    world.fits = ()
    world.settle()
    assert [one.reason for one in world.told("model not reckoned")] == ["not to be read"]
    assert world.phase() is Phase.STARTING
    assert need_of(world.of(), world.plan.workers["chat"]).vram_bytes is None
    world.exits()
    world.pass_s(30.0)
    assert world.did(Launch)
    assert not world.told("model not reckoned")


def test_an_answer_that_never_comes_delays_the_start_by_seconds() -> None:
    world = World(llama(), gpus=[GPU_A])
    world.fits = None
    world.settle()
    world.pass_s(4.9)
    assert not world.did(Launch)
    world.pass_s(0.2)
    assert world.did(Launch)


def test_without_an_answer_nothing_is_chosen_and_it_is_asked_again() -> None:
    world = World(llama(settings=BOTH), gpus=[GPU_A])
    world.fits = None
    world.settle()
    world.pass_s(60.0)
    assert not world.did(Launch)
    assert len(world.did(Reckon)) >= 5
    world.fits = CHOICES
    world.pass_s(10.0)
    assert launched(world) == {"n_gpu_layers": 33, "ctx": 8192}


def test_it_is_asked_anew_at_each_start_and_after_a_restart_of_the_daemon() -> None:
    world = World(llama(settings=BOTH), gpus=[GPU_A])
    world.fits = None
    world.settle()
    world.crash()
    world.fits = CHOICES
    world.settle()
    assert launched(world) == {"n_gpu_layers": 33, "ctx": 8192}
    world.fits = CHOICES[2:]
    world.exits()
    world.pass_s(10.0)
    assert launched(world) == {"n_gpu_layers": 20, "ctx": 4096}


def test_an_answer_to_an_older_question_is_none() -> None:
    world = World(llama(settings=BOTH), gpus=[GPU_A])
    world.fits = None
    world.settle()
    world.settle(Reckoned("chat", 12.0, CHOICES), Reckoned("nobody", 1000.0, CHOICES))
    assert not world.did(Launch)
    world.settle(Reckoned("chat", 1000.0, CHOICES))
    assert world.did(Launch)


# -- kept back


def test_a_start_waits_for_what_was_reckoned_beside_what_others_were_promised() -> None:
    world = World(llama("a"), llama("b", gpus=GpuChoice("auto")), gpus=[GPU_A])
    world.fits = (Fit({}, GIB, 0, (14 * GIB,)),)
    world.settle()
    assert world.phase("a") is Phase.STARTING
    world.settle(world.notifies("a", ready=True))
    assert (
        world.of("b").waits_for
        == "14GiB on one GPU: the most that one has free and nobody was promised is 9.71GiB"
    )


def test_what_is_declared_counts_before_what_was_reckoned() -> None:
    world = World(llama(needs=Needs(memory_bytes=3 * GIB, vram_bytes=GIB)), gpus=[GPU_A])
    world.fits = (Fit({}, GIB, 0, (100 * GIB,)),)
    world.settle()
    assert world.phase() is Phase.STARTING
    need = need_of(world.of(), world.plan.workers["chat"])
    assert (need.memory_bytes, need.vram_bytes) == (3 * GIB, GIB)


def test_what_was_reckoned_is_waited_for_without_end() -> None:
    world = World(llama(), gpus=[GPU_A])
    world.fits = (Fit({}, GIB, 0, (30 * GIB,)),)
    world.settle()
    world.pass_s(4000.0)
    assert not world.did(Launch)
    assert world.of().waits_for == "30GiB on GPU GPU-aaaa: 23.71GiB free; it has 24GiB in all"


# -- chosen


def test_the_best_that_leaves_a_reserve_is_chosen_and_told() -> None:
    world = World(llama(settings=BOTH), gpus=[GPU_A])
    world.fits = CHOICES
    world.gpus[GPU_A].nobody_bytes = 8 * GIB  # 16 GiB are free: 15 and the reserve
    world.settle()
    assert launched(world) == {"n_gpu_layers": 33, "ctx": 4096}
    assert world.life().settings == {"n_gpu_layers": 33, "ctx": 4096}
    told = world.told("worker launched")[0].fields
    assert (told["n_gpu_layers"], told["ctx"]) == (33, 4096)
    assert need_of(world.of(), world.life().plan).vram_bytes == 15 * GIB


def test_a_byte_less_and_the_next_one_is_chosen() -> None:
    world = World(llama(settings=BOTH), gpus=[GPU_A])
    world.fits = CHOICES
    world.gpus[GPU_A].nobody_bytes = 8 * GIB + 1
    world.settle()
    assert launched(world) == {"n_gpu_layers": 20, "ctx": 4096}


def test_what_others_were_promised_is_not_free() -> None:
    first, second = llama("a", settings=BOTH), llama("b", settings=BOTH, gpus=GpuChoice("any"))
    world = World(first, second, gpus=[GPU_A])
    world.fits = CHOICES[1:]
    world.settle()
    assert launched(world, "a") == {"n_gpu_layers": 33, "ctx": 4096}
    assert launched(world, "b") == {"n_gpu_layers": 10, "ctx": 4096}  # 23.7 GiB less 15 are 8.7


def test_the_emptiest_gpu_is_taken_where_the_choice_follows_from_it() -> None:
    world = World(llama(settings=BOTH, gpus=GpuChoice("auto")), gpus=[GPU_A, GPU_B])
    world.fits = CHOICES
    world.gpus[GPU_A].nobody_bytes = 18 * GIB
    world.settle()
    assert world.life().gpus == (GPU_B,)
    assert launched(world) == {"n_gpu_layers": 33, "ctx": 8192}


def test_a_gpu_that_cannot_be_read_chooses_nothing() -> None:
    world = World(llama(settings=BOTH), gpus=[GPU_A])
    world.fits = CHOICES
    world.gpus[GPU_A].readable = False
    world.settle()
    assert not world.did(Launch)
    assert world.of().waits_for == (
        "room for n_gpu_layers and ctx to be chosen: what is free cannot be read: cannot read"
    )
    world.gpus[GPU_A].readable = True
    world.pass_s(3.0)
    assert world.did(Launch)


def test_gpus_that_were_not_read_yet_are_waited_for() -> None:
    world = World(llama(settings=BOTH, gpus=GpuChoice("any")))
    world.fits = CHOICES
    world.settle()
    assert world.of().waits_for == "GPUs to be read"
    world.gpu_missing = "no driver"
    world.pass_s(3.0)
    assert [one.shares for one in world.did(Reckon)] == [()]
    assert world.did(Launch)


def test_where_not_even_the_least_fits_it_waits_and_says_for_what() -> None:
    world = World(llama(settings={"n_gpu_layers": 33, "ctx": "auto"}), gpus=[GPU_A])
    world.fits = (Fit({"ctx": 8192}, GIB, 0, (20 * GIB,)), Fit({"ctx": 4096}, GIB, 0, (15 * GIB,)))
    world.gpus[GPU_A].nobody_bytes = 14 * GIB
    world.settle()
    assert world.of().waits_for == "16GiB on a GPU: 10GiB free, at the least that can be chosen for ctx"
    world.gpus[GPU_A].nobody_bytes = 8 * GIB
    world.pass_s(3.0)
    assert launched(world) == {"n_gpu_layers": 33, "ctx": 4096}


def test_weights_in_ram_are_counted_where_something_is_chosen() -> None:
    world = World(llama(settings=BOTH), gpus=[GPU_A])
    world.fits = (Fit({"n_gpu_layers": 20, "ctx": 4096}, GIB, 38 * GIB, (GIB,)), CHOICES[-1])
    world.settle()
    assert launched(world) == {"n_gpu_layers": 0, "ctx": 4096}


def test_gpus_share_the_layers_by_what_they_have_free() -> None:
    world = World(llama(gpus=GpuChoice("listed", (0, 1))), gpus=[GPU_A, GPU_B])
    world.gpus[GPU_A].nobody_bytes = 16 * GIB
    world.fits = (Fit({}, GIB, 0, (9 * GIB, 20 * GIB)),)
    world.settle()
    assert [one.shares for one in world.did(Reckon)] == [(4, 12)]
    assert world.of().waits_for == "9GiB on GPU GPU-aaaa: 8GiB free"


def test_where_one_gpu_cannot_be_read_the_layers_are_reckoned_in_even_shares() -> None:
    world = World(llama(gpus=GpuChoice("listed", (0, 1))), gpus=[GPU_A, GPU_B])
    world.gpus[GPU_A].readable = False
    world.fits = (Fit({}, GIB, 0, (9 * GIB, 9 * GIB)),)
    world.settle()
    assert [one.shares for one in world.did(Reckon)] == [(1, 1)]
    assert world.of().waits_for == "9GiB on GPU GPU-aaaa: what is free cannot be read: cannot read"


def test_a_rung_that_writes_a_value_is_not_overruled() -> None:
    plan = llama(settings=BOTH, ladder=({"n_gpu_layers": 7}, {"n_gpu_layers": 0}))
    world = World(plan, gpus=[GPU_A])
    world.fits = CHOICES
    world.settle()
    world.fits = (Fit({"ctx": 4096}, GIB, 0, (5 * GIB,)),)
    world.end_main(world.tree(), code=1, signum=None, verdict=Verdict(Death.VRAM_OOM, "cudaMalloc failed"))
    world.pass_s(10.0)
    assert world.of().rung == 1
    assert launched(world) == {"n_gpu_layers": 7, "ctx": 4096}
    assert world.did(Reckon)[0].settings == {"n_gpu_layers": 7, "ctx": "auto"}


def test_after_an_out_of_memory_less_is_chosen_and_in_the_end_it_leaves_the_gpu() -> None:
    world = World(llama(settings=BOTH), gpus=[GPU_A])
    world.fits = CHOICES
    world.settle()
    chosen = [launched(world)["n_gpu_layers"]]
    for _ in range(3):
        if world.of().oom_events == 2:
            world.fits = (Fit({"ctx": 4096}, 9 * GIB),)
        world.end_main(
            world.tree(), code=1, signum=None, verdict=Verdict(Death.VRAM_OOM, "cudaMalloc failed")
        )
        world.pass_s(60.0)
        chosen.append(launched(world)["n_gpu_layers"])
    assert chosen == [33, 33, 20, 0]  # 20 GiB; 15 of 16 at most; 10 of 12; none
    assert world.life().gpus == ()
    told = [one.reason for one in world.log if isinstance(one, Notice) and one.event == "worker exited"]
    assert told[0].endswith(
        "no ladder is written: what is auto is chosen again, and less of it,"
        " and the CPU if it happens 2 times more"
    )


def test_a_choice_that_is_only_assumed_promises_nothing() -> None:
    world = World(llama(settings=BOTH), gpus=[GPU_A])
    world.fits = (Fit({"n_gpu_layers": 25, "ctx": 2048}, None, 0, (13 * GIB,), "no such file"),)
    world.settle()
    assert launched(world) == {"n_gpu_layers": 25, "ctx": 2048}
    assert world.told("worker launched")[0].fields["not_reckoned"] == "no such file"
    assert need_of(world.of(), world.life().plan).vram_bytes is None


def test_a_machine_whose_memory_cannot_be_read_starts_nothing() -> None:
    world = World(llama(settings=BOTH), gpus=[GPU_A])
    world.fits = CHOICES
    world.available = Missing("EIO")
    world.settle()
    assert not world.did(Launch)


def test_a_gpu_that_vanishes_while_it_waits_is_not_chosen_for() -> None:
    world = World(
        llama(settings=BOTH, gpus=GpuChoice("any"), after=("other",)), worker("other"), gpus=[GPU_A]
    )
    world.fits = CHOICES
    world.launch_fails = "no such file"
    world.settle()
    world.gpus[GPU_A].there = False
    world.launch_fails = None
    world.pass_s(30.0)
    assert world.of().waits_for == "GPUs to be read"
    world.gpus[GPU_A].there = True
    world.pass_s(3.0)
    assert launched(world) == {"n_gpu_layers": 33, "ctx": 8192}


# -- the prompt cache and mapped weights


def cached(gib: int, *, written: bool = True, mapped_gib: int = 0) -> Fit:
    cache = gib * GIB
    return Fit({}, 2 * GIB, mapped_gib * GIB, prompt_cache_bytes=cache, is_cache_written=written)


def test_a_prompt_cache_that_was_asked_for_is_waited_for() -> None:
    world = World(llama(gpus=GpuChoice("none")))
    world.fits, world.available = (cached(8),), 11 * GIB
    world.settle()
    assert world.of().waits_for == (
        "10GiB of host memory (8GiB of it for its prompt cache): 9GiB free above critical_available"
    )
    world.available = 12 * GIB
    world.pass_s(3.0)
    assert world.phase() is Phase.STARTING


def test_one_that_nobody_has_asked_for_is_not() -> None:
    world = World(llama(gpus=GpuChoice("none")))
    world.fits, world.available = (cached(8, written=False),), 5 * GIB
    world.settle()
    assert world.phase() is Phase.STARTING


def test_it_stays_promised_while_the_server_runs_until_it_is_filled() -> None:
    on_cpu = GpuChoice("none")
    world = World(llama("a", gpus=on_cpu), llama("b", gpus=on_cpu, ready=None))
    world.available = 14 * GIB
    world.fits = (cached(8),)
    world.settle()
    world.settle(world.notifies("a", ready=True))
    world.tree("a").memory_bytes = 3 * GIB
    world.available = 11 * GIB
    world.pass_s(600.0)
    assert world.of("b").waits_for == (
        "10GiB of host memory (8GiB of it for its prompt cache):"
        " 9GiB free, of it 7GiB promised to a above critical_available"
    )
    world.tree("a").memory_bytes = 10 * GIB
    world.available = 12 * GIB
    world.pass_s(3.0)
    assert world.phase("b") is Phase.READY


def test_a_cap_is_the_most_that_a_prompt_cache_is_waited_for() -> None:
    capped = llama(gpus=GpuChoice("none"), memory=MemoryCaps(cap_bytes=4 * GIB))
    world = World(capped)
    world.fits, world.available = (cached(8),), 6 * GIB
    world.settle()
    assert world.phase() is Phase.STARTING
    need = need_of(world.of(), capped)
    assert (need.memory_bytes, need.later_bytes) == (2 * GIB, 2 * GIB)


def test_more_mapped_weights_than_there_is_room_for_are_told_and_keep_nothing_back() -> None:
    world = World(llama(gpus=GpuChoice("none")))
    world.fits, world.available = (cached(0, mapped_gib=20),), 16 * GIB
    world.settle()
    [told] = world.told("weights do not fit")
    assert told.reason == (
        "20GiB of its weights are mapped, and there is room for 12GiB:"
        " the rest is read from disk again and again"
    )
    assert world.phase() is Phase.STARTING


def test_the_weights_of_other_models_count_and_those_of_replicas_once() -> None:
    on_cpu = GpuChoice("none")
    both = [llama(f"a-{n}", base="a", replica=n, gpus=on_cpu) for n in (1, 2)]
    world = World(*both, llama("b", gpus=on_cpu))
    world.fits, world.available = (cached(0, mapped_gib=20),), 42 * GIB
    world.settle()
    [told] = world.told("weights do not fit")
    assert told.worker == "b"
    assert told.reason.startswith(
        "20GiB of its weights are mapped, and there is room for 14GiB beside 20GiB of other models: "
    )
