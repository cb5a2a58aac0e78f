"""Settings are chosen so that they fit, from what is free."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from supervisor.llama.recommend import Choice, DoesNotFitError, Wanted, choose_settings
from supervisor.llama.room import GpuRoom, Room, memory_reserve_bytes, threads_of
from supervisor.model.fit import GPU_RESERVE_BYTES
from supervisor.model.reading import Missing
from support.llama.models import llama_8b, mixture

GIB = 1 << 30
UNREAD = Missing("it cannot be read")


def gpu(free_gib: float | None, index: int = 0, *, unified: bool = False) -> GpuRoom:
    free = UNREAD if free_gib is None else int(free_gib * GIB)
    return GpuRoom(f"GPU-{index}", index, "a card", UNREAD if unified else 80 * GIB, free, unified)


def room(*gpus: GpuRoom, memory_gib: float = 60) -> Room:
    return Room(64 * GIB, int(memory_gib * GIB), 16.0, gpus)


def chosen(free: Room, **wanted: int | str) -> Choice:
    return choose_settings(llama_8b(), free, Wanted(**wanted))  # type: ignore[arg-type]


def test_a_large_gpu_takes_all_layers_and_the_longest_context() -> None:
    found = chosen(room(gpu(20)))
    assert (found.settings.n_gpu_layers, found.settings.ctx, found.settings.cache_k) == (33, 32768, "f16")
    assert [each.uuid for each in found.gpus] == ["GPU-0"]
    assert (found.threads, found.notes) == (8, ())


def test_a_smaller_gpu_takes_a_shorter_context() -> None:
    found = chosen(room(gpu(7.5)))
    assert (found.settings.n_gpu_layers, found.settings.ctx, found.settings.cache_k) == (33, 8192, "f16")


def test_the_cache_is_quantized_before_layers_leave_the_gpu() -> None:
    found = chosen(room(gpu(7.6)), ctx=16384)
    assert (found.settings.n_gpu_layers, found.settings.ctx, found.settings.cache_k) == (33, 16384, "q8_0")
    assert found.notes == ("the KV cache is q8_0: with f16 it does not fit",)


def test_what_does_not_fit_the_gpu_stays_on_the_host() -> None:
    found = chosen(room(gpu(4)))
    assert 0 < found.settings.n_gpu_layers < 33
    more = replace(found.settings, n_gpu_layers=found.settings.n_gpu_layers + 1)
    with pytest.raises(DoesNotFitError):
        chosen(room(gpu(4)), n_gpu_layers=more.n_gpu_layers, ctx=more.ctx, cache_type="f16")


def test_a_gpu_without_room_is_not_used() -> None:
    found = chosen(room(gpu(0.9)))
    assert (found.settings.n_gpu_layers, found.gpus, found.need.devices) == (0, (), ())


def test_experts_leave_the_gpu_before_layers_do() -> None:
    found = choose_settings(mixture(), room(gpu(12)), Wanted())
    assert found.settings.n_gpu_layers == 33
    assert 0 < found.settings.cpu_moe_layers < 32


def test_a_model_too_large_for_one_gpu_is_shared_out_over_all() -> None:
    found = choose_settings(mixture(), room(gpu(20, 0), gpu(22, 1)), Wanted())
    assert [each.uuid for each in found.gpus] == ["GPU-1", "GPU-0"]
    assert found.settings.n_gpu_layers == 33
    assert found.settings.shares == (21 * 1024, 19 * 1024)


def test_a_gpu_that_shares_the_memory_is_reckoned_with_it() -> None:
    found = chosen(room(gpu(None, unified=True), memory_gib=20))
    assert found.settings.n_gpu_layers == 33
    total = found.need.host.total_bytes + found.need.devices[0].total_bytes
    assert total <= 20 * GIB - 4 * GIB
    with pytest.raises(DoesNotFitError):
        chosen(room(gpu(None, unified=True), memory_gib=6))


def test_a_gpu_whose_memory_is_unknown_counts_as_none() -> None:
    found = chosen(room(gpu(None)))
    assert found.settings.n_gpu_layers == 0
    assert found.notes == ("GPU 0 is left out: its free memory is not known (it cannot be read)",)


def test_unknown_memory_means_a_short_context_and_no_prompt_cache() -> None:
    found = chosen(Room(UNREAD, UNREAD, UNREAD))
    assert (found.settings.ctx, found.settings.cache_ram_bytes, found.threads) == (2048, 0, 1)
    assert found.notes == (
        "free memory is not known (it cannot be read): a short context and no prompt cache",
        "the cores are not known (it cannot be read): one thread",
    )


def test_the_prompt_cache_is_a_quarter_of_what_is_left_and_never_unsaid() -> None:
    assert chosen(room(gpu(20))).settings.cache_ram_bytes == 8 * GIB
    found = chosen(room(gpu(20), memory_gib=9))
    assert found.settings.cache_ram_bytes == 1 * GIB
    assert found.need.host.prompt_cache_bytes == 1 * GIB
    assert chosen(room(gpu(20), memory_gib=5)).settings.cache_ram_bytes == 0


def test_what_is_short_is_said() -> None:
    with pytest.raises(
        DoesNotFitError, match=r"^with 0 layers on GPUs .* it needs 4.81GiB of RAM, which has 1GiB"
    ):
        chosen(room(memory_gib=5))
    with pytest.raises(DoesNotFitError, match=r"needs .* on a card, which has 1GiB to give"):
        chosen(room(gpu(2)), n_gpu_layers=33)
    with pytest.raises(DoesNotFitError, match="33 layers are wanted on a GPU, and none is known"):
        chosen(room(), n_gpu_layers=33)


def test_the_reserve_is_an_eighth_of_the_memory_from_one_to_four_gib() -> None:
    assert memory_reserve_bytes(Room(2 * GIB, 0, 1.0)) == 1 * GIB
    assert memory_reserve_bytes(Room(16 * GIB, 0, 1.0)) == 2 * GIB
    assert memory_reserve_bytes(Room(512 * GIB, 0, 1.0)) == 4 * GIB
    assert memory_reserve_bytes(Room(UNREAD, UNREAD, 1.0)) == 4 * GIB


def test_threads_are_half_the_cores_and_at_least_one() -> None:
    assert [threads_of(Room(0, 0, cores)) for cores in (0.5, 1.0, 3.0, 8.0)] == [1, 1, 1, 4]


@given(
    memory_mib=st.integers(0, 200_000),
    gpus=st.lists(st.integers(0, 80_000), max_size=3),
    ctx=st.none() | st.integers(1, 200_000),
    slots=st.integers(1, 16),
    experts=st.booleans(),
)
def test_no_more_is_recommended_than_is_free_without_the_reserve(
    memory_mib: int, gpus: list[int], ctx: int | None, slots: int, *, experts: bool
) -> None:
    cards = tuple(gpu(free / 1024, index) for index, free in enumerate(gpus))
    free = Room(256 * GIB, memory_mib << 20, 8.0, cards)
    try:
        found = choose_settings(mixture() if experts else llama_8b(), free, Wanted(ctx=ctx, slots=slots))
    except DoesNotFitError:
        return
    assert found.need.host.total_bytes <= (memory_mib << 20) - 4 * GIB
    assert len(found.need.devices) == len(found.gpus) == (len(found.settings.shares) if found.gpus else 0)
    for card, device in zip(found.gpus, found.need.devices, strict=True):
        assert not isinstance(card.free_bytes, Missing)
        assert device.total_bytes <= card.free_bytes - GPU_RESERVE_BYTES
