import json
import os
import subprocess
from pathlib import Path

import pytest

from supervisor.guard.leak_probe import Growth, LeakProbe, Probe

HERE = Path(__file__).parent
CHECKOUT = HERE.parents[1]


class Session:
    """What a worker forgets to let go of."""


class Entry:
    """What a cache holds."""


SESSION = f"{__name__}.Session"
ENTRY = f"{__name__}.Entry"


def named(probe: Probe) -> dict[str, tuple[int, int]]:
    own = (SESSION, ENTRY)
    return {growth.name: (growth.number, growth.grown) for growth in probe.growths if growth.name in own}


class Clock:
    """A clock that each reading moves by `step_s`."""

    def __init__(self, step_s: float) -> None:
        self.now_s = 0.0
        self.step_s = step_s

    def __call__(self) -> float:
        self.now_s += self.step_s
        return self.now_s


def test_a_class_that_leaks_is_named_with_how_many_there_are() -> None:
    probe, kept = LeakProbe(share=0), list[Session]()
    found: list[dict[str, tuple[int, int]]] = []
    for _ in range(6):
        kept += [Session() for _ in range(10)]
        found.append(named(probe.probe()))
    assert found == [{}, {}, {}, {}, {SESSION: (50, 40)}, {SESSION: (60, 40)}]


def test_a_cache_that_is_full_is_not_named() -> None:
    probe, cache = LeakProbe(share=0), list[Entry]()
    found: list[dict[str, tuple[int, int]]] = []
    for _ in range(12):
        cache = [*cache, *(Entry() for _ in range(50))][-300:]
        found.append(named(probe.probe()))
    assert found[6:] == [{}] * 6


def test_what_comes_and_goes_is_not_named() -> None:
    probe = LeakProbe(share=0)
    for count in (10, 60, 20, 90, 50, 140, 70):
        at_work = [Session() for _ in range(count)]
        assert named(probe.probe()) == {}
        del at_work


def test_a_few_more_are_not_named() -> None:
    probe, kept = LeakProbe(share=0), list[Session]()
    for _ in range(8):
        kept.append(Session())
        assert named(probe.probe()) == {}
    sensitive, more = LeakProbe(window=3, least=2, share=0), list[Session]()
    found: list[dict[str, tuple[int, int]]] = []
    for _ in range(3):
        more.append(Session())
        found.append(named(sensitive.probe()))
    assert found == [{}, {}, {SESSION: (11, 2)}]


def leave_cycles(count: int) -> None:
    for _ in range(count):
        session = Session()
        session.__dict__["self"] = session


def test_garbage_in_cycles_is_no_leak() -> None:
    probe = LeakProbe(share=0)
    for count in range(20, 200, 20):
        leave_cycles(count)
        assert named(probe.probe()) == {}


def test_the_probes_own_memory_is_no_leak() -> None:
    probe = LeakProbe(least=1, share=0)
    assert [probe.probe().growths for _ in range(12)] == [()] * 12


def test_probing_takes_a_bounded_share_of_the_time() -> None:
    clock = Clock(step_s=0.5)  # so that a probe takes 0.5 s, and may be made once in 50 s
    probe, kept = LeakProbe(window=3, share=0.01, clock=clock), list[Session]()
    found: list[int] = []
    for now_s in (0, 10, 40, 51, 102, 110):
        clock.now_s = float(now_s)
        kept += [Session() for _ in range(100)]
        found.append(probe.probe().probes)
    assert found == [1, 1, 1, 2, 3, 3]
    assert probe.probe().took_s == 0.5
    assert named(probe.probe()) == {SESSION: (500, 400)}


def test_the_result_is_told_in_words() -> None:
    growths = (Growth("app.Session", 60, 40), Growth("Tensor cpu torch.float32 (4, 4)", 5, 4, 3 << 20))
    assert Probe(growths, 5, 12000, 0.0042).in_words() == (
        "types that grew at each of 5 probes; 12000 objects looked at in 4 ms\n"
        "  app.Session: 60, +40\n"
        "  Tensor cpu torch.float32 (4, 4): 5, +4, 3.0 MiB"
    )
    assert Probe((), 5, 12000, 0.0042).in_words() == (
        "no type grew at each of 5 probes; 12000 objects looked at in 4 ms"
    )


def test_two_counts_are_no_trend() -> None:
    with pytest.raises(ValueError, match="cannot look for leaks: 2 probes are too few, 3 is the least"):
        LeakProbe(window=2)


TENSORS = """
import json, torch
from supervisor.guard.leak_probe import LeakProbe
lazy = torch.nn.LazyLinear(4)  # its weight has no shape yet
probe, losses = LeakProbe(window=3, least=2, share=0), []
for step in range(3):
    losses += [torch.zeros(64, 32) for _ in range(4)]
    found = probe.probe()
print(json.dumps([growth for growth in found.growths if growth.bytes is not None]))
"""


@pytest.mark.slow
def test_real_tensors_are_named_by_device_and_shape(torch_python: str) -> None:
    done = subprocess.run(
        [torch_python, "-c", TENSORS],
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [["Tensor cpu torch.float32 (64, 32)", 12, 8, 12 * 64 * 32 * 4]]
