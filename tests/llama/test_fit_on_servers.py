"""The reckoning against what real llama-servers print, for generated models of several shapes."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from supervisor.llama.fit import DeviceNeed, HostNeed, need
from supervisor.llama.model import read_model
from supervisor.llama.settings import Settings
from support.llama.printed import Printed, fit_params, printed, rpc_device
from support.llama.servers import LlamaServer
from support.llama.shapes import TINY, make

pytestmark = pytest.mark.slow

MIB = 1 << 20
DIGIT = 0.01  # the server prints two decimals
MORE = 1.2
PART = 1.5  # for a place with few of the layers
INPUTS_MIB = 0.07  # what a place computes in at least: small inputs, which do not count beside a real model

SETTINGS = {
    "usual": Settings(ctx=2048),
    "longer": Settings(ctx=8192, slots=1),
    "q8_0": Settings(ctx=4096, cache_k="q8_0", cache_v="q8_0"),
    "q4_0": Settings(ctx=3000, slots=2, cache_k="q4_0", cache_v="q4_0"),
    "apart": Settings(ctx=1000, slots=2, kv_unified=False, ubatch=128),
    "no-flash": Settings(ctx=3000, flash_attention=False, slots=1),
}


@pytest.fixture(scope="module")
def binary(llama_binary: LlamaServer) -> Path:
    return Path(llama_binary.command[0])


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {name: make(folder / f"{name}.gguf", tiny) for name, tiny in TINY.items()}


@pytest.fixture(scope="module")
def device(binary: Path, require: Callable[[object, str], None]) -> Iterator[str]:
    needed = ("ggml-rpc-server", "rpc/libggml-rpc.so")
    require(
        all((binary.parent / name).exists() for name in needed), f"{' and '.join(needed)} beside {binary}"
    )
    with rpc_device(binary) as address:
        yield address


def faults(need: HostNeed | DeviceNeed, real: Printed, most: float = MORE) -> list[str]:
    """List what is reckoned otherwise than it is printed; a model is several buffers, each rounded."""
    exact = {
        "model": (need.weights_bytes, real.model, 3 * DIGIT),
        "KV": (need.kv_bytes, real.kv, 2 * DIGIT),
        "RS": (need.state_bytes, real.rs, DIGIT),
    }
    found = [
        f"{name}: {size / MIB:.2f} reckoned, {shown:.2f} printed"
        for name, (size, shown, off) in exact.items()
        if abs(size / MIB - shown) > off
    ]
    compute = need.compute_bytes / MIB
    if not real.compute - DIGIT <= compute <= most * real.compute + INPUTS_MIB:
        found.append(f"compute: {compute:.2f} reckoned, {real.compute:.2f} printed")
    return found


@pytest.mark.parametrize("name", TINY)
def test_a_server_on_the_host_takes_what_is_reckoned(
    name: str, binary: Path, models: dict[str, Path]
) -> None:
    model = read_model(models[name])
    wrong = {
        key: found
        for key, settings in SETTINGS.items()
        if (found := faults(need(model, settings).host, printed(binary, models[name], settings)[0]))
    }
    assert wrong == {}


@pytest.mark.parametrize("name", TINY)
def test_a_server_with_all_layers_on_a_device_takes_what_is_reckoned(
    name: str, binary: Path, models: dict[str, Path], device: str
) -> None:
    model = read_model(models[name])
    wrong: dict[str, list[str]] = {}
    for key, settings in SETTINGS.items():
        all_layers = replace(settings, n_gpu_layers=99)
        reckoned = need(model, all_layers)
        host, on_device = printed(binary, models[name], all_layers, device)
        if found := faults(reckoned.host, host) + faults(reckoned.devices[0], on_device):
            wrong[key] = found
    assert wrong == {}


@pytest.mark.parametrize("name", TINY)
def test_layers_lie_where_they_are_reckoned_to_lie(
    name: str, binary: Path, models: dict[str, Path], device: str
) -> None:
    model = read_model(models[name])
    wrong: dict[int, list[str]] = {}
    for count in range(1, model.shape.layers + 2):
        settings = Settings(ctx=2048, n_gpu_layers=count)
        reckoned = need(model, settings)
        host, on_device = printed(binary, models[name], settings, device)
        if found := faults(reckoned.host, host, PART) + faults(reckoned.devices[0], on_device, PART):
            wrong[count] = found
    assert wrong == {}


def test_experts_lie_on_the_host_where_they_are_sent_there(
    binary: Path, models: dict[str, Path], device: str
) -> None:
    settings = Settings(ctx=2048, n_gpu_layers=99, cpu_moe_layers=2)
    reckoned = need(read_model(models["experts"]), settings)
    host, on_device = printed(binary, models["experts"], settings, device)
    assert faults(reckoned.host, host) == []
    assert faults(reckoned.devices[0], on_device) == []


@pytest.mark.parametrize("name", ["gqa", "tied-q8", "experts", "window"])
def test_the_tool_of_llama_cpp_reckons_the_same(
    name: str, binary: Path, models: dict[str, Path], require: Callable[[object, str], None]
) -> None:
    require((binary.parent / "llama-fit-params").exists(), "llama-fit-params beside llama-server")
    settings = Settings(ctx=4096, slots=1)
    reckoned = need(read_model(models[name]), settings).host
    model, context, compute = fit_params(binary, models[name], settings)
    assert reckoned.weights_bytes // MIB == pytest.approx(model, abs=1)
    assert reckoned.kv_bytes // MIB == pytest.approx(context, abs=1)
    assert compute - 1 <= reckoned.compute_bytes / MIB <= 1.2 * (compute + 1)
