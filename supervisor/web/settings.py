"""What the web face is told of itself: where it listens, who may use it."""

import ipaddress
import os
import socket
import stat
from pathlib import Path
from typing import Final

from msgspec import Struct

from supervisor.config.targets import endpoint_of

CREDENTIAL: Final = "web-token"  # below $CREDENTIALS_DIRECTORY: LoadCredential= of the unit
BACKLOG: Final = 512
TOKEN_SHORTEST: Final = 16
TOKEN_LONGEST: Final = 1024


class SettingsError(Exception):
    """The settings cannot be used; the text is `cannot X: why`."""


class Settings(Struct, frozen=True):
    """How one web face is set up."""

    control: Path
    host: str = "127.0.0.1"
    port: int = 8095
    hosts: tuple[str, ...] = ()  # names that it is known by
    token: str | None = None
    allow_actions: bool = True


def endpoint(text: str) -> tuple[str, int]:
    """Read HOST:PORT as the configuration has it, and port 0: any that is free. Raises SettingsError."""
    host, _, port = text.rpartition(":")
    if port == "0":
        return host.removeprefix("[").removesuffix("]"), 0
    found = endpoint_of(text)
    if isinstance(found, str):
        raise SettingsError(f"cannot listen on {text}: {found}")
    return found


def token_of(file: str | None, credentials: str | None) -> str | None:
    """Return the token that every request must carry, None where none is set.

    The service manager's credential counts before the file, which an unprivileged process may not read.
    Raises SettingsError for one that everybody can read, and for one that is too short to be secret.
    """
    if credentials:
        try:
            given = (Path(credentials) / CREDENTIAL).read_bytes()
        except FileNotFoundError:
            given = b""
        if given.strip():
            return _checked(given, f"the credential {CREDENTIAL}")
    if file is None:
        return None
    try:
        with Path(file).open("rb") as opened:
            mode = os.fstat(opened.fileno()).st_mode
            content = opened.read(TOKEN_LONGEST + 2)
    except OSError as error:
        raise SettingsError(f"cannot read the token in {file}: {error.strerror}") from error
    if mode & (stat.S_IROTH | stat.S_IWOTH | stat.S_IWGRP):
        raise SettingsError(
            f"cannot use the token in {file}: others may read or change it (mode {stat.S_IMODE(mode):04o})"
        )
    return _checked(content, file)


def _checked(content: bytes, where: str) -> str:
    try:
        token = content.decode("ascii").strip()
    except UnicodeDecodeError:
        token = ""
    if not TOKEN_SHORTEST <= len(token) <= TOKEN_LONGEST or not all("!" <= letter <= "~" for letter in token):
        raise SettingsError(
            f"cannot use the token in {where}: it must be one word of {TOKEN_SHORTEST} to {TOKEN_LONGEST}"
            " ASCII characters"
        )
    return token


def bind(settings: Settings) -> list[socket.socket]:
    """Return sockets that listen where the settings say; OSError where it cannot be had.

    Raises SettingsError for an address beyond this machine's own without a token.
    """
    found = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    addresses = list(dict.fromkeys((family, address[:2]) for family, *_, address in found))
    for _, (host, *_) in addresses:
        if settings.token is None and not ipaddress.ip_address(str(host).partition("%")[0]).is_loopback:
            raise SettingsError(
                f"cannot listen on {settings.host} without a token, for others could restart workers:"
                " set web.token_file"
            )
    return [_listening(family, address) for family, address in addresses]


def _listening(family: int, address: tuple[object, ...]) -> socket.socket:
    # By its protocol: without it asyncio does not switch Nagle off, and each answer waits 40 ms for an ACK.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
        sock.listen(BACKLOG)
        sock.setblocking(False)  # noqa: FBT003 - socket's signature
    except BaseException:
        sock.close()
        raise
    return sock
