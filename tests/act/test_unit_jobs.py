import asyncio

import pytest

from supervisor.act.unit_jobs import UnitJobs
from supervisor.systemd.bus import JobBegun, JobEnded, SystemdError

UNIT = "gpu-worker-chat.service"


def ended(job: str, result: str = "done") -> JobEnded:
    return JobEnded(UNIT, job, result)


def test_an_order_is_over_when_its_job_is() -> None:
    async def scene() -> None:
        jobs = UnitJobs()

        async def order() -> str:
            return "/job/1"

        task = asyncio.create_task(jobs.carry_out(UNIT, order()))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        jobs.ended(ended("/job/2"))
        assert not task.done()
        jobs.ended(ended("/job/1", "failed"))
        assert await task == "failed"

    asyncio.run(scene())


def test_a_job_that_ends_before_its_order_is_confirmed_is_not_missed() -> None:
    async def scene() -> None:
        jobs = UnitJobs()

        async def order() -> str:
            assert jobs.is_ours(JobBegun(UNIT, "/job/1"))
            jobs.ended(ended("/job/1"))
            return "/job/1"

        assert await jobs.carry_out(UNIT, order()) == "done"

    asyncio.run(scene())


def test_a_job_that_nobody_here_has_ordered_is_somebody_elses() -> None:
    async def scene() -> None:
        jobs = UnitJobs()

        async def order() -> str:
            assert not jobs.is_ours(JobBegun("gpu-worker-other.service", "/job/1"))
            return "/job/2"

        await jobs.order(UNIT, order())
        assert not jobs.is_ours(JobBegun(UNIT, "/job/3"))

    asyncio.run(scene())


def test_orders_under_way_fail_when_systemd_is_lost() -> None:
    async def scene() -> None:
        jobs = UnitJobs()

        async def order() -> str:
            return "/job/1"

        task = asyncio.create_task(jobs.carry_out(UNIT, order()))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        jobs.lost("the bus is gone")
        with pytest.raises(SystemdError, match="the bus is gone"):
            await task

    asyncio.run(scene())
