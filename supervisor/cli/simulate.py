"""`simulate`: what the supervisor would have done over a trace of memory."""

import os
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from supervisor import config
from supervisor.cli.command import Command, CommandError, Exit
from supervisor.cli.document import json_argument, show
from supervisor.cli.figures import size, span
from supervisor.cli.terminal import plain
from supervisor.daemon.places import find_places
from supervisor.daemon.simulation import Outcome, simulate
from supervisor.daemon.trace import Trace, TraceError, read_trace
from supervisor.model.plan import Plan


def run(arguments: Namespace) -> int:
    """Print each restart that would have been, with its cause and its time."""
    path: Path = arguments.trace
    plan = _plan(arguments.config)
    trace = _trace(path)
    unknown = [name for name in trace.workers if name not in plan.workers]
    if unknown:
        raise CommandError(f"cannot simulate {path}: the configuration has no worker {plain(unknown[0])}")
    outcome = simulate(plan, trace)
    if arguments.json:
        show(outcome)
    else:
        print("\n".join(render(outcome)))
    return Exit.DONE


def _plan(chosen: Path | None) -> Plan:
    path = find_places(os.environ, os.getuid()).config if chosen is None else chosen
    loaded = config.load(path)
    if loaded.plan is None:
        faults = "\n".join(str(fault) for fault in loaded.faults)
        raise CommandError(f"cannot accept {path}:\n{faults}", Exit.CONFIG)
    return loaded.plan


def _trace(path: Path) -> Trace:
    try:
        with path.open(encoding="utf-8", newline="") as lines:
            return read_trace(lines)
    except TraceError as error:
        raise CommandError(f"cannot read {path}: {error}") from error
    except OSError as error:
        raise CommandError(f"cannot read {path}: {error.strerror}") from error


def render(outcome: Outcome) -> Iterator[str]:
    """Yield what happened in order of time, then a line for each worker."""
    begin_s = outcome.from_s
    events = [(one.time_s, one.worker or "host", f"{one.event}: {one.reason}") for one in outcome.notices]
    events += [(one.time_s, one.worker, f"restarted, {one.cause}: {one.reason}") for one in outcome.restarts]
    for time_s, whom, what in sorted(events, key=lambda event: event[0]):
        yield plain(f"{span(time_s - begin_s):>8}  {whom}  {what}")
    for each in outcome.workers:
        causes = ", ".join(f"{count} {cause}" for cause, count in each.causes.items())
        peaks = f"peak {size(each.peak_memory_bytes)} ({size(each.traced_peak_memory_bytes)} in the trace)"
        yield plain(f"{each.name}: {each.restarts} restarts{f' ({causes})' if causes else ''}, {peaks}")
    yield f"{outcome.looks} looks over {span(outcome.to_s - begin_s)}"


def _arguments(parser: ArgumentParser) -> None:
    columns = "time_s, worker, memory_bytes; also vram_bytes, host_available_bytes"
    parser.add_argument("--trace", metavar="FILE", type=Path, required=True, help=f"a CSV file: {columns}")
    parser.add_argument("--config", metavar="F", type=Path, help="the configuration (default: found)")
    json_argument(parser)


COMMANDS: Final = (
    Command(
        "simulate",
        "run a trace of memory through the decisions: what would have been restarted, when and why",
        "gpu-supervisor simulate --trace week.csv --config etc/config.yaml",
        _arguments,
        run,
    ),
)
