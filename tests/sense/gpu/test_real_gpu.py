"""The same sensor over the real library; run where there is a GPU with `pytest -m gpu`."""

import pytest

from supervisor.model.phase import GpuState
from supervisor.model.reading import Missing
from support.gpu_fixtures import Watched, watch


@pytest.mark.gpu
def test_a_real_gpu_is_read() -> None:
    async def real(watched: Watched) -> None:
        await watched.until(watched.known, within_s=50.0)
        await watched.fresh()
        for gpu in watched.sensor.gpus():
            print(gpu)  # noqa: T201 - the one look at the real thing
            assert gpu.state is GpuState.OK
            assert gpu.uuid.startswith("GPU-")
            assert gpu.name
            assert not isinstance(gpu.bus_id, Missing)
            assert not isinstance(gpu.throttle, Missing)
            assert not isinstance(gpu.temperature_c, Missing)
            assert 0 < gpu.temperature_c < 120
            if not gpu.unified:
                assert not isinstance(gpu.memory_total_bytes, Missing)
                assert not isinstance(gpu.memory_used_bytes, Missing)
                assert 0 <= gpu.memory_used_bytes <= gpu.memory_total_bytes

    watch({}, real, deadline_s=10.0)
