"""Everything that must be known before a program of a worker can be started."""

import os
from pathlib import Path

from supervisor.act.command import environment, fill_command, inherited
from supervisor.act.credentials import Credentials, find_credentials
from supervisor.act.environment_file import read_environment_file
from supervisor.act.spawn import Program
from supervisor.model.action import Launch


def credentials_of(order: Launch) -> Credentials:
    """Return whom the worker runs as; raises CannotLaunchError."""
    return find_credentials(order.plan.user, order.plan.group)


def worker_program(order: Launch, credentials: Credentials, output: int, notify: Path | None) -> Program:
    """Return the worker's main program; raises CannotLaunchError."""
    return helper_program(order, fill_command(order), credentials, output, notify)


def helper_program(
    order: Launch,
    command: tuple[str, ...],
    credentials: Credentials,
    output: int,
    notify: Path | None = None,
) -> Program:
    """Return another program that runs as the worker does, as a part of it; raises CannotLaunchError."""
    file = order.plan.environment_file
    secrets = {} if file is None else read_environment_file(Path(file))
    base = inherited(os.environ, credentials)
    told = None if notify is None else str(notify)
    variables = environment(order, base, secrets, told)
    return Program(command, variables, output, order.plan.directory, credentials)
