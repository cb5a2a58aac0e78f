"""`--bundle`: what a report of a bug needs, without secrets, in one archive, written whole or not at all."""

import contextlib
import gzip
import io
import os
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from supervisor.cli.diagnose.checks.kernel_log import is_notable, written
from supervisor.cli.diagnose.facts import Access, Daemon, Facts
from supervisor.cli.diagnose.scrub import Scrubber
from supervisor.model.reading import Missing

MOST_KERNEL_LINES: Final = 2000


class BundleError(Exception):
    """The bundle cannot be written; the text says why."""


class Member(msgspec.Struct, frozen=True):
    """One file of a bundle."""

    name: str
    data: bytes


def members_of(facts: Facts, report: object, scrubber: Scrubber) -> tuple[Member, ...]:
    """Return the files of a bundle: the findings, and what they were made of."""
    return (
        _json("findings.json", report),
        _json("versions.json", scrubber.document(_versions(facts))),
        _json("status.json", scrubber.document(_status(facts))),
        _json("incidents.json", scrubber.document(msgspec.to_builtins(facts.incidents))),
        _text("config.yaml", _config(facts)),
        _json("files.json", _files(facts.access)),
        _json("machine.json", scrubber.document(_machine(facts))),
        _text("kernel.log", "\n".join(scrubber.lines(_kernel(facts)))),
        *_output(facts, scrubber),
    )


def check_free(path: Path) -> None:
    """Refuse a place where something is already; raises BundleError."""
    if os.path.lexists(path):
        raise BundleError(f"cannot write the bundle {path}: it is there already")


def write_bundle(path: Path, members: Sequence[Member], folder: str, made_wall_s: float) -> None:
    """Write the archive with mode 0600, all in `folder`. Raises BundleError, and leaves nothing then."""
    data = _archive(members, folder, int(made_wall_s))
    fresh = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        with open(fresh, "xb", opener=_private) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        path.hardlink_to(fresh)  # unlike a rename it never takes the place of another file
    except OSError as error:
        why = "it is there already" if isinstance(error, FileExistsError) else error.strerror
        raise BundleError(f"cannot write the bundle {path}: {why}") from error
    finally:
        with contextlib.suppress(OSError):
            fresh.unlink()


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _archive(members: Sequence[Member], folder: str, made_s: int) -> bytes:
    packed = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=packed, mode="wb", mtime=made_s) as zipped,
        tarfile.open(fileobj=zipped, mode="w") as archive,
    ):
        for member in members:
            info = tarfile.TarInfo(f"{folder}/{member.name}")
            info.size, info.mtime, info.mode = len(member.data), made_s, 0o600
            archive.addfile(info, io.BytesIO(member.data))
    return packed.getvalue()


def _status(facts: Facts) -> object:
    """Return the state as it came: a newer daemon may tell more than this command knows."""
    if isinstance(facts.daemon, Daemon):
        return msgspec.json.decode(facts.daemon.document)
    return {"missing": facts.daemon.why}


def _versions(facts: Facts) -> object:
    host, driver = facts.host, facts.driver
    return msgspec.to_builtins(
        {
            "installed": facts.version,
            "running": None if facts.status is None else facts.status.version,
            "python": facts.python,
            "kernel": host.why if isinstance(host, Missing) else host.kernel,
            "driver": driver,
        }
    )


def _machine(facts: Facts) -> object:
    found = {"host": facts.host, "gpus": facts.gpus, "disks": facts.disks, "units": facts.units}
    owners = facts.owners
    named = owners if isinstance(owners, Missing) else {str(pid): each for pid, each in owners.items()}
    return msgspec.to_builtins({**found, "owners": named})


def _files(access: Access | Missing) -> object:
    return msgspec.to_builtins(access)


def _config(facts: Facts) -> str:
    if isinstance(facts.config, Missing):
        return f"# {facts.config.why}\n"
    text = facts.config.text
    head = f"# {facts.config.path}, without its comments and its secrets\n"
    return head + (f"# {text.why}\n" if isinstance(text, Missing) else text)


def _kernel(facts: Facts) -> Sequence[str]:
    if isinstance(facts.kernel_log, Missing):
        return (facts.kernel_log.why,)
    notable = [line for line in facts.kernel_log.lines if is_notable(line.text)]
    return [written(line) for line in notable[-MOST_KERNEL_LINES:]]


def _output(facts: Facts, scrubber: Scrubber) -> Iterator[Member]:
    for worker, lines in facts.output.items():
        shown = (lines.why,) if isinstance(lines, Missing) else lines
        yield _text(f"logs/{worker}.log", "\n".join(scrubber.lines(shown)))


def _json(name: str, value: object) -> Member:
    return Member(name, msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n")


def _text(name: str, text: str) -> Member:
    return Member(name, (text if text.endswith("\n") or not text else f"{text}\n").encode(errors="replace"))
