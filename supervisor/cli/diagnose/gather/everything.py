"""Gathers all facts, at the same time as far as one does not need the other."""

import os
import platform
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from msgspec import Struct

from supervisor import __version__
from supervisor.cli.client import SYSTEM_SOCKET, control_path
from supervisor.cli.diagnose.facts import Away, Configuration, Daemon, Facts, Incidents
from supervisor.cli.diagnose.gather.access import read_access
from supervisor.cli.diagnose.gather.config import read_configuration
from supervisor.cli.diagnose.gather.daemon import ask_daemon
from supervisor.cli.diagnose.gather.driver import read_driver
from supervisor.cli.diagnose.gather.gpus import find_owners, read_gpus
from supervisor.cli.diagnose.gather.history import read_history
from supervisor.cli.diagnose.gather.host import read_disks, read_host
from supervisor.cli.diagnose.gather.kernel_log import read_kernel_log
from supervisor.cli.diagnose.gather.output import read_output
from supervisor.cli.diagnose.gather.task import Task
from supervisor.cli.diagnose.gather.units import read_units
from supervisor.cli.diagnose.trouble import in_trouble
from supervisor.daemon.places import Places, find_places
from supervisor.model.plan import Plan
from supervisor.model.reading import Missing

FIRST_S: Final = 25.0  # the driver may take 20
SECOND_S: Final = 20.0
LINES: Final = 10  # of a worker in trouble
LINES_BUNDLED: Final = 500  # of every worker


class Asked(Struct, frozen=True):
    """What was asked for: other places than the usual, and whether a bundle is made of it."""

    socket: str | None = None
    config: Path | None = None
    bundle: bool = False


def gather(asked: Asked) -> Facts:
    """Read everything; each part has its deadline, and what is not read by then is Missing."""
    socket = control_path(asked.socket, os.environ, os.getuid())
    places = find_places({}, 0) if socket == SYSTEM_SOCKET else find_places(os.environ, os.getuid())
    host = Task("the host", read_host, FIRST_S)
    gpus = Task("the GPUs", read_gpus, FIRST_S)
    driver = Task("the driver's versions", read_driver, FIRST_S)
    kernel_log = Task("the kernel log", read_kernel_log, FIRST_S)
    daemon = _daemon(
        Task("the daemon's state", lambda: ask_daemon(socket, details=asked.bundle), FIRST_S), socket
    )
    path = asked.config or _config_path(daemon, places)
    config = Task("the configuration", lambda: read_configuration(path), SECOND_S)
    disks = Task("the disks", lambda: read_disks((places.state_dir, places.log_dir)), SECOND_S)
    history = Task("the history", lambda: _history(daemon, places, asked), SECOND_S)
    configuration = config.result()
    plan = None if isinstance(configuration, Missing) else configuration.loaded.plan
    access = Task("the files' modes", lambda: read_access(socket, path, places, plan), SECOND_S)
    units = Task("systemd", lambda: read_units(_unit_workers(daemon, plan)), SECOND_S)
    output = Task("what workers printed", lambda: _output(daemon, plan, places, asked), SECOND_S)
    seen = gpus.result()
    found = () if isinstance(seen, Missing) else seen.gpus
    workers = daemon.status.workers if isinstance(daemon, Daemon) else ()
    owners = Task("whose processes are on the GPUs", lambda: find_owners(found, workers), SECOND_S)
    return Facts(
        version=__version__,
        python=platform.python_version(),
        taken_wall_s=time.time(),
        daemon=daemon,
        host=host.result(),
        gpus=seen,
        owners=owners.result(),
        driver=driver.result(),
        kernel_log=kernel_log.result(),
        config=configuration,
        access=access.result(),
        disks=disks.result(),
        units=units.result(),
        incidents=daemon.incidents if isinstance(daemon, Daemon) else history.result(),
        output=_told(output.result()),
    )


def _daemon(asking: Task[Daemon | Away], socket: Path) -> Daemon | Away:
    answer = asking.result()
    return Away(str(socket), "silent", answer.why) if isinstance(answer, Missing) else answer


def _config_path(daemon: Daemon | Away, places: Places) -> Path:
    """Return the file in force; without the daemon the one that it would find, else the machine's."""
    if isinstance(daemon, Daemon) and daemon.status.config:
        return Path(daemon.status.config)
    machines = find_places({}, 0).config
    own = places.config
    return machines if not os.path.lexists(own) and os.path.lexists(machines) else own


def _unit_workers(daemon: Daemon | Away, plan: Plan | None) -> tuple[str, ...]:
    """Return whose units are asked for; none where the workers are no units."""
    if isinstance(daemon, Daemon):
        return tuple(worker.name for worker in daemon.status.workers if worker.unit is not None)
    return tuple(plan.workers) if plan is not None and plan.launcher != "direct" else ()


def _history(daemon: Daemon | Away, places: Places, asked: Asked) -> Incidents | Missing:
    """Read the file only where nobody writes it."""
    if isinstance(daemon, Away) and daemon.kind == "not-running":
        return read_history(places.state_dir / "history.db", details=asked.bundle)
    return Missing("the daemon was not asked")


def _output(
    daemon: Daemon | Away, plan: Plan | None, places: Places, asked: Asked
) -> Mapping[str, tuple[str, ...] | Missing]:
    lines = LINES_BUNDLED if asked.bundle else LINES
    if isinstance(daemon, Away):
        names = tuple(plan.workers) if plan is not None and asked.bundle else ()
        return read_output((), names, places.log_dir, lines)
    wanted = [worker for worker in daemon.status.workers if asked.bundle or in_trouble(worker)]
    units = tuple(worker.name for worker in wanted if worker.unit is not None)
    files = tuple(worker.name for worker in wanted if worker.unit is None)
    return read_output(units, files, Path(daemon.log_dir or places.log_dir), lines)


def _told(
    output: Mapping[str, tuple[str, ...] | Missing] | Missing,
) -> Mapping[str, tuple[str, ...] | Missing]:
    return {"all workers": output} if isinstance(output, Missing) else output


def secrets_of(facts: Facts) -> tuple[str, ...]:
    """Return the secrets that are known and must be shown nowhere."""
    return facts.config.secrets if isinstance(facts.config, Configuration) else ()
