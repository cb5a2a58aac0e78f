"""systemd over D-Bus: every question with a deadline, and what it signals of its own accord.

Interface: org.freedesktop.systemd1(5). Of the units only a few properties are asked for: all of a
service's are some 300, and take systemd itself a millisecond to write down.
"""

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, cast

from dbus_fast.aio.message_bus import MessageBus
from dbus_fast.constants import BusType, MessageType
from dbus_fast.errors import AuthError, DBusError, InvalidAddressError
from dbus_fast.message import Message
from dbus_fast.signature import Variant
from msgspec import Struct

SYSTEMD: Final = "org.freedesktop.systemd1"
ROOT: Final = "/org/freedesktop/systemd1"
UNITS: Final = f"{ROOT}/unit/"
MANAGER: Final = f"{SYSTEMD}.Manager"
UNIT: Final = f"{SYSTEMD}.Unit"
SERVICE: Final = f"{SYSTEMD}.Service"
JOB: Final = f"{SYSTEMD}.Job"
PROPERTIES: Final = "org.freedesktop.DBus.Properties"
CONNECT_S: Final = 5.0
ANSWER_S: Final = 25.0  # libdbus' own default; a daemon-reload of a big machine takes seconds
# dbus-daemon refuses the 129th call of a connection that waits for its answer (max_replies_per_connection).
CALLS_AT_ONCE: Final = 64
_OF_UNIT: Final = {"ActiveState": "active", "SubState": "sub", "InvocationID": "invocation"}
_OF_SERVICE: Final = {
    "Result": "result",
    "MainPID": "main_pid",
    "ExecMainCode": "code",
    "ExecMainStatus": "status",
}
_PROPERTIES: Final = {**_OF_UNIT, **_OF_SERVICE}
# Without a path for the units: a bus takes 512 rules of one connection, and there may be 1,000 workers.
SIGNALS: Final = (
    f"type='signal',sender='{SYSTEMD}',interface='{MANAGER}',member='JobNew',path='{ROOT}'",
    f"type='signal',sender='{SYSTEMD}',interface='{MANAGER}',member='JobRemoved',path='{ROOT}'",
    f"type='signal',sender='{SYSTEMD}',interface='{PROPERTIES}',path_namespace='{ROOT}/unit'",
)


class SystemdError(Exception):
    """systemd refused, or could not be asked; `name` is that of the D-Bus error, empty without one."""

    def __init__(self, why: str, name: str = "") -> None:
        """Say why."""
        super().__init__(why)
        self.name = name.rpartition(".")[2]


class UnitState(Struct, frozen=True):
    """A service as systemd sees it; `code` is that of waitid(2) (CLD_EXITED and so on), 0 for none yet."""

    active: str = "inactive"  # active, activating, deactivating, failed, inactive, reloading, maintenance
    sub: str = "dead"
    result: str = "success"
    main_pid: int = 0
    code: int = 0
    status: int = 0
    invocation: str = ""

    @property
    def over(self) -> bool:
        """Tell whether nothing of it runs any more."""
        return self.active in {"inactive", "failed"}


class UnitChanged(Struct, frozen=True):
    """A unit has changed; `state` holds what systemd told along with it."""

    unit: str
    state: UnitState


class JobBegun(Struct, frozen=True):
    """A job was enqueued, by us or by anybody."""

    unit: str
    job: str  # its object path


class JobEnded(Struct, frozen=True):
    """A job is over: done, canceled, timeout, failed, dependency, skipped ..."""

    unit: str
    job: str
    result: str


Heard = UnitChanged | JobBegun | JobEnded


class Systemd:
    """One connection to systemd's manager. Used in the thread of its event loop only.

    Every method raises SystemdError, also where the connection is gone; a new one is then made with
    `connect`.
    """

    def __init__(self, bus: MessageBus, heard: Callable[[Heard], None]) -> None:
        """Take a connection; `connect` makes it. `heard` is called in the loop with every signal."""
        self._bus = bus
        self._heard = heard
        self._calls = asyncio.Semaphore(CALLS_AT_ONCE)
        self._states: dict[str, dict[str, object]] = {}  # of watched units, as last signalled or asked
        bus.add_message_handler(self._hear)  # pyright: ignore[reportUnknownMemberType]

    @classmethod
    async def connect(cls, heard: Callable[[Heard], None]) -> "Systemd":
        """Connect to the system bus, and have systemd signal. Raises SystemdError."""
        try:
            async with asyncio.timeout(CONNECT_S):
                bus = await MessageBus(bus_type=BusType.SYSTEM).connect()
        except (OSError, AuthError, DBusError, EOFError, InvalidAddressError) as error:  # a timeout too
            why = str(error) or "no answer"
            raise SystemdError(f"cannot reach the system bus: {why}") from error
        systemd = cls(bus, heard)
        try:
            for rule in SIGNALS:
                await systemd._ask_bus("AddMatch", "s", [rule])
            await systemd._ask("Subscribe")
        except SystemdError:
            systemd.close()
            raise
        return systemd

    async def lost(self) -> str:
        """Wait until the connection is gone; return why."""
        try:
            # All who wait share one future: one who is cancelled must not cancel it for the others.
            await asyncio.shield(self._bus.wait_for_disconnect())  # type: ignore[no-untyped-call]
        except (OSError, EOFError) as error:
            return str(error) or type(error).__name__
        return "it was closed"

    def close(self) -> None:
        """Close the connection; systemd lets go of what it held for us."""
        with contextlib.suppress(OSError):
            self._bus.disconnect()

    async def reload(self) -> None:
        """Have systemd read all unit files again."""
        await self._ask("Reload")

    async def start(self, unit: str) -> str:
        """Enqueue a start; return its job, whose end is signalled."""
        return cast("str", (await self._ask("StartUnit", "ss", [unit, "replace"]))[0])

    async def start_transient(self, unit: str, properties: Sequence[tuple[str, str, object]]) -> str:
        """Enqueue the start of a unit that has no file but these properties; return its job.

        Each property is a name, a D-Bus signature and a value. Refused (UnitExists) while one of this name is
        loaded, which this one is until it has ended and `let_go` was called, or the connection is gone.
        """
        held = [["AddRef", Variant("b", True)]]  # noqa: FBT003 - a value of D-Bus
        told = [[name, Variant(signature, value)] for name, signature, value in properties]
        body: list[object] = [unit, "fail", held + told, []]
        return cast("str", (await self._ask("StartTransientUnit", "ssa(sv)a(sa(sv))", body))[0])

    async def stop(self, unit: str) -> str:
        """Enqueue a stop, in place of whatever else is to be done with the unit; return its job."""
        return cast("str", (await self._ask("StopUnit", "ss", [unit, "replace"]))[0])

    async def kill(self, unit: str, whom: str, signum: int) -> None:
        """Send a signal to `whom` (main or all) of a unit."""
        await self._ask("KillUnit", "ssi", [unit, whom, signum])

    async def hold(self, unit: str) -> None:
        """Load a unit and keep systemd from forgetting how it ended, while this connection lasts."""
        await self._ask("RefUnit", "s", [unit])

    async def let_go(self, unit: str) -> None:
        """Take `hold` back."""
        await self._ask("UnrefUnit", "s", [unit])

    async def units(self, pattern: str) -> Mapping[str, str]:
        """Return the loaded units whose names match a glob, each with its active state."""
        found = (await self._ask("ListUnitsByPatterns", "asas", [[], [pattern]]))[0]
        return {str(one[0]): str(one[3]) for one in cast("Sequence[Sequence[object]]", found)}

    async def manager_state(self) -> str:
        """Return systemd's own state: running, degraded, stopping ..."""
        return str(await self._property(ROOT, MANAGER, "SystemState"))

    async def job_type(self, job: str) -> str:
        """Return what a job does: start, stop, restart ..."""
        return str(await self._property(job, JOB, "JobType"))

    async def job_of(self, unit: str) -> str | None:
        """Return what is being done with a unit: start, stop, restart ...; None for nothing."""
        job = cast("Sequence[object]", await self._property(unit_path(unit), UNIT, "Job"))
        return await self.job_type(str(job[1])) if job[0] else None

    async def state(self, unit: str) -> UnitState:
        """Ask for the state of a unit, which is loaded for it; from then on its changes are heard."""
        path = unit_path(unit)
        known: dict[str, object] = {}
        self._states[unit] = known
        values = await asyncio.gather(
            *(self._property(path, UNIT, name) for name in _OF_UNIT),
            *(self._property(path, SERVICE, name) for name in _OF_SERVICE),
        )
        for name, value in zip(_PROPERTIES, values, strict=True):
            known.setdefault(name, value)  # what was signalled meanwhile is at least as new
        return _state_of(known)

    def forget(self, unit: str) -> None:
        """Let go of what was kept of a unit."""
        self._states.pop(unit, None)

    async def _property(self, path: str, interface: str, name: str) -> object:
        body = await self._call(path, PROPERTIES, "Get", "ss", [interface, name])
        return body[0].value

    async def _ask(self, member: str, signature: str = "", body: list[object] | None = None) -> list[Any]:
        return await self._call(ROOT, MANAGER, member, signature, body)

    async def _ask_bus(self, member: str, signature: str, body: list[object]) -> None:
        name, path = "org.freedesktop.DBus", "/org/freedesktop/DBus"
        message = Message(name, path, name, member, signature=signature, body=body)
        await self._send(message)

    async def _call(
        self, path: str, interface: str, member: str, signature: str = "", body: list[object] | None = None
    ) -> list[Any]:
        message = Message(SYSTEMD, path, interface, member, signature=signature, body=body or [])
        return await self._send(message)

    async def _send(self, message: Message) -> list[Any]:
        async with self._calls:
            return await self._send_now(message)

    async def _send_now(self, message: Message) -> list[Any]:
        if not self._bus.connected:
            raise SystemdError("cannot ask systemd: the connection to the system bus is gone")
        try:
            async with asyncio.timeout(ANSWER_S):
                reply = await self._bus.call(message)
        except TimeoutError:
            raise SystemdError(f"systemd does not answer {message.member} within {ANSWER_S:.0f} s") from None
        except (OSError, EOFError, DBusError) as error:
            why = str(error) or "the connection is gone"
            raise SystemdError(f"cannot ask systemd: {why}") from error
        if reply.message_type is MessageType.ERROR:
            raise SystemdError(
                str(reply.body[0]) if reply.body else str(reply.error_name), reply.error_name or ""
            )
        return reply.body

    def _hear(self, message: Message) -> None:
        if message.message_type is not MessageType.SIGNAL:
            return
        if message.member == "PropertiesChanged":
            self._changed(message)
        elif message.member == "JobNew":
            self._heard(JobBegun(message.body[2], message.body[1]))
        elif message.member == "JobRemoved":
            self._heard(JobEnded(message.body[2], message.body[1], message.body[3]))

    def _changed(self, message: Message) -> None:
        """Take a change; systemd tells of the service first and of the unit after, and then both hold."""
        unit = unit_of(message.path or "")
        if unit is None or not unit.startswith("gpu-worker-"):
            return
        known = self._states.setdefault(unit, {})
        known.update((name, value.value) for name, value in message.body[1].items() if name in _PROPERTIES)
        if message.body[0] == UNIT:
            self._heard(UnitChanged(unit, _state_of(known)))


def _state_of(found: Mapping[str, object]) -> UnitState:
    values = {_PROPERTIES[name]: value for name, value in found.items()}
    invocation = cast("bytes", values.pop("invocation", b""))
    return UnitState(invocation=bytes(invocation).hex(), **cast("dict[str, Any]", values))


def unit_path(unit: str) -> str:
    """Return the object path of a unit: all but letters and digits as _XX, a leading digit too."""
    escaped = "".join(
        chr(byte) if _plain(byte) and not (place == 0 and chr(byte).isdigit()) else f"_{byte:02x}"
        for place, byte in enumerate(unit.encode())
    )
    return f"{UNITS}{escaped or '_'}"


def unit_of(path: str) -> str | None:
    """Return the unit of an object path; None where it is no unit's."""
    if not path.startswith(UNITS):
        return None
    first, *rest = path.removeprefix(UNITS).split("_")
    try:
        return first + "".join(chr(int(piece[:2], 16)) + piece[2:] for piece in rest)
    except ValueError:
        return None


def _plain(byte: int) -> bool:
    return chr(byte).isascii() and chr(byte).isalnum()
