"""`units`: the generated unit files, to look at, to write and to remove."""

import asyncio
import os
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Final

from supervisor import config
from supervisor.act.unit_files import UNIT_DIRECTORY, UnitFiles
from supervisor.cli.command import Command, CommandError, Exit
from supervisor.daemon.places import find_places
from supervisor.model.plan import Plan
from supervisor.model.reading import Missing
from supervisor.sense.host import HostSensor
from supervisor.systemd.bus import Systemd, SystemdError
from supervisor.systemd.drop_ins import find_drop_ins
from supervisor.systemd.units import SLICE, Unit, UnitPlaces, render, unit_name

ALL_WORKERS: Final = "gpu-worker-*.service"
OVER: Final = frozenset({"inactive", "failed"})


def run(arguments: Namespace) -> int:
    """Do what the first word says."""
    if arguments.output is not None and arguments.action != "render":
        raise CommandError(f"cannot {arguments.action} units: --output goes with render", Exit.USAGE)
    if arguments.action == "render":
        return _render(arguments)
    if os.geteuid() != 0:
        raise CommandError(f"cannot {arguments.action} units: it needs root (use sudo)")
    return _apply(arguments) if arguments.action == "apply" else _remove()


def _render(arguments: Namespace) -> int:
    """Print the units, each with the drop-ins that are there for it, or write them into a directory."""
    units = _units(_plan(arguments.config, "render"), "render")
    try:
        if arguments.output is not None:
            return _write(units, arguments.output)
        print("\n".join(part for unit in units for part in _shown(unit)), end="")
    except OSError as error:
        raise _failed("render", error) from error
    return Exit.DONE


def _write(units: tuple[Unit, ...], directory: Path) -> int:
    directory.mkdir(parents=True, exist_ok=True)
    for unit in units:
        (directory / unit.name).write_text(unit.text, encoding="utf-8")
        print(directory / unit.name)
    return Exit.DONE


def _shown(unit: Unit) -> Iterator[str]:
    """Yield a unit and its drop-ins as `systemctl cat` shows them."""
    yield f"# {UNIT_DIRECTORY / unit.name}\n{unit.text}"
    for drop_in in find_drop_ins(unit.name):
        yield f"# {drop_in}\n{drop_in.read_text(encoding='utf-8', errors='replace')}"


def _apply(arguments: Namespace) -> int:
    """Write what differs, remove what is wanted no longer and does not run, and reload systemd if need be."""
    plan = _plan(arguments.config, "apply")
    units = _units(plan, "apply")

    async def applied(systemd: Systemd) -> bool:
        files = _files()
        written = [unit.name for unit in units if files.put(unit)]
        for name in written:
            print(f"wrote {UNIT_DIRECTORY / name}")
        gone = await _removed(systemd, files, files.workers() - plan.workers.keys())
        return bool(written) or gone

    return _with_systemd("apply", applied)


def _remove() -> int:
    """Remove every generated unit that does not run."""

    async def removed(systemd: Systemd) -> bool:
        files = _files()
        gone = await _removed(systemd, files, files.workers())
        own_slice = UNIT_DIRECTORY / SLICE
        if not files.workers() and own_slice.exists():
            own_slice.unlink()
            print(f"removed {own_slice}")
            return True
        return gone

    return _with_systemd("remove", removed)


async def _removed(systemd: Systemd, files: UnitFiles, workers: frozenset[str]) -> bool:
    """Remove the units of workers, but of those that are active; return whether there were any."""
    states = await systemd.units(ALL_WORKERS)
    gone = False
    for worker in sorted(workers):
        unit = unit_name(worker)
        state = states.get(unit, "inactive")
        if state in OVER:
            files.remove(unit, worker)
            print(f"removed {UNIT_DIRECTORY / unit}")
            gone = True
        else:
            print(f"left {UNIT_DIRECTORY / unit}: it is {state}")
    return gone


def _with_systemd(action: str, work: Callable[[Systemd], Awaitable[bool]]) -> int:
    """Do `work` on a connection to systemd, and have systemd read its files again where it changed any."""

    async def worked() -> None:
        systemd = await Systemd.connect(lambda _heard: None)
        try:
            if await work(systemd):
                await systemd.reload()
                print("reloaded systemd")
            else:
                print("nothing has changed")
        finally:
            systemd.close()

    try:
        asyncio.run(worked())
    except (SystemdError, OSError) as error:
        raise _failed(action, error) from error
    return Exit.DONE


def _files() -> UnitFiles:
    return UnitFiles(Path(UnitPlaces().environment_dir))


def _plan(chosen: Path | None, action: str) -> Plan:
    """Return the plan of the machine's configuration; print every fault of one that is wrong."""
    path = find_places(os.environ, 0).config if chosen is None else chosen  # units are the machine's
    loaded = config.load(path)
    if loaded.plan is None:
        for fault in loaded.faults:
            print(fault)
        count = len(loaded.faults)
        faults = "1 fault" if count == 1 else f"{count} faults"
        raise CommandError(f"cannot {action} units: {path} has {faults}", Exit.CONFIG)
    return loaded.plan


def _units(plan: Plan, action: str) -> tuple[Unit, ...]:
    total_bytes = HostSensor().read(time.monotonic()).memory_total_bytes
    if isinstance(total_bytes, Missing):
        raise CommandError(f"cannot {action} units: {total_bytes.why}")
    try:
        return render(plan, total_bytes, UnitPlaces())
    except ValueError as error:
        raise CommandError(f"cannot {action} units: {error}", Exit.CONFIG) from error


def _failed(action: str, error: Exception) -> CommandError:
    return CommandError(f"cannot {action} units: {error}")


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "action",
        choices=("render", "apply", "remove"),
        help="render: print them, with an admin's drop-ins; apply: write those that differ; "
        "remove: remove those that do not run",
    )
    parser.add_argument("--config", metavar="F", type=Path, help="the configuration (default: the machine's)")
    parser.add_argument(
        "--output", metavar="DIR", type=Path, help="render into files of this directory, without drop-ins"
    )


COMMANDS: Final = (
    Command(
        "units",
        "print, write or remove the generated unit files; the daemon does the last two by itself",
        "gpu-supervisor units render --config etc/config.yaml",
        _arguments,
        run,
    ),
)
