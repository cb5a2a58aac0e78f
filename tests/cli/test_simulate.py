import json
from pathlib import Path

import pytest

from support.command_line import Ran, gpu_supervisor

CONFIG = "workers: {chat: {command: sleep 5, memory: {cap: 1G}}}\n"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG)
    return path


def ran(config: Path, trace: str, *flags: str) -> Ran:
    path = config.parent / "trace.csv"
    path.write_text(trace)
    return gpu_supervisor("simulate", "--trace", str(path), "--config", str(config), *flags)


def rising() -> str:
    rows = [f"{at},chat,{(100 + at // 2) << 20}" for at in range(0, 2000, 10)]
    return "\n".join(["time_s,worker,memory_bytes", *rows, ""])


def test_what_would_have_been_is_printed_with_its_cause_and_its_time(config: Path) -> None:
    done = ran(config, rising())
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert any(
        line.startswith("  31m10s  chat  restarted, memory-cap: memory 1.01GiB is above") for line in lines
    )
    assert lines[-2:] == [
        "chat: 1 restarts (1 memory-cap), peak 1.01G (1.07G in the trace)",
        "200 looks over 33m10s",
    ]


def test_json_is_one_document(config: Path) -> None:
    done = ran(config, rising(), "--json")
    document = json.loads(done.out)
    assert set(document) == {"from_s", "to_s", "looks", "restarts", "notices", "workers"}
    assert [one["cause"] for one in document["restarts"]] == ["memory-cap"]


def test_a_bad_trace_is_one_line_with_its_place(config: Path) -> None:
    done = ran(config, "time_s,worker,memory_bytes\n0,chat,much\n")
    assert (done.code, done.out) == (1, "")
    why = "line 2: memory_bytes must be a whole number of bytes, not 'much'"
    assert done.err == f"gpu-supervisor: cannot read {config.parent}/trace.csv: {why}\n"


def test_a_worker_that_is_not_configured_is_said_so(config: Path) -> None:
    done = ran(config, "time_s,worker,memory_bytes\n0,chta,5\n")
    assert done.code == 1
    assert done.err.endswith("trace.csv: the configuration has no worker chta\n")


def test_a_trace_that_is_not_there_is_said_so(config: Path) -> None:
    done = gpu_supervisor("simulate", "--trace", "/nonexistent.csv", "--config", str(config))
    assert (done.code, done.err) == (
        1,
        "gpu-supervisor: cannot read /nonexistent.csv: No such file or directory\n",
    )


def test_a_bad_configuration_is_78(config: Path) -> None:
    config.write_text("workers: {chat: {}}\n")
    done = ran(config, rising())
    assert done.code == 78
    assert "workers.chat.command: is missing" in done.err
