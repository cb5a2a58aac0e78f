from pathlib import Path
from types import SimpleNamespace

from guard.fakes import GIB, FakeTorch
from supervisor.guard.footprint import Footprint, footprint


def test_on_a_gpu_torch_tells_what_it_holds_and_held_at_most() -> None:
    torch = FakeTorch()
    torch.cuda.max_memory_allocated = dict.fromkeys([0], 7 * GIB).__getitem__
    assert footprint("cuda:0", {"torch": torch}) == Footprint(3 * GIB, 7 * GIB)


def test_a_gpu_that_torch_does_not_work_on_tells_nothing() -> None:
    assert footprint("cuda:0", {}) == Footprint(None, None)
    idle = SimpleNamespace(cuda=SimpleNamespace(is_initialized=lambda: False))
    assert footprint("cuda:0", {"torch": idle}) == Footprint(None, None)


def test_elsewhere_it_is_the_rss_and_its_peak(tmp_path: Path) -> None:
    (tmp_path / "self").mkdir()
    (tmp_path / "self/status").write_text("Name:\tx\nVmHWM:\t  2048 kB\nVmRSS:\t  1024 kB\n", "utf-8")
    assert footprint("cpu", proc=str(tmp_path)) == Footprint(1 << 20, 2 << 20)
    assert footprint("cpu", proc="/nonexistent") == Footprint(None, None)
    mine = footprint("cpu")
    assert mine.current_bytes is not None
    assert mine.peak_bytes is not None
    assert 0 < mine.current_bytes <= mine.peak_bytes
