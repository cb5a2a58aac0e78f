"""What happened in the last days, from the file: for when the daemon does not run."""

import os
import sqlite3
import time
from pathlib import Path

import msgspec

from supervisor.cli.diagnose.facts import Incidents
from supervisor.cli.diagnose.gather.daemon import DAY_S, DAYS, MOST_DETAILS, MOST_INCIDENTS
from supervisor.daemon.history_queries import find_incident, find_incidents
from supervisor.daemon.history_store import read_only
from supervisor.model.reading import Missing


def read_history(path: Path, *, details: bool) -> Incidents | Missing:
    """Read the newest incidents, as their owner only: SQLite makes files beside them."""
    try:
        if path.stat().st_uid != os.geteuid():
            return Missing(f"{path} belongs to another user")
        with read_only(path) as connection:
            newest = find_incidents(connection, None, time.time() - DAYS * DAY_S, MOST_INCIDENTS)
            wanted = newest[:MOST_DETAILS] if details else ()
            found = (find_incident(connection, incident.id) for incident in wanted)
            return Incidents(newest, tuple(detail for detail in found if detail is not None))
    except OSError as error:
        return Missing(f"cannot read {path}: {error.strerror}")
    except (sqlite3.Error, msgspec.MsgspecError) as error:
        return Missing(f"cannot read {path}: {error}")
