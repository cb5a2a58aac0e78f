"""Asking a worker over the network whether it is ready, well or idle."""

import asyncio
import errno
import re
import socket
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import msgspec
from msgspec import Struct

from supervisor.model.news import Purpose
from supervisor.model.plan import CommandTarget, LlamaTarget, ProbeTarget, TcpTarget
from supervisor.sense.http_get import Answer, BadAnswerError, get

BODY_BYTES: Final = 64 << 10  # more than any health page, little enough to be read in the loop
LLAMA_BYTES: Final = 1 << 20  # a busy slot is 3 kB, /props holds the chat template
DETAIL_CHARACTERS: Final = 200
OK: Final = 200
NOT_IMPLEMENTED: Final = 501
GAUGE: Final = re.compile(rb"^llamacpp:requests_(processing|deferred) ([0-9.e+]+)$", re.MULTILINE)


class _Slot(Struct):
    is_processing: bool


class _Props(Struct):
    is_sleeping: bool = False


class _ErrorMessage(Struct):
    message: str


class _ErrorBody(Struct):
    error: _ErrorMessage


async def probe(target: ProbeTarget, timeout_s: float, purpose: Purpose = "drain") -> tuple[bool, str]:
    """Ask once, within `timeout_s`; return whether the answer is good, and what it was in words for people.

    A URL is good when it answers 200, a port when it accepts. A llama.cpp server is good for `drain`
    when it is idle, for `ready` and `health` when its task queue moves. Raises nothing.
    """
    try:
        async with asyncio.timeout(timeout_s):
            return await _ask(target, purpose)
    except TimeoutError:
        return False, f"no answer within {timeout_s:g}s"
    except (OSError, BadAnswerError, ValueError) as error:
        return False, _why(error)


async def _ask(target: ProbeTarget, purpose: Purpose) -> tuple[bool, str]:
    if isinstance(target, CommandTarget):
        return False, "cannot run a command from here"
    if isinstance(target, TcpTarget):
        _, writer = await asyncio.open_connection(target.host, target.port)
        writer.transport.abort()
        return True, "accepts connections"
    if isinstance(target, LlamaTarget):
        return await _ask_llama(target.url, purpose)
    answer = await get(target.url, BODY_BYTES)
    return answer.status == OK, _describe(answer)


async def _ask_llama(url: str, purpose: Purpose) -> tuple[bool, str]:
    """Judge by the slots, or where the server was started with --no-slots, by its gauges.

    Both go through the task queue, so neither answers while its loop hangs; /health does. A sleeping server
    is left asleep: asking for its slots would load the model again.
    """
    props = await get(_beneath(url, "props"), LLAMA_BYTES)
    if props.status == OK and _is_sleeping(props.body):
        return True, "asleep"
    slots = await get(_beneath(url, "slots"), LLAMA_BYTES)
    if slots.status == OK:
        return _judge(_busy_slots(slots.body), purpose)
    if slots.status != NOT_IMPLEMENTED:
        return False, _describe(slots)
    metrics = await get(_beneath(url, "metrics"), LLAMA_BYTES)
    if metrics.status == OK:
        return _judge(_busy_requests(metrics.body), purpose)
    if metrics.status != NOT_IMPLEMENTED:
        return False, _describe(metrics)
    if purpose == "drain":
        return False, "cannot tell whether it is idle: it runs with --no-slots and without --metrics"
    health = await get(_beneath(url, "health"), BODY_BYTES)
    return health.status == OK, _describe(health)


def _judge(busy: int, purpose: Purpose) -> tuple[bool, str]:
    return busy == 0 or purpose != "drain", "idle" if busy == 0 else f"{busy} requests under way"


def _busy_slots(body: bytes) -> int:
    try:
        slots = msgspec.json.decode(body, type=list[_Slot])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadAnswerError(f"cannot read its slots: {error}") from error
    return sum(slot.is_processing for slot in slots)


def _busy_requests(body: bytes) -> int:
    gauges = dict(GAUGE.findall(body))
    if b"processing" not in gauges:
        raise BadAnswerError("its metrics hold no llamacpp:requests_processing")
    return sum(int(float(value)) for value in gauges.values())


def _is_sleeping(body: bytes) -> bool:
    try:
        return msgspec.json.decode(body, type=_Props).is_sleeping
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False


def _beneath(url: str, name: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{name}", fragment=""))


def _describe(answer: Answer) -> str:
    """Put an answer in words: its status, and what an error of llama.cpp or OpenAI says of itself."""
    if answer.status == OK:
        return "200"
    try:
        said = msgspec.json.decode(answer.body, type=_ErrorBody).error.message
    except (msgspec.DecodeError, UnicodeDecodeError):
        said = answer.reason
    return _printable(f"{answer.status} {said}".strip())


def _why(error: Exception) -> str:
    if isinstance(error, socket.gaierror):
        return f"cannot resolve its host: {error.strerror}"
    refused = f"[Errno {errno.ECONNREFUSED}]" in str(error)  # several addresses raise one error without errno
    if isinstance(error, ConnectionRefusedError) or refused:
        return "connection refused"
    if isinstance(error, ConnectionResetError | BrokenPipeError):
        return "closed the connection"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return _printable(str(error))


def _printable(text: str) -> str:
    """Keep what a stranger wrote on one line that does no harm to a terminal."""
    return "".join(sign if sign.isprintable() else "?" for sign in text)[:DETAIL_CHARACTERS]
