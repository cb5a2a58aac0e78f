"""What the daemon tells the guards of one run, and who of them has not got it yet."""

import socket
from typing import Final

import msgspec

from supervisor.model.report import Words

MOST_LISTENERS: Final = 16  # processes of one worker that use the guard
_NOTHING: Final = b""


class Listeners:
    """The processes of one run that have reported, each with what it was last told.

    Words are state: only the newest are sent. They go to sockets with an abstract name, as a guard has: a
    path could be exchanged for that of another program, which would get them with the daemon's rights.
    """

    def __init__(self, bound: socket.socket) -> None:
        """Speak from the worker's own socket: a guard's takes nothing from any other."""
        self._bound = bound
        self._told: dict[bytes, bytes] = {}  # by address, who spoke last at the end
        self._words = _NOTHING

    def heard(self, address: object) -> None:
        """Note where a report came from, and tell that one what it does not know yet."""
        if not isinstance(address, bytes) or not address.startswith(b"\0"):
            return
        self._told[address] = self._told.pop(address, _NOTHING)
        if len(self._told) > MOST_LISTENERS:
            del self._told[next(iter(self._told))]
        self._send(address)

    def say(self, words: Words) -> None:
        """Tell all of them; who cannot be told now is told by `again`."""
        self._words = msgspec.json.encode({"v": 1, **msgspec.to_builtins(words)})
        self.again()

    def again(self) -> None:
        """Tell those that do not know it yet; nothing waits for any of them."""
        for address in tuple(self._told):
            self._send(address)

    def _send(self, address: bytes) -> None:
        if self._told[address] == self._words:
            return
        try:
            self._bound.sendto(self._words, socket.MSG_DONTWAIT, address)
        except ConnectionRefusedError:  # it is gone
            del self._told[address]
        except OSError:  # its queue is full: it may have room at the next look
            return
        else:
            self._told[address] = self._words
