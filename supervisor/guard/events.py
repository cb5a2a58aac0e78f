"""Tells of changes through the worker's own `logging`, by the logger `supervisor.guard`.

It is imported at the first event: of 3.3 MiB that an empty interpreter would pay for the guard, it is 0.7,
and of the time about half; a worker that logs has it anyway.
"""


def warn(message: str, *values: object) -> None:
    """Tell of a change for the worse."""
    import logging  # noqa: PLC0415 - see above

    logging.getLogger("supervisor.guard").warning(message, *values, stacklevel=2)


def note(message: str, *values: object) -> None:
    """Tell of any other change."""
    import logging  # noqa: PLC0415 - see above

    logging.getLogger("supervisor.guard").info(message, *values, stacklevel=2)
