"""What a llama.cpp server needs is reckoned beside the loop, and answered in time whatever the file is."""

import asyncio
import os
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from msgspec.structs import replace

from supervisor.act.reckoner import Reckoner
from supervisor.llama.fit import need
from supervisor.llama.model import read_model
from supervisor.llama.settings import Settings
from supervisor.model.action import Reckon
from supervisor.model.fit import Fit
from supervisor.model.news import News, Reckoned
from supervisor.model.plan import Setting, WorkerPlan
from supervisor.model.rungs import Rungs
from support.llama.servers import make_model

COMMAND = ("llama-server", "-m", "tiny.gguf", "-ngl", "{n_gpu_layers}", "-c", "{ctx}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("models")
    make_model(made / "tiny.gguf")  # two layers, a context of 512
    return made


def order(
    folder: Path, settings: Mapping[str, Setting], shares: tuple[int, ...] = (1,), name: str = "chat"
) -> Reckon:
    plan = WorkerPlan(name, name, COMMAND, directory=str(folder))
    return Reckon(name, 7.0, plan, settings, shares, "a test")


def answers(*orders: Reckon, within_s: float = 20.0) -> dict[str, Reckoned]:
    async def asked() -> dict[str, Reckoned]:
        news: list[News] = []
        reckoner = Reckoner(news.append, asyncio.get_running_loop(), within_s)
        for one in orders:
            reckoner.ask(one)
        give_up_s = time.monotonic() + 30.0
        while len(news) < len(orders):
            assert time.monotonic() < give_up_s
            await asyncio.sleep(0.005)
        reckoner.close()
        return {one.worker: one for one in news if isinstance(one, Reckoned)}

    return asyncio.run(asked())


def test_what_is_written_is_reckoned_as_it_is(folder: Path) -> None:
    answer = answers(order(folder, {"n_gpu_layers": 2, "ctx": 512}))["chat"]
    settings = Settings(n_gpu_layers=2, ctx=512, cache_ram_bytes=0)
    found = need(read_model(folder / "tiny.gguf"), settings)
    assert answer == Reckoned(
        "chat",
        7.0,
        (
            Fit(
                {},
                found.host.own_bytes,
                found.host.weights_bytes,
                (found.devices[0].total_bytes,),
                prompt_cache_bytes=8 << 30,
            ),
        ),
        rungs=answer.rungs,
    )


def test_every_choice_is_reckoned_with_what_it_needs(folder: Path) -> None:
    answer = answers(order(folder, {"n_gpu_layers": "auto", "ctx": "auto"}))["chat"]
    assert [fit.settings for fit in answer.fits] == [
        {"n_gpu_layers": 3, "ctx": 512},
        {"n_gpu_layers": 2, "ctx": 512},
        {"n_gpu_layers": 1, "ctx": 512},
        {"n_gpu_layers": 0, "ctx": 512},
    ]
    vram = [sum(fit.vram_bytes) for fit in answer.fits]
    assert vram == sorted(vram, reverse=True)
    assert len(set(vram)) == 4
    assert vram[-1] == 0


def test_a_file_that_is_replaced_is_read_again(tmp_path: Path) -> None:
    make_model(tmp_path / "tiny.gguf")
    auto = order(tmp_path, {"n_gpu_layers": "auto", "ctx": 512})
    assert len(answers(auto)["chat"].fits) == 4
    make_model(tmp_path / "tiny.gguf", "--layers", "5")
    assert len(answers(auto)["chat"].fits) == 7


def test_a_model_that_is_none_is_answered_with_the_reason_and_a_cautious_table(tmp_path: Path) -> None:
    (tmp_path / "tiny.gguf").write_bytes(b"none")
    written = order(tmp_path, {"n_gpu_layers": 2, "ctx": 512})
    auto = order(tmp_path, {"n_gpu_layers": "auto", "ctx": 512}, name="auto")
    found = answers(written, auto)
    assert found["chat"].fits == ()
    why = found["chat"].missing
    assert why is not None
    assert why.startswith(f"cannot read {tmp_path}/tiny.gguf: ")
    assert [fit.settings["n_gpu_layers"] for fit in found["auto"].fits] == [25, 15, 8, 0]
    assert found["auto"].missing == why


def test_a_model_that_is_not_there_or_no_file_is_answered_at_once(tmp_path: Path) -> None:
    one = order(tmp_path, {"n_gpu_layers": 2, "ctx": 512})
    assert answers(one)["chat"].missing == f"cannot read {tmp_path}/tiny.gguf: No such file or directory"
    os.mkfifo(tmp_path / "tiny.gguf")  # to open it would wait for ever
    assert answers(one)["chat"].missing == f"cannot read {tmp_path}/tiny.gguf: it is no regular file"


def test_an_answer_is_not_waited_for_longer_than_allowed(folder: Path) -> None:
    many = [order(folder, {"n_gpu_layers": "auto", "ctx": 512}, name=f"w{n}") for n in range(40)]
    found = answers(*many, within_s=0.0)
    assert {one.missing for one in found.values()} == {"its model was not read within 0 s"}
    assert len(found) == 40
    assert [fit.settings["n_gpu_layers"] for fit in found["w0"].fits] == [25, 15, 8, 0]


def test_impossible_settings_are_answered_with_the_reason(folder: Path) -> None:
    plan = WorkerPlan("chat", "chat", (*COMMAND, "-ctk", "q9"), directory=str(folder))
    asked = Reckon("chat", 7.0, plan, {"n_gpu_layers": 2, "ctx": 512}, (1,), "a test")
    why = answers(asked)["chat"].missing
    assert why == "'q9' is no type of a KV cache: f32, f16, bf16, q8_0, q5_1, q5_0, q4_1, q4_0, iq4_nl"


def test_rungs_are_offered_for_what_may_run_out_with_the_command_that_makes_them(tmp_path: Path) -> None:
    big = ("--layers", "8", "--embd", "512", "--heads", "8", "--ctx", "65536")
    make_model(tmp_path / "tiny.gguf", *big)
    command = ("llama-server", "-m", "tiny.gguf", "-ngl", "99", "-c", "65536", "--cache-ram", "0")
    plan = WorkerPlan("chat", "chat", command, directory=str(tmp_path))
    rungs = answers(Reckon("chat", 7.0, plan, {}, (1,), "a test"))["chat"].rungs
    assert rungs.device is not None
    assert rungs.device.settings == {"ubatch": 128, "cache_type_k": "q8_0", "cache_type_v": "q8_0"}
    assert rungs.device.was == {"ubatch": 512, "cache_type_k": "f16", "cache_type_v": "f16"}
    assert rungs.device.command == (
        *command,
        *("--ubatch-size", "{ubatch}"),
        *("--cache-type-k", "{cache_type_k}", "--cache-type-v", "{cache_type_v}"),
    )
    assert rungs.device.needs_bytes < rungs.device.before_bytes
    assert rungs.cpu is not None
    assert (rungs.cpu.on_cpu, rungs.cpu.settings) == (True, {"n_gpu_layers": 0})
    assert rungs.serving is not None  # masks and logits
    on_host = answers(Reckon("chat", 7.0, plan, {}, (), "a test"))["chat"].rungs
    assert (on_host.device, on_host.cpu) == (None, None)
    assert on_host.loading is not None


def test_a_rung_that_cannot_be_reckoned_is_left_out_and_what_runs_now_is_told(folder: Path) -> None:
    command = ("llama-server", "-m", "tiny.gguf", "-ngl", "{n}", "-c", "{n}")  # on the CPU without a context
    asked = order(folder, {"n": 512})
    answer = answers(replace(asked, plan=replace(asked.plan, command=command)))["chat"]
    assert answer.missing is None
    assert len(answer.fits) == 1
    assert answer.rungs.cpu is None


def test_no_rungs_are_offered_beside_a_written_ladder_or_a_choice(folder: Path) -> None:
    plan = WorkerPlan("chat", "chat", COMMAND, directory=str(folder), ladder=({"ctx": 256},))
    written = Reckon("chat", 7.0, plan, {"n_gpu_layers": 2, "ctx": 512}, (1,), "a test")
    auto = order(folder, {"n_gpu_layers": "auto", "ctx": 512}, name="auto")
    found = answers(written, auto)
    assert found["chat"].rungs == found["auto"].rungs == Rungs()


def test_the_prompt_cache_and_whether_it_was_asked_for_stand_beside_what_is_needed(folder: Path) -> None:
    def fit(*more: str) -> Fit:
        plan = WorkerPlan("chat", "chat", (*COMMAND, *more), directory=str(folder))
        return answers(Reckon("chat", 7.0, plan, {"n_gpu_layers": 0, "ctx": 512}, (), "a test"))["chat"].fits[
            0
        ]

    unasked, asked, none = fit(), fit("--cache-ram", "512"), fit("-cram", "0")
    assert (unasked.prompt_cache_bytes, unasked.promised_cache_bytes) == (8 << 30, 0)
    assert (asked.prompt_cache_bytes, asked.promised_cache_bytes) == (512 << 20, 512 << 20)
    assert (none.prompt_cache_bytes, none.promised_cache_bytes) == (0, 0)
    assert unasked.memory_bytes == asked.memory_bytes == none.memory_bytes
