"""The program of the web face; `gpu-supervisor web` becomes it."""

import asyncio
import os
import socket
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Final, TextIO

from msgspec.structs import replace

from supervisor.daemon.places import find_places
from supervisor.daemon.service import Service
from supervisor.model.plan import WebPlan
from supervisor.web.rights import give_up_rights, stand_back
from supervisor.web.server import serve
from supervisor.web.setting_up import DaemonAwayError, from_daemon, from_file
from supervisor.web.settings import Settings, SettingsError, bind, endpoint, token_of

FAILED: Final = 1
NOT_RUNNING: Final = 3
CONFIG_IS_WRONG: Final = 78  # EX_CONFIG, and RestartPreventExitStatus= of the unit


def main(argv: Sequence[str]) -> int:
    """Serve until told to end; return the exit code."""
    arguments = _parser().parse_args(argv)
    if arguments.child:
        stand_back()
    say = _Say(sys.stdout if arguments.child else sys.stderr)  # the daemon reads the one
    try:
        return asyncio.run(_run(arguments, say))
    except SettingsError as error:
        return say.failure(str(error), CONFIG_IS_WRONG)
    except DaemonAwayError as error:
        return say.failure(str(error), NOT_RUNNING)
    except KeyboardInterrupt:  # before there is anything to end gracefully
        return FAILED


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="gpu-supervisor web", allow_abbrev=False)
    parser.add_argument("--config", type=Path)
    parser.add_argument("--listen")
    parser.add_argument("--socket", type=Path, required=True)
    parser.add_argument("--child", action="store_true")
    return parser


async def _run(arguments: Namespace, say: "_Say") -> int:
    settings = await _settings(arguments)
    try:
        sockets = bind(settings)
    except OSError as error:
        return say.failure(f"cannot listen on {settings.host}:{settings.port}: {error.strerror}", FAILED)
    kept = give_up_rights(settings.control)
    if kept is not None:
        say(kept)
    for sock in sockets:
        say(f"the web face is at http://{_address(sock)}/")
    await serve(settings, sockets, Service(os.environ), sys.stdin if arguments.child else None)
    return 0


async def _settings(arguments: Namespace) -> Settings:
    control: Path = arguments.socket
    if arguments.config is not None:
        plan = await asyncio.to_thread(from_file, arguments.config)
    else:
        plan = await from_daemon(control, find_places(os.environ, os.getuid()).config)
    if arguments.listen is not None:
        host, port = endpoint(arguments.listen)
        plan = replace(plan, host=host, port=port)
    return _joined(control, plan)


def _joined(control: Path, plan: WebPlan) -> Settings:
    token = token_of(plan.token_file, os.environ.get("CREDENTIALS_DIRECTORY"))
    return Settings(control, plan.host, plan.port, plan.hosts, token, plan.allow_actions)


def _address(sock: socket.socket) -> str:
    host, port = sock.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class _Say:
    """Says lines to whoever started this."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def __call__(self, text: str) -> None:
        print(f"gpu-supervisor: {text}", file=self._out, flush=True)

    def failure(self, why: str, code: int) -> int:
        """Say why it ends, a line each; return the exit code."""
        for line in why.splitlines():
            self(line)
        return code


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
