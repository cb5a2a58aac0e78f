"""A command is rewritten so that the server reads other values, and nothing else changes."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from supervisor.llama.rewrite import rewrite
from supervisor.llama.server import read_server
from supervisor.llama.settings import Settings
from supervisor.model.plan import Setting
from supervisor.model.template import fill
from support.llama.models import llama_8b

MODEL = llama_8b()


def read(command: tuple[str, ...], settings: dict[str, Setting]) -> Settings:
    words = [fill(word, settings, None) for word in command]
    return read_server(words, {}, Path("/"), (1,)).settings


def test_a_value_is_replaced_where_it_stands_in_braces_literally_or_not_at_all() -> None:
    command = ("/opt/llama-server", "-m", "m.gguf", "-c", "{context}", "-ngl", "99", "--port", "{port}")
    settings: dict[str, Setting] = {"context": 8192, "port": 8081}
    old = read(command, settings)
    new = replace(old, ctx=4096, n_gpu_layers=20, ubatch=128)
    found = rewrite(command, settings, MODEL, old, new)
    assert found is not None
    assert found.command == (
        *("/opt/llama-server", "-m", "m.gguf", "-c", "{context}", "-ngl", "{n_gpu_layers}"),
        *("--port", "{port}", "--ubatch-size", "{ubatch}"),
    )
    assert found.settings == {"context": 4096, "port": 8081, "n_gpu_layers": 20, "ubatch": 128}
    assert found.was == {"ubatch": 512, "n_gpu_layers": 33}
    assert read(found.command, dict(found.settings)) == new


def test_of_a_flag_that_is_given_twice_the_last_is_replaced() -> None:
    command = ("llama-server", "-m", "m", "-c", "1024", "--ctx-size", "8192", "-ngl", "0")
    old = read(command, {})
    found = rewrite(command, {}, MODEL, old, replace(old, ctx=2048))
    assert found is not None
    assert found.command[3:7] == ("-c", "1024", "--ctx-size", "{ctx}")
    assert read(found.command, dict(found.settings)).ctx == 2048


def test_a_setting_of_another_meaning_keeps_its_name() -> None:
    command = ("llama-server", "-m", "m", "--alias", "{ctx}", "-c", "8192", "-ngl", "0")
    old = read(command, {"ctx": "long"})
    found = rewrite(command, {"ctx": "long"}, MODEL, old, replace(old, ctx=2048))
    assert found is not None
    assert found.settings == {"ctx": "long", "made_ctx": 2048}
    assert found.command[4:7] == ("{ctx}", "-c", "{made_ctx}")


@pytest.mark.parametrize(("field", "value"), [("ubatch", 128), ("cache_ram_bytes", 0)])
def test_a_script_is_given_no_flag_that_it_may_not_know(field: str, value: int) -> None:
    command = ("/srv/start.sh", "-m", "m", "-c", "8192", "-ngl", "0")
    old = read(command, {})
    assert rewrite(command, {}, MODEL, old, replace(old, **{field: value})) is None
    assert rewrite(command, {}, MODEL, old, replace(old, ctx=4096)) is not None


def test_a_server_behind_another_program_is_given_them() -> None:
    command = ("numactl", "--interleave=all", "llama-server", "-m", "m", "-c", "8192", "-ngl", "0")
    old = read(command, {})
    new = replace(old, cache_k="q8_0", cache_v="q8_0", cache_ram_bytes=256 << 20)
    found = rewrite(command, {}, MODEL, old, new)
    assert found is not None
    assert read(found.command, dict(found.settings)) == new
    assert found.settings == {"cache_ram": 256, "cache_type_k": "q8_0", "cache_type_v": "q8_0"}
