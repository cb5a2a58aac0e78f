"""Talk to the agent inside the machine (guest/agent.py, which describes the lines) over QEMU's socket."""

import base64
import contextlib
import json
import select
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

PIECE_BYTES: Final = 256 * 1024
SLACK_S: Final = (
    60.0  # past a command's own deadline: without KVM a starved machine takes that long to say so
)

Document = dict[str, Any]


class Silent(Exception):  # noqa: N818 - it is what the machine is
    """The machine did not answer in time."""


@dataclass(frozen=True, slots=True)
class Answer:
    """How a command ended, what it printed, who ended it (None: itself), and the boot in which it ran."""

    rc: int
    out: bytes
    err: bytes
    ended: str | None
    boot: str


class Channel:
    """A connection to one machine's port; it outlives the machine's reboots."""

    def __init__(self, port: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.connect(str(port))
        except OSError:
            self._socket.close()
            raise
        self._socket.settimeout(0)
        self._kept = bytearray()
        self._number = 0

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def tell(self, argv: Sequence[str], stdin: bytes = b"", timeout_s: float = 60.0) -> int:
        """Ask for a command without waiting for its answer; return the number of the request."""
        self._number += 1
        given = base64.b64encode(stdin).decode()
        request = {"id": self._number, "argv": list(argv), "stdin": given, "timeout_s": timeout_s}
        rest = memoryview(b"\n" + json.dumps(request).encode() + b"\n")
        deadline_s = time.monotonic() + SLACK_S
        while rest:
            self._wait(deadline_s, writing=True)
            with contextlib.suppress(BlockingIOError):
                rest = rest[self._socket.send(rest) :]
        return self._number

    def ask(
        self, argv: Sequence[str], stdin: bytes = b"", timeout_s: float = 60.0, slack_s: float = SLACK_S
    ) -> Answer:
        """Run a command and wait for its end; raises Silent. An empty `argv` asks for a sign of life."""
        deadline_s = time.monotonic() + timeout_s + slack_s
        number = self.tell(argv, stdin, timeout_s)
        printed = {"out": bytearray(), "err": bytearray()}
        while True:
            document = self._next(deadline_s)
            if document.get("id") != number:  # of an earlier request, whose answer nobody waited for
                continue
            for name in printed.keys() & document.keys():
                printed[name] += base64.b64decode(document[name])
            if "rc" in document:
                out, err = bytes(printed["out"]), bytes(printed["err"])
                return Answer(document["rc"], out, err, document["ended"], document["boot"])

    def _next(self, deadline_s: float) -> Document:
        while True:
            while (end := self._kept.find(b"\n")) >= 0:
                line = bytes(self._kept[:end])
                del self._kept[: end + 1]
                with contextlib.suppress(ValueError):  # cut short by a reboot, or empty
                    document: Document = json.loads(line)
                    return document
            self._wait(deadline_s, writing=False)
            with contextlib.suppress(BlockingIOError):
                if not (found := self._socket.recv(PIECE_BYTES)):
                    raise Silent("the machine has ended")
                self._kept += found

    def _wait(self, deadline_s: float, *, writing: bool) -> None:
        left_s = deadline_s - time.monotonic()
        ours = [self._socket]
        ready = select.select([] if writing else ours, ours if writing else [], [], max(0.0, left_s))
        if left_s <= 0 or not any(ready):
            raise Silent("the machine does not answer")
