"""The bytes of a model's tensors are added up by where they lie."""

from supervisor.llama.ggml_types import TYPES
from supervisor.llama.gguf import Tensor
from supervisor.llama.weights import LayerWeights, Weights, weights_of


def tensor(name: str, size_bytes: int) -> Tensor:
    return Tensor(name, 0, (), size_bytes)


def test_weights_are_told_apart_by_layer_and_part() -> None:
    found = weights_of(
        [
            tensor("token_embd.weight", 1000),
            tensor("token_embd_norm.weight", 3),
            tensor("blk.0.attn_q.weight", 10),
            tensor("blk.0.ffn_up.weight", 20),
            tensor("blk.1.attn_q.weight", 10),
            tensor("blk.1.ffn_up_exps.weight", 300),
            tensor("blk.1.ffn_gate_up_exps.weight", 500),
            tensor("blk.1.ffn_down_exps.weight", 400),
            tensor("blk.1.ffn_up_shexp.weight", 7),
            tensor("blk.2.attn_q.weight", 5),
            tensor("output_norm.weight", 1),
            tensor("output.weight", 2000),
            tensor("rope_freqs.weight", 4),
        ],
        2,
    )
    assert found == Weights(
        (LayerWeights(30, 0, 20), LayerWeights(1217, 1200, 500)), 1000, 2001, 12, tied=False
    )
    assert found.total_bytes == 4260


def test_an_embedding_that_is_the_output_too_is_counted_once() -> None:
    found = weights_of([tensor("token_embd.weight", 1000), tensor("output_norm.weight", 1)], 1)
    assert found == Weights((LayerWeights(),), 1000, 1, 0, tied=True)
    assert found.total_bytes == 1001


def test_every_type_of_ggml_takes_the_bits_that_its_name_says() -> None:
    bits = {kind.name: kind.block_bytes * 8 / kind.block for kind in TYPES.values()}
    assert (bits["f32"], bits["f16"], bits["bf16"], bits["f64"]) == (32, 16, 16, 64)
    assert (bits["q8_0"], bits["q4_0"], bits["q4_K"], bits["q6_K"]) == (8.5, 4.5, 4.5, 6.5625)
    assert (bits["mxfp4"], bits["nvfp4"], bits["q1_0"], bits["q2_0"]) == (4.25, 4.5, 1.125, 2.25)
    assert (bits["iq1_s"], bits["iq2_xxs"], bits["tq1_0"], bits["tq2_0"]) == (1.5625, 2.0625, 1.6875, 2.0625)
