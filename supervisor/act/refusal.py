"""Why a worker could not be launched, in words that an operator can act on."""

import errno
from typing import Final

PASSING: Final = frozenset(
    {
        errno.EAGAIN,  # RLIMIT_NPROC or a full pids cgroup
        errno.ENOMEM,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EIO,
        errno.ESTALE,
        errno.EINTR,
        errno.EBUSY,
        errno.ETXTBSY,  # the program is being replaced
        errno.EADDRINUSE,
    }
)


class CannotLaunchError(Exception):
    """The launch ends here; `hopeless` says that the same attempt cannot succeed later."""

    def __init__(self, why: str, *, hopeless: bool) -> None:
        """Keep why, and whether a later attempt may go better."""
        super().__init__(why)
        self.why = why
        self.hopeless = hopeless


def because(what: str, error: OSError) -> CannotLaunchError:
    """Return the refusal for an error of the operating system; shortages pass, all else is hopeless."""
    reason = error.strerror or str(error)
    return CannotLaunchError(f"cannot {what}: {reason}", hopeless=error.errno not in PASSING)
