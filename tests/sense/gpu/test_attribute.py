from msgspec.structs import replace

from supervisor.model.phase import GpuState
from supervisor.model.reading import Missing
from supervisor.model.snapshot import GpuProcess, GpuSample, Sighting
from supervisor.sense.gpu.attribute import with_vram

TREE = Sighting(run="chat-1", read_s=100.0, pids=(10, 11), memory_bytes=5)


def gpu(index: int, *processes: tuple[int, int], read_s: float = 90.0) -> GpuSample:
    entries = tuple(GpuProcess(pid, size) for pid, size in processes)
    return GpuSample(uuid=f"GPU-{index}", index=index, name="A", read_s=read_s, processes=entries)


def test_a_worker_holds_what_all_its_processes_hold_on_all_gpus() -> None:
    seen = with_vram(TREE, [gpu(0, (10, 100), (11, 20), (99, 7)), gpu(1, (11, 3))])
    assert seen == Sighting(
        run="chat-1",
        read_s=100.0,
        pids=(10, 11),
        memory_bytes=5,
        vram_read_s=90.0,
        vram_bytes=123,
        vram_by_gpu={"GPU-0": 120, "GPU-1": 3},
    )


def test_a_worker_that_is_on_no_gpu_holds_nothing() -> None:
    seen = with_vram(TREE, [gpu(0, (99, 100))])
    assert (seen.vram_bytes, seen.vram_by_gpu) == (0, {"GPU-0": 0})


def test_a_sum_is_as_old_as_its_oldest_list() -> None:
    assert (
        with_vram(TREE, [gpu(0, read_s=90.0), gpu(1, read_s=80.0), gpu(2, read_s=95.0)]).vram_read_s == 80.0
    )


def test_without_a_gpu_the_memory_is_missing() -> None:
    assert with_vram(TREE, []).vram_bytes == Missing("no GPU")


def test_a_list_that_is_missing_makes_the_sum_missing_and_keeps_the_parts() -> None:
    blind = replace(gpu(1), processes=Missing("GPU is lost"), state=GpuState.LOST)
    seen = with_vram(TREE, [gpu(0, (10, 100)), blind])
    assert seen.vram_bytes == Missing("GPU 1: GPU is lost")
    assert seen.vram_by_gpu == {"GPU-0": 100}


def test_a_size_that_is_missing_makes_the_sum_missing() -> None:
    entries = (GpuProcess(10, Missing("the driver does not tell its memory")), GpuProcess(11, 5))
    seen = with_vram(TREE, [replace(gpu(0), processes=entries)])
    assert seen.vram_bytes == Missing("GPU 0: pid 10: the driver does not tell its memory")
    assert seen.vram_by_gpu == {}


def test_a_strangers_missing_size_does_not_matter() -> None:
    entries = (GpuProcess(99, Missing("the driver does not tell its memory")), GpuProcess(11, 5))
    assert with_vram(TREE, [replace(gpu(0), processes=entries)]).vram_bytes == 5


def test_a_pinned_worker_is_not_blinded_by_the_fault_of_another_gpu() -> None:
    blind = replace(gpu(1, read_s=1.0), processes=Missing("GPU is lost"))
    seen = with_vram(TREE, [gpu(0, (10, 100)), blind], pinned=("GPU-0",))
    assert (seen.vram_bytes, seen.vram_read_s) == (100, 90.0)


def test_a_pinned_gpu_that_is_not_known_makes_the_memory_missing() -> None:
    seen = with_vram(TREE, [gpu(0, (10, 100))], pinned=("GPU-0", "GPU-9"))
    assert seen.vram_bytes == Missing("GPU GPU-9 is not known")
