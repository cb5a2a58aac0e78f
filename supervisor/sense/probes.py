"""Asking a worker over the network: a URL, or a port."""

import asyncio
import errno
import socket
from typing import Final

import msgspec
from msgspec import Struct

from supervisor.model.plan import HttpTarget, TcpTarget
from supervisor.sense.http_get import Answer, BadAnswerError, get

BODY_BYTES: Final = 64 << 10  # more than any health page, little enough to be read in the loop
DETAIL_CHARACTERS: Final = 200
OK: Final = 200


class _ErrorMessage(Struct):
    message: str


class _ErrorBody(Struct):
    error: _ErrorMessage


async def probe(target: HttpTarget | TcpTarget, timeout_s: float) -> tuple[bool, str]:
    """Ask once, within `timeout_s`; return whether the answer is good, and what it was in words for people.

    A URL is good when it answers 200, a port when it accepts. Raises nothing.
    """
    try:
        async with asyncio.timeout(timeout_s):
            return await _ask(target)
    except TimeoutError:
        return False, f"no answer within {timeout_s:g}s"
    except (OSError, BadAnswerError, ValueError) as error:
        return False, why_not(error)


async def _ask(target: HttpTarget | TcpTarget) -> tuple[bool, str]:
    if isinstance(target, TcpTarget):
        _, writer = await asyncio.open_connection(target.host, target.port)
        writer.transport.abort()
        return True, "accepts connections"
    answer = await get(target.url, BODY_BYTES)
    return answer.status == OK, describe(answer)


def describe(answer: Answer) -> str:
    """Put an answer in words: its status, and what an error of llama.cpp or OpenAI says of itself."""
    if answer.status == OK:
        return "200"
    try:
        said = msgspec.json.decode(answer.body, type=_ErrorBody).error.message
    except (msgspec.DecodeError, UnicodeDecodeError):
        said = answer.reason
    return _printable(f"{answer.status} {said}".strip())


def why_not(error: Exception) -> str:
    """Put in words why there was no answer."""
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
