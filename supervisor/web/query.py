"""What stands in a request's query string, checked by the patterns that /openapi.json tells."""

import re
from http import HTTPStatus
from typing import Final

from starlette.requests import Request

from supervisor.model.quantity import parse_span
from supervisor.web.problem import ProblemError

NAME: Final = "[A-Za-z0-9-]{1,200}"  # of a worker, or of the daemon's epoch
MOMENT: Final = r"[0-9]{1,10}(\.[0-9]{1,3})?|[0-9]{1,6}(s|min|h|d|w)"
_DIGITS: Final = re.compile("[0-9]{1,20}")


def text(request: Request, key: str) -> str | None:
    """Return a name, None where it is not given; a ProblemError for what cannot be one."""
    given = _once(request, key)
    if given is not None and not re.fullmatch(NAME, given):
        raise _wrong(key, "must be 1 to 200 letters, digits and dashes")
    return given


def whole(request: Request, key: str, least: int, most: int) -> int | None:
    """Return a whole number within bounds, None where it is not given."""
    given = _once(request, key)
    if given is None:
        return None
    if not _DIGITS.fullmatch(given) or not least <= int(given) <= most:
        raise _wrong(key, f"must be a whole number from {least} to {most}")
    return int(given)


def since(request: Request, now_wall_s: float, key: str = "since") -> float | None:
    """Return a Unix time, given as such or as a span back from now (`1h`); None where it is not given."""
    given = _once(request, key)
    if given is None:
        return None
    if not re.fullmatch(MOMENT, given):
        raise _wrong(key, "must be Unix seconds, or a span back from now such as 1h")
    if given[-1].isdigit():
        return float(given)
    return max(0.0, now_wall_s - parse_span(given))


def _once(request: Request, key: str) -> str | None:
    given = request.query_params.getlist(key)
    if len(given) > 1:
        raise _wrong(key, "is given more than once")
    return given[0] if given else None


def _wrong(key: str, why: str) -> ProblemError:
    return ProblemError(HTTPStatus.BAD_REQUEST, f"{key} {why}")
