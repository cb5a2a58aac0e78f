"""Rungs need less of what ran out, and cost what users notice least."""

from typing import Any

import pytest
from msgspec.structs import asdict, replace

from supervisor.llama.fit import need
from supervisor.llama.model import Model
from supervisor.llama.rungs import SHORTAGES, Shortage, held_bytes, smaller
from supervisor.llama.settings import Settings
from support.llama.models import llama_8b, mixture

MIB = 1 << 20
GIB = 1 << 30
ON_GPU = Settings(n_gpu_layers=99, ctx=32768)
APART = Settings(n_gpu_layers=99, ctx=16384, kv_unified=False)  # four slots of 4096
ON_HOST = Settings(n_gpu_layers=0, ctx=32768, shares=())


def descent(model: Model, settings: Settings, shortage: Shortage) -> list[dict[str, Any]]:
    """Return what each rung changes, down to where there is none."""
    found: list[dict[str, Any]] = []
    now = smaller(model, settings, shortage)
    while now is not None:
        before = asdict(settings)
        found.append({name: value for name, value in asdict(now).items() if value != before[name]})
        settings, now = now, smaller(model, now, shortage)
    return found


@pytest.mark.parametrize("shortage", SHORTAGES)
@pytest.mark.parametrize(
    "settings",
    [
        *(ON_GPU, APART, ON_HOST),
        replace(ON_GPU, shares=(3.0, 5.0)),
        replace(ON_GPU, n_gpu_layers=20, mmap=False),
        replace(ON_GPU, ctx=0),
        replace(ON_GPU, kv_offload=False),
        replace(ON_GPU, flash_attention=False, slots=1),
    ],
)
@pytest.mark.parametrize("model", [llama_8b(), mixture()])
def test_each_rung_needs_less_of_what_ran_out_and_no_more_on_any_gpu_that_did(
    model: Model, settings: Settings, shortage: Shortage
) -> None:
    rungs = 0
    now = smaller(model, settings, shortage)
    while now is not None:
        before, after = need(model, settings), need(model, now)
        assert held_bytes(after, shortage) <= held_bytes(before, shortage) - 32 * MIB
        if shortage == "device":
            pairs = zip(after.devices, before.devices, strict=True)
            assert all(one.total_bytes <= other.total_bytes for one, other in pairs)
        settings, now = now, smaller(model, now, shortage)
        rungs += 1
    assert rungs < 40


def test_out_of_gpu_memory_it_takes_a_fifth_less_and_layers_last() -> None:
    assert descent(llama_8b(), ON_GPU, "device")[:4] == [
        {"cache_k": "q8_0", "cache_v": "q8_0"},
        {"ctx": 16384, "n_gpu_layers": 30},
        {"ctx": 8192, "n_gpu_layers": 25},
        {"ctx": 4096, "n_gpu_layers": 19},
    ]


def test_fewer_slots_keep_the_context_of_each() -> None:
    first = descent(llama_8b(), APART, "device")[0]
    assert first == {"cache_k": "q8_0", "cache_v": "q8_0", "slots": 2, "ctx": 8192}


def test_experts_go_to_the_host_before_layers() -> None:
    assert descent(mixture(), ON_GPU, "device")[:2] == [{"cpu_moe_layers": 8}, {"cpu_moe_layers": 14}]


def test_for_want_of_the_hosts_memory_no_layer_moves_there() -> None:
    for shortage in ("loading", "serving"):
        for change in descent(llama_8b(), replace(ON_GPU, n_gpu_layers=20), shortage):
            assert not change.keys() & {"n_gpu_layers", "cpu_moe_layers"}


def test_the_prompt_cache_goes_first_where_it_had_time_to_grow() -> None:
    assert descent(llama_8b(), ON_HOST, "serving")[:2] == [
        {"cache_ram_bytes": 2 * GIB},
        {"cache_ram_bytes": 512 * MIB},
    ]
    assert all("cache_ram_bytes" not in one for one in descent(llama_8b(), ON_HOST, "loading"))


def test_on_the_host_the_context_ends_at_2048() -> None:
    changes = descent(llama_8b(), ON_HOST, "loading")
    assert changes == [
        {"ubatch": 128, "cache_k": "q8_0", "cache_v": "q8_0"},
        *({"ctx": ctx} for ctx in (16384, 8192, 4096, 2048)),
    ]


def test_the_micro_batch_stays_where_an_input_has_to_fit_it() -> None:
    found = smaller(llama_8b(), ON_HOST, "loading", keep_ubatch=True)
    assert found == replace(ON_HOST, cache_k="q8_0", cache_v="q8_0")


def test_a_cache_that_cannot_be_q8_0_is_left_as_it_is() -> None:
    model = llama_8b()
    odd = replace(model, shape=replace(model.shape, key_length=80, value_length=80))
    for each, settings in ((odd, ON_HOST), (model, replace(ON_HOST, flash_attention=False))):
        assert all("cache_v" not in one for one in descent(each, settings, "loading"))


def test_where_nothing_is_worth_it_there_is_no_rung() -> None:
    small = Settings(n_gpu_layers=99, ctx=2048, ubatch=128)
    assert smaller(llama_8b(), small, "loading") is None
