"""What the daemon itself tells: its state, and what happened in the last days."""

import time
from pathlib import Path
from typing import Final

import msgspec

from supervisor.cli.client import Client
from supervisor.cli.command import CommandError, Exit
from supervisor.cli.diagnose.facts import Away, Daemon, Incidents
from supervisor.model.incident import Incident, IncidentDetail
from supervisor.model.reading import Missing
from supervisor.model.status import Status

DAYS: Final = 7
DAY_S: Final = 86400.0
MOST_INCIDENTS: Final = 200
MOST_DETAILS: Final = 20  # each with up to 2,000 readings

DOING: Final = "ask the daemon"


def ask_daemon(socket: Path, *, details: bool) -> Daemon | Away:
    """Ask for its state and its incidents, with `details` for all of the newest ones."""
    try:
        client = Client(socket, DOING)
    except CommandError as error:
        if error.code is Exit.NOT_RUNNING:
            return Away(str(socket), "not-running", _why(error))
        return Away(str(socket), "refused", _why(error))
    try:
        document = client.status_document()
        status = msgspec.json.decode(document, type=Status)
    except CommandError as error:
        return Away(str(socket), "silent", _why(error))
    except msgspec.MsgspecError as error:
        return Away(str(socket), "silent", f"the daemon's answer is not understood: {error}")
    else:
        incidents = _incidents(client, details=details)
        return Daemon(str(socket), status, document, incidents, _log_dir(client, status))
    finally:
        client.close()


def _incidents(client: Client, *, details: bool) -> Incidents | Missing:
    try:
        newest = client.incidents(None, time.time() - DAYS * DAY_S, MOST_INCIDENTS)
    except CommandError as error:
        return Missing(_why(error))
    return Incidents(newest, _details(client, newest[:MOST_DETAILS]) if details else ())


def _details(client: Client, incidents: tuple[Incident, ...]) -> tuple[IncidentDetail, ...]:
    found: list[IncidentDetail] = []
    for incident in incidents:
        try:
            found.append(client.incident(incident.id))
        except CommandError:  # the others are worth having
            continue
    return tuple(found)


def _log_dir(client: Client, status: Status) -> str | None:
    """Return the directory of the workers' files, which all are in one."""
    first = next((worker.name for worker in status.workers if worker.unit is None), None)
    try:
        return None if first is None else str(client.log_file(first).parent)
    except CommandError:
        return None


def _why(error: CommandError) -> str:
    return str(error).removeprefix(f"cannot {DOING}: ")
