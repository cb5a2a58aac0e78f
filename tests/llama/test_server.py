"""What a llama-server is told is read as it reads it itself."""

from pathlib import Path
from typing import Any

import pytest

from supervisor.llama.server import NotReckonedError, Server, read_server
from supervisor.llama.settings import Settings

PLAIN = ("llama-server", "-m", "/m.gguf", "-c", "4096", "-ngl", "25")
ALL = 1 << 20


def read(*words: str, shares: tuple[int, ...] = (1,), **variables: str) -> Server:
    return read_server(words, variables, Path("/srv"), shares)


def told(**fields: Any) -> Settings:  # noqa: ANN401 - any field of the settings
    given: dict[str, Any] = {"ctx": 4096, "n_gpu_layers": 25}
    return Settings(**(given | fields))


def test_flags_that_are_not_given_have_the_defaults_of_the_server() -> None:
    assert read(*PLAIN) == Server(
        Path("/m.gguf"),
        None,
        Settings(
            n_gpu_layers=25,
            ctx=4096,
            batch=2048,
            ubatch=512,
            slots=4,
            kv_unified=True,
            cache_k="f16",
            cache_v="f16",
            flash_attention=True,
            kv_offload=True,
            cpu_moe_layers=0,
            swa_full=False,
            mmap=True,
            cache_ram_bytes=8 << 30,
            mmproj_bytes=0,
            shares=(1.0,),
        ),
    )


@pytest.mark.parametrize(
    ("more", "settings"),
    [
        (["-b", "256", "-ub", "128"], told(batch=256, ubatch=128)),
        (["--batch-size=256", "--ubatch-size=128"], told(batch=256, ubatch=128)),
        (["-np", "2"], told(slots=2, kv_unified=False)),
        (["-np", "2", "-kvu"], told(slots=2)),
        (["--parallel", "-1"], told(slots=4)),
        (["-ctk", "q8_0", "-ctv", "q4_0"], told(cache_k="q8_0", cache_v="q4_0")),
        (["-fa", "off"], told(flash_attention=False)),
        (["-fa", "--no-mmap"], told(flash_attention=True, mmap=False)),
        (["-lm", "none"], told(mmap=False)),
        (["-ncmoe", "3"], told(cpu_moe_layers=3)),
        (["-cmoe"], told(cpu_moe_layers=ALL)),
        (["-nkvo", "--swa-full"], told(kv_offload=False, swa_full=True)),
        (["-ngl", "all"], told(n_gpu_layers=ALL)),
        (["-ngl", "7"], told(n_gpu_layers=7)),  # the last one counts
        (["-ngl", "0"], told(n_gpu_layers=0, shares=())),
        (["-dev", "none"], told(n_gpu_layers=0, shares=())),
        (["-c", "0", "-fit", "off"], told(ctx=0)),
        (["-cram", "512"], told(cache_ram_bytes=512 << 20)),
        (["--cache-ram", "0"], told(cache_ram_bytes=0)),
        (["--cache-ram", "-1"], told()),  # without a limit
    ],
)
def test_a_flag_says_what_it_does_in_the_server(more: list[str], settings: Settings) -> None:
    assert read(*PLAIN, *more).settings == settings


def test_variables_count_where_no_flag_is_given() -> None:
    server = read(
        "llama-server",
        "-c",
        "4096",
        LLAMA_ARG_MODEL="sub/m.gguf",
        LLAMA_ARG_MMPROJ="/p.gguf",
        LLAMA_ARG_CTX_SIZE="512",
        LLAMA_ARG_N_GPU_LAYERS="25",
        LLAMA_ARG_MMAP="0",
    )
    assert server == Server(Path("/srv/sub/m.gguf"), Path("/p.gguf"), told(mmap=False))


def test_a_server_that_sees_no_gpu_has_all_layers_on_the_host() -> None:
    assert read("llama-server", "-m", "m.gguf", "-c", "4096", shares=()).settings == told(
        n_gpu_layers=0, shares=()
    )


def test_layers_are_shared_out_by_what_the_gpus_have() -> None:
    assert read(*PLAIN, shares=(12, 4)).settings == told(shares=(12.0, 4.0))


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("-hf", "org/model", "-c", "4096", "-ngl", "9"), "its command names no model file"),
        (("-m", "m", "-ngl", "9"), "without --ctx-size it fits itself to what is free"),
        (("-m", "m", "-c", "4096"), "without --n-gpu-layers it fits itself to what is free"),
        (("-m", "m", "-c", "4096", "-ngl", "auto"), "without --n-gpu-layers it fits itself to what is free"),
        (("-m", "m", "-c", "many", "-ngl", "9"), "ctx is 'many', which is no number"),
        (("-m", "m", "-c", "9" * 99, "-ngl", "9"), f"ctx is '{'9' * 40}', which is no number"),
        (("-m", "m", "-c", "4096", "-ngl", "9", "-md", "small"), "-md is not reckoned"),
        (("-m", "m", "-c", "4096", "-ngl", "9", "-dev", "CUDA1"), "--device is not reckoned"),
    ],
)
def test_what_cannot_be_told_from_a_command_is_not_guessed(words: tuple[str, ...], why: str) -> None:
    with pytest.raises(NotReckonedError) as refused:
        read("llama-server", *words)
    assert str(refused.value) == why


def test_a_split_that_is_written_is_not_reckoned_over_several_gpus() -> None:
    with pytest.raises(NotReckonedError, match="how it splits the model over its GPUs is not reckoned"):
        read(*PLAIN, "-ts", "3,1", shares=(1, 1))
