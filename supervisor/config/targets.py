"""Checks URLs and addresses, and fills the braces of a worker's probes for each replica."""

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from msgspec import Struct

from supervisor.config.fault import Path, Report, quoted
from supervisor.config.shape import DrainShape, HealthShape, ReadyShape
from supervisor.model.plan import (
    AfterTarget,
    CommandTarget,
    DrainRule,
    GuardTarget,
    HealthRule,
    HttpTarget,
    LlamaTarget,
    NotifyTarget,
    ReadyTarget,
    Setting,
    TcpTarget,
)
from supervisor.model.template import HIGHEST_PORT, TemplateError, fill

# How long an answer may take, and how long a llama.cpp server may be busy without progress.
_HTTP_TIMEOUT_S: Final = 5.0
_STANDSTILL_S: Final = 60.0
_VISIBLE: Final = re.compile(r"[!-~]+")


class Site(Struct, frozen=True):
    """Where braces are filled: one replica of one worker, and the report for what is wrong."""

    path: Path
    settings: Mapping[str, Setting]
    replica: int | None
    report: Report


def why_not_url(url: str) -> str | None:
    """Return why `url` is not one that can be asked; None if it is."""
    if not _VISIBLE.fullmatch(url):
        return "must be a URL such as http://127.0.0.1:8081/health, without spaces"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        return f"is no URL: {str(error).lower()}"
    if parts.scheme not in {"http", "https"}:
        return "must be a URL that begins with http:// or https://"
    if not parts.hostname:
        return "is a URL without a host"
    if "@" in parts.netloc:
        return "may not hold a user or a password"
    if port == 0:
        return "has port 0, on which nothing answers"
    return None


def endpoint_of(text: str) -> tuple[str, int] | str:
    """Return (host, port) of `127.0.0.1:8081` or `[::1]:8081`, or why it is none."""
    host, colon, port = text.rpartition(":")
    example = "must be HOST:PORT such as 127.0.0.1:8081"
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        return "an IPv6 address needs brackets: [::1]:8081"
    if not colon or not _VISIBLE.fullmatch(host):
        return example
    if not (port.isascii() and port.isdigit() and 0 < int(port[:9]) <= HIGHEST_PORT):
        return f"{quoted(port)} is no port: {example}"
    return host, int(port)


def ready_of(shape: ReadyShape | None, site: Site) -> ReadyTarget | None:
    """Return how this replica shows that it is ready."""
    if shape is None or _not_one(("http", "llama", "tcp", "notify", "after"), "ready", shape, site):
        return None
    if shape.http is not None:
        return HttpTarget(_url(shape.http, site, "ready", "http"))
    if shape.llama is not None:
        return LlamaTarget(_url(shape.llama, site, "ready", "llama").rstrip("/"))
    if shape.tcp is not None:
        return _tcp(shape.tcp, site)
    if shape.after is not None:
        return AfterTarget(shape.after)
    if shape.notify is False:
        site.report.fault((*site.path, "ready", "notify"), "must be true; leave ready out for no readiness")
    return NotifyTarget()


def health_of(shape: HealthShape | None, site: Site) -> HealthRule | None:
    """Return how this replica is probed."""
    if shape is None or _not_one(("http", "llama"), "health", shape, site):
        return None
    if shape.http is not None:
        target = HttpTarget(_url(shape.http, site, "health", "http"))
        return HealthRule(target, shape.interval, shape.timeout or _HTTP_TIMEOUT_S, shape.failures)
    llama = LlamaTarget(_url(shape.llama or "", site, "health", "llama").rstrip("/"))
    return HealthRule(llama, shape.interval, shape.timeout or _STANDSTILL_S, shape.failures)


def drain_of(shape: DrainShape | None, site: Site) -> DrainRule | None:
    """Return what a stop of this replica waits for."""
    if shape is None or _not_one(("http", "llama", "command", "guard"), "drain", shape, site):
        return None
    if shape.http is not None:
        return DrainRule(HttpTarget(_url(shape.http, site, "drain", "http")), shape.timeout)
    if shape.llama is not None:
        return DrainRule(LlamaTarget(_url(shape.llama, site, "drain", "llama").rstrip("/")), shape.timeout)
    if shape.guard is not None:
        if not shape.guard:
            site.report.fault((*site.path, "drain", "guard"), "must be true; leave drain out for no draining")
        return DrainRule(GuardTarget(), shape.timeout)
    words = tuple(_filled(word, site, "drain", "command") for word in shape.command or ())
    if not words or not words[0]:
        site.report.fault((*site.path, "drain", "command"), "is empty: it needs a program")
    return DrainRule(CommandTarget(words), shape.timeout)


def _not_one(names: tuple[str, ...], key: str, shape: Struct, site: Site) -> bool:
    """Say, with a fault unless there is one already, whether not exactly one of `names` is set."""
    given = [name for name in names if getattr(shape, name) is not None]
    if len(given) == 1:
        return False
    if not site.report.bad(*site.path, key):
        one_of = " or ".join((", ".join(names[:-1]), names[-1]))
        why = f"has {' and '.join(given)}, and only one counts" if given else f"needs one of {one_of}"
        site.report.fault((*site.path, key), why)
    return True


def _filled(text: str, site: Site, *at: str) -> str:
    """Return `text` filled, or as it is with a fault."""
    try:
        return fill(text, site.settings, site.replica)
    except TemplateError as error:
        site.report.fault((*site.path, *at), str(error))
        return text


def _url(text: str, site: Site, *at: str) -> str:
    url = _filled(text, site, *at)
    why = why_not_url(url)
    if why is not None and not site.report.bad(*site.path, *at):
        site.report.fault((*site.path, *at), why)
    return url


def _tcp(text: str, site: Site) -> TcpTarget | None:
    endpoint = endpoint_of(_filled(text, site, "ready", "tcp"))
    if isinstance(endpoint, tuple):
        return TcpTarget(*endpoint)
    if not site.report.bad(*site.path, "ready", "tcp"):
        site.report.fault((*site.path, "ready", "tcp"), endpoint)
    return None
