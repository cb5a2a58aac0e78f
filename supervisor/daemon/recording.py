"""A record of turns, as lines of JSON, and its replay through the same decisions."""

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, cast

import msgspec
from msgspec import Struct

from supervisor import __version__
from supervisor.model.memory import Decision, Memory
from supervisor.model.news import News
from supervisor.model.plan import Plan
from supervisor.model.snapshot import Snapshot

FORMAT: Final = 1
TURNS_MOST: Final = 256  # that wait for a disk

Decide = Callable[[Plan, Memory, Snapshot, Sequence[News]], Decision]


class Header(Struct, frozen=True, tag="header", tag_field="line"):
    """Where a stretch of turns begins: at the start of a file, and after turns that were left out."""

    format: int
    version: str
    plan: Plan
    memory: Memory


class Turn(Struct, frozen=True, tag="turn", tag_field="line", omit_defaults=True):
    """One turn; `plan` is there where it is another than that of the turn before."""

    snapshot: Snapshot
    news: tuple[News, ...]
    decision: Decision
    plan: Plan | None = None


class Difference(Struct, frozen=True):
    """A turn that decides otherwise now: one field of the Decision, as JSON of then and of now."""

    turn: int  # the line of the file, from 1
    taken_s: float
    field: str
    recorded: str
    replayed: str


class RecordingError(Exception):
    """A record cannot be replayed; the text says which line, and why."""


class _Taken(Struct, frozen=True):
    plan: Plan
    before: Memory
    turn: Turn


class Recorder:
    """Writes turns to a file that is its owner's alone, since plans hold environments; the loop never waits.

    The file is bounded: at half of `max_bytes` it is renamed to `PATH.1`, in place of the one before.
    When a disk refuses or is too slow, turns are left out and counted.
    """

    def __init__(self, path: Path, max_bytes: int = 256 << 20) -> None:
        """Record to `path`; nothing is made before `start`."""
        self.dropped = 0
        self._path = path
        self._half_bytes = max_bytes // 2
        self._turns: deque[_Taken] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="record", daemon=True)
        self._descriptor: int | None = None
        self._size_bytes = 0
        self._plan: Plan | None = None  # of the last line
        self._memory: Memory | None = None  # after the last line

    def start(self) -> None:
        """Begin a new file; raises OSError where it cannot be made."""
        self._open()
        self._thread.start()

    def record(
        self, plan: Plan, before: Memory, snapshot: Snapshot, news: Sequence[News], decision: Decision
    ) -> None:
        """Add a turn: what `decide` was given, and what it came to."""
        with self._changed:
            if len(self._turns) >= TURNS_MOST:
                self._turns.popleft()
                self.dropped += 1
            self._turns.append(_Taken(plan, before, Turn(snapshot, tuple(news), decision)))
            self._changed.notify_all()

    def close(self, within_s: float = 3.0) -> None:
        """Write what waits, for `within_s` at most."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join(within_s)

    def _work(self) -> None:
        while (taken := self._take()) is not None:
            try:
                self._write(taken)
            except OSError:
                self.dropped += 1
                self._memory = None  # the next line is a header again
        if self._descriptor is not None:
            os.close(self._descriptor)

    def _take(self) -> _Taken | None:
        with self._changed:
            self._changed.wait_for(lambda: self._turns or self._closed)
            return self._turns.popleft() if self._turns else None

    def _write(self, taken: _Taken) -> None:
        if self._size_bytes >= self._half_bytes:
            self._rotate()
        lines: list[Header | Turn] = []
        turn = taken.turn
        if self._memory is not taken.before:
            lines.append(Header(FORMAT, __version__, taken.plan, taken.before))
        elif self._plan is not taken.plan:
            turn = Turn(turn.snapshot, turn.news, turn.decision, taken.plan)
        lines.append(turn)
        self._append(b"".join(encode(line) + b"\n" for line in lines))
        self._plan, self._memory = taken.plan, turn.decision.memory

    def _append(self, data: bytes) -> None:
        if self._descriptor is None:
            self._open()
        assert self._descriptor is not None  # noqa: S101 - for the type checker: `_open` raises or sets it
        written = os.write(self._descriptor, data)
        if written < len(data):  # the disk is full: take the torn line back
            os.ftruncate(self._descriptor, self._size_bytes)
            raise OSError("short write")
        self._size_bytes += written

    def _rotate(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        self._path.rename(f"{self._path}.1")
        self._memory = None
        self._open()

    def _open(self) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        self._descriptor = os.open(self._path, flags, 0o600)
        os.fchmod(self._descriptor, 0o600)  # where the file was there already
        self._size_bytes = 0


def encode(line: Header | Turn) -> bytes:
    """Return a line of a record, without its end."""
    return msgspec.json.encode(line, enc_hook=_plain)


def read_turns(lines: Iterable[bytes]) -> Iterator[tuple[int, Plan, Memory, Turn]]:
    """Return each turn with its line, the plan it was given and the memory before it.

    A last line that was cut off is left out. Raises RecordingError for any other that cannot be read.
    """
    decoder = msgspec.json.Decoder(Header | Turn)
    plan: Plan | None = None
    memory: Memory | None = None
    for number, line in enumerate(lines, start=1):
        try:
            read = decoder.decode(line)
        except msgspec.DecodeError as error:
            if not line.endswith(b"\n"):
                return
            raise RecordingError(f"cannot replay line {number}: {error}") from error
        if isinstance(read, Header):
            if read.format != FORMAT:
                raise RecordingError(
                    f"cannot replay line {number}: it has format {read.format}, and this is {FORMAT}"
                )
            plan, memory = read.plan, read.memory
            continue
        plan = read.plan or plan
        if plan is None or memory is None:
            raise RecordingError(f"cannot replay line {number}: no header comes before it")
        yield number, plan, memory, read
        memory = read.decision.memory


def replay(lines: Iterable[bytes], decide: Decide) -> Iterator[Difference]:
    """Decide every turn again and return what differs.

    Each turn starts from the memory that was recorded before it, so that one difference makes no others.
    """
    for number, plan, memory, turn in read_turns(lines):
        decision = decide(plan, memory, turn.snapshot, turn.news)
        then, now = _fields(turn.decision), _fields(decision)
        for field in Decision.__struct_fields__:
            if then[field] != now[field]:
                recorded, replayed = (msgspec.json.encode(side[field]).decode() for side in (then, now))
                yield Difference(number, turn.snapshot.taken_s, field, recorded, replayed)


def _fields(decision: Decision) -> Mapping[str, object]:
    """Return a decision as JSON has it, so that one that was read and one that was made compare."""
    plain: Mapping[str, object] = msgspec.json.decode(msgspec.json.encode(decision, enc_hook=_plain))
    return plain


def _plain(value: object) -> object:
    """Encode what msgspec does not: mappings that are no dict, and sets."""
    if isinstance(value, Mapping):
        return dict(cast("Mapping[object, object]", value))
    if isinstance(value, frozenset | set):
        return sorted(cast("frozenset[str]", value))
    raise NotImplementedError(f"cannot record a {type(value).__name__}")
