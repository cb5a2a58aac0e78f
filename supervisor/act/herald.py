"""Tells the receivers of alerts what fires and what is resolved, beside the loop."""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final
from urllib.parse import urlsplit

import msgspec

from supervisor.act.alert_command import Errand, run
from supervisor.act.alert_text import SENT_AGAIN_S, Origin, plain, variables, webhook_body
from supervisor.act.receiver import Delivery, Receiver, RefusedError
from supervisor.model.action import Alert, Notice
from supervisor.model.alert import AlertStatus
from supervisor.model.plan import CommandNotify, Notify, WebhookNotify
from supervisor.sense.http_get import BadAnswerError
from supervisor.sense.http_post import post_json
from supervisor.sense.probes import why_not

WEBHOOK_S: Final = 10.0
AT_ONCE: Final = 100  # alerts of one post: some 50 kB
ANSWER_BYTES: Final = 4096
# The document itself is wrong. All else, also a path that is not there, somebody may mend.
FINAL: Final = frozenset({400, 413, 422})


class Herald:
    """All receivers. Telling never waits. Used in the thread of its event loop only."""

    def __init__(self, origin: Origin, notify: Sequence[Notify], notice: Callable[[Notice], None]) -> None:
        """Tell those of `notify`; they know already what an earlier daemon has told."""
        self._origin = origin
        self._notice = notice
        self._pids: set[int] = set()
        self._notify: Sequence[Notify] = ()
        self._receivers: dict[Notify, Receiver] = {}
        self._sent_s = time.monotonic() - SENT_AGAIN_S  # an Alertmanager may have forgotten meanwhile
        self._use(notify)

    def tell(self, told: Alert) -> None:
        """Tell every receiver."""
        for receiver in self._receivers.values():
            receiver.tell(told.alert)

    def tend(self, notify: Sequence[Notify], firing: Callable[[], Iterable[AlertStatus]]) -> None:
        """Take on the receivers of a new plan, and tell an Alertmanager each minute what still fires.

        A new receiver is told all that fires. `firing` is asked only where it is needed.
        """
        new = self._use(notify) if notify != self._notify else []
        now_s = time.monotonic()
        if now_s - self._sent_s >= SENT_AGAIN_S:
            self._sent_s = now_s
            new += [one for one in self._receivers if _is_alertmanager(one) and one not in new]
        if not new:
            return
        for alert in firing():
            for one in new:
                self._receivers[one].tell(alert)

    def children(self) -> frozenset[int]:
        """Return the pids of commands that are being waited for, which nobody else may reap."""
        return frozenset(self._pids)

    def close(self) -> None:
        """Tell nothing any more; what waits is lost."""
        self._use(())

    def _use(self, notify: Sequence[Notify]) -> list[Notify]:
        """Have these receivers and no others; return those that are new."""
        for gone in [one for one in self._receivers if one not in notify]:
            self._receivers.pop(gone).close()
        new = [one for one in dict.fromkeys(notify) if one not in self._receivers]
        for one in new:
            self._receivers[one] = Receiver(self._delivery(one), self._notice)
        self._notify = notify
        return new

    def _delivery(self, notify: Notify) -> Delivery:
        if isinstance(notify, CommandNotify):
            return Delivery(shown(notify), 1, lambda alerts: self._run(notify, alerts))
        return Delivery(shown(notify), AT_ONCE, lambda alerts: self._post(notify, alerts))

    async def _run(self, notify: CommandNotify, alerts: Sequence[AlertStatus]) -> None:
        for alert in alerts:
            document = msgspec.json.encode(plain(alert, self._origin)) + b"\n"
            errand = Errand(notify.command, document, variables(alert, self._origin))
            try:
                why = await run(errand, self._pids)
            except OSError as error:  # no descriptors, no memory
                why = f"cannot run {notify.command[0]}: {error.strerror or error}"
            if why is not None:
                raise RefusedError(why)

    async def _post(self, notify: WebhookNotify, alerts: Sequence[AlertStatus]) -> None:
        body = webhook_body(notify, alerts, self._origin, time.time())
        try:
            async with asyncio.timeout(WEBHOOK_S):
                answer = await post_json(notify.webhook, body, ANSWER_BYTES)
        except TimeoutError:
            raise RefusedError(f"no answer within {WEBHOOK_S:g} s") from None
        except (OSError, BadAnswerError, ValueError) as error:
            raise RefusedError(why_not(error)) from None
        status = answer.status
        if not 200 <= status < 300:  # noqa: PLR2004 - success in HTTP
            moved = " (redirects are not followed)" if 300 <= status < 400 else ""  # noqa: PLR2004
            # The body is not told: pages of errors repeat the path that was asked for, which may be a secret.
            raise RefusedError(f"it answered {status}{moved}", final=status in FINAL)


def shown(notify: Notify) -> str:
    """Name a receiver without what may be secret: the path of a URL, the arguments of a command."""
    if isinstance(notify, CommandNotify):
        return notify.command[0]
    parts = urlsplit(notify.webhook)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def _is_alertmanager(notify: Notify) -> bool:
    return isinstance(notify, WebhookNotify) and notify.format == "alertmanager"
