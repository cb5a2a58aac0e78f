"""Receivers of alerts: real servers and real commands, which fail, hang, redirect and come back."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from pathlib import Path

from msgspec.structs import replace

from supervisor.act.alert_text import Origin
from supervisor.act.herald import Herald, shown
from supervisor.act.receiver import WAITING_MOST, Delivery, Receiver, RefusedError
from supervisor.model.action import Alert, Notice
from supervisor.model.alert import AlertStatus
from supervisor.model.plan import CommandNotify, Notify, WebhookNotify
from support.receiving import receiving

FULL = AlertStatus("Full", "critical", "firing", "GPU 0 is full", gpu="GPU-1", since_wall_s=1_800_000_000.0)
OVER = replace(FULL, state="resolved", resolved_wall_s=1_800_000_060.0)
ORIGIN = Origin("box", "http://127.0.0.1:8095/")


async def until(true: Callable[[], bool], what: str, within_s: float = 20.0) -> None:
    deadline_s = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline_s, f"still not so: {what}"
        await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def heralding(notices: list[Notice], *notify: Notify) -> AsyncGenerator[Herald]:
    herald = Herald(ORIGIN, notify, notices.append)
    try:
        yield herald
    finally:
        herald.close()


def tell(herald: Herald, *alerts: AlertStatus) -> None:
    for alert in alerts:
        herald.tell(Alert(alert, alert.summary))


def test_a_webhook_is_told_what_fires_and_what_is_resolved() -> None:
    async def story() -> None:
        notices: list[Notice] = []
        with receiving() as server:
            async with heralding(notices, WebhookNotify(server.url, "json")) as herald:
                tell(herald, FULL)
                await until(lambda: len(server.documents) == 1, "it is told")
                tell(herald, OVER)
                await until(lambda: len(server.documents) == 2, "it is told again")
        assert server.alerts() == [("Full", "firing"), ("Full", "resolved")]
        assert server.paths == ["/hooks/hunter2"] * 2
        assert server.headers[0]["content-type"] == "application/json"
        assert notices == []

    asyncio.run(story())


def test_what_is_told_at_once_is_posted_at_once() -> None:
    async def story() -> None:
        with receiving() as server:
            async with heralding([], WebhookNotify(server.url, "json")) as herald:
                tell(herald, *(replace(FULL, gpu=f"GPU-{at}") for at in range(150)))
                await until(lambda: len(server.alerts()) == 150, "all are told")
        assert [len(document["alerts"]) for document in server.documents] == [100, 50]

    asyncio.run(story())


def test_a_dead_receiver_is_told_the_newest_state_once_it_is_back() -> None:
    async def story() -> None:
        notices: list[Notice] = []
        with receiving() as server:
            port, url = server.port, server.url
        async with heralding(notices, WebhookNotify(url, "json")) as herald:
            tell(herald, FULL)
            await until(lambda: bool(notices), "that it fails is told")
            tell(herald, OVER, replace(FULL, gpu="GPU-2"))
            with receiving(port) as server:
                await until(lambda: len(server.alerts()) == 2, "it is told")
            await until(lambda: len(notices) == 2, "that it works is told")
        assert server.alerts() == [("Full", "resolved"), ("Full", "firing")]
        fails, works = notices
        assert (fails.level, fails.event, works.level, works.event) == (
            "warning",
            "alert receiver fails",
            "info",
            "alert receiver works again",
        )
        assert fails.reason == (
            f"http://127.0.0.1:{port} takes no alerts: connection refused; it is tried again until it does"
        )

    asyncio.run(story())


def test_a_receiver_that_fails_for_long_is_told_of_once() -> None:
    async def story() -> None:
        notices: list[Notice] = []
        with receiving() as server:
            server.answer = 503
            async with heralding(notices, WebhookNotify(server.url, "json")) as herald:
                tell(herald, FULL)
                await until(lambda: len(server.documents) == 3, "it is tried three times")
                server.answer = 204
                await until(lambda: len(notices) == 2, "it works again")
        assert [one.event for one in notices] == ["alert receiver fails", "alert receiver works again"]
        assert "it answered 503;" in notices[0].reason
        assert "hunter2" not in "".join(one.reason for one in notices)

    asyncio.run(story())


def test_a_redirect_is_not_followed() -> None:
    async def story() -> None:
        notices: list[Notice] = []
        with receiving() as server, receiving() as elsewhere:
            server.answer, server.location = 307, elsewhere.url
            async with heralding(notices, WebhookNotify(server.url, "json")) as herald:
                tell(herald, FULL)
                await until(lambda: bool(notices), "it is told")
        assert elsewhere.documents == []
        assert "it answered 307 (redirects are not followed)" in notices[0].reason

    asyncio.run(story())


def test_what_a_receiver_cannot_read_is_dropped_and_not_sent_for_ever() -> None:
    async def story() -> None:
        notices: list[Notice] = []
        with receiving() as server:
            server.answer = 400
            async with heralding(notices, WebhookNotify(server.url, "json")) as herald:
                tell(herald, FULL)
                await until(lambda: bool(notices), "it is told")
                server.answer = 200
                tell(herald, replace(FULL, gpu="GPU-2"))
                await until(lambda: len(notices) == 2, "it works again")
        assert [document["alerts"][0]["gpu"] for document in server.documents] == ["GPU-1", "GPU-2"]
        assert notices[0].reason.endswith("it answered 400; these are dropped")

    asyncio.run(story())


def test_a_receiver_that_hangs_keeps_no_other_waiting() -> None:
    async def story() -> None:
        with receiving() as slow, receiving() as quick:
            slow.hold.set()
            both = (WebhookNotify(slow.url, "json"), WebhookNotify(quick.url, "json"))
            async with heralding([], *both) as herald:
                for at in range(5):
                    tell(herald, replace(FULL, gpu=f"GPU-{at}"))
                    await until(lambda: len(quick.alerts()) == at + 1, "the quick one is told")  # noqa: B023
                assert len(slow.alerts()) == 1

    asyncio.run(story())


def test_an_alertmanager_is_told_again_what_still_fires(tmp_path: Path) -> None:
    async def story() -> None:
        out = tmp_path / "out"
        command = CommandNotify(("/bin/sh", "-c", f"echo $GPU_SUPERVISOR_ALERT_NAME >> {out}"))
        asked: list[int] = []

        def firing() -> Sequence[AlertStatus]:
            asked.append(1)
            return [FULL]

        with receiving() as server:
            notify = (WebhookNotify(server.url, "alertmanager"), command)
            async with heralding([], *notify) as herald:
                herald.tend(notify, firing)  # the first time at once: it may have forgotten
                await until(lambda: len(server.documents) == 1, "it is told")
                herald.tend(notify, firing)
                herald.tend(notify, firing)
                assert len(asked) == 1  # the next time in a minute
                tell(herald, replace(FULL, name="Another"))
                await until(lambda: out.exists() and bool(out.read_text()), "the command is told")
        assert out.read_text() == "Another\n"  # and never of what is told again

    asyncio.run(story())


def test_a_new_receiver_is_told_all_that_fires_and_one_that_is_gone_nothing() -> None:
    async def story() -> None:
        with receiving() as old, receiving() as new:
            first, second = WebhookNotify(old.url, "json"), WebhookNotify(new.url, "json")
            async with heralding([], first) as herald:
                herald.tend((first,), lambda: [FULL])
                herald.tend((second,), lambda: [FULL])
                await until(lambda: bool(new.documents), "the new one is told")
                tell(herald, OVER)
                await until(lambda: len(new.documents) == 2, "it is told what comes then")
        assert new.alerts() == [("Full", "firing"), ("Full", "resolved")]
        assert old.documents == []

    asyncio.run(story())


def test_a_command_is_told_each_alert_by_itself_and_tried_again(tmp_path: Path) -> None:
    async def story() -> None:
        script, out, broken = tmp_path / "page", tmp_path / "out", tmp_path / "broken"
        script.write_text(
            f"#!/bin/sh\n[ -e {broken} ] && echo 'line is busy' >&2 && exit 4\n"
            f"echo $GPU_SUPERVISOR_ALERT_STATE $GPU_SUPERVISOR_ALERT_GPU >> {out}\n"
        )
        script.chmod(0o755)
        broken.touch()
        notices: list[Notice] = []
        async with heralding(notices, CommandNotify((str(script), "--token", "hunter2"))) as herald:
            tell(herald, FULL, replace(FULL, gpu="GPU-2"))
            await until(lambda: bool(notices), "that it fails is told")
            assert notices[0].reason == (
                f"{script} takes no alerts: it exited with 4: line is busy; it is tried again until it does"
            )
            tell(herald, OVER)
            broken.unlink()
            await until(lambda: out.exists() and len(out.read_text().splitlines()) == 2, "it is told both")
            await until(lambda: len(notices) == 2, "that it works is told")
            await until(lambda: herald.children() == frozenset(), "no command is left")
        assert sorted(out.read_text().splitlines()) == ["firing GPU-2", "resolved GPU-1"]

    asyncio.run(story())


def test_there_is_a_bound_to_what_waits_and_what_was_dropped_is_told() -> None:
    async def story() -> None:
        notices: list[Notice] = []
        works = asyncio.Event()
        sent: list[str | None] = []

        async def send(alerts: Sequence[AlertStatus]) -> None:
            if not works.is_set():
                raise RefusedError("away")
            await asyncio.sleep(0)
            sent.extend(one.gpu for one in alerts)

        receiver = Receiver(Delivery("a test", 500, send), notices.append)
        for at in range(WAITING_MOST + 7):
            receiver.tell(replace(FULL, gpu=f"GPU-{at}"))
        await until(lambda: bool(notices), "it fails")
        works.set()
        await until(lambda: len(sent) == WAITING_MOST, "the rest is told")
        receiver.close()
        assert "GPU-6" not in sent
        assert "GPU-7" in sent
        assert (
            notices[1].reason
            == "a test takes alerts after 1 failure; 7 alerts were dropped, as too many waited"
        )

    asyncio.run(story())


def test_the_name_of_a_receiver_holds_no_secret() -> None:
    assert shown(
        WebhookNotify("https://me:hunter2@hooks.example:8443/T1/hunter2?key=hunter2#x", "slack")
    ) == ("https://hooks.example:8443")
    assert shown(CommandNotify(("/usr/bin/page", "--token=hunter2"))) == "/usr/bin/page"
