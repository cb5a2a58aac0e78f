"""What the sensor reads from a driver that works, through the real pynvml and a stand-in library."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from supervisor.model.phase import GpuState
from supervisor.model.reading import Missing
from supervisor.model.snapshot import GpuProcess, GpuSample
from support.fakenvml.state import GIB, NOT_AVAILABLE, Call, FakeDriver, Kind
from support.gpu_fixtures import Watched, build_library, watch

NOT_SUPPORTED = 3
NO_PERMISSION = 4
FUNCTION_NOT_FOUND = 13
UNKNOWN = 999


def read(driver: FakeDriver) -> GpuSample:
    """Return the first GPU as read once."""
    seen: list[GpuSample] = []

    async def once(watched: Watched) -> None:
        await watched.until(watched.known)
        await watched.fresh()
        seen.append(watched.gpu())

    watch(driver.environment, once)
    return seen[0]


def test_every_reading_comes_in_the_units_of_the_house(driver: FakeDriver) -> None:
    driver.gpu(0).run((4711, 3 * GIB))
    assert replace(read(driver), read_s=0.0) == GpuSample(
        uuid="GPU-0",
        index=0,
        name="Fake GPU",
        read_s=0.0,
        state=GpuState.OK,
        fault=None,
        memory_total_bytes=85899345920,
        memory_used_bytes=17179869184,
        temperature_c=40,
        power_w=100.0,
        power_limit_w=400.0,
        utilization_percent=50,
        unified=False,
        processes=(GpuProcess(4711, 3221225472),),
        bus_id="0000:01:00",
        throttle=(),
    )


@pytest.mark.parametrize(
    ("bits", "reasons"),
    [
        (0x1, ()),  # it idles
        (0x2 | 0x10 | 0x100, ()),  # somebody has set its clocks so
        (0x4, ("sw-power-cap",)),
        (0x8 | 0x40, ("hw-slowdown", "hw-thermal")),
        (0x20 | 0x80, ("sw-thermal", "hw-power-brake")),
        (1 << 40, ()),  # of a driver to come
    ],
)
def test_why_the_clocks_are_held_down_is_read_by_its_names(
    driver: FakeDriver, bits: int, reasons: tuple[str, ...]
) -> None:
    driver.gpu(0).throttle = bits
    assert read(driver).throttle == reasons


def test_throttling_and_an_address_that_are_not_told_are_missing(driver: FakeDriver) -> None:
    driver.gpu(0).fail(Call.THROTTLE, NOT_SUPPORTED)
    driver.gpu(0).fail(Call.PCI, NO_PERMISSION)
    seen = read(driver)
    assert seen.throttle == Missing("the throttle reasons: not supported")
    assert seen.bus_id == Missing("the driver does not tell its PCI address")
    assert seen.state is GpuState.OK


def test_a_gpu_that_is_lost_keeps_its_address(driver: FakeDriver) -> None:
    async def falls(watched: Watched) -> None:
        await watched.until(watched.known)
        driver.gpu(0).fail(Call.MEMORY_V2, 15)
        await watched.until(lambda: watched.gpu().state is GpuState.LOST)
        assert watched.gpu().bus_id == "0000:01:00"
        assert isinstance(watched.gpu().throttle, Missing)

    watch(driver.environment, falls)


def test_gpu_memory_that_a_process_takes_is_seen_in_the_next_reading(driver: FakeDriver) -> None:
    async def grows(watched: Watched) -> None:
        await watched.until(watched.known)
        driver.gpu(1).run((4711, 5 * GIB))
        driver.gpu(1).temperature = 91
        await watched.fresh()
        assert watched.gpu(1).processes == (GpuProcess(4711, 5368709120),)
        assert watched.gpu(1).temperature_c == 91
        driver.gpu(1).run()
        await watched.fresh()
        assert watched.gpu(1).processes == ()

    watch(driver.environment, grows)


def test_a_request_under_way_is_not_repeated(driver: FakeDriver) -> None:
    async def impatient(watched: Watched) -> None:
        await watched.fresh()
        driver.hang(Call.COUNT, 100)
        before = driver.calls(Call.COUNT)
        for _ in range(50):
            watched.sensor.request()
        await watched.fresh()
        assert driver.calls(Call.COUNT) - before == 1

    watch(driver.environment, impatient, deadline_s=5.0)


def test_a_process_in_several_lists_counts_once_with_its_greatest_size(driver: FakeDriver) -> None:
    driver.gpu(0).run(
        (10, 1 * GIB, Kind.COMPUTE),
        (10, 2 * GIB, Kind.GRAPHICS),
        (11, GIB, Kind.GRAPHICS),
        (12, GIB, Kind.MPS),
    )
    assert read(driver).processes == (
        GpuProcess(10, 2147483648),
        GpuProcess(11, 1073741824),
        GpuProcess(12, 1073741824),
    )


def test_more_processes_than_expected_are_all_read(driver: FakeDriver) -> None:
    driver.gpu(0).run(*((pid, GIB) for pid in range(1, 301)))
    processes = read(driver).processes
    assert not isinstance(processes, Missing)
    assert [process.pid for process in processes] == list(range(1, 301))


@pytest.mark.parametrize("told", [0, NOT_AVAILABLE])
def test_a_size_that_the_driver_does_not_tell_is_missing_and_never_zero(
    driver: FakeDriver, told: int
) -> None:
    driver.gpu(0).run((10, told), (11, GIB))
    assert read(driver).processes == (
        GpuProcess(10, Missing("the driver does not tell its memory")),
        GpuProcess(11, 1073741824),
    )


@pytest.mark.parametrize("pid", [0, 2**31])
def test_an_impossible_pid_makes_the_whole_list_distrusted(driver: FakeDriver, pid: int) -> None:
    driver.gpu(0).run((10, GIB), (pid, GIB))
    why = f"the driver's process list is distrusted: it names pid {pid}"
    assert read(driver).processes == Missing(why)


def test_used_memory_that_the_driver_does_not_tell_is_missing(driver: FakeDriver) -> None:
    driver.gpu(0).used = NOT_AVAILABLE
    sample = read(driver)
    assert sample.memory_used_bytes == Missing("the driver does not tell its memory")
    assert sample.state is GpuState.OK
    assert not sample.unified


@pytest.mark.parametrize(
    ("call", "field", "what"),
    [
        (Call.POWER, "power_w", "the power"),
        (Call.POWER_LIMIT, "power_limit_w", "the power limit"),
        (Call.UTILIZATION, "utilization_percent", "the utilization"),
    ],
)
def test_what_a_gpu_does_not_support_is_missing_and_no_fault(
    driver: FakeDriver, call: Call, field: str, what: str
) -> None:
    driver.gpu(0).fail(call, NOT_SUPPORTED)
    sample = read(driver)
    assert getattr(sample, field) == Missing(f"{what}: not supported")
    assert sample.state is GpuState.OK


def test_an_unknown_error_of_the_power_alone_is_no_fault_of_the_gpu(driver: FakeDriver) -> None:
    driver.gpu(0).fail(Call.POWER, UNKNOWN)
    sample = read(driver)
    assert sample.power_w == Missing("cannot read the power: Unknown Error")
    assert sample.state is GpuState.OK


def test_the_old_temperature_call_is_used_where_the_new_one_does_not_work(driver: FakeDriver) -> None:
    driver.gpu(0).fail(Call.TEMPERATURE_V, NOT_SUPPORTED)
    assert read(driver).temperature_c == 40


def test_the_old_memory_call_is_used_where_the_new_one_does_not_work(driver: FakeDriver) -> None:
    driver.gpu(0).fail(Call.MEMORY_V2, FUNCTION_NOT_FOUND)
    assert read(driver).memory_used_bytes == 17809014784  # the driver's reserve of 600 MiB is in it


def test_a_driver_of_old_without_the_newer_symbols_is_read_all_the_same(
    tmp_path: Path, fakenvml: Path
) -> None:
    assert fakenvml.exists()  # there is a compiler
    old = FakeDriver(build_library(tmp_path, "-DOLD_DRIVER"), tmp_path / "nvml-state")
    old.gpu(0).run((10, GIB, Kind.COMPUTE), (11, GIB, Kind.GRAPHICS))
    old.gpu(0).throttle = 0x8
    sample = read(old)
    assert sample.processes == (GpuProcess(10, 1073741824), GpuProcess(11, 1073741824))
    assert sample.memory_used_bytes == 17809014784
    assert sample.temperature_c == 40
    assert sample.throttle == ("hw-slowdown",)
    assert sample.bus_id == Missing("the driver does not tell its PCI address")


@pytest.mark.parametrize("call", [Call.GRAPHICS, Call.MPS])
def test_a_kind_of_process_that_is_not_supported_has_no_processes(driver: FakeDriver, call: Call) -> None:
    driver.gpu(0).run((10, GIB))
    driver.gpu(0).fail(call, NOT_SUPPORTED)
    assert read(driver).processes == (GpuProcess(10, 1073741824),)


@pytest.mark.parametrize(
    ("call", "answer", "why"),
    [
        (Call.COMPUTE, NOT_SUPPORTED, "its compute processes: not supported"),
        (Call.COMPUTE, NO_PERMISSION, "cannot read its compute processes: Insufficient Permissions"),
        (Call.GRAPHICS, UNKNOWN, "cannot read its graphics processes: Unknown Error"),
        (Call.MPS, NO_PERMISSION, "cannot read its MPS processes: Insufficient Permissions"),
    ],
)
def test_a_process_list_with_a_hole_is_missing(driver: FakeDriver, call: Call, answer: int, why: str) -> None:
    driver.gpu(0).run((10, GIB))
    driver.gpu(0).fail(call, answer)
    sample = read(driver)
    assert sample.processes == Missing(why)
    assert sample.memory_used_bytes == 17179869184
    assert sample.state is GpuState.OK


def test_a_gpu_without_memory_of_its_own_is_unified(driver: FakeDriver) -> None:
    driver.gpu(0).fail(Call.MEMORY, NOT_SUPPORTED)
    driver.gpu(0).fail(Call.MEMORY_V2, NOT_SUPPORTED)
    driver.gpu(0).run((10, GIB))
    sample = read(driver)
    assert sample.unified
    assert sample.state is GpuState.OK
    assert sample.memory_total_bytes == Missing("it shares the machine's RAM")
    assert sample.memory_used_bytes == Missing("it shares the machine's RAM")
    assert sample.processes == (GpuProcess(10, 1073741824),)


def test_a_gpu_whose_memory_may_not_be_read_is_not_taken_for_unified(driver: FakeDriver) -> None:
    driver.gpu(0).fail(Call.MEMORY_V2, NO_PERMISSION)  # the parent of MIG instances, for instance
    sample = read(driver)
    assert not sample.unified
    assert sample.memory_used_bytes == Missing("cannot read its memory: Insufficient Permissions")


def test_a_gpu_that_reports_no_memory_is_unified(driver: FakeDriver) -> None:
    driver.gpu(0).total = driver.gpu(0).used = 0
    assert read(driver).unified


def test_a_gpu_that_reports_the_memory_of_the_machine_is_unified(driver: FakeDriver) -> None:
    kib = next(
        line.split()[1] for line in Path("/proc/meminfo").read_text().splitlines() if "MemTotal" in line
    )
    driver.gpu(0).total = int(kib) * 1024
    sample = read(driver)
    assert sample.unified
    assert sample.memory_total_bytes == Missing("it shares the machine's RAM")
