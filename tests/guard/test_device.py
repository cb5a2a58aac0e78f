from pathlib import Path
from typing import Any, NoReturn

import pytest

from guard.fakes import GIB, FakeNvml, FakeTorch
from supervisor.guard.device import (
    DeviceMemory,
    Surroundings,
    Unreadable,
    clear_cache,
    cuda_available,
    device_reader,
    read_host,
)

MEMINFO = "MemTotal:       16777216 kB\nMemFree:         1048576 kB\nMemAvailable:    4194304 kB\n"
HOST = DeviceMemory(16 * GIB, 4 * GIB)
TWO_GPUS = {"GPU-a": 8 * GIB, "GPU-b": 20 * GIB}


@pytest.fixture
def proc(tmp_path: Path) -> str:
    (tmp_path / "meminfo").write_text(MEMINFO)
    return str(tmp_path)


def read(device: str, proc: str, visible: str | None = None, **modules: object) -> DeviceMemory | Unreadable:
    environment = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    return device_reader(device, Surroundings(modules, environment, proc))()


def test_the_host_is_read_by_what_is_available_not_by_what_is_free(proc: str) -> None:
    assert read("cpu", proc) == HOST
    assert HOST.usage == 0.75


def test_this_machine_can_be_read() -> None:
    reading = read_host()
    assert isinstance(reading, DeviceMemory)
    assert 0 < reading.free_bytes <= reading.total_bytes


def test_a_host_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    assert read_host(str(tmp_path)) == Unreadable(
        f"cannot read {tmp_path}/meminfo: No such file or directory"
    )
    (tmp_path / "meminfo").write_text("MemTotal: 5 kB\n")
    assert read_host(str(tmp_path)) == Unreadable(
        f"cannot read {tmp_path}/meminfo: it has no MemTotal or MemAvailable"
    )


def test_a_gpu_is_read_through_torch_where_it_is_at_work(proc: str) -> None:
    nvml = FakeNvml(TWO_GPUS)
    assert read("cuda:0", proc, torch=FakeTorch(60), pynvml=nvml) == DeviceMemory(
        80 * GIB, 20 * GIB, 3 * GIB, 4 * GIB
    )
    assert nvml.begun == 0


def test_torch_that_has_not_begun_is_left_alone_and_nvml_tells(proc: str) -> None:
    torch = FakeTorch(60, initialized=False)
    assert read("cuda", proc, torch=torch, pynvml=FakeNvml(TWO_GPUS)) == DeviceMemory(80 * GIB, 72 * GIB)


def test_an_integrated_gpu_is_read_as_the_host_with_torchs_own_figures(proc: str) -> None:
    assert read("cuda:0", proc, torch=FakeTorch(60, integrated=1)) == DeviceMemory(
        16 * GIB, 4 * GIB, 3 * GIB, 4 * GIB
    )


@pytest.mark.parametrize("nvml", [FakeNvml(TWO_GPUS, error=3), FakeNvml(TWO_GPUS, total=0)])
def test_where_nvml_knows_no_memory_of_the_gpu_it_is_the_hosts(nvml: FakeNvml, proc: str) -> None:
    assert read("cuda:0", proc, pynvml=nvml) == HOST


@pytest.mark.parametrize(
    ("device", "visible", "used"),
    [
        ("cuda:1", None, 20),
        ("cuda:0", "1,0", 20),
        ("cuda:1", "1, 0", 8),
        ("cuda:0", "GPU-b", 20),
    ],
)
def test_nvml_is_asked_for_the_gpu_that_cuda_means(
    device: str, visible: str | None, used: int, proc: str
) -> None:
    reading = read(device, proc, visible, pynvml=FakeNvml(TWO_GPUS))
    assert reading == DeviceMemory(80 * GIB, (80 - used) * GIB)


@pytest.mark.parametrize("visible", ["", "GPU-a"])
def test_a_gpu_that_is_hidden_from_the_process_is_not_read(visible: str, proc: str) -> None:
    reading = read("cuda:1", proc, visible, pynvml=FakeNvml(TWO_GPUS))
    assert reading == Unreadable(
        f"cannot read cuda:1 by NVML: CUDA_VISIBLE_DEVICES={visible} has no device 1"
    )


def test_a_failure_of_the_driver_is_no_reading(proc: str) -> None:
    assert read("cuda:0", proc, pynvml=FakeNvml(TWO_GPUS, error=15)) == Unreadable(
        "cannot read cuda:0 by NVML: NVML error 15"
    )
    torch = FakeTorch()
    torch.fault = "CUDA error: unspecified launch failure\nCompile with ..."
    assert read("cuda:0", proc, torch=torch) == Unreadable(
        "cannot read cuda:0: CUDA error: unspecified launch failure"
    )


def test_a_gpu_that_there_is_not_is_no_reading(proc: str) -> None:
    torch = FakeTorch()

    def get_device_properties(_index: int) -> NoReturn:
        raise AssertionError("Invalid device id")

    torch.cuda.get_device_properties = get_device_properties
    assert read("cuda:7", proc, torch=torch) == Unreadable("cannot read cuda:7: Invalid device id")


def test_nvml_is_begun_once_for_many_readings(proc: str) -> None:
    nvml = FakeNvml(TWO_GPUS)
    reader = device_reader("cuda:0", Surroundings({"pynvml": nvml}, {}, proc))
    for _ in range(3):
        reader()
    assert nvml.begun == 1


def test_mps_is_read_against_what_metal_recommends(proc: str) -> None:
    assert read("mps", proc, torch=FakeTorch()) == DeviceMemory(16 * GIB, 12 * GIB, 3 * GIB, 4 * GIB)
    assert read("mps", proc) == Unreadable("cannot read mps: torch is not loaded")


@pytest.mark.parametrize("device", ["gpu", "cuda:x", "cuda:-1", ""])
def test_a_device_of_another_kind_is_refused(device: str) -> None:
    with pytest.raises(ValueError, match=r"cannot watch '.*': write cuda, cuda:1, mps or cpu"):
        device_reader(device)


@pytest.mark.parametrize(
    ("device", "torch", "done"),
    [
        ("cuda:1", FakeTorch(), ["synchronize 1", "empty_cache"]),
        ("cuda:1", FakeTorch(initialized=False), []),
        ("mps", FakeTorch(), ["synchronize", "empty_cache"]),
        ("cpu", FakeTorch(), []),
    ],
)
def test_the_cache_is_emptied_after_the_device_has_finished(
    device: str, torch: FakeTorch, done: list[str]
) -> None:
    clear_cache(device, {"torch": torch})
    assert torch.done == done


def test_clearing_is_harmless_without_torch() -> None:
    modules: dict[str, Any] = {}
    clear_cache("cuda:0", modules)
    assert not cuda_available(modules)
    assert cuda_available({"torch": FakeTorch()})
