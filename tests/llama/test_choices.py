"""What may be chosen for `auto`, from the best to the poorest."""

from msgspec.structs import replace

from supervisor.llama.choices import cautious, choices
from supervisor.model.fit import GPU_RESERVE_BYTES, Fit
from support.llama.models import shape_of_llama

SHAPE = shape_of_llama(3)  # trained for 8192


def test_all_layers_with_the_longest_context_come_first_and_none_last() -> None:
    assert list(choices(SHAPE, ("n_gpu_layers", "ctx"), gpus=1)) == [
        {"n_gpu_layers": 4, "ctx": 8192},
        {"n_gpu_layers": 4, "ctx": 4096},
        {"n_gpu_layers": 3, "ctx": 4096},
        {"n_gpu_layers": 2, "ctx": 4096},
        {"n_gpu_layers": 1, "ctx": 4096},
        {"n_gpu_layers": 0, "ctx": 4096},
        {"n_gpu_layers": 0, "ctx": 2048},
    ]


def test_what_is_written_is_not_chosen() -> None:
    assert list(choices(SHAPE, ("n_gpu_layers",), gpus=1)) == [{"n_gpu_layers": n} for n in (4, 3, 2, 1, 0)]
    assert list(choices(SHAPE, ("ctx",), gpus=1)) == [{"ctx": 8192}, {"ctx": 4096}, {"ctx": 2048}]
    assert list(choices(SHAPE, (), gpus=1)) == [{}]


def test_without_a_gpu_no_layer_is_on_one() -> None:
    assert list(choices(SHAPE, ("n_gpu_layers",), gpus=0)) == [{"n_gpu_layers": 0}]
    assert list(choices(SHAPE, ("n_gpu_layers", "ctx"), gpus=0)) == [
        {"n_gpu_layers": 0, "ctx": 4096},
        {"n_gpu_layers": 0, "ctx": 2048},
    ]


def test_a_model_with_a_short_context_keeps_it() -> None:
    short = replace(SHAPE, context_length=512)
    assert list(choices(short, ("ctx",), gpus=1)) == [{"ctx": 512}]
    assert list(choices(short, ("n_gpu_layers", "ctx"), gpus=0)) == [{"n_gpu_layers": 0, "ctx": 512}]


def test_a_file_that_claims_a_thousand_layers_is_tried_in_a_hundred_steps() -> None:
    found = list(choices(shape_of_llama(1023), ("n_gpu_layers",), gpus=1))
    assert found[0] == {"n_gpu_layers": 1024}
    assert found[-1] == {"n_gpu_layers": 0}
    assert len(found) < 100


def test_a_model_that_cannot_be_read_gets_the_table_of_a_first_start() -> None:
    found = cautious(("n_gpu_layers", "ctx"), "no such file", gpus=1)
    free = [fit.vram_bytes[0] + GPU_RESERVE_BYTES if fit.vram_bytes else 0 for fit in found]
    assert [(fit.settings, size) for fit, size in zip(found, free, strict=True)] == [
        ({"n_gpu_layers": 25, "ctx": 2048}, 14_400_000_000),
        ({"n_gpu_layers": 15, "ctx": 2048}, 7_200_000_000),
        ({"n_gpu_layers": 8, "ctx": 2048}, 3_600_000_000),
        ({"n_gpu_layers": 0, "ctx": 2048}, 0),
    ]
    assert {fit.assumed for fit in found} == {"no such file"}
    assert cautious(("ctx",), "no", gpus=2) == (Fit({"ctx": 2048}, assumed="no"),)
