import os
import select
import sys
from pathlib import Path

import pytest
from msgspec.structs import replace

from supervisor.model.reading import Missing
from supervisor.model.snapshot import HostSample
from supervisor.sense.host import HostSensor, PressureTrigger, glance_interval_s, open_trigger
from support.procs import PROC, nursery, open_files

GIB = 1 << 30
MEMINFO = """MemTotal:       1000 kB
MemFree:         100 kB
MemAvailable:    500 kB
Buffers:          10 kB
Cached:          300 kB
SwapCached:       77 kB
Shmem:            30 kB
ShmemHugePages:    5 kB
SwapTotal:        40 kB
SwapFree:          0 kB
"""
PRESSURE = """some avg10=9.50 avg60=1.00 avg300=0.00 total=1
full avg10=7.25 avg60=0.50 avg300=0.00 total=1
"""
VMSTAT = (
    "nr_free_pages 9\npgscan_kswapd 5\npgscan_direct 6\npgscan_khugepaged 7\npgscan_direct_throttle 1000\n"
)


def host(tmp_path: Path) -> Path:
    (tmp_path / "pressure").mkdir()
    (tmp_path / "meminfo").write_text(MEMINFO)
    (tmp_path / "pressure/memory").write_text(PRESSURE)
    (tmp_path / "vmstat").write_text(VMSTAT)
    return tmp_path


def test_every_figure_is_read_by_its_whole_name(tmp_path: Path) -> None:
    assert HostSensor(host(tmp_path)).read(3.0) == HostSample(
        read_s=3.0,
        memory_total_bytes=1000 * 1024,
        memory_available_bytes=500 * 1024,
        memory_free_bytes=100 * 1024,
        memory_cache_bytes=280 * 1024,
        swap_total_bytes=40 * 1024,
        swap_free_bytes=0,
        psi_full_avg10=7.25,
        pages_scanned=18,
    )


ZONEINFO = """Node 0, zone      DMA
  pages free     2816
        boost    0
    nr_free_pages 2816
  pagesets
    cpu: 0
              count:    2
              high:     14
              batch:    1
  vm stats threshold: 4
Node 0, zone   Normal
  pages free     44
        protection: (0, 0, 0, 0, 0)
  pagesets
    cpu: 0
              count:    234155
              high:     241632
    cpu: 1
              count:    43
"""


def test_what_is_free_on_the_lists_of_the_cpus_is_read_on_a_closer_look_only(tmp_path: Path) -> None:
    (host(tmp_path) / "zoneinfo").write_text(ZONEINFO)
    sensor = HostSensor(tmp_path)
    sample = sensor.read(3.0)
    assert sample.memory_per_cpu_bytes == Missing("not read yet")
    page_bytes = os.sysconf("SC_PAGE_SIZE")
    closer = sensor.closer(sample)
    assert closer == replace(sample, memory_per_cpu_bytes=234200 * page_bytes)
    (tmp_path / "zoneinfo").unlink()
    why = f"cannot read {tmp_path}/zoneinfo: No such file or directory"
    assert sensor.closer(closer) == replace(sample, memory_per_cpu_bytes=Missing(why))


def test_a_second_reading_sees_what_has_changed(tmp_path: Path) -> None:
    sensor = HostSensor(host(tmp_path))
    sensor.read(1.0)
    (tmp_path / "meminfo").write_text(MEMINFO.replace("500 kB", "400 kB"))
    assert sensor.read(2.0).memory_available_bytes == 400 * 1024


def test_a_pressure_file_that_is_there_and_empty_is_missing(tmp_path: Path) -> None:
    (host(tmp_path) / "pressure/memory").write_text("")
    sample = HostSensor(tmp_path).read(1.0)
    assert sample.psi_full_avg10 == Missing(f"{tmp_path}/pressure/memory tells nothing")
    assert sample.memory_total_bytes == 1000 * 1024


def test_a_file_that_is_not_there_leaves_the_others(tmp_path: Path) -> None:
    (host(tmp_path) / "vmstat").unlink()
    (tmp_path / "pressure/memory").unlink()
    sample = HostSensor(tmp_path).read(1.0)
    assert sample.pages_scanned == Missing(f"cannot read {tmp_path}/vmstat: there is none")
    assert sample.psi_full_avg10 == Missing(f"cannot read {tmp_path}/pressure/memory: there is none")
    assert sample.swap_free_bytes == 0


def test_a_meminfo_that_cannot_be_read_makes_all_its_figures_missing(tmp_path: Path) -> None:
    (host(tmp_path) / "meminfo").unlink()
    (tmp_path / "meminfo").mkdir()
    sample = HostSensor(tmp_path).read(1.0)
    why = Missing(f"cannot read {tmp_path}/meminfo: Is a directory")
    assert (sample.memory_total_bytes, sample.memory_cache_bytes, sample.swap_free_bytes) == (why, why, why)


def test_a_kernel_without_memavailable_says_so(tmp_path: Path) -> None:
    (host(tmp_path) / "meminfo").write_text(MEMINFO.replace("MemAvailable", "MemAvailing"))
    sample = HostSensor(tmp_path).read(1.0)
    assert sample.memory_available_bytes == Missing(f"{tmp_path}/meminfo has no MemAvailable")


def test_garbage_is_missing(tmp_path: Path) -> None:
    (host(tmp_path) / "meminfo").write_bytes(b"MemTotal: many kB\n\xff\xff")
    (tmp_path / "pressure/memory").write_bytes(b"full avg10=... avg60\n")
    (tmp_path / "vmstat").write_bytes(b"pgscan_kswapd -1\n")
    sample = HostSensor(tmp_path).read(1.0)
    assert isinstance(sample.memory_total_bytes, Missing)
    assert isinstance(sample.psi_full_avg10, Missing)
    assert isinstance(sample.pages_scanned, Missing)


def test_this_machine_is_read() -> None:
    sample = HostSensor().read(1.0)
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert sample.memory_total_bytes == total
    assert isinstance(sample.memory_available_bytes, int)
    assert 0 < sample.memory_available_bytes < total
    listed = HostSensor().closer(sample).memory_per_cpu_bytes
    assert isinstance(listed, int)
    assert 0 <= listed < total


@pytest.mark.parametrize(
    ("available_gib", "interval_s"), [(1, 0.1), (2, 0.1), (2.6, 0.1), (5, 0.5), (8, 1.0), (64, 1.0)]
)
def test_the_less_room_the_sooner_the_next_glance(available_gib: float, interval_s: float) -> None:
    sample = HostSample(read_s=0.0, memory_available_bytes=int(available_gib * GIB))
    assert glance_interval_s(sample, 2 * GIB) == pytest.approx(interval_s)


def test_where_the_room_is_not_known_there_is_no_hurry() -> None:
    assert glance_interval_s(HostSample(read_s=0.0), 2 * GIB) == 1.0


def test_a_trigger_on_an_empty_or_absent_or_ordinary_file_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "memory"
    before = open_files()
    assert open_trigger(path) == Missing(f"cannot watch {path}: No such file or directory")
    path.write_text("")
    assert open_trigger(path) == Missing(f"cannot watch {path}: it is empty")
    path.write_text(PRESSURE)
    assert open_trigger(path) == Missing(f"cannot watch {path}: Operation not permitted")
    assert open_files() == before


def test_the_kernel_wakes_a_poll_when_processes_stall() -> None:
    # Stalls for want of CPU are the same mechanism as those for want of memory, and harmless to cause.
    before = open_files()
    trigger = open_trigger(PROC / "pressure/cpu")
    if isinstance(trigger, Missing):
        pytest.skip(f"no pressure-stall information here: {trigger.why}")
    assert isinstance(trigger, PressureTrigger)
    with nursery() as place, select.epoll() as loop:
        loop.register(trigger, select.EPOLLIN)
        for _ in range(2 * (os.cpu_count() or 1) + 1):
            place.spawn("while True: pass")
        assert loop.poll(20) == [(trigger.fileno(), select.EPOLLIN)]
        trigger.drain()
    trigger.close()
    assert open_files() == before
    assert sys.platform == "linux"


def test_a_trigger_whose_cgroup_is_removed_says_so_and_falls_silent() -> None:
    # As with a removed cgroup, POLLERR stands for good at a pipe that nobody reads.
    before = open_files()
    reader, writer = os.pipe()
    epoll = select.epoll()
    epoll.register(writer, select.EPOLLPRI)
    trigger = PressureTrigger(writer, epoll)
    with select.epoll() as loop:
        loop.register(trigger, select.EPOLLIN)
        assert trigger.drain() is True
        os.close(reader)
        assert loop.poll(0) == [(trigger.fileno(), select.EPOLLIN)]
        assert trigger.drain() is False
        assert loop.poll(0) == []
        assert trigger.drain() is False
    trigger.close()
    assert open_files() == before
