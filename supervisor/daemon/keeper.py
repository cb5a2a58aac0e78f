"""What must outlive the daemon: its memory of each worker, in a file each, within one boot.

The files lie in the runtime directory, which is memory itself: writing one neither waits for a disk
nor fails when it is full. What shall outlive the machine too goes to the history.
"""

import contextlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from supervisor.model.memory import AlertsMemory, GpuMemory, Memory, WorkerMemory

HEADER: Final = "_memory.json"  # no worker has such a name
ALERTS: Final = "_alerts.json"


class Header(Struct, frozen=True):
    """Whose memory it is."""

    format: int
    boot_id: str
    instance: str
    gpus: Mapping[str, GpuMemory] = {}  # those in quarantine, and those that had Xids


class Kept(Struct, frozen=True):
    """What was found of an earlier daemon."""

    boot_id: str
    memory: Memory


class Keeper:
    """Writes what changed in a turn before the turn is carried out."""

    def __init__(self, directory: Path, boot_id: str, warn: Callable[[str], None]) -> None:
        """Keep it under `directory`; `warn` is told once when that cannot be written."""
        self._directory = directory
        self._boot_id = boot_id
        self._warn = warn
        self._warned = False
        self._written: dict[str, tuple[object, ...]] = {}
        self._unwritten: set[str] = set()
        self._gpus: Mapping[str, GpuMemory] = {}
        self._alerts = AlertsMemory()

    def load(self) -> Kept | None:
        """Return what an earlier daemon left, or None where there is nothing that can be read."""
        try:
            header = msgspec.json.decode((self._directory / HEADER).read_bytes(), type=Header)
        except (OSError, UnicodeDecodeError, msgspec.MsgspecError):
            return None
        if header.format != 1:
            return None
        workers = {one.name: one for path in self._files() if (one := self._read(path)) is not None}
        self._written = dict.fromkeys(workers, ())  # a file that is no longer wanted is removed
        memory = Memory(header.instance, workers, gpus=header.gpus, alerts=self._read_alerts())
        return Kept(header.boot_id, memory)

    def _files(self) -> list[Path]:
        return sorted(path for path in self._directory.glob("*.json") if not path.name.startswith("_"))

    def _read(self, path: Path) -> WorkerMemory | None:
        try:
            return msgspec.json.decode(path.read_bytes(), type=WorkerMemory)
        except (OSError, UnicodeDecodeError, msgspec.MsgspecError) as error:
            self._warn(f"cannot read {path}: {error}; the worker is found by its environment alone")
            return None

    def _read_alerts(self) -> AlertsMemory:
        path = self._directory / ALERTS
        try:
            return msgspec.json.decode(path.read_bytes(), type=AlertsMemory)
        except FileNotFoundError:
            return AlertsMemory()
        except (OSError, UnicodeDecodeError, msgspec.MsgspecError) as error:
            self._warn(f"cannot read {path}: {error}; alerts that fire are told anew")
            return AlertsMemory()

    def begin(self, memory: Memory) -> None:
        """Say whose memory lies here from now on."""
        self._gpus = _lasting(memory)
        self._write(HEADER, msgspec.json.encode(Header(1, self._boot_id, memory.instance, self._gpus)))

    def keep(self, memory: Memory) -> list[WorkerMemory]:
        """Write each worker that has taken a step since it was last written; return those."""
        changed: list[WorkerMemory] = []
        for name, worker in memory.workers.items():
            step = _step(worker)
            stepped = step != self._written.get(name)
            if stepped:
                self._written[name] = step
                changed.append(worker)
            if not stepped and name not in self._unwritten:
                continue
            self._unwritten.discard(name)
            if not self._write(f"{name}.json", msgspec.json.encode(worker)):
                self._unwritten.add(name)  # tried again in each turn
        for name in [name for name in self._written if name not in memory.workers]:
            del self._written[name]
            self._unwritten.discard(name)
            with contextlib.suppress(OSError):
                (self._directory / f"{name}.json").unlink()
        if _lasting(memory) != self._gpus:
            self.begin(memory)
        alerts = replace(memory.alerts, judged_s=0.0)  # not that they were judged, but how
        if alerts != self._alerts and self._write(ALERTS, msgspec.json.encode(alerts)):
            self._alerts = alerts
        return changed

    def _write(self, name: str, text: bytes) -> bool:
        path = self._directory / name
        beside = path.with_suffix(".new")
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(text)
            beside.rename(path)
        except OSError as error:
            if not self._warned:
                self._warn(f"cannot write {path}: {error}; a crash of the supervisor may lose what it knows")
            self._warned = True
            return False
        self._warned = False
        return True


def _lasting(memory: Memory) -> dict[str, GpuMemory]:
    return {
        uuid: GpuMemory(
            quarantine=gpu.quarantine,
            residual_limit_bytes=gpu.residual_limit_bytes,
            until_reset=gpu.until_reset,
            xids=gpu.xids,
            last_xid=gpu.last_xid,
        )
        for uuid, gpu in memory.gpus.items()
        if gpu.quarantine is not None or gpu.xids
    }


def _step(worker: WorkerMemory) -> tuple[object, ...]:
    """Return what makes a difference to the next daemon: not each reading, but each step."""
    life = worker.life
    lived = None
    if life is not None:
        lived = (
            life.run,
            life.plan,
            life.identity,
            life.ready_s,
            life.start_by_s,
            life.was_below_cap,
            life.leak_told,
            life.seen_gpus,
            life.told,
            life.xid,
            life.oom_kill,
        )
    return (
        worker.phase,
        worker.wanted,
        worker.stop,
        worker.lives,
        worker.restarts,
        worker.failures_s,
        worker.other_failures_s,
        worker.backoff,
        worker.held,
        worker.done,
        worker.rung,
        worker.oom_events,
        worker.footing,
        worker.pending,
        worker.incident,
        worker.above_cap_lives,
        worker.learned,
        lived,
    )
