"""The supervisor's end of a worker's socket, as a test holds it."""

import json
import socket
from pathlib import Path
from typing import Any


class FakeSupervisor:
    """Listens at a path, and answers whoever reported last."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.settimeout(0)
        self.worker: Any = None

    def datagrams(self) -> list[bytes]:
        """Everything that has come."""
        return [datagram for _, datagram in self._received()]

    def heard(self) -> list[tuple[bytes, dict[str, Any]]]:
        """Every report that has come, after who has sent it."""
        return [(sender, json.loads(datagram)) for sender, datagram in self._received()]

    def reports(self) -> list[dict[str, Any]]:
        return [json.loads(datagram) for datagram in self.datagrams()]

    def report(self) -> dict[str, Any]:
        """The one report that has come."""
        (report,) = self.reports()
        return report

    def say(self, **words: object) -> None:
        self.send(json.dumps({"v": 1, **words}).encode())

    def send(self, datagram: bytes) -> None:
        self._socket.sendto(datagram, self.worker)

    def _received(self) -> list[tuple[bytes, bytes]]:
        found: list[tuple[bytes, bytes]] = []
        while True:
            try:
                datagram, self.worker = self._socket.recvfrom(65536)
            except BlockingIOError:
                return found
            found.append((self.worker, datagram))

    def go(self) -> None:
        """End, as a killed daemon does: its socket's file stays."""
        self._socket.close()

    def leave(self) -> None:
        """End and take the file along."""
        self._socket.close()
        self.path.unlink()
