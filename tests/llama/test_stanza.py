"""The worker that is recommended is one that the configuration takes."""

from pathlib import Path

import pytest

from supervisor.config.fault import Report
from supervisor.config.load import load_text
from supervisor.config.machine import Machine
from supervisor.llama.first_start import first_start
from supervisor.llama.recommend import Wanted, choose_settings
from supervisor.llama.room import GpuRoom, Room
from supervisor.llama.stanza import first_stanza, stanza
from supervisor.model.plan import WorkerPlan
from support.llama.models import llama_8b, mixture

GIB = 1 << 30
UUID = "GPU-11111111-2222-3333-4444-555555555555"
CARD = GpuRoom(UUID, 0, "a card", 24 * GIB, 20 * GIB)
OTHER = GpuRoom("GPU-66666666-2222-3333-4444-555555555555", 1, "a card", 24 * GIB, 20 * GIB)


def worker(text: str) -> WorkerPlan:
    loaded = load_text(text, Report("stanza"), Machine())
    assert loaded.faults == ()
    assert loaded.plan is not None
    (found,) = loaded.plan.workers.values()
    return found


def test_the_settings_fill_the_command() -> None:
    choice = choose_settings(llama_8b(), Room(64 * GIB, 60 * GIB, 8.0, (CARD,)), Wanted())
    found = worker(stanza(Path("/models/Llama 3.1 8B.gguf"), choice))
    assert found.name == "llama-3-1-8b"
    assert found.preset == "llama-server"
    assert found.command[:3] == ("llama-server", "--model", "/models/Llama 3.1 8B.gguf")
    assert found.command[found.command.index("--cache-ram") + 1] == "{cache_ram_mib}"
    assert found.settings == {
        "port": 8081,
        "n_gpu_layers": 33,
        "ctx": 32768,
        "batch": 2048,
        "ubatch": 512,
        "threads": 4,
        "cache_type": "f16",
        "parallel": 1,
        "cache_ram_mib": 8192,
    }
    assert found.gpus.listed == (UUID,)
    assert found.vram_cap_bytes is not None
    assert choice.need.devices[0].total_bytes < found.vram_cap_bytes < 20 * GIB
    assert found.memory.cap_bytes is not None
    assert choice.need.host.total_bytes < found.memory.cap_bytes < 16 * GIB


def test_without_a_gpu_the_worker_sees_none() -> None:
    choice = choose_settings(llama_8b(), Room(64 * GIB, 60 * GIB, 8.0), Wanted(cache_type="q8_0"))
    found = worker(stanza(Path("/m.gguf"), choice))
    assert (found.gpus.kind, found.vram_cap_bytes) == ("none", None)
    assert found.command[-2:] == ("--flash-attn", "on")


def test_several_gpus_and_experts_are_in_the_command() -> None:
    choice = choose_settings(mixture(), Room(64 * GIB, 60 * GIB, 8.0, (CARD, OTHER)), Wanted())
    found = worker(stanza(Path("/m.gguf"), choice))
    assert found.gpus.listed == (CARD.uuid, OTHER.uuid)
    assert found.command[found.command.index("--tensor-split") + 1] == "19456,19456"
    choice = choose_settings(mixture(), Room(64 * GIB, 60 * GIB, 8.0, (CARD,)), Wanted())
    found = worker(stanza(Path("/m.gguf"), choice))
    assert found.command[found.command.index("--n-cpu-moe") + 1] == "{cpu_moe_layers}"
    assert found.settings["cpu_moe_layers"] == choice.settings.cpu_moe_layers


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/m/{odd} 'name'\".gguf", "odd-name"),
        ("/m/\u00fcber\n.gguf", "ber"),
        ("/m/---.gguf", "chat"),
        (f"/m/{'a' * 100}.gguf", "a" * 41),
    ],
)
def test_any_path_is_written_so_that_it_is_read_again(path: str, name: str) -> None:
    choice = choose_settings(llama_8b(), Room(64 * GIB, 60 * GIB, 8.0), Wanted())
    found = worker(stanza(Path(path), choice))
    assert found.name == name
    assert found.command[2] == path.replace("{", "{{").replace("}", "}}")


def test_the_worker_of_a_first_start_is_one_too() -> None:
    found = worker(first_stanza(first_start(Room(64 * GIB, 60 * GIB, 8.0, (CARD,)))))
    assert (found.settings["n_gpu_layers"], found.settings["ctx"], found.gpus.listed) == (25, 2048, (UUID,))
    assert worker(first_stanza(first_start(Room(64 * GIB, 60 * GIB, 8.0)))).gpus.kind == "none"
