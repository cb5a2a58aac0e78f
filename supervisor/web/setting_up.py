"""Where the settings come from: a file that is named, the daemon, or nobody."""

import asyncio
import os
from pathlib import Path
from typing import Final

import msgspec

from supervisor.config import load
from supervisor.model.plan import WebPlan
from supervisor.web.link import AwayError, Link, RefusedError
from supervisor.web.settings import SettingsError

PATIENCE_S: Final = 5.0  # for a daemon that starts at the same time
AGAIN_S: Final = 0.25


class DaemonAwayError(Exception):
    """Only the daemon knows how it is configured, and it does not answer; the text is `cannot X: why`."""


def from_file(path: Path) -> WebPlan:
    """Return `web` of a configuration; SettingsError with every fault of the file, a line each."""
    loaded = load(path)
    if loaded.plan is None:
        raise SettingsError("\n".join(str(fault) for fault in loaded.faults))
    return loaded.plan.web


async def from_daemon(control: Path, default: Path) -> WebPlan:
    """Return `web` of the configuration in force.

    The web face may be unable to read the file, or what it names. Where no daemon answers, the file at
    `default` counts if it can be read without a fault, and without one the defaults.
    """
    link = Link(control)
    try:
        async with asyncio.timeout(PATIENCE_S):
            return await _asked(link)
    except TimeoutError:
        pass
    finally:
        link.close()
    return await asyncio.to_thread(_by_itself, default)


def _by_itself(path: Path) -> WebPlan:
    if not os.path.lexists(path):
        return WebPlan()
    loaded = load(path)
    if loaded.plan is None:
        why = f"the daemon does not answer, and {path} cannot be used: {loaded.faults[0].why}"
        raise DaemonAwayError(f"cannot learn the settings: {why}")
    return loaded.plan.web


async def _asked(link: Link) -> WebPlan:
    while True:
        try:
            told = await link.call("Web", PATIENCE_S)
            return msgspec.convert(told["web"], WebPlan)
        except AwayError:
            await asyncio.sleep(AGAIN_S)
        except (RefusedError, KeyError, msgspec.ValidationError) as error:
            raise DaemonAwayError(f"cannot learn the settings from the daemon: {error}") from error
