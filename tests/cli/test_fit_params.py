"""`recommend --model` asks llama-fit-params too, where it is installed, and goes on whatever that does."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from supervisor.cli.fit_params import ask_fit_params
from supervisor.llama.fit import need
from supervisor.llama.model import read_model
from supervisor.llama.recommend import Choice
from supervisor.llama.settings import Settings
from support.command_line import gpu_supervisor
from support.llama.servers import LlamaServer
from support.llama.shapes import TINY, make

MIB = 1 << 20


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return make(tmp_path / "small.gguf", TINY["gqa"])


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Return what puts a stand-in, a shell script, where the tool is looked for."""

    def install(script: str) -> Path:
        folder = tmp_path / "bin"
        folder.mkdir()
        program = folder / "llama-fit-params"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
        return program

    return install


def choice(model: Path) -> Choice:
    settings = Settings(ctx=4096, slots=1, cache_ram_bytes=0, shares=())
    return Choice(settings, (), need(read_model(model), settings), 1, ())


def test_what_it_says_stands_below_the_reckoning_and_in_the_document(
    model: Path, installed: Callable[[str], Path]
) -> None:
    program = installed('echo "CUDA0 7 448 258"; echo "Host 281 0 16 "')
    words = ("recommend", "--model", str(model), "--n-gpu-layers", "0")
    lines = gpu_supervisor(*words).out.splitlines()
    at = lines.index("llama-fit-params            Host     CUDA0")
    assert lines[at + 1 : at + 4] == [
        "  model                     281M        7M",
        "  context                     0B      448M",
        "  compute                    16M      258M",
    ]
    found = json.loads(gpu_supervisor(*words, "--json").out)["llama_fit_params"]
    assert found["program"] == str(program)
    assert found["missing"] is None
    assert found["host"]["model_bytes"] == 281 * MIB
    assert [one["device"] for one in found["devices"]] == ["CUDA0"]


def test_it_sees_only_the_gpus_that_were_chosen(model: Path, installed: Callable[[str], Path]) -> None:
    installed('test -z "${CUDA_VISIBLE_DEVICES-unset}" && test "$GGML_NO_BACKTRACE" = 1 && echo Host 1 2 3')
    found = ask_fit_params(model, choice(model))
    assert found is not None
    assert (found.missing, found.devices) == (None, ())


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("echo what; echo error: bad flag >&2; exit 1", "it ended with status 1: error: bad flag"),
        ("echo nothing of use", "it ended with status 0: it said nothing"),
        ("kill -ABRT $$", "it ended with status -6: it said nothing"),
    ],
)
def test_where_it_fails_recommend_says_so_and_does_not(
    model: Path, installed: Callable[[str], Path], script: str, why: str
) -> None:
    installed(script)
    ran = gpu_supervisor("recommend", "--model", str(model))
    assert (ran.code, ran.err) == (0, "")
    assert f"llama-fit-params: {why}" in ran.out.splitlines()
    assert "workers:" in ran.out.splitlines()


def test_one_that_hangs_is_given_up_and_ended_with_what_it_started(
    model: Path, installed: Callable[[str], Path], tmp_path: Path
) -> None:
    installed(f"sleep 1000 & echo $! > {tmp_path}/child; wait")
    found = ask_fit_params(model, choice(model), within_s=1.0)
    assert found is not None
    assert found.missing == "it did not answer within 1 s"
    child = Path("/proc", (tmp_path / "child").read_text().strip(), "stat")
    deadline = time.monotonic() + 20.0
    while child.exists() and child.read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < deadline, "its child lives on"
        time.sleep(0.01)


def test_where_it_is_not_installed_nothing_is_said(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert ask_fit_params(model, choice(model)) is None
    assert "llama-fit-params" not in gpu_supervisor("recommend", "--model", str(model)).out


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gqa", "tied-q8", "experts"])
def test_the_real_tool_says_what_is_reckoned(
    name: str,
    tmp_path: Path,
    llama_binary: LlamaServer,
    require: Callable[[object, str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = Path(llama_binary.command[0]).parent
    require((folder / "llama-fit-params").exists(), "llama-fit-params beside llama-server")
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    path = make(tmp_path / "m.gguf", TINY[name])
    chosen = choice(path)
    for settings in (chosen.settings, replace(chosen.settings, ubatch=128, cache_k="q8_0", cache_v="q8_0")):
        host = need(read_model(path), settings).host
        found = ask_fit_params(path, replace(chosen, settings=settings))
        assert found is not None
        assert found.missing is None
        assert found.host is not None
        assert found.host.model_bytes / MIB == pytest.approx(host.weights_bytes // MIB, abs=1)
        assert found.host.context_bytes / MIB == pytest.approx(host.kv_bytes // MIB, abs=1)
        assert found.host.compute_bytes - MIB <= host.compute_bytes <= 1.2 * (found.host.compute_bytes + MIB)
