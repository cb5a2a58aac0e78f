"""The program of the web face; `gpu-supervisor web` becomes it."""

import asyncio
import os
import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

from msgspec.structs import replace

from supervisor.web.server import serve
from supervisor.web.settings import Settings, SettingsError, bind, token_of

CONFIG_IS_WRONG = 78


def main(argv: Sequence[str]) -> int:
    """Serve until told to end; return the exit code."""
    parser = ArgumentParser(prog="gpu-supervisor web")
    parser.add_argument("--config", type=Path)
    parser.add_argument("--listen")
    parser.add_argument("--socket", type=Path, required=True)
    arguments = parser.parse_args(argv)
    settings = Settings(control=arguments.socket)
    try:
        if arguments.listen is not None:
            host, _, port = arguments.listen.rpartition(":")
            settings = replace(settings, host=host.strip("[]"), port=int(port))
        settings = replace(settings, token=token_of(None, os.environ.get("CREDENTIALS_DIRECTORY")))
        sockets = bind(settings)
    except SettingsError as error:
        sys.stderr.write(f"gpu-supervisor: {error}\n")
        return CONFIG_IS_WRONG
    except OSError as error:
        why = error.strerror
        sys.stderr.write(f"gpu-supervisor: cannot listen on {settings.host}:{settings.port}: {why}\n")
        return 1
    for sock in sockets:
        host, port = sock.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        sys.stderr.write(f"gpu-supervisor: the web face is at http://{shown}:{port}/\n")
    asyncio.run(serve(settings, sockets))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
