"""Print gpu-supervisor(1) and gpu-supervisor.yaml(5), in mdoc(7), from the commands and the keys.

argparse-manpage 4.8 was tried for the first: its NAME has no description, which `whatis` and
`mandoc -T lint` ask for, its usage lines break where they should not, and it has nothing for the second.
"""

import os
import re
import sys
import time
from argparse import SUPPRESS, Action, ArgumentParser
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from textwrap import wrap
from typing import Final

from scripts.print_docs import keys
from supervisor import __version__
from supervisor.cli.command import Command, Exit
from supervisor.cli.main import all_commands

EXIT_MEANINGS: Final[Mapping[Exit, str]] = {
    Exit.DONE: "It is done.",
    Exit.FAILED: "It failed; one line on stderr says why.",
    Exit.USAGE: "The command line was not understood.",
    Exit.NOT_RUNNING: "The daemon is not running.",
    Exit.NO_SUCH_WORKER: "There is no such worker.",
    Exit.CONFIG: "The configuration is wrong.",
    Exit.INTERRUPTED: "It was interrupted by Ctrl-C.",
    Exit.PIPE: "The reader of its output has gone.",
}
ENVIRONMENT: Final = {
    "GPU_SUPERVISOR_CONTROL": "The control socket that commands use, where --socket does not name one.",
    "RUNTIME_DIRECTORY": "Where the daemon keeps its socket and its memory of the workers.",
    "STATE_DIRECTORY": "Where it keeps its history.",
    "LOGS_DIRECTORY": "Where it keeps what workers print, with the launcher direct.",
    "CONFIGURATION_DIRECTORY": "Where its configuration is found.",
    "GPU_SUPERVISOR_KERNEL_LOG": "What the daemon reads in place of /dev/kmsg.",
    "NO_COLOR": "Set to anything: no colour.",
}
# groff_char(7): what roff would turn into other characters, or take for its own.
ESCAPES: Final = str.maketrans(
    {"\\": r"\e", "-": r"\-", "'": r"\(aq", '"': r"\(dq", "`": r"\(ga", "~": r"\(ti", "^": r"\(ha"}
)
FILES: Final = {
    "/etc/gpu-supervisor/config.yaml": "The configuration.",
    "~/.config/gpu-supervisor/config.yaml": "The same without root.",
    "/run/gpu-supervisor/control": "The control socket. Members of the group gpu-supervisor may use it.",
    "/run/systemd/system/gpu-worker-NAME.service": "The generated unit of a worker.",
    "/var/lib/gpu-supervisor/history.db": "What happened to workers.",
}


def main(words: Sequence[str]) -> int:
    """Write both pages into the directory that is named."""
    if len(words) != 1 or words[0].startswith("-"):
        print("usage: python -m scripts.print_man DIRECTORY", file=sys.stderr)  # noqa: T201 - it is a program
        return 2
    for name, text in pages(_day()).items():
        (Path(words[0]) / name).write_text(text)
    return 0


def pages(day: str) -> dict[str, str]:
    """Return the text of each page by its file name; `day` reads `January 31, 2026`."""
    return {
        "gpu-supervisor.1": "\n".join(_command_page(day)) + "\n",
        "gpu-supervisor.yaml.5": "\n".join(_config_page(day)) + "\n",
    }


def _day() -> str:
    """Return today; a reproducible build names its own day in SOURCE_DATE_EPOCH."""
    then = time.gmtime(int(os.environ.get("SOURCE_DATE_EPOCH", time.time())))
    return f"{time.strftime('%B', then)} {then.tm_mday}, {then.tm_year}"


def _command_page(day: str) -> Iterator[str]:
    yield from _head(day, "GPU-SUPERVISOR 1")
    yield ".Sh NAME"
    yield ".Nm gpu-supervisor"
    yield ".Nd keeps inference workers inside their memory, their GPU and their age"
    yield ".Sh SYNOPSIS"
    yield ".Nm"
    yield ".Op Fl Fl socket Ar PATH"
    yield ".Ar COMMAND"
    yield ".Op Ar ARGUMENT ..."
    yield ".Nm"
    yield ".Op Fl Fl version | Fl Fl help"
    yield ".Sh DESCRIPTION"
    yield "A daemon starts the workers of"
    yield ".Xr gpu-supervisor.yaml 5 ,"
    yield "watches their memory, their GPUs and their age,"
    yield "and restarts each before it takes the machine down."
    yield "The other commands ask it over its control socket: that of"
    yield ".Fl Fl socket ,"
    yield "else of"
    yield ".Ev GPU_SUPERVISOR_CONTROL ,"
    yield "else of your own daemon, else of the machine's."
    yield ".Sh COMMANDS"
    for command in all_commands():
        yield from _command(command)
    yield ".Sh ENVIRONMENT"
    yield from _list("Ev", ENVIRONMENT)
    yield ".Sh FILES"
    yield from _list("Pa", FILES)
    yield ".Sh EXIT STATUS"
    yield from _list("Li", {str(code.value): EXIT_MEANINGS[code] for code in Exit})
    yield ".Sh SEE ALSO"
    yield ".Xr journalctl 1 ,"
    yield ".Xr systemctl 1 ,"
    yield ".Xr gpu-supervisor.yaml 5 ,"
    yield ".Xr systemd.resource-control 5"


def _command(command: Command) -> Iterator[str]:
    parser = ArgumentParser(add_help=False)
    command.arguments(parser)
    # argparse has no public way to ask what a parser takes.
    taken = [each for each in parser._actions if each.help != SUPPRESS]  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
    yield f".Ss {command.name}"
    yield from _prose(f"{command.help[0].upper()}{command.help[1:]}.")
    if taken:
        yield ".Bl -tag -width Ds"
        for action in taken:
            yield f".It {_written(action)}"
            yield from _prose(action.help or "")
        yield ".El"
    yield ".Pp"
    yield "For example:"
    yield f".Dl {_text(command.example)}"


def _written(action: Action) -> str:
    """Return how an argument is written, as the words of a macro."""
    metavar = action.metavar or ("|".join(map(str, action.choices)) if action.choices else "")
    name = metavar if isinstance(metavar, str) else " ".join(metavar)
    if not action.option_strings:
        return f"Ar {_text(name or action.dest)}"
    flags = " , ".join(_flag(option) for option in action.option_strings)
    return f"{flags} Ar {_text(name)}" if name else flags


def _flag(option: str) -> str:
    """Return an option as a macro, which writes the first dash itself."""
    return f"Fl Fl {_text(option[2:])}" if option.startswith("--") else f"Fl {_text(option[1:])}"


def _config_page(day: str) -> Iterator[str]:
    yield from _head(day, "GPU-SUPERVISOR.YAML 5")
    yield ".Sh NAME"
    yield ".Nm gpu-supervisor.yaml"
    yield ".Nd the configuration of gpu-supervisor"
    yield ".Sh SYNOPSIS"
    yield ".Pa /etc/gpu-supervisor/config.yaml"
    yield ".Sh DESCRIPTION"
    yield "One YAML file names the workers and what each may take."
    yield "Sizes are 8G, 8GiB or 512M (base 1024), or 8GB (base 1000);"
    yield "time spans are 90 (seconds), 2s, 1min 30s or 1h;"
    yield "percentages carry their sign."
    yield "An unknown key is an error."
    yield "Check it with"
    yield ".Ql gpu-supervisor check-config ,"
    yield "apply it with"
    yield ".Ql gpu-supervisor reload ."
    yield ".Sh KEYS"
    yield ".Bl -tag -width Ds"
    for row in list(keys())[2:]:  # below the head of the table and its line
        yield from _key(row)
    yield ".El"
    yield ".Sh SEE ALSO"
    yield ".Xr gpu-supervisor 1 ,"
    yield ".Xr systemd.resource-control 5"


def _key(row: str) -> Iterator[str]:
    """Yield one row of the table of keys as an item."""
    path, value, default, meaning = (_unmarked(cell) for cell in re.split(r"(?<!\\)\|", row)[1:-1])
    yield f".It Ic {_text(path)}"
    yield from _prose(meaning if meaning.endswith("...") else f"{meaning}.")
    yield from _prose(f"({', '.join(each for each in (value, _default(default)) if each)})")


def _default(cell: str) -> str:
    return f"default {cell}" if cell and cell != "must be written" else cell


def _unmarked(cell: str) -> str:
    """Return a cell of a table in Markdown without its marks."""
    return re.sub(r"\\(\|)|`|\*\*", r"\1", cell).strip()


def _head(day: str, title: str) -> Iterator[str]:
    yield '.\\" Printed from the code by scripts/man; do not edit.'
    yield f".Dd {day}"
    yield f".Dt {title}"
    yield f".Os gpu-supervisor {__version__}"


def _list(macro: str, meanings: Mapping[str, str]) -> Iterator[str]:
    yield ".Bl -tag -width Ds"
    for name, meaning in meanings.items():
        yield f".It {macro} {name}"
        yield from _prose(meaning)
    yield ".El"


def _prose(text: str) -> Iterator[str]:
    """Yield the lines of a paragraph; in roff a sentence begins a line."""
    for sentence in re.split(r"(?<=\w[.!?]) +", text):
        yield from map(_text, wrap(sentence, 72, break_on_hyphens=False))


def _text(text: str) -> str:
    """Return words that roff takes for no macro and no escape, with dashes and quotes as they are typed."""
    plain = text.translate(ESCAPES)
    return rf"\&{plain}" if plain.startswith(".") else plain


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
