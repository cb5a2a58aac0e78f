"""Makes news of the kernel's log: which GPU an Xid is of, and whose process a pid was."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from supervisor.model.action import Notice
from supervisor.model.news import KernelNews, OomKilled, XidSeen
from supervisor.model.reading import Missing
from supervisor.model.snapshot import GpuSample
from supervisor.sense.kernel_lines import FALLEN_OFF, OomKillLine, XidLine, merged, parse_line
from supervisor.sense.kernel_log import KernelLog, Record

GPUS_KNOWN_S: Final = 10.0  # an Xid waits so long for the first reading of the GPUs
SAME_FALL_S: Final = 5.0  # two lines of the driver say of one GPU that it has fallen off the bus
AGAIN_S: Final = 1.0  # the same again so soon asks for no turn of its own
WAITING_MOST: Final = 256  # different Xids at a time; one GPU has some 170 codes

_Key = tuple[str, int, int | None]
Owner = Callable[[int], tuple[str, str] | None]


class Around(Struct, frozen=True):
    """What must be known, and whom to tell: `owner` returns the worker and the run that a pid is of."""

    owner: Owner
    gpus: Callable[[], Sequence[GpuSample]]
    nudge: Callable[[], None]
    notice: Callable[[Notice], None]


class KernelListener:
    """Hears the kernel's log. It waits for nothing; all of it is in the loop's thread."""

    def __init__(self, log: KernelLog | Missing, around: Around, *, foreign_pids: str | None) -> None:
        """Take over a log that was not read yet; with `foreign_pids`, pids in it are nobody's here."""
        self._log = log
        self._around = around
        self._foreign_pids = foreign_pids is not None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._xids: dict[_Key, tuple[float, XidSeen]] = {}  # and when each was first heard
        self._kills: dict[int, OomKilled] = {}  # by pid
        self._last_kill: OomKillLine | None = None
        self._fallen_s: dict[str, float] = {}
        self._nudged_s: dict[_Key, float] = {}

    @property
    def missing(self) -> Missing | None:
        """Why nothing is heard of it; None while it is read."""
        return self._log if isinstance(self._log, Missing) else self._log.ended

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Read what was said before the daemon began, and hear what is said from now on."""
        if isinstance(self._log, Missing):
            text = f"{self._log.why}: Xids and kills by the kernel are known as far as others tell of them"
            self._around.notice(Notice("info", "no kernel log", text))
            return
        self._hear(self._log.look_back())
        self._loop = loop
        loop.add_reader(self._log.fileno(), self._readable)

    def take(self) -> tuple[KernelNews, ...]:
        """Return all that the log has said since; it is then gone."""
        self._read()
        if not self._kills and not self._xids:
            return ()
        kills, self._kills = tuple(self._kills.values()), {}
        return (*kills, *self._placed(time.monotonic()))

    def close(self) -> None:
        """Hear no more."""
        self._stop_reading()
        if isinstance(self._log, KernelLog):
            self._log.close()

    def _placed(self, now_s: float) -> Sequence[XidSeen]:
        """Return the Xids whose GPU is known by now, or was waited for; as the log has them."""
        uuids = {gpu.bus_id: gpu.uuid for gpu in self._around.gpus() if isinstance(gpu.bus_id, str)}
        ready = {
            key: seen
            for key, (heard_s, seen) in self._xids.items()
            if seen.bus_id in uuids or now_s - heard_s >= GPUS_KNOWN_S
        }
        self._xids = {key: held for key, held in self._xids.items() if key not in ready}
        found = [replace(seen, gpu=uuids.get(seen.bus_id)) for seen in ready.values()]
        return sorted(found, key=lambda seen: seen.seq)

    def _readable(self) -> None:
        if self._read():
            self._around.nudge()

    def _read(self) -> bool:
        """Read what has come; return whether it is worth a turn."""
        if self._loop is None or isinstance(self._log, Missing):
            return False
        fresh = self._hear(self._log.read())
        if self._log.ended is not None:
            self._around.notice(Notice("warning", "no kernel log", self._log.ended.why))
            self._stop_reading()
        return fresh

    def _stop_reading(self) -> None:
        if self._loop is not None and isinstance(self._log, KernelLog):
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.remove_reader(self._log.fileno())
        self._loop = None

    def _hear(self, records: Iterable[Record]) -> bool:
        fresh = False
        for record in records:
            said = parse_line(record.text)
            if isinstance(said, XidLine):
                fresh = self._hear_xid(record, said) or fresh
            elif said is not None:
                fresh = self._hear_kill(record, said) or fresh
        return fresh

    def _hear_xid(self, record: Record, said: XidLine) -> bool:
        if said.code == FALLEN_OFF:
            before_s = self._fallen_s.get(said.bus_id)
            self._fallen_s[said.bus_id] = record.at_s
            if said.companion and before_s is not None and record.at_s - before_s < SAME_FALL_S:
                return False
        key = (said.bus_id, said.code, said.pid)
        heard_s, former = self._xids.get(key, (time.monotonic(), None))
        if former is None and len(self._xids) >= WAITING_MOST:
            return False
        # Of a storm, whose process it is is looked for once: that asks every worker.
        worker, run = self._owner(said.pid) if former is None else (former.worker, former.run)
        count = 1 if former is None else former.count + 1
        self._xids[key] = (
            heard_s,
            XidSeen(
                said.code,
                said.text,
                said.bus_id,
                record.seq,
                record.at_s,
                pid=said.pid,
                worker=worker,
                run=run,
                count=count,
            ),
        )
        return self._is_new(key, record.at_s)

    def _is_new(self, key: _Key, now_s: float) -> bool:
        self._nudged_s = {one: at_s for one, at_s in self._nudged_s.items() if now_s - at_s < AGAIN_S}
        if key in self._nudged_s:
            return False
        self._nudged_s[key] = now_s
        return True

    def _hear_kill(self, record: Record, said: OomKillLine) -> bool:
        """Take one of the two lines of a kill; what the other said of the same process is added."""
        if self._last_kill is not None and self._last_kill.pid == said.pid:
            said = merged(self._last_kill, said)
        self._last_kill = said
        worker, run = self._owner(said.pid)
        if worker is None or run is None:
            return False
        self._kills[said.pid] = OomKilled(
            worker,
            run,
            said.pid,
            said.name,
            record.at_s,
            scope=said.scope,
            anon_bytes=said.anon_bytes,
            file_bytes=said.file_bytes,
            shmem_bytes=said.shmem_bytes,
        )
        return True

    def _owner(self, pid: int | None) -> tuple[str, str] | tuple[None, None]:
        found = None if pid is None or self._foreign_pids else self._around.owner(pid)
        return (None, None) if found is None else found
