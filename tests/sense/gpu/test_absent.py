"""Machines without a GPU: what is said, and that it costs next to nothing."""

from pathlib import Path

import pytest

from supervisor.sense.gpu.patience import Patience
from support.fakenvml.state import Call, FakeDriver
from support.gpu_fixtures import Watched, children, watch

DRIVER_NOT_LOADED = 9
NO_PERMISSION = 4
RARELY = Patience(absent_s=(3600.0,), backoff_s=(3600.0,))


def said(environment: dict[str, str]) -> str:
    """Return what the sensor says at last, having made sure that nothing is kept running for it."""
    reasons: list[str] = []

    async def absent(watched: Watched) -> None:
        await watched.until(lambda: watched.sensor.missing() is not None)
        assert watched.sensor.gpus() == ()
        await watched.until(lambda: not children())
        watched.sensor.request()
        assert not children()
        reasons.append(watched.sensor.missing() or "")

    watch(environment, absent, patience=RARELY)
    return reasons[0]


@pytest.mark.skipif(Path("/proc/driver/nvidia/version").exists(), reason="this machine has the library")
def test_a_machine_without_the_library_is_told_so() -> None:
    assert said({}) == "no NVIDIA driver: libnvidia-ml.so.1 is not installed"


def test_a_machine_whose_driver_is_not_loaded_is_told_so(driver: FakeDriver) -> None:
    driver.fail(Call.INIT, DRIVER_NOT_LOADED)
    assert said(driver.environment) == "the NVIDIA driver is not loaded"


def test_a_driver_without_a_gpu_is_told_so(driver: FakeDriver) -> None:
    driver.list_gpus(0)
    assert said(driver.environment) == "the NVIDIA driver lists no GPU"


def test_a_driver_that_does_not_open_is_told_in_its_words(driver: FakeDriver) -> None:
    driver.fail(Call.INIT, NO_PERMISSION)
    assert said(driver.environment) == "cannot open the NVIDIA driver: Insufficient Permissions"


def test_a_package_that_shadows_the_bindings_is_named(driver: FakeDriver, tmp_path: Path) -> None:
    shadow = tmp_path / "pynvml"
    shadow.mkdir()
    (shadow / "__init__.py").write_text("")
    why = said({**driver.environment, "PYTHONPATH": str(tmp_path)})
    assert why.startswith("cannot import pynvml of nvidia-ml-py: ")
    assert why.endswith("pynvml/__init__.py is not of nvidia-ml-py; uninstall the distribution pynvml")


def test_a_driver_that_is_loaded_later_is_found(driver: FakeDriver) -> None:
    driver.fail(Call.INIT, DRIVER_NOT_LOADED)

    async def late(watched: Watched) -> None:
        await watched.until(lambda: watched.sensor.missing() == "the NVIDIA driver is not loaded")
        driver.fail(Call.INIT, 0)
        await watched.until(watched.known)
        assert watched.sensor.missing() is None

    watch(driver.environment, late)


def test_a_driver_that_is_unloaded_leaves_failed_gpus_and_is_found_again(driver: FakeDriver) -> None:
    async def reloaded(watched: Watched) -> None:
        await watched.until(watched.known)
        driver.fail(Call.COUNT, DRIVER_NOT_LOADED)
        await watched.until(
            lambda: [gpu.state.value for gpu in watched.sensor.gpus()] == ["failed", "failed"]
        )
        assert watched.gpu(0).fault == "the NVIDIA driver is not loaded"
        driver.fail(Call.COUNT, 0)
        await watched.until(lambda: [gpu.state.value for gpu in watched.sensor.gpus()] == ["ok", "ok"])

    watch(driver.environment, reloaded)
