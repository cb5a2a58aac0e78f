"""Drivers that hang, GPUs that are lost, helpers that die: what is said of them, and that they come back."""

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest

from supervisor.model.phase import GpuState
from supervisor.model.reading import Missing
from supervisor.model.snapshot import GpuProcess
from supervisor.sense.gpu.patience import Patience
from support.fakenvml.state import CRASH, GIB, Call, FakeDriver
from support.gpu_fixtures import Watched, children, watch

GPU_IS_LOST = 15
RESET_REQUIRED = 16
MISMATCH = 18
UNKNOWN = 999


def states(watched: Watched) -> list[str]:
    return [gpu.state.value for gpu in watched.sensor.gpus()]


def memory_used(watched: Watched, indices: list[int]) -> set[int | Missing]:
    return {watched.gpu(index).memory_used_bytes for index in indices}


@pytest.mark.parametrize("call", [Call.HANDLE, Call.UUID, Call.MEMORY_V2, Call.COMPUTE, Call.MPS])
@pytest.mark.parametrize("sick", [0, 1, 2])
def test_a_gpu_that_hangs_does_not_hide_the_others(
    fakenvml: Path, tmp_path: Path, call: Call, sick: int
) -> None:
    driver = FakeDriver(fakenvml, tmp_path / "state", gpus=3)
    others = [index for index in range(3) if index != sick]

    async def hangs(watched: Watched) -> None:
        await watched.until(lambda: states(watched) == ["ok", "ok", "ok"])
        last_s = watched.gpu(sick).read_s
        driver.gpu(sick).hang(call)
        await watched.until(lambda: watched.gpu(sick).state is GpuState.HUNG)
        ill = watched.gpu(sick)
        assert (ill.uuid, ill.name, ill.memory_total_bytes) == (f"GPU-{sick}", "Fake GPU", 85899345920)
        assert ill.read_s < time.monotonic() - 0.3  # as of its last answer, not of the hang
        assert ill.read_s >= last_s
        assert ill.memory_used_bytes == Missing("the NVIDIA driver does not answer")
        assert ill.processes == Missing("the NVIDIA driver does not answer")

        for used in (20 * GIB, 30 * GIB, 40 * GIB):  # through several tries with the one that hangs
            for index in others:
                driver.gpu(index).used = used
            await watched.until(lambda: memory_used(watched, others) == {used})  # noqa: B023 - awaited here
            assert [watched.gpu(index).state for index in others] == [GpuState.OK, GpuState.OK]
            assert watched.gpu(sick).state is GpuState.HUNG

        driver.gpu(sick).hang(call, 0)
        await watched.until(lambda: states(watched) == ["ok", "ok", "ok"])
        assert watched.gpu(sick).memory_used_bytes == 17179869184

    watch(driver.environment, hangs)


def test_a_gpu_that_hangs_from_the_first_reading_on_is_shown_all_the_same(driver: FakeDriver) -> None:
    driver.gpu(1).hang(Call.HANDLE)

    async def hangs(watched: Watched) -> None:
        await watched.until(lambda: states(watched) == ["ok", "hung"])
        assert watched.gpu(1).name == "unknown GPU"
        driver.gpu(1).hang(Call.HANDLE, 0)
        await watched.until(lambda: states(watched) == ["ok", "ok"])
        assert [gpu.uuid for gpu in watched.sensor.gpus()] == ["GPU-0", "GPU-1"]

    watch(driver.environment, hangs)


@pytest.mark.parametrize("call", [Call.COUNT, Call.HANDLE, Call.MEMORY_V2])
def test_a_driver_that_hangs_makes_every_gpu_hung_until_it_answers_again(
    driver: FakeDriver, call: Call
) -> None:
    async def hangs(watched: Watched) -> None:
        await watched.until(lambda: states(watched) == ["ok", "ok"])
        driver.hang(call)
        await watched.until(lambda: states(watched) == ["hung", "hung"])
        last_s = [gpu.read_s for gpu in watched.sensor.gpus()]
        await watched.again()
        assert [gpu.read_s for gpu in watched.sensor.gpus()] == last_s
        assert [gpu.uuid for gpu in watched.sensor.gpus()] == ["GPU-0", "GPU-1"]
        assert watched.sensor.missing() is None
        driver.hang(call, 0)
        await watched.until(lambda: states(watched) == ["ok", "ok"])

    watch(driver.environment, hangs)


def test_the_loop_never_waits_for_a_driver_that_hangs(driver: FakeDriver) -> None:
    async def hangs(watched: Watched) -> None:
        await watched.until(watched.known)
        driver.hang(Call.COUNT)
        ticks = 0
        while "hung" not in states(watched):
            watched.sensor.request()
            await asyncio.sleep(0)
            ticks += 1
        assert ticks > 100  # the hang has no end, and the deadline is 0.3 s

    watch(driver.environment, hangs)


def test_a_driver_that_hangs_while_it_is_opened_is_said_so_and_tried_again(driver: FakeDriver) -> None:
    driver.hang(Call.INIT)

    async def hangs(watched: Watched) -> None:
        await watched.until(lambda: watched.sensor.missing() == "the NVIDIA driver does not answer")
        assert watched.sensor.gpus() == ()
        driver.hang(Call.INIT, 0)
        await watched.until(lambda: states(watched) == ["ok", "ok"])
        assert watched.sensor.missing() is None

    watch(driver.environment, hangs, patience=Patience(start_s=0.3, backoff_s=(0.02,)))


def test_opening_the_driver_may_take_longer_than_a_reading(driver: FakeDriver) -> None:
    driver.hang(Call.INIT, 600)

    async def slow(watched: Watched) -> None:
        await watched.until(lambda: states(watched) == ["ok", "ok"])
        assert (
            driver.calls(Call.COUNT) == 2
        )  # once at its start, once in the first round: it was never replaced

    watch(driver.environment, slow)


@pytest.mark.parametrize("answer", [GPU_IS_LOST, UNKNOWN])
@pytest.mark.parametrize("call", [Call.HANDLE, Call.UUID, Call.MEMORY_V2])
def test_a_lost_gpu_keeps_its_name_and_the_others_go_on(driver: FakeDriver, call: Call, answer: int) -> None:
    async def lost(watched: Watched) -> None:
        await watched.until(lambda: states(watched) == ["ok", "ok"])
        driver.gpu(0).fail(call, answer)
        await watched.until(lambda: states(watched) == ["lost", "ok"])
        why = {GPU_IS_LOST: "GPU is lost", UNKNOWN: "Unknown Error"}[answer]
        ill = watched.gpu(0)
        assert (ill.uuid, ill.name, ill.fault) == ("GPU-0", "Fake GPU", why)
        assert ill.memory_used_bytes == ill.processes == ill.temperature_c == Missing(why)
        driver.gpu(1).run((7, GIB))
        await watched.fresh()
        assert watched.gpu(1).processes == (GpuProcess(7, 1073741824),)
        driver.gpu(0).fail(call, 0)
        await watched.until(lambda: states(watched) == ["ok", "ok"])

    watch(driver.environment, lost)


@pytest.mark.parametrize("call", [Call.TEMPERATURE_V, Call.POWER, Call.COMPUTE, Call.MPS])
def test_a_gpu_that_any_call_says_is_lost_is_lost(driver: FakeDriver, call: Call) -> None:
    driver.gpu(1).fail(call, GPU_IS_LOST)

    async def lost(watched: Watched) -> None:
        await watched.until(lambda: states(watched) == ["ok", "lost"])
        assert watched.gpu(1).memory_used_bytes == Missing("GPU is lost")
        assert watched.gpu(1).memory_total_bytes == Missing("GPU is lost")

    watch(driver.environment, lost)


def test_a_gpu_that_is_not_listed_any_more_is_lost_and_the_others_keep_their_names(
    driver: FakeDriver,
) -> None:
    async def unlisted(watched: Watched) -> None:
        await watched.until(lambda: states(watched) == ["ok", "ok"])
        driver.gpu(0).uuid = b"GPU-1"  # the second moves up
        driver.list_gpus(1)
        await watched.until(lambda: "lost" in states(watched))
        found = {gpu.uuid: gpu for gpu in watched.sensor.gpus()}
        assert found["GPU-0"].fault == "the driver does not list it any more"
        assert (found["GPU-1"].state, found["GPU-1"].index) == (GpuState.OK, 0)

    watch(driver.environment, unlisted)


def test_a_gpu_that_was_lost_before_the_first_reading_gets_its_name_when_it_is_back(
    driver: FakeDriver,
) -> None:
    driver.gpu(1).fail(Call.HANDLE, GPU_IS_LOST)

    async def lost(watched: Watched) -> None:
        await watched.until(lambda: states(watched) == ["ok", "lost"])
        assert watched.gpu(1).uuid == "index-1"
        driver.gpu(1).fail(Call.HANDLE, 0)
        await watched.until(lambda: states(watched) == ["ok", "ok"])
        assert [gpu.uuid for gpu in watched.sensor.gpus()] == ["GPU-0", "GPU-1"]

    watch(driver.environment, lost)


def test_another_error_is_a_failed_gpu(driver: FakeDriver) -> None:
    async def failed(watched: Watched) -> None:
        await watched.until(watched.known)
        driver.gpu(1).fail(Call.MEMORY_V2, RESET_REQUIRED)
        await watched.until(lambda: states(watched) == ["ok", "failed"])
        assert watched.gpu(1).fault == "GPU requires restart"
        driver.gpu(1).fail(Call.MEMORY_V2, 0)
        await watched.until(lambda: states(watched) == ["ok", "ok"])

    watch(driver.environment, failed)


def test_after_a_library_mismatch_a_new_helper_opens_the_driver(driver: FakeDriver) -> None:
    async def upgraded(watched: Watched) -> None:
        await watched.until(watched.known)
        (old,) = children()
        driver.fail(Call.MEMORY_V2, MISMATCH)
        await watched.until(lambda: states(watched) == ["mismatch", "mismatch"])
        await watched.until(lambda: bool(children()) and old not in children())
        driver.fail(Call.MEMORY_V2, 0)
        await watched.until(lambda: states(watched) == ["ok", "ok"])

    watch(driver.environment, upgraded)


def test_a_library_that_does_not_match_the_driver_at_all_is_said_and_tried_again(driver: FakeDriver) -> None:
    async def upgraded(watched: Watched) -> None:
        await watched.until(watched.known)
        (helper,) = children()
        driver.fail(Call.INIT, MISMATCH)
        os.kill(helper, signal.SIGKILL)
        await watched.until(lambda: states(watched) == ["mismatch", "mismatch"])
        assert watched.gpu(0).fault == (
            "the NVIDIA driver was upgraded underneath its library: reload its modules or reboot"
        )
        driver.fail(Call.INIT, 0)
        await watched.until(lambda: states(watched) == ["ok", "ok"])

    watch(driver.environment, upgraded)


def test_a_lost_gpu_is_looked_for_by_a_new_helper_too(driver: FakeDriver) -> None:
    async def lost(watched: Watched) -> None:
        await watched.until(watched.known)
        (old,) = children()
        driver.gpu(0).fail(Call.HANDLE, GPU_IS_LOST)
        await watched.until(lambda: states(watched) == ["lost", "ok"])
        await watched.until(lambda: bool(children()) and old not in children())
        assert states(watched) == ["lost", "ok"]

    watch(driver.environment, lost)


def test_a_helper_is_replaced_before_it_can_leak_for_long(driver: FakeDriver) -> None:
    async def old_age(watched: Watched) -> None:
        await watched.until(watched.known)
        (old,) = children()
        await watched.until(lambda: bool(children()) and old not in children())
        await watched.fresh()
        assert states(watched) == ["ok", "ok"]

    watch(driver.environment, old_age, patience=Patience(recycle_s=0.2))


def test_a_killed_helper_is_replaced_and_no_gpu_is_blamed(driver: FakeDriver) -> None:
    async def killed(watched: Watched) -> None:
        await watched.until(watched.known)
        (helper,) = children()
        os.kill(helper, signal.SIGKILL)
        await watched.fresh()
        assert states(watched) == ["ok", "ok"]
        assert helper not in children()

    watch(driver.environment, killed)


def test_a_helper_killed_in_the_middle_of_a_reading_is_not_the_fault_of_the_gpu(driver: FakeDriver) -> None:
    async def killed(watched: Watched) -> None:
        await watched.until(watched.known)
        (helper,) = children()
        before = driver.calls(Call.MEMORY_V2)
        driver.gpu(1).hang(Call.MEMORY_V2)
        watched.sensor.request()
        await watched.until(lambda: driver.calls(Call.MEMORY_V2) == before + 2)
        os.kill(helper, signal.SIGKILL)
        await watched.until(lambda: helper not in children())
        assert states(watched) == ["ok", "ok"]
        driver.gpu(1).hang(Call.MEMORY_V2, 0)
        await watched.fresh()

    watch(driver.environment, killed, deadline_s=30.0)


def test_a_gpu_that_crashes_the_helper_is_failed_and_left_out(driver: FakeDriver) -> None:
    async def crashes(watched: Watched) -> None:
        await watched.until(watched.known)
        driver.gpu(0).fail(Call.COMPUTE, CRASH)
        await watched.until(lambda: states(watched) == ["failed", "ok"])
        assert watched.gpu(0).fault == "the GPU helper ended: Segmentation fault"
        driver.gpu(1).used = 60 * GIB
        await watched.until(lambda: watched.gpu(1).memory_used_bytes == 64424509440)
        driver.gpu(0).fail(Call.COMPUTE, 0)
        await watched.until(lambda: states(watched) == ["ok", "ok"])

    watch(driver.environment, crashes)


def test_a_driver_that_crashes_every_helper_makes_every_gpu_failed(driver: FakeDriver) -> None:
    async def crashes(watched: Watched) -> None:
        await watched.until(watched.known)
        driver.fail(Call.COUNT, CRASH)
        await watched.until(lambda: states(watched) == ["failed", "failed"])
        driver.fail(Call.COUNT, 0)
        await watched.until(lambda: states(watched) == ["ok", "ok"])

    watch(driver.environment, crashes)


@pytest.mark.parametrize(
    "says",
    [
        "echo garbage; exec cat",
        'echo \'{"round": 99, "end": true}\'; exec cat',
        'echo \'{"round": 1, "gpu": {"index": "zero"}}\'; exec cat',
        "exec cat /dev/zero",
    ],
)
def test_a_helper_that_speaks_another_language_is_ended(
    driver: FakeDriver, tmp_path: Path, says: str
) -> None:
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{says}\n")
    python.chmod(0o755)

    async def garbage(watched: Watched) -> None:
        why = "the GPU helper does not speak its protocol"
        await watched.until(lambda: watched.sensor.missing() == why)
        assert watched.sensor.gpus() == ()

    watch(driver.environment, garbage, python=str(python))


def test_a_helper_that_cannot_be_started_is_said(driver: FakeDriver) -> None:
    async def nothing(watched: Watched) -> None:
        await watched.until(lambda: watched.sensor.missing() is not None)
        assert watched.sensor.missing() == "cannot start the GPU helper: No such file or directory"

    watch(driver.environment, nothing, python="/nonexistent/python")


def test_closing_does_not_wait_for_a_helper_that_hangs(driver: FakeDriver) -> None:
    began_s: list[float] = []

    async def hangs(watched: Watched) -> None:
        await watched.until(watched.known)
        before = driver.calls(Call.COUNT)
        driver.hang(Call.COUNT)
        watched.sensor.request()
        await watched.until(lambda: driver.calls(Call.COUNT) > before)
        began_s.append(time.monotonic())

    watch(driver.environment, hangs, deadline_s=60.0, patience=Patience(leave_s=0.1))
    assert time.monotonic() - began_s[0] < 30.0  # the hang has no end


def test_a_closed_sensor_reads_no_more(driver: FakeDriver) -> None:
    async def closed(watched: Watched) -> None:
        await watched.until(watched.known)
        await watched.sensor.close()
        before = driver.calls(Call.COUNT)
        watched.sensor.request()
        assert driver.calls(Call.COUNT) == before
        assert not children()

    watch(driver.environment, closed)
