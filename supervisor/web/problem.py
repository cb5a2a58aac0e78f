"""What went wrong with a request, as RFC 9457 writes it."""

from collections.abc import Mapping
from http import HTTPStatus

import msgspec
from starlette.responses import Response

TYPE = "application/problem+json"


class ProblemError(Exception):
    """A request that gets an error; `detail` is a sentence for whoever sent it."""

    def __init__(self, status: HTTPStatus, detail: str, headers: Mapping[str, str] | None = None) -> None:
        """Take what the answer says."""
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = dict(headers or {})


def problem(error: ProblemError) -> Response:
    """Return the answer that tells of it."""
    told = {"status": int(error.status), "title": error.status.phrase, "detail": error.detail}
    return Response(msgspec.json.encode(told), int(error.status), error.headers, TYPE)
