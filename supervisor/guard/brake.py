"""Ends a trial, or a piece of work, before the memory that it would need next is gone."""

import sys
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final, NoReturn, Protocol

from supervisor.guard.events import note, warn
from supervisor.guard.room import Room, Unreadable, smallest_room

_GIB: Final = 1 << 30
_CALM: Final = 1.05  # the warning ends 5 % above where it began, as the levels of pressure do


class Trial(Protocol):
    """What is asked of a trial; Optuna's has it."""

    def set_user_attr(self, key: str, value: Any) -> None:  # noqa: ANN401 - Optuna's own type
        """Keep a value with the trial."""


class MemoryEmergency(RuntimeError):  # noqa: N818 - the name of the interface
    """So little memory is left that the work has to stop.

    It is no MemoryError: that would be taken for an out-of-memory, and the same work be tried again in
    smaller pieces, while what the brake wants is that the work ends and lets go of what it holds.
    """


class MemoryMonitor:
    """Watches the room of this process, of whichever is least: host, cgroups or GPU_SUPERVISOR_MEMORY_CAP.

    A gb is 2**30 bytes. Every check reads anew, since a reading of a second ago may be 6 GB out of date; it
    takes 40 us, or 250 us six cgroups deep. Threads may share it.
    """

    def __init__(
        self,
        safe_threshold_gb: float = 2.0,
        warning_threshold_gb: float = 4.0,
        *,
        read: Callable[[], Room | Unreadable] = smallest_room,
        modules: Mapping[str, Any] = sys.modules,
    ) -> None:
        """Begin without a reading. Raises ValueError unless 0 <= safe <= warning."""
        if not 0 <= safe_threshold_gb <= warning_threshold_gb:
            raise ValueError(
                "cannot watch memory: 0 <= safe <= warning is not true of "
                f"{safe_threshold_gb}, {warning_threshold_gb}"
            )
        self._safe_bytes = safe_threshold_gb * _GIB
        self._warning_bytes = warning_threshold_gb * _GIB
        self._read = read
        self._modules = modules
        self._warned = False
        self._unreadable = False

    def check(self, trial: Trial | None = None, context: str = "") -> Room | Unreadable:
        """Return the room, or end the work where it is below the safe threshold.

        `context` says where in the work this is. With a trial, and Optuna loaded, it raises
        `optuna.TrialPruned`, else MemoryEmergency. The trial is first given the attributes
        `emergency_killed`, `kill_reason` and `available_gb_at_kill`. What cannot be read ends nothing.
        """
        room = self._read()
        if isinstance(room, Unreadable):
            if not self._unreadable:
                warn("memory not readable: %s", room.why)
            self._unreadable = True
            return room
        self._unreadable = False
        if room.available_bytes < self._safe_bytes:
            self._end(room, trial, context)
        self._tell(room, context)
        return room

    def _tell(self, room: Room, context: str) -> None:
        if not self._warned and room.available_bytes < self._warning_bytes:
            self._warned = True
            warn("memory short: %s", _in_words(room, self._warning_bytes, context))
        elif self._warned and room.available_bytes >= self._warning_bytes * _CALM:
            self._warned = False
            note("memory no longer short: %.2f GiB of %s", room.available_bytes / _GIB, room.source)

    def _end(self, room: Room, trial: Trial | None, context: str) -> NoReturn:
        reason = _in_words(room, self._safe_bytes, context)
        warn("emergency brake: %s", reason)
        if trial is not None:
            _mark(trial, reason, room.available_bytes / _GIB)
        optuna = self._modules.get("optuna")
        # From None: an out-of-memory that is being handled would show through, and be retried.
        if trial is not None and optuna is not None:
            raise optuna.TrialPruned(reason) from None
        raise MemoryEmergency(reason) from None


def check_memory(
    trial: Trial | None = None,
    context: str = "",
    safe_threshold_gb: float = 2.0,
    warning_threshold_gb: float = 4.0,
) -> Room | Unreadable:
    """Check once, as `MemoryMonitor.check` does; all calls with the same thresholds share their warning."""
    return _monitor(safe_threshold_gb, warning_threshold_gb).check(trial, context)


@lru_cache(maxsize=64)  # thresholds that are worked out for each trial are not kept for ever
def _monitor(safe_threshold_gb: float, warning_threshold_gb: float) -> MemoryMonitor:
    return MemoryMonitor(safe_threshold_gb, warning_threshold_gb)


def _mark(trial: Trial, reason: str, available_gb: float) -> None:
    try:
        trial.set_user_attr("emergency_killed", True)  # noqa: FBT003 - Optuna's own signature
        trial.set_user_attr("kill_reason", reason)
        trial.set_user_attr("available_gb_at_kill", round(available_gb, 3))
    except Exception as error:  # noqa: BLE001 - whatever a storage raises, the brake has to hold
        warn("attributes of the trial not stored: %s", error)


def _in_words(room: Room, below_bytes: float, context: str) -> str:
    where = f", at {context}" if context else ""
    return (
        f"{room.available_bytes / _GIB:.2f} GiB of memory left by {room.source}, "
        f"below {below_bytes / _GIB:.2f} GiB{where}"
    )
