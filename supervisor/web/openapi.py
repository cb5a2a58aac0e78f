"""`/openapi.json`: OpenAPI 3.1 of the table of routes, with the schemas of what the daemon tells."""

import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

import msgspec

from supervisor import __version__
from supervisor.model.alert import AlertStatus
from supervisor.model.course import Course
from supervisor.model.event import News
from supervisor.model.incident import Incident, IncidentDetail, Sample
from supervisor.model.report import MemoryReport
from supervisor.model.status import Status, WorkerStatus
from supervisor.web.actions import WISHES, Login, Wished
from supervisor.web.page import Page
from supervisor.web.problem import TYPE

JSON: Final = "application/json"
SHAPES: Final = (
    *(Status, WorkerStatus, Incident, IncidentDetail, Sample, Course, AlertStatus, News, MemoryReport),
    *(Wished, Login),
)
PARAMETERS: Final[Mapping[str, Mapping[str, object]]] = {
    "name": {"type": "string", "minLength": 1},
    "wish": {"type": "string", "enum": list(WISHES)},
    "ident": {"type": "string", "minLength": 1},
    "path": {"type": "string", "minLength": 1},
}
ALWAYS: Final = (HTTPStatus.FORBIDDEN, HTTPStatus.REQUEST_URI_TOO_LONG)


def description(pages: Sequence[Page]) -> dict[str, Any]:
    """Return the document that describes these pages."""
    paths: dict[str, dict[str, object]] = {}
    for page in pages:
        paths.setdefault(_plain(page.path), {})[page.method.lower()] = _operation(page)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "gpu-supervisor",
            "version": __version__,
            "summary": "The state of the machine's inference workers, and what may be done with them.",
            "description": "Live news come over the WebSocket at `/ws`.",
        },
        "paths": paths,
        "components": {
            "schemas": _schemas(),
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "session": {"type": "apiKey", "in": "cookie", "name": "gpu-supervisor-session"},
            },
        },
    }


def _plain(path: str) -> str:
    return path.replace(":path}", "}")


def _operation(page: Page) -> dict[str, object]:
    inside = re.findall(r"{(\w+)}", _plain(page.path))
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": PARAMETERS[name]} for name in inside
    ]
    parameters += [
        {"name": each.name, "in": "query", "description": each.says, "schema": each.schema}
        for each in page.query
    ]
    told: dict[str, object] = {
        "operationId": f"{page.method.lower()}{re.sub(r'[^a-z0-9]+', '_', _plain(page.path))}".rstrip("_"),
        "summary": page.says,
        "responses": _responses(page),
        "security": [{}] if page.open_to_all else [{}, {"token": []}, {"session": []}],
    }
    if parameters:
        told["parameters"] = parameters
    if page.body is not None:
        content = {JSON: {"schema": _ref(page.body)}}
        told["requestBody"] = {"required": page.body_needed, "content": content}
    return told


def _responses(page: Page) -> dict[str, object]:
    said: dict[str, object] = {"description": HTTPStatus(page.status).phrase}
    if page.answer.endswith("/*") or "/" in page.answer:
        said["content"] = {page.answer: {}}
    elif page.answer:
        said["content"] = {JSON: {"schema": _ref(page.answer)}}
    codes = {*ALWAYS, *page.errors, *(() if page.open_to_all else (HTTPStatus.UNAUTHORIZED,))}
    problem = {TYPE: {"schema": _ref("Problem")}}
    errors = {str(int(code)): _error(HTTPStatus(code).phrase, problem) for code in sorted(codes)}
    return {str(page.status): said, **errors, "default": _error("Any other problem", problem)}


def _error(says: str, content: Mapping[str, object]) -> dict[str, object]:
    return {"description": says, "content": content}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _schemas() -> dict[str, object]:
    _, found = msgspec.json.schema_components(SHAPES, ref_template="#/components/schemas/{name}")
    memory = _object(memory=_ref("MemoryReport"))
    web = _object(
        read_at={"type": "string", "format": "date-time"},
        stale_s={"type": "number"},
        daemon={"type": "string"},
    )
    return {
        **found,
        "Everything": {"allOf": [_ref("Status"), _object(web=web)]},
        "Workers": _object(workers=_list("WorkerStatus")),
        "Incidents": _object(incidents=_list("Incident")),
        "Samples": _object(samples=_list("Sample")),
        "Courses": _object(courses=_list("Course")),
        "Alerts": _object(alerts=_list("AlertStatus")),
        "Taken": _object(taken={"const": True}),
        "Alive": _object(alive={"const": True}),
        "Ready": _object(ready={"const": True}),
        "Session": _object(
            token_needed={"type": "boolean"}, signed_in={"type": "boolean"}, allow_actions={"type": "boolean"}
        ),
        "Stats": _object(
            memory=_ref("MemoryReport"), workers={"type": "object", "additionalProperties": memory}
        ),
        "Problem": _object(status={"type": "integer"}, title={"type": "string"}, detail={"type": "string"}),
        "Description": {"type": "object"},
    }


def _object(**properties: Mapping[str, object]) -> dict[str, object]:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _list(name: str) -> dict[str, object]:
    return {"type": "array", "items": _ref(name)}
