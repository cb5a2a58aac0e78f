"""The reckoning: what lies where, in bytes that were worked out by hand."""

import pytest
from msgspec.structs import replace

from supervisor.llama.fit import CUDA_CONTEXT_BYTES, PROCESS_BYTES, need
from supervisor.llama.kv_cache import LayerCache, caches_of
from supervisor.llama.placement import HOST, places_of
from supervisor.llama.settings import Context, Settings, cache_type, context_of
from supervisor.llama.shape import Latent, Recurrent, Shape, Sliding
from supervisor.llama.weights import LayerWeights
from support.llama.models import MIB, llama_8b, model_of, shape_of_llama

LAYER = LayerWeights(100, 60, 40)
MODEL = model_of(shape_of_llama(), LAYER)


def caches(shape: Shape, settings: Settings) -> tuple[LayerCache, ...]:
    return caches_of(shape, settings, context_of(shape, settings))


def test_the_context_is_padded_and_shared_out_as_llama_cpp_does() -> None:
    shape = shape_of_llama()
    assert context_of(shape, Settings()) == Context(8192, 8192, 1, 512)
    assert context_of(shape, Settings(ctx=1000)) == Context(1024, 1024, 1, 512)
    assert context_of(shape, Settings(ctx=100)) == Context(256, 256, 1, 100)
    assert context_of(shape, Settings(ctx=1000, slots=3, kv_unified=False)) == Context(1536, 512, 3, 512)
    assert context_of(shape, Settings(ctx=4096, batch=64)).tokens == 64
    with pytest.raises(ValueError, match="the model does not name its context_length"):
        context_of(replace(shape, context_length=None), Settings())


def test_the_cache_is_keys_and_values_of_every_cell() -> None:
    shape = shape_of_llama(2)
    f16 = 2 * 2 * 32 * 2 * 1024  # K and V, heads, numbers, bytes, cells
    assert caches(shape, Settings(ctx=1024)) == (LayerCache(f16), LayerCache(f16))
    q8_0 = 2 * 2 * 34 * 1024  # a head is one block of 34 bytes
    assert caches(shape, Settings(ctx=1024, cache_k="q8_0", cache_v="q8_0"))[0].kv_bytes == q8_0
    q4_0 = 2 * 34 * 1024 + 2 * 18 * 1024
    assert caches(shape, Settings(ctx=1024, cache_k="q8_0", cache_v="q4_0"))[0].kv_bytes == q4_0


def test_a_type_that_no_cache_has_is_refused() -> None:
    with pytest.raises(ValueError, match="'q6_K' is no type of a KV cache: f32, f16, bf16"):
        cache_type("q6_K")


def test_windowed_layers_keep_the_window_of_each_slot_and_one_batch() -> None:
    shape = replace(shape_of_llama(6, architecture="gemma3"), sliding=Sliding(512, None, None, None))
    row = 2 * 2 * 32 * 2
    windowed, full = row * 2560, row * 8192  # 512 * 4 + 512, all of 8192
    assert [each.kv_bytes for each in caches(shape, Settings())] == [windowed] * 5 + [full]
    assert [each.kv_bytes for each in caches(shape, Settings(slots=1))] == [row * 1024] * 5 + [full]
    assert [each.kv_bytes for each in caches(shape, Settings(swa_full=True))] == [full] * 6


def test_with_latent_attention_there_are_no_values() -> None:
    shape = replace(
        shape_of_llama(1), kv_heads=(1,), key_length=576, value_length=512, latent=Latent(512, None, 192, 128)
    )
    assert caches(shape, Settings(ctx=256)) == (LayerCache(576 * 2 * 256),)


def test_a_recurrent_layer_keeps_a_state_for_each_slot_whatever_the_context() -> None:
    shape = replace(shape_of_llama(1, architecture="mamba2"), recurrent=Recurrent(4, 256, 64, 8, 1))
    state = (3 * (256 + 2 * 64) + 64 * 256) * 4
    assert caches(shape, Settings(ctx=256)) == (LayerCache(0, 4 * state),)
    assert caches(shape, Settings(ctx=8192, slots=1)) == (LayerCache(0, state),)


def test_without_flash_attention_every_layer_has_the_widest_values() -> None:
    shape = replace(shape_of_llama(2), kv_heads=(2, 4))
    assert [each.kv_bytes for each in caches(shape, Settings(ctx=256, flash_attention=False))] == [
        (64 + 128) * 2 * 256,
        (128 + 128) * 2 * 256,
    ]


@pytest.mark.parametrize(
    ("layers", "places"),
    [
        (0, (HOST, HOST, HOST, HOST, HOST)),
        (1, (HOST, HOST, HOST, HOST, 0)),
        (3, (HOST, HOST, 0, 0, 0)),
        (5, (0, 0, 0, 0, 0)),
        (99, (0, 0, 0, 0, 0)),
    ],
)
def test_layers_go_to_the_gpu_from_the_output_on(layers: int, places: tuple[int, ...]) -> None:
    assert places_of(MODEL.shape, Settings(n_gpu_layers=layers)) == places


def test_layers_are_shared_out_over_gpus_by_their_shares() -> None:
    shape = MODEL.shape
    assert places_of(shape, Settings(n_gpu_layers=5, shares=(1, 1))) == (0, 0, 0, 1, 1)
    assert places_of(shape, Settings(n_gpu_layers=5, shares=(3, 1))) == (0, 0, 0, 0, 1)
    assert places_of(shape, Settings(n_gpu_layers=3, shares=(1, 1))) == (HOST, HOST, 0, 0, 1)
    assert places_of(shape, Settings(n_gpu_layers=3, shares=())) == (HOST,) * 5


def test_weights_lie_with_their_layers_and_the_embedding_on_the_host() -> None:
    found = need(MODEL, Settings(n_gpu_layers=3))
    assert (found.host.weights_bytes, found.devices[0].weights_bytes) == (1000 + 7 + 200, 200 + 2000)
    found = need(MODEL, Settings(n_gpu_layers=0))
    assert (found.host.weights_bytes, found.devices) == (1000 + 7 + 400 + 2000, ())


def test_a_tied_embedding_is_on_the_host_and_on_the_gpu() -> None:
    tied = model_of(shape_of_llama(), LAYER, tied=True)
    found = need(tied, Settings(n_gpu_layers=1))
    assert (found.host.weights_bytes, found.devices[0].weights_bytes) == (1000 + 7 + 400, 100 + 1000)


def test_experts_of_the_first_layers_stay_on_the_host() -> None:
    found = need(MODEL, Settings(n_gpu_layers=5, cpu_moe_layers=2))
    assert (found.host.weights_bytes, found.devices[0].weights_bytes) == (
        1000 + 7 + 2 * 60,
        2 * 40 + 2 * 100 + 2000,
    )


def test_a_weight_of_the_hosts_passes_through_the_gpu() -> None:
    assert need(MODEL, Settings(n_gpu_layers=5)).devices[0].staging_bytes == 0
    assert need(MODEL, Settings(n_gpu_layers=4)).devices[0].staging_bytes == 40


def test_the_cache_lies_with_its_layers_unless_it_is_kept_on_the_host() -> None:
    one = 2 * 2 * 32 * 2 * 1024
    found = need(MODEL, Settings(n_gpu_layers=3, ctx=1024))
    assert (found.host.kv_bytes, found.devices[0].kv_bytes) == (2 * one, 2 * one)
    found = need(MODEL, Settings(n_gpu_layers=5, ctx=1024, kv_offload=False))
    assert (found.host.kv_bytes, found.devices[0].kv_bytes) == (4 * one, 0)


def test_mapped_weights_are_not_the_processs_own() -> None:
    mapped = need(MODEL, Settings(ctx=256, cache_ram_bytes=0)).host
    read = need(MODEL, Settings(ctx=256, cache_ram_bytes=0, mmap=False)).host
    assert read.own_bytes - mapped.own_bytes == 3407
    assert read.total_bytes == mapped.total_bytes == read.own_bytes


def test_all_parts_are_in_the_sum() -> None:
    found = need(MODEL, Settings(n_gpu_layers=4, ctx=1024, mmproj_bytes=5000, cache_ram_bytes=3000))
    device, host = found.devices[0], found.host
    one = 2 * 2 * 32 * 2 * 1024
    assert device.total_bytes == 300 + 2000 + 3 * one + device.compute_bytes + 40 + 5000 + CUDA_CONTEXT_BYTES
    assert host.own_bytes == one + host.compute_bytes + 4 * 1000 * 4 + 3000 + PROCESS_BYTES
    assert host.total_bytes == host.own_bytes + 1000 + 7 + 100


def test_the_projector_is_on_the_first_gpu_or_on_the_host() -> None:
    found = need(MODEL, Settings(n_gpu_layers=5, shares=(1, 1), mmproj_bytes=5000))
    assert [device.mmproj_bytes for device in found.devices] == [5000, 0]
    assert found.host.mmproj_bytes == 0
    assert need(MODEL, Settings(mmproj_bytes=5000)).host.mmproj_bytes == 5000


def test_a_model_of_eight_billion_weights_computes_in_what_its_widest_step_takes() -> None:
    found = need(llama_8b(), Settings(n_gpu_layers=33, ctx=8192, slots=1))
    assert found.devices[0].kv_bytes == 1024 * MIB
    widest = (4 * 4096 + 3 * 14336) * 512 * 4
    mask = 8192 * 512 * 2
    assert widest + mask <= found.devices[0].compute_bytes <= widest + mask + MIB // 8
