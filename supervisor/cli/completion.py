"""`completion`: what makes a shell complete; it asks `gpu-supervisor complete`, which knows the workers."""

import argparse
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Sequence
from typing import Final

from supervisor.cli.client import connect
from supervisor.cli.command import Command, CommandError, Exit
from supervisor.cli.main import MODULES, commands_of

SCRIPTS: Final = {
    "bash": """\
# gpu-supervisor completion for bash: source <(gpu-supervisor completion bash)
_gpu_supervisor() {
    local IFS=$'\\n'
    COMPREPLY=($(gpu-supervisor complete -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
    if [[ ${#COMPREPLY[@]} -eq 0 ]]; then compopt -o default; fi
}
complete -F _gpu_supervisor gpu-supervisor
""",
    "zsh": """\
#compdef gpu-supervisor
# gpu-supervisor completion for zsh: source <(gpu-supervisor completion zsh)
_gpu_supervisor() {
    local -a found
    found=("${(@f)$(gpu-supervisor complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    if [[ -n "$found" ]]; then compadd -a found; else _files; fi
}
if [[ "$funcstack[1]" == _gpu-supervisor ]]; then # a file of fpath: its first use is to complete
    _gpu_supervisor "$@"
else
    compdef _gpu_supervisor gpu-supervisor
fi
""",
    "fish": """\
# gpu-supervisor completion for fish: gpu-supervisor completion fish | source
function __gpu_supervisor
    set -l words (commandline -opc) (commandline -ct)
    set -l found (gpu-supervisor complete -- $words[2..-1] 2>/dev/null)
    if test (count $found) -gt 0
        printf '%s\\n' $found
    else
        __fish_complete_path (commandline -ct)
    end
end
complete -c gpu-supervisor -f -a '(__gpu_supervisor)'
""",
}
TAKES_WORKERS: Final = frozenset({"status", "start", "stop", "restart", "reset", "logs", "history"})


def script(arguments: Namespace) -> int:
    """Print the lines for one shell."""
    print(SCRIPTS[arguments.shell], end="")
    return Exit.DONE


def complete(arguments: Namespace) -> int:
    """Print what the last word may become, a line each."""
    words: list[str] = arguments.words or [""]
    for candidate in candidates(words):
        print(candidate)
    return Exit.DONE


def candidates(words: Sequence[str]) -> list[str]:
    """Return what the last of `words` may become; none where it is a file or free text."""
    *before, last = words
    if not before:
        return _beginning(last, [*MODULES, "--help", "--socket", "--version"])
    if before[0] not in MODULES:
        return []
    options = _options(before[0])
    taken = next((option for option in options if before[-1] in option.option_strings), None)
    if taken is not None and taken.nargs != 0:
        return _beginning(last, map(str, taken.choices or ()))
    if last.startswith("-"):
        return _beginning(last, [text for option in options for text in option.option_strings])
    for option in options:
        if not option.option_strings and option.choices:
            return _beginning(last, map(str, option.choices))
    return _beginning(last, _workers() if before[0] in TAKES_WORKERS else ())


def _beginning(start: str, of: Iterable[str]) -> list[str]:
    return [each for each in of if each.startswith(start)]


def _options(command: str) -> list[argparse.Action]:
    """Return what a command takes, as argparse knows it; it has no public way to ask."""
    parser = ArgumentParser()
    for each in commands_of(MODULES[command]):
        if each.name == command:
            each.arguments(parser)
    return parser._actions  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]


def _workers() -> list[str]:
    """Return the workers' names; none where no daemon answers: a shell is no place for errors."""
    try:
        return [worker.name for worker in connect(None, "complete").status().workers]
    except CommandError:
        return []


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("shell", choices=sorted(SCRIPTS), help="the shell")


def _words(parser: ArgumentParser) -> None:
    parser.add_argument("words", metavar="WORD", nargs="*", help="the words so far, the unfinished one last")


COMMANDS: Final = (
    Command(
        "completion",
        "print what makes a shell complete commands, options and workers",
        "source <(gpu-supervisor completion bash)",
        _arguments,
        script,
    ),
    Command("complete", "answer a shell", "gpu-supervisor complete -- restart ch", _words, complete),
)
