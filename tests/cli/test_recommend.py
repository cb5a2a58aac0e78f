"""`recommend`, in a process of its own: no daemon, no root, a stand-in for the GPU."""

import json
from pathlib import Path

import pytest

from supervisor.cli.recommend import room_of
from supervisor.llama.room import GpuRoom, Room
from supervisor.model.reading import Missing
from supervisor.model.snapshot import GpuSample, HostSample
from supervisor.sense.confines import Confines
from support.command_line import gpu_supervisor
from support.fakenvml.state import GIB, FakeDriver
from support.llama.gguf_files import LLAMA, TENSORS, header, number, written
from support.llama.shapes import TINY, make


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return make(tmp_path / "small.gguf", TINY["gqa"])


def test_without_a_model_it_is_the_conservative_table() -> None:
    ran = gpu_supervisor("recommend")
    assert (ran.code, ran.err) == (0, "")
    lines = ran.out.splitlines()
    assert lines[0] == "machine"
    assert "settings for a first start (name a --model to have them reckoned)" in lines
    assert "  ctx                   2048" in lines
    assert "  batch                 256" in lines


def test_the_table_is_a_document_too() -> None:
    found = json.loads(gpu_supervisor("recommend", "--json").out)
    assert (found["model"], found["need"]) == (None, None)
    assert (found["settings"]["ctx"], found["settings"]["mlock"]) == (2048, False)
    assert found["stanza"].startswith("workers:\n")


def test_with_a_model_the_need_is_a_table(model: Path) -> None:
    ran = gpu_supervisor("recommend", "--model", str(model), "--ctx", "4096", "--n-gpu-layers", "0")
    assert (ran.code, ran.err) == (0, "")
    lines = ran.out.splitlines()
    assert "settings for small.gguf (llama, 4 layers, 5.24M of weights)" in lines
    assert "  KV cache                    4M" in lines
    assert "    gpus: none" in lines


def test_the_document_has_the_same_in_bytes(model: Path) -> None:
    ran = gpu_supervisor("recommend", "--model", str(model), "--ctx", "4096", "--n-gpu-layers", "0", "--json")
    found = json.loads(ran.out)
    assert list(found) == [*("machine", "model", "settings", "need", "notes", "stanza", "llama_fit_params")]
    assert found["model"]["paths"] == [str(model)]
    assert found["settings"]["ctx"] == 4096
    assert found["need"]["host"]["kv_bytes"] == 4 << 20
    assert found["need"]["host"]["total_bytes"] > found["model"]["weights_bytes"]
    assert found["machine"]["memory_total_bytes"] > 0


def test_the_worker_is_one_that_check_config_accepts(model: Path, tmp_path: Path) -> None:
    ran = gpu_supervisor("recommend", "--model", str(model), "--json")
    config = tmp_path / "config.yaml"
    config.write_text(json.loads(ran.out)["stanza"])
    checked = gpu_supervisor("check-config", str(config))
    assert (checked.code, checked.out.splitlines()[-1]) == (0, f"{config}: good, 1 worker")


def test_a_gpu_is_read_and_used(model: Path, driver: FakeDriver) -> None:
    driver.list_gpus(1)
    driver.gpu(0).total = 16 * GIB
    driver.gpu(0).used = 6 * GIB
    ran = gpu_supervisor("recommend", "--model", str(model), "--json", env=driver.environment)
    found = json.loads(ran.out)
    assert found["settings"]["n_gpu_layers"] == 5
    (gpu,) = found["machine"]["gpus"]
    assert gpu["free_bytes"] == 10 * GIB
    assert found["need"]["devices"][0]["uuid"] == gpu["uuid"]
    assert f'gpus: ["{gpu["uuid"]}"]' in found["stanza"]
    first = gpu_supervisor("recommend", env=driver.environment)
    assert "  n_gpu_layers          15" in first.out.splitlines()


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--ctx", "512"], "cannot recommend: --ctx needs --model"),
        (["--ctx", "0"], "cannot understand the command line: argument --ctx: "),
        (["--ctx", "-5"], "cannot understand the command line: argument --ctx: "),
        (["--ctx", "9" * 5000], "cannot understand the command line: argument --ctx: "),
        (["--cache-type", "q6_K"], "cannot understand the command line: argument --cache-type: "),
        (["extra"], "cannot understand the command line: unrecognized arguments: extra"),
    ],
)
def test_what_is_asked_wrongly_is_2(words: list[str], why: str) -> None:
    ran = gpu_supervisor("recommend", *words)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith(f"gpu-supervisor: {why}")
    assert ran.err.count("\n") == 1


def test_a_file_that_is_no_model_is_one_line(tmp_path: Path) -> None:
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(header(LLAMA, TENSORS)[:100])
    text = tmp_path / "text.gguf"
    text.write_text("not a model")
    part = written(tmp_path / "m-00002-of-00003.gguf", [*LLAMA, number("split.count", 3)], TENSORS)
    cases = {
        tmp_path / "missing.gguf": "No such file or directory",
        tmp_path: "it is no regular file",
        text: "it starts with b'not ', not with b'GGUF' (at byte 0)",
        cut: "cut: ",
        part: "it is file 2 of 3: a model is named by its first",
    }
    for path, why in cases.items():
        ran = gpu_supervisor("recommend", "--model", str(path))
        assert (ran.code, ran.out) == (1, "")
        assert ran.err.startswith(f"gpu-supervisor: cannot read {path}: {why}")
        assert ran.err.count("\n") == 1
    ran = gpu_supervisor("recommend", "--model", str(tmp_path / "missing.gguf"), "--json")
    assert (ran.code, ran.out) == (1, "")


def test_a_projector_that_is_no_model_is_one_line(model: Path, tmp_path: Path) -> None:
    ran = gpu_supervisor("recommend", "--model", str(model), "--mmproj", str(tmp_path))
    assert (ran.code, ran.err) == (1, f"gpu-supervisor: cannot read {tmp_path}: it is no regular file\n")


def test_what_does_not_fit_is_said_with_its_size(model: Path) -> None:
    ran = gpu_supervisor("recommend", "--model", str(model), "--ctx", "60000000")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith(f"gpu-supervisor: cannot recommend settings for {model}: with 0 layers on GPUs")


def test_the_tighter_of_machine_and_cgroup_counts() -> None:
    host = HostSample(0.0, memory_total_bytes=64 * GIB, memory_available_bytes=50 * GIB)
    assert room_of(host, Confines(None, None, 4.0), (), "none") == Room(64 * GIB, 50 * GIB, 4.0, (), "none")
    found = room_of(host, Confines(8 * GIB, 6 * GIB, 4.0), (), None)
    assert (found.memory_total_bytes, found.memory_free_bytes) == (8 * GIB, 6 * GIB)


def test_what_could_not_be_read_stays_unknown() -> None:
    unread = Missing("it cannot be read")
    host = HostSample(0.0, memory_total_bytes=unread, memory_available_bytes=unread)
    gpu = GpuSample("GPU-0", 0, "a card", 0.0, memory_total_bytes=GIB, memory_used_bytes=unread)
    found = room_of(host, Confines(8 * GIB, 6 * GIB, 4.0), (gpu,), None)
    assert (found.memory_total_bytes, found.memory_free_bytes) == (unread, unread)
    assert found.gpus == (GpuRoom("GPU-0", 0, "a card", GIB, unread),)
