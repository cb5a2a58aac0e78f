"""A bus of its own, from a real dbus-daemon, and on it a stand-in for systemd."""

import asyncio
import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest
from dbus_fast.aio.message_bus import MessageBus
from dbus_fast.constants import MessageType, RequestNameReply
from dbus_fast.message import Message
from dbus_fast.signature import Variant

from supervisor.systemd.bus import JOB, MANAGER, PROPERTIES, ROOT, SERVICE, SYSTEMD, UNIT, unit_path

CONFIG: Final = """\
<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <listen>unix:path=SOCKET</listen>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/>
    <allow user="*"/>
  </policy>
</busconfig>
"""


class SystemBus:
    """A dbus-daemon that can be ended and started again at the same address."""

    def __init__(self, directory: Path) -> None:
        self._socket = directory / "bus"
        self._config = directory / "bus.conf"
        self._config.write_text(CONFIG.replace("SOCKET", str(self._socket)))
        self.address = f"unix:path={self._socket}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; returns once it listens."""
        reader, writer = os.pipe()
        command = ["dbus-daemon", f"--config-file={self._config}", "--nofork", f"--print-address={writer}"]
        try:
            self._process = subprocess.Popen(command, pass_fds=[writer])
        finally:
            os.close(writer)
        with os.fdopen(reader, "rb") as told:
            assert told.readline(), "dbus-daemon does not start"

    def end(self) -> None:
        """End it, and with it every connection."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        self._socket.unlink(missing_ok=True)


@pytest.fixture
def bus(require: Callable[[object, str], None], monkeypatch: pytest.MonkeyPatch) -> Iterator[SystemBus]:
    """Start a bus that this process takes for that of the system."""
    require(shutil.which("dbus-daemon"), "no dbus-daemon on this machine")
    with tempfile.TemporaryDirectory(prefix="bus-") as directory:  # short: it is a socket's path
        made = SystemBus(Path(directory))
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", made.address)
        made.start()
        yield made
        made.end()


class StandIn:
    """Answers as systemd would, out of `properties`, and notes what it was asked to do."""

    def __init__(self) -> None:
        self.properties: dict[tuple[str, str, str], Variant] = {  # by path, interface and name
            (ROOT, MANAGER, "SystemState"): Variant("s", "running")
        }
        self.asked: list[tuple[str, list[Any]]] = []  # calls of the manager: member and body
        self.refuses: dict[str, tuple[str, str]] = {}  # by member: the name of an error and its text
        self.answers: dict[str, tuple[str, list[Any]]] = {}  # by member: signature and body
        self._was_asked = asyncio.Event()
        self._bus: MessageBus | None = None

    async def until_asked(self, times: int) -> None:
        """Wait until the manager was asked so many things."""
        while len(self.asked) < times:
            self._was_asked.clear()
            await self._was_asked.wait()

    async def connect(self, address: str) -> None:
        """Take systemd's name on a bus."""
        bus = await MessageBus(bus_address=address).connect()
        bus.add_message_handler(self._answer)
        assert await bus.request_name(SYSTEMD) is RequestNameReply.PRIMARY_OWNER
        self._bus = bus

    async def close(self) -> None:
        """Leave the bus."""
        if self._bus is not None:
            self._bus.disconnect()
            with contextlib.suppress(OSError, EOFError):
                await self._bus.wait_for_disconnect()  # type: ignore[no-untyped-call]
            self._bus = None

    def has_job(self, job: str, kind: str) -> None:
        """Have a job."""
        self.properties[job, JOB, "JobType"] = Variant("s", kind)

    def has_unit(self, unit: str, active: str, invocation: str, **service: object) -> None:
        """Have a service in a state; `invocation` is hexadecimal."""
        path = unit_path(unit)
        self.properties |= {
            (path, UNIT, "ActiveState"): Variant("s", active),
            (path, UNIT, "SubState"): Variant("s", service.get("sub", "running")),
            (path, UNIT, "InvocationID"): Variant("ay", bytes.fromhex(invocation)),
            (path, SERVICE, "Result"): Variant("s", service.get("result", "success")),
            (path, SERVICE, "MainPID"): Variant("u", service.get("pid", 0)),
            (path, SERVICE, "ExecMainCode"): Variant("i", service.get("code", 0)),
            (path, SERVICE, "ExecMainStatus"): Variant("i", service.get("status", 0)),
        }

    async def signal(self, member: str, signature: str, *body: object) -> None:
        """Signal something of the manager."""
        await self._say(Message.new_signal(ROOT, MANAGER, member, signature, list(body)))

    async def changed(self, unit: str, interface: str, changes: Mapping[str, Variant]) -> None:
        """Signal that properties of a unit have changed."""
        body: list[Any] = [interface, dict(changes), []]
        path = unit_path(unit)
        await self._say(Message.new_signal(path, PROPERTIES, "PropertiesChanged", "sa{sv}as", body))

    async def _say(self, message: Message) -> None:
        assert self._bus is not None
        await self._bus.send(message)  # pyright: ignore[reportUnknownMemberType]

    def _answer(self, message: Message) -> Message | bool:
        if message.message_type is not MessageType.METHOD_CALL:
            return False
        if message.interface == PROPERTIES and message.member == "Get":
            interface, name = message.body
            value = self.properties.get((message.path or "", interface, name))
            if value is None:
                error = "org.freedesktop.DBus.Error.UnknownObject"
                return Message.new_error(message, error, f"Unknown object '{message.path}'.")
            return Message.new_method_return(message, "v", [value])
        if message.interface != MANAGER or message.member is None:
            return False
        self.asked.append((message.member, message.body))
        self._was_asked.set()
        if message.member in self.refuses:
            return Message.new_error(message, *self.refuses[message.member])
        return Message.new_method_return(message, *self.answers.get(message.member, ("", [])))
