"""Who may ask: names of this host, origins of pages, the token and the sessions that it opens."""

import hashlib
import hmac
import ipaddress
import secrets
from collections import OrderedDict
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import Scope

from supervisor.web.problem import ProblemError
from supervisor.web.settings import Settings

COOKIE: Final = "gpu-supervisor-session"
SESSIONS: Final = 256
SESSION_S: Final = 12 * 3600.0
NO_AUTHORITY: Final = frozenset("@/?#\\")
LOCAL_NAMES: Final = frozenset({"localhost", "localhost.localdomain", "ip6-localhost"})


class Sessions:
    """The sessions that the token has opened; in memory, so that they end with the process."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        """Begin without any."""
        self._now_s = now_s
        self._until_s: OrderedDict[str, float] = OrderedDict()

    def open(self) -> str:
        """Return the secret of a new session; the oldest makes room."""
        secret = secrets.token_urlsafe(32)
        self._until_s[name_of(secret)] = self._now_s() + SESSION_S
        while len(self._until_s) > SESSIONS:
            self._until_s.popitem(last=False)
        return secret

    def holds(self, secret: str) -> bool:
        """Return whether this secret is one of an open session."""
        until_s = self._until_s.get(name_of(secret))
        return until_s is not None and self._now_s() < until_s

    def end(self, secret: str) -> None:
        """Close a session."""
        self._until_s.pop(name_of(secret), None)


def name_of(secret: str) -> str:
    """Return what a session is kept and told by; looking it up, no time tells of the secret."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


class Callers:
    """Judges requests by their Host, their Origin, and the token."""

    def __init__(self, settings: Settings, now_s: Callable[[], float]) -> None:
        """Judge as the settings say."""
        self._token = settings.token
        self._names = {*LOCAL_NAMES, settings.host.lower(), *(name.lower() for name in settings.hosts)}
        self._public = {name.lower() for name in settings.hosts}
        self.sessions = Sessions(now_s)

    @property
    def token_needed(self) -> bool:
        """Whether a token is set."""
        return self._token is not None

    def check_host(self, scope: Scope, headers: Headers) -> None:
        """Refuse names that are not this host's: a foreign page may point its own name at 127.0.0.1."""
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._is_ours(_name(hosts[0]), scope):
            raise ProblemError(HTTPStatus.FORBIDDEN, "this host is not known by that name: see web.hosts")

    def check_origin(self, headers: Headers) -> None:
        """Refuse what a page of another origin sends; what is no browser sends no Origin."""
        origin = headers.get("origin")
        if origin is None:
            if headers.get("sec-fetch-site", "none") not in {"none", "same-origin"}:
                raise ProblemError(HTTPStatus.FORBIDDEN, "a page of another origin may not do that")
            return
        scheme, _, authority = origin.lower().partition("://")
        same = scheme in {"http", "https"} and authority == headers.get("host", "").lower()
        if not same and _name(authority) not in self._public:
            raise ProblemError(HTTPStatus.FORBIDDEN, "a page of another origin may not do that")

    def who(self, headers: Headers, cookies: Mapping[str, str]) -> str | None:
        """Return how the caller has shown the token; "" where none is needed, None where it has not."""
        if self._token is None:
            return ""
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self.is_token(given.strip()):
            return "token"
        secret = cookies.get(COOKIE)
        if secret and self.sessions.holds(secret):
            return f"session {name_of(secret)[:8]}"
        return None

    def is_token(self, given: str) -> bool:
        """Compare in a time that tells nothing."""
        wanted = "" if self._token is None else self._token
        return bool(wanted) and hmac.compare_digest(given.encode("utf-8", "replace"), wanted.encode())

    def _is_ours(self, name: str, scope: Scope) -> bool:
        if name in self._names:
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        here = str((scope.get("server") or ("",))[0])  # the address that was connected to
        return address.is_loopback or str(address) == here.partition("%")[0]


def _name(authority: str) -> str:
    """Return the host of `host:port`, without brackets; empty where it is none."""
    if NO_AUTHORITY.intersection(authority):  # urlsplit would read a name out of `localhost/evil.example`
        return ""
    try:
        return (urlsplit(f"//{authority}").hostname or "").removesuffix(".")
    except ValueError:
        return ""
