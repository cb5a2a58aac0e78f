"""A real llama-server on a real systemd: as a user of its own, in a cgroup with its limits."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from support.llama.servers import LlamaServer, make_model
from support.vm.hungry import CGROUPS, CONFIG, lives_on, told_by_the_daemon
from support.vm.machine import Machine

pytestmark = pytest.mark.slow

MIB: Final = 1 << 20
PORT: Final = 8091
CGROUP: Final = f"{CGROUPS}/gpu-worker-chat.service"
# 15 MB of weights, which the server maps.
SHAPE: Final = ("--dtype", "f32", "--embd", "384", "--heads", "6", "--ff", "1024")
ASK: Final = f"""
import json, sys, urllib.request
body = json.dumps({{"prompt": "hello there", "n_predict": 4, "ignore_eos": True}}).encode()
with urllib.request.urlopen("http://127.0.0.1:{PORT}/completion", body, timeout=60) as answer:
    print(json.load(answer)["tokens_predicted"])
"""


def _for_other_processors(_directory: str, names: list[str]) -> set[str]:
    """Return what an emulated machine does not need: a third of all."""
    wanted = {"libggml-cpu-haswell.so", "libggml-cpu-sse42.so", "libggml-cpu-x64.so"}
    return {name for name in names if name.startswith("libggml-cpu-")} - wanted


@pytest.fixture
def command(
    installed: Machine, llama_binary: LlamaServer, tmp_path: Path, require: Callable[[object, str], None]
) -> list[str]:
    """Return the command of a llama-server that is in the machine, with a model of its own."""
    tree = Path(llama_binary.command[0]).resolve().parent
    loader = next((path.name for path in tree.glob("ld-linux-*")), None)
    require(loader, f"a llama-server that brings its libraries along; {tree} has no loader")
    parts = shutil.copytree(tree, tmp_path / "tree", symlinks=True, ignore=_for_other_processors)
    installed.put_tree(parts, "/srv/llama")
    installed.put("/srv/model.gguf", make_model(tmp_path / "model.gguf", *SHAPE).read_bytes())
    _, *flags = llama_binary.serving(Path("/srv/model.gguf"), PORT)
    return [f"/srv/llama/{loader}", "--library-path", "/srv/llama", "/srv/llama/llama-server", *flags]


def completed_tokens(machine: Machine) -> int:
    return int(machine.ok(["/usr/bin/python3", "-c", ASK], timeout_s=120))


def test_a_llama_server_runs_as_its_user_within_its_caps_and_is_restarted_gracefully(
    installed: Machine, command: list[str]
) -> None:
    installed.ok("id inference || useradd --system --shell /usr/sbin/nologin inference")
    # Its mapped files would take it over this cap, were they counted.
    config = {
        "poll_interval": "1s",
        "host": {"warn_available": "64M", "critical_available": "32M"},
        "workers": {
            "chat": {
                "preset": "llama-server",
                "command": command,
                "user": "inference",
                "memory": {"cap": "32M", "high": "300M", "max": "400M"},
                "breach": {"warm_up": "0s"},
            }
        },
    }
    installed.put(CONFIG, json.dumps(config))
    installed.ok("sync; echo 3 >/proc/sys/vm/drop_caches")  # who reads a file is who is charged with it
    installed.ok("systemctl start gpu-supervisor", timeout_s=120)
    before = installed.until_phase("chat", "ready")
    assert installed.ok(f"ps -o user= -p {before['pid']}") == "inference\n"
    assert installed.ok(f"cat {CGROUP}/memory.high {CGROUP}/memory.max") == f"{300 * MIB}\n{400 * MIB}\n"

    assert completed_tokens(installed) == 4
    seen: dict[str, Any] = installed.worker("chat")
    assert 2 * MIB < seen["memory_bytes"] < 32 * MIB
    assert seen["memory_file_bytes"] > 32 * MIB
    lives_on(installed, "chat", before)

    installed.ok("gpu-supervisor restart chat", timeout_s=120)
    after = installed.until_phase("chat", "ready")
    assert after["pid"] != before["pid"]
    assert (after["restarts"], after["last_restart"]["cause"]) == (1, "operator")
    told = told_by_the_daemon(installed, "chat", "operator")
    assert told["worker exited"]["REASON"] == "exited with status 0"
    assert "worker killing" not in told
    assert completed_tokens(installed) == 4
