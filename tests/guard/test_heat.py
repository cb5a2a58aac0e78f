import pytest

from guard.fakes import FakeNvmlError
from supervisor.guard.heat import Gauge, Heat, nvml_gauge, pause_s


@pytest.mark.parametrize(
    ("gauge", "advice", "paused_s"),
    [
        (None, (), 0.0),
        (Gauge(), (), 0.0),
        (Gauge(temperature_c=84), (), 0.0),
        (Gauge(temperature_c=85), (), 0.0),
        (Gauge(temperature_c=86), (), 1.0),
        (Gauge(temperature_c=94), (), 9.0),
        (Gauge(temperature_c=120), (), 10.0),
        (None, ("cool-down",), 1.0),
        (Gauge(temperature_c=50), ("cool-down",), 1.0),
        (Gauge(temperature_c=88), ("cool-down",), 3.0),
        (None, ("ease-off",), 2.0),
        (None, ("cool-down", "ease-off"), 2.0),
        (Gauge(power_w=664, power_limit_w=700), (), 0.0),
        (Gauge(power_w=665, power_limit_w=700), (), 2.0),
        (Gauge(power_w=700, power_limit_w=None), (), 0.0),
        (Gauge(power_w=700, power_limit_w=0), (), 0.0),
        (None, ("faster",), 0.0),
    ],
)
def test_the_pause_after_a_batch_of_eight_seconds(
    gauge: Gauge | None, advice: tuple[str, ...], paused_s: float
) -> None:
    assert pause_s(Heat(), gauge, advice, 8.0) == paused_s


class Nvml:
    """Answers as pynvml does, but for what it has no sensor for."""

    def __init__(self, temperature: int | None) -> None:
        self._temperature = temperature

    def nvmlDeviceGetTemperature(self, handle: str, sensor: int) -> int:  # noqa: N802 - its name
        assert (handle, sensor) == ("gpu 1", 0)
        if self._temperature is None:
            raise FakeNvmlError(3)
        return self._temperature

    def nvmlDeviceGetPowerUsage(self, handle: str) -> int:  # noqa: N802
        assert handle == "gpu 1"
        return 351_200

    def nvmlDeviceGetEnforcedPowerLimit(self, handle: str) -> int:  # noqa: N802
        assert handle == "gpu 1"
        return 700_000


def test_nvml_tells_degrees_and_watts_and_what_it_cannot_stays_none() -> None:
    opened: list[str] = []

    def open_nvml(device: str) -> tuple[Nvml, str]:
        opened.append(device)
        return Nvml(71), "gpu 1"

    read = nvml_gauge("cuda:1", open_nvml)
    assert opened == []
    assert [read(), read()] == [Gauge(71, 351.2, 700.0)] * 2
    assert opened == ["cuda:1"]
    assert nvml_gauge("cuda:1", lambda _device: (Nvml(None), "gpu 1"))() == Gauge(None, 351.2, 700.0)


def test_without_nvml_or_a_cuda_device_nothing_is_read() -> None:
    tried: list[str] = []

    def absent(device: str) -> tuple[Nvml, str]:
        tried.append(device)
        raise ImportError("no module named pynvml")

    read = nvml_gauge("cuda:0", absent)
    assert [read(), read(), nvml_gauge("cpu", absent)()] == [Gauge(), Gauge(), Gauge()]
    assert tried == ["cuda:0"]
