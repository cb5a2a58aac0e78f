"""The web face's end of the control socket: Varlink, one call at a time, each with a deadline."""

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

INTERFACE: Final = "io.gpu-supervisor.Control"
ANSWER_BYTES: Final = 32 << 20  # a thousand workers are 1.5 MiB
CONNECT_S: Final = 2.0


class AwayError(Exception):
    """The daemon did not answer, or not in a way that can be understood; the text says why."""


class _HungUpError(AwayError):
    """The daemon hung up without an answer."""


class RefusedError(Exception):
    """The daemon answered with an error."""

    def __init__(self, name: str, told: Mapping[str, Any]) -> None:
        """Take the error's name, without the interface of the daemon, and its parameters."""
        super().__init__(str(told.get("reason") or f"the daemon answered {name} {dict(told)}"))
        self.name = name
        self.told = told


class Reply(Struct):
    """One Varlink reply."""

    parameters: dict[str, Any] = {}
    error: str | None = None


class Link:
    """One connection to the daemon, made when it is needed and again after it broke."""

    def __init__(self, path: Path, *, keep: bool = True) -> None:
        """Speak with who listens at `path`; without `keep` over a new connection for each call.

        A connection that was kept may be one that the daemon has just dropped: then the call is made once
        more. What must not be done twice is therefore asked without `keep`.
        """
        self._path = path
        self._keep = keep
        self._turn = asyncio.Lock()
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def call(self, method: str, within_s: float, **parameters: object) -> dict[str, Any]:
        """Make one call; AwayError where there is no answer within `within_s`, with the wait for a turn."""
        request = {"method": f"{INTERFACE}.{method}", "parameters": parameters}
        try:
            async with asyncio.timeout(within_s), self._turn:
                return await self._called(msgspec.json.encode(request) + b"\0")
        except TimeoutError:
            self.close()
            raise AwayError(f"the daemon did not answer within {within_s:g} s") from None

    def close(self) -> None:
        """Hang up; the next call connects again."""
        if self._writer is not None:
            self._writer.transport.abort()
        self._reader = self._writer = None

    async def _called(self, request: bytes) -> dict[str, Any]:
        if not self._keep:
            self.close()
        kept = self._writer
        try:
            return await self._answered(request)
        except _HungUpError:
            if kept is None:
                raise
            return await self._answered(request)

    async def _answered(self, request: bytes) -> dict[str, Any]:
        done = False
        try:
            reader, writer = await self._connected()
            writer.write(request)
            await writer.drain()
            reply = msgspec.json.decode((await reader.readuntil(b"\0"))[:-1], type=Reply)
            done = True
        except (asyncio.IncompleteReadError, ConnectionResetError, BrokenPipeError):
            raise _HungUpError("the daemon hung up") from None
        except asyncio.LimitOverrunError:
            raise AwayError(f"the daemon's answer has more than {ANSWER_BYTES} bytes") from None
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise AwayError(f"the daemon's answer is not understood: {error}") from None
        except OSError as error:
            raise AwayError(_why(error)) from None
        finally:
            if not done:  # what would come next belongs to this call
                self.close()
        if reply.error is not None:
            raise RefusedError(reply.error.removeprefix(f"{INTERFACE}."), reply.parameters)
        return reply.parameters

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = self._reader, self._writer
        if reader is None or writer is None or reader.at_eof() or writer.is_closing():
            self.close()
            async with asyncio.timeout(CONNECT_S):
                reader, writer = await asyncio.open_unix_connection(os.fspath(self._path), limit=ANSWER_BYTES)
            self._reader, self._writer = reader, writer
        return reader, writer


def _why(error: OSError) -> str:
    if isinstance(error, (FileNotFoundError, ConnectionRefusedError)):
        return "the daemon is not running"
    if isinstance(error, PermissionError):
        return "no permission for the control socket"
    return f"no connection to the daemon: {error.strerror or type(error).__name__}"
