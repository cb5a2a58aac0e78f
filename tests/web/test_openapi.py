"""`/openapi.json`: what it describes is what is served, and what is served is what it describes."""

import os
import re
import subprocess
from pathlib import Path
from typing import cast

import pytest
from starlette.routing import Route

from supervisor.web.app import routes_of
from supervisor.web.openapi import description
from supervisor.web.routes import PAGES
from supervisor.web.site import Site
from support.control_desk import StoryDesk
from support.web_face import WebFace


def test_every_route_is_described_and_nothing_else_is() -> None:
    described = {
        (path, method.upper()) for path, methods in description(PAGES)["paths"].items() for method in methods
    }
    served = {
        (route.path.replace(":path}", "}"), method)
        for route in routes_of(cast("Site", None))  # none of them is called
        if isinstance(route, Route)
        for method in (route.methods or ())
        if method != "HEAD"
    }
    assert described == served
    assert len(served) == len(PAGES)


def test_every_reference_leads_somewhere(face: WebFace) -> None:
    answer = face.get("/openapi.json")

    document = answer.json()
    assert document["openapi"] == "3.1.0"
    schemas = set(document["components"]["schemas"])
    references = set(re.findall(rb'"#/components/schemas/([^"]+)"', answer.body))
    assert {name.decode() for name in references} <= schemas
    assert len(references) > 20


def test_names_of_operations_are_different() -> None:
    names = [
        operation["operationId"]
        for methods in description(PAGES)["paths"].values()
        for operation in methods.values()
    ]
    assert len(set(names)) == len(names)


@pytest.mark.slow
def test_schemathesis_finds_nothing(
    face: WebFace, desk: StoryDesk, schemathesis_python: str, tmp_path: Path
) -> None:
    before = len(desk.now.workers)
    done = subprocess.run(
        [
            *(str(Path(schemathesis_python).with_name("schemathesis")), "--no-color", "run"),
            *(f"http://127.0.0.1:{face.port}/openapi.json", "--max-examples", "15", "--seed", "1"),
            *("--phases", "examples,coverage,fuzzing", "--request-timeout", "10"),
        ],
        cwd=tmp_path,
        env={**os.environ, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=55,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in face.log()
    assert len(desk.now.workers) == before
