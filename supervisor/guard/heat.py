"""How hot a GPU is and how near its power limit, and how long a worker pauses for it between batches."""

from collections.abc import Callable, Collection
from typing import Any, Final, NamedTuple

from supervisor.guard.device import nvml_device

COOL_DOWN: Final = "cool-down"
EASE_OFF: Final = "ease-off"


class Gauge(NamedTuple):
    """A GPU's temperature, power and power limit; None where it does not tell."""

    temperature_c: float | None = None
    power_w: float | None = None
    power_limit_w: float | None = None


class Heat(NamedTuple):
    """When to pause between batches, and for how long."""

    hot_c: float = 85.0
    seconds_per_degree: float = 1.0
    longest_s: float = 10.0
    """A pause ends here, and the next batch begins, however hot it is: the GPU throttles itself."""
    near_limit: float = 0.95
    """From this share of the power limit on it eases off. GPUs of data centres may run at their limit for
    days: a number above 1 leaves that to the supervisor's word."""
    ease: float = 0.25
    """The pause of easing off, as a share of the time that the last batch took."""


def pause_s(heat: Heat, gauge: Gauge | None, advice: Collection[str], took_s: float) -> float:
    """Return how long to pause after a batch that took `took_s`; the longer of both reasons.

    The supervisor's word "cool-down" counts as one degree too many, where no more is known.
    """
    gauge = gauge or Gauge()
    degrees = 0.0 if gauge.temperature_c is None else gauge.temperature_c - heat.hot_c
    if COOL_DOWN in advice:
        degrees = max(degrees, 1.0)
    near = bool(
        gauge.power_w is not None
        and gauge.power_limit_w
        and gauge.power_w >= heat.near_limit * gauge.power_limit_w
    )
    eased_s = heat.ease * took_s if near or EASE_OFF in advice else 0.0
    return min(heat.longest_s, max(0.0, degrees * heat.seconds_per_degree, eased_s))


def nvml_gauge(device: str, open_nvml: Callable[[str], tuple[Any, Any]] = nvml_device) -> Callable[[], Gauge]:
    """Return what reads `device` by NVML in this process; what cannot be read stays None, and is not told.

    Without NVML, or for a device that is no CUDA one, it never reads anything.
    """
    opened: list[tuple[Any, Any] | None] = [] if device.partition(":")[0] == "cuda" else [None]

    def read() -> Gauge:
        if not opened:
            opened.append(_answer(lambda: open_nvml(device)))
        if opened[0] is None:
            return Gauge()
        pynvml, handle = opened[0]
        power_mw = _answer(lambda: pynvml.nvmlDeviceGetPowerUsage(handle))
        limit_mw = _answer(lambda: pynvml.nvmlDeviceGetEnforcedPowerLimit(handle))
        return Gauge(
            _answer(lambda: float(pynvml.nvmlDeviceGetTemperature(handle, 0))),  # NVML_TEMPERATURE_GPU
            None if power_mw is None else power_mw / 1000,
            None if limit_mw is None else limit_mw / 1000,
        )

    return read


def _answer(ask: Callable[[], Any]) -> Any | None:  # noqa: ANN401 - NVML has no types here
    try:
        return ask()
    except Exception:  # noqa: BLE001 - NVMLError is a type of a module that may not be there
        return None
