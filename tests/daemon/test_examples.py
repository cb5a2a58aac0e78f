"""The programs of etc/examples as workers of the real daemon, which run out of real memory and lose nothing.

Their memory is made short by a limit on their address space, so that torch, NumPy and Python are refused it.
"""

import http.client
import json
import os
import resource
import socket
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from supervisor.config import load
from support.daemon import Daemon, Document

CHECKOUT: Final = Path(__file__).resolve().parents[2]
EXAMPLES: Final = CHECKOUT / "etc" / "examples"
MIB: Final = 1 << 20
# One thread, and no 128 MiB of addresses for each thread that allocates: the limit shall mean memory.
ENVIRONMENT: Final = {"PYTHONPATH": str(CHECKOUT), "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}
HEAD: Final = {
    "poll_interval": "200ms",
    "launcher": "direct",
    "host": {"warn_available": "64M", "critical_available": "32M"},
    "defaults": {"gpus": "none", "restart": {"first": "100ms"}},
}
HEARTBEAT_S: Final = 5


def started(
    daemon: Daemon, name: str, command: Sequence[str], *, paths: Sequence[Path] = (), cap: str = "4G"
) -> None:
    """Start one of the workers of workers.yaml, as written there but for its command, heartbeat and cap."""
    shown: dict[str, Any] = yaml.safe_load((EXAMPLES / "workers.yaml").read_text())["workers"][name]
    shown |= {
        "command": list(command),
        "environment": {**ENVIRONMENT, "PYTHONPATH": os.pathsep.join(map(str, (CHECKOUT, *paths)))},
        "memory": {"cap": cap},
        "heartbeat": f"{HEARTBEAT_S}s",
    }
    daemon.configure(json.dumps({**HEAD, "workers": {name: shown}}))
    daemon.start()


def limited(command: Sequence[str], room_bytes: int) -> list[str]:
    """Return what runs a Python program with so much more room than it takes for a small task.

    `command` is run once for that, as it is.
    """
    program = "import runpy, sys; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    told = "; print(open('/proc/self/status').read().partition('VmPeak:')[2].split()[0])"
    done = subprocess.run(
        [command[0], "-c", program + told, *command[1:]],
        env={**os.environ, **ENVIRONMENT},
        capture_output=True,
        text=True,
        timeout=40,
        check=True,
    )
    return ["prlimit", f"--as={(int(done.stdout.split()[-1]) << 10) + room_bytes}"]


def goes_on(daemon: Daemon, worker: str) -> Document:
    """Wait until the daemon knows of the out-of-memory, and has heard it for longer than its heartbeat."""
    one = daemon.until_worker(
        worker,
        lambda one: (
            bool(one["reported"] and one["reported"]["memory"]["oom_events"])
            and one["age_s"] > HEARTBEAT_S + 1
        ),
        "its out-of-memory is known, and it lives on",
        40.0,
    )
    daemon.until(
        lambda: "    out of memory " in daemon.run("history", worker).stdout,
        "the history has it",
    )
    assert (one["phase"], one["restarts"]) == ("ready", 0)
    return one


def stopped(daemon: Daemon, worker: str) -> None:
    """Stop it, and see that its guard drained it and that it ended by itself."""
    done = daemon.run("stop", worker)
    assert done.returncode == 0, done.stderr
    assert daemon.worker(worker)["phase"] == "stopped"
    told = [line for line in daemon.events() if line.get("worker") == worker]
    events = [line["event"] for line in told]
    assert "worker draining" in events, told
    assert "worker killing" not in events
    [exited] = [line for line in told if line["event"] == "worker exited"]
    assert "status 0" in exited["reason"]


def results_of(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_the_configuration_of_the_examples_is_good() -> None:
    loaded = load(EXAMPLES / "workers.yaml")
    assert (loaded.faults, loaded.later) == ((), ())
    assert loaded.plan is not None
    assert sorted(loaded.plan.workers) == ["batch-job", "optuna-study", "torch-server"]


@pytest.mark.slow
def test_a_torch_server_out_of_memory_answers_every_request(daemon: Daemon, torch_python: str) -> None:
    port = free_port()
    command = [torch_python, str(EXAMPLES / "torch_server.py"), "--port", str(port)]
    started(daemon, "torch-server", command)
    first = daemon.until_phase("torch-server", "ready", within_s=40.0)

    def asked(pixels: object) -> tuple[int, Any]:
        return classified(port, pixels)

    pictures: list[object] = [[[0.0, 1 / (at + 1)], [0.5, 1.0]] for at in range(24)]
    with ThreadPoolExecutor(12) as clients:
        assert {code for code, _ in clients.map(asked, pictures[:12])} == {200}
        # At full size 12 pictures take some 600 MiB.
        short = address_space(first["pid"]) + 400 * MIB
        resource.prlimit(first["pid"], resource.RLIMIT_AS, (short, resource.RLIM_INFINITY))
        answers = list(clients.map(asked, [*pictures, "no picture"]))
    assert [code for code, _ in answers] == [*[200] * 24, 500]
    assert all(set(answer) == {"class", "score"} for _, answer in answers[:24])
    one = goes_on(daemon, "torch-server")
    assert one["run"] == first["run"]
    assert one["reported"]["memory"]["recoveries"] >= 1
    daemon.until_worker(
        "torch-server", lambda one: one["reported"]["batches"]["success_rate"] < 1, "the failed one is told"
    )


@pytest.mark.slow
def test_a_torch_server_that_is_stopped_answers_what_it_has_accepted(
    daemon: Daemon, torch_python: str
) -> None:
    port = free_port()
    started(daemon, "torch-server", [torch_python, str(EXAMPLES / "torch_server.py"), "--port", str(port)])
    daemon.until_phase("torch-server", "ready", within_s=40.0)

    def asked(_number: int) -> int:
        try:
            return classified(port, [[0.0, 1.0]])[0]
        except ConnectionRefusedError:
            return 0  # after its end

    with ThreadPoolExecutor(24) as clients:
        asking = [clients.submit(asked, number) for number in range(48)]
        wait(asking, return_when=FIRST_COMPLETED)
        stopped(daemon, "torch-server")
        codes = [each.result() for each in asking]
    assert codes[0] == 200
    assert set(codes) <= {200, 503, 0}
    assert asked(0) == 0


@pytest.mark.slow
def test_a_batch_job_out_of_memory_has_a_result_for_each_item(daemon: Daemon, tmp_path: Path) -> None:
    texts, results = tmp_path / "texts.txt", tmp_path / "results.jsonl"
    texts.write_text("abab\n")
    command = [sys.executable, str(EXAMPLES / "batch_job.py"), str(texts)]
    wrapper = limited([*command, str(tmp_path / "first.jsonl")], 40 * MIB)
    texts.write_text("".join(f"{'ab' * (at + 1)}\n" for at in range(600)))
    # 256 tables are 64 MiB, more than the room of 40; 32 are 8.
    started(daemon, "batch-job", [*wrapper, *command, str(results)])
    one = goes_on(daemon, "batch-job")
    # n times "ab": of 2n-1 pairs n are "ab" and n-1 are "ba", which comes to 1 bit as n grows.
    found = [line["result"] for line in results_of(results)]
    assert len(found) == 600
    assert found[:3] == [0, 0.9183, 0.971]
    assert found[599] == 1.0
    assert one["reported"]["progress"]["state"] == "completed"
    assert (one["reported"]["progress"]["done"], one["reported"]["progress"]["total"]) == (600, 600)
    assert one["reported"]["batches"]["success_rate"] == 1
    stopped(daemon, "batch-job")


@pytest.mark.slow
def test_a_batch_job_on_torch_out_of_memory_has_the_same_results(
    daemon: Daemon, torch_python: str, tmp_path: Path
) -> None:
    texts, results = tmp_path / "texts.txt", tmp_path / "results.jsonl"
    texts.write_text("abab\n")
    command = [torch_python, str(EXAMPLES / "batch_job.py"), str(texts)]
    wrapper = limited([*command, str(tmp_path / "first.jsonl")], 100 * MIB)
    texts.write_text("".join(f"{'ab' * (at + 1)}\n" for at in range(600)))
    # 256 tables are 64 MiB, and what is made of them three times as much; 32 are 8.
    started(daemon, "batch-job", [*wrapper, *command, str(results)])
    goes_on(daemon, "batch-job")
    found = [line["result"] for line in results_of(results)]
    assert len(found) == 600
    assert found[:3] == [0, 0.9183, 0.971]
    stopped(daemon, "batch-job")


@pytest.mark.slow
def test_a_batch_job_whose_gpu_context_is_lost_goes_on_in_its_next_life(
    daemon: Daemon, tmp_path: Path
) -> None:
    texts, results = tmp_path / "texts.txt", tmp_path / "results.jsonl"
    texts.write_text("".join(f"{at}\n" for at in range(100)))
    (tmp_path / "mine.py").write_text(
        textwrap.dedent("""
        from pathlib import Path

        LOST = Path(__file__).with_name("lost")

        def twice(texts):
            if "50" in texts and not LOST.exists():
                LOST.touch()
                raise RuntimeError("CUDA error: an illegal memory access was encountered")
            return [2 * int(text) for text in texts]
        """)
    )
    command = [sys.executable, str(EXAMPLES / "batch_job.py"), str(texts), str(results)]
    started(daemon, "batch-job", [*command, "--batch", "8", "--function", "mine:twice"], paths=[tmp_path])
    one = daemon.until_worker(
        "batch-job", lambda one: one["restarts"] == 1 and one["phase"] == "ready", "it was restarted"
    )
    assert one["last_restart"]["cause"] == "gpu-fault"
    assert "an illegal memory access" in one["last_restart"]["reason"]
    daemon.until(lambda: len(results_of(results)) == 100, "the job is done")
    assert results_of(results) == [{"result": 2 * at} for at in range(100)]


def enqueued(python: str, database: Path, widths: Sequence[int]) -> None:
    """Make a study whose next trials have these widths."""
    by_optuna(
        python,
        f"study = optuna.create_study(study_name='width', storage={f'sqlite:///{database}'!r})\n"
        f"for width in {list(widths)}: study.enqueue_trial({{'width': width, 'ridge': 1.0}})",
    )


def trials_of(python: str, database: Path) -> list[Document]:
    """Return the states and the attributes of the trials that are stored."""
    told = by_optuna(
        python,
        f"study = optuna.load_study(study_name='width', storage={f'sqlite:///{database}'!r})\n"
        "import json\n"
        "print(json.dumps([{'state': each.state.name, **each.user_attrs} for each in study.trials]))",
    )
    found: list[Document] = json.loads(told)
    return found


def state_of(one: Document) -> str | None:
    """Return the state of the job that a worker reports."""
    if one["reported"] is None or one["reported"]["progress"] is None:
        return None
    state: str = one["reported"]["progress"]["state"]
    return state


def by_optuna(python: str, program: str) -> str:
    done = subprocess.run(
        [python, "-c", f"import optuna\n{program}"], capture_output=True, text=True, timeout=40, check=True
    )
    return done.stdout


@pytest.mark.slow
def test_a_study_out_of_memory_fits_the_trial_with_less(
    daemon: Daemon, optuna_python: str, tmp_path: Path
) -> None:
    database = tmp_path / "study.db"
    command = [optuna_python, str(EXAMPLES / "optuna_study.py")]
    brakeless = ["--safe-gb", "0", "--warning-gb", "0"]
    small = tmp_path / "small.db"
    enqueued(optuna_python, small, [64])
    wrapper = limited([*command, str(small), "--trials", "1", "--rows", "1000", *brakeless], 280 * MIB)
    enqueued(optuna_python, database, [2048, 64])
    # 20000 rows of 2048 features are 312 MiB. Not kept, they are 16 MiB for a block, and some matrices of 32.
    started(daemon, "optuna-study", [*wrapper, *command, str(database), "--trials", "2", *brakeless])
    goes_on(daemon, "optuna-study")
    one = daemon.until_worker("optuna-study", lambda one: state_of(one) == "completed", "it is done", 30.0)
    assert one["reported"]["memory"]["recoveries"] == 1
    assert trials_of(optuna_python, database) == [{"state": "COMPLETE"}, {"state": "COMPLETE"}]
    stopped(daemon, "optuna-study")


@pytest.mark.slow
def test_a_study_prunes_the_trial_that_would_reach_the_cap_of_its_worker(
    daemon: Daemon, optuna_python: str, tmp_path: Path
) -> None:
    database = tmp_path / "study.db"
    enqueued(optuna_python, database, [64, 2048, 128])
    command = [optuna_python, str(EXAMPLES / "optuna_study.py"), str(database), "--trials", "3"]
    # It begins with some 60 MiB, and 128 features are 20 more; 2048 would be 312 more.
    started(daemon, "optuna-study", [*command, "--safe-gb", "0.25", "--warning-gb", "0.3"], cap="512M")
    daemon.until_worker(
        "optuna-study",
        lambda one: state_of(one) == "completed",
        "the study is done",
        40.0,
    )
    assert daemon.worker("optuna-study")["restarts"] == 0
    first, pruned, last = trials_of(optuna_python, database)
    assert (first, last) == ({"state": "COMPLETE"}, {"state": "COMPLETE"})
    assert pruned["state"] == "PRUNED"
    assert pruned["emergency_killed"] is True
    assert "GPU_SUPERVISOR_MEMORY_CAP, below 0.25 GiB, at width 2048, row" in pruned["kill_reason"]
    assert 0.1 < pruned["available_gb_at_kill"] < 0.25


def classified(port: int, pixels: object) -> tuple[int, Any]:
    """Ask the torch server; return the code and the answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=40)
    try:
        connection.request("POST", "/classify", json.dumps({"pixels": pixels}))
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


def address_space(pid: int) -> int:
    """Return how many bytes of addresses a process has."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return int(status.partition("VmSize:")[2].split()[0]) << 10
