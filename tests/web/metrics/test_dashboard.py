"""The dashboard for Grafana: in the form that Grafana reads, each query in the language of Prometheus.

The form is that of https://grafana.com/docs/grafana/latest/dashboards/build-dashboards/view-dashboard-json-model/.
"""

import subprocess
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import yaml
from msgspec import Meta, Struct

from web.metrics.shipped import DASHBOARD, dashboard, panels, queries

COLUMNS = 24  # of Grafana's grid


class Grid(Struct, frozen=True, forbid_unknown_fields=True):
    h: Annotated[int, Meta(ge=1)]
    w: Annotated[int, Meta(ge=1, le=COLUMNS)]
    x: Annotated[int, Meta(ge=0, lt=COLUMNS)]
    y: Annotated[int, Meta(ge=0)]


class Source(Struct, frozen=True, forbid_unknown_fields=True):
    type: str
    uid: str


class Target(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    ref_id: Annotated[str, Meta(pattern="^[A-Z]$")]
    datasource: Source
    expr: Annotated[str, Meta(min_length=1)]
    legend_format: str
    editor_mode: Literal["code"]
    range: bool
    instant: bool


class Panel(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    id: Annotated[int, Meta(ge=1)]
    type: Literal["row", "timeseries", "gauge", "stat"]
    title: Annotated[str, Meta(min_length=1)]
    grid_pos: Grid
    description: str = ""
    datasource: Source | None = None
    targets: tuple[Target, ...] = ()
    field_config: dict[Literal["defaults", "overrides"], Any] | None = None
    options: dict[str, Any] | None = None
    collapsed: bool = False
    panels: tuple[()] = ()


class Variable(Struct, frozen=True, rename="camel"):
    name: str
    type: Literal["datasource", "query"]
    query: str | dict[str, str]
    refresh: Literal[1, 2]  # when the dashboard is loaded; when the time range changes
    multi: bool
    include_all: bool


class Variables(Struct, frozen=True, forbid_unknown_fields=True):
    list: tuple[Variable, ...]


class Board(Struct, frozen=True, rename="camel"):
    title: Literal["gpu-supervisor"]
    uid: Annotated[str, Meta(max_length=40, pattern="^[a-zA-Z0-9_-]+$")]
    schema_version: Annotated[int, Meta(ge=36, le=41)]
    version: int
    tags: tuple[str, ...]
    time: dict[Literal["from", "to"], str]
    templating: Variables
    annotations: dict[Literal["list"], Any]
    panels: tuple[Panel, ...]


def board() -> Board:
    return msgspec.json.decode(DASHBOARD.read_bytes(), type=Board)


def test_the_form_is_one_that_grafana_reads() -> None:
    read = board()
    assert [panel.title for panel in read.panels if panel.type == "row"] == [
        "Now",
        "Host",
        "GPUs",
        "Workers",
        "The supervisor itself",
    ]
    assert [variable.name for variable in read.templating.list] == ["datasource", "instance", "gpu", "worker"]


def test_no_panel_has_the_number_of_another_or_lies_on_another_or_leaves_the_grid() -> None:
    read = board()
    numbers = [panel.id for panel in read.panels]
    assert len(set(numbers)) == len(numbers)
    assert [panel.title for panel in read.panels if panel.grid_pos.x + panel.grid_pos.w > COLUMNS] == []
    pairs = combinations(read.panels, 2)
    assert [(a.title, b.title) for a, b in pairs if overlap(a.grid_pos, b.grid_pos)] == []


def overlap(a: Grid, b: Grid) -> bool:
    return a.x < b.x + b.w and b.x < a.x + a.w and a.y < b.y + b.h and b.y < a.y + a.h


def test_two_places_overlap_where_they_share_a_cell() -> None:
    assert overlap(Grid(h=2, w=2, x=0, y=0), Grid(h=2, w=2, x=1, y=1))
    assert not overlap(Grid(h=2, w=2, x=0, y=0), Grid(h=2, w=2, x=2, y=0))
    assert not overlap(Grid(h=2, w=2, x=0, y=0), Grid(h=2, w=2, x=0, y=2))


def test_every_panel_asks_the_chosen_source_has_a_unit_and_can_be_narrowed() -> None:
    chosen = {"type": "prometheus", "uid": "${datasource}"}
    for panel in panels():
        assert panel["datasource"] == chosen
        assert panel["fieldConfig"]["defaults"]["unit"] in {
            "none",
            "bytes",
            "s",
            "percentunit",
            "celsius",
            "watt",
        }
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"]) > 0
        for target in panel["targets"]:
            assert target["datasource"] == chosen
            expr = target["expr"]
            assert expr.count("gpu_supervisor_") == expr.count('instance=~"$instance"')
            assert expr.count("gpu_supervisor_worker_") == expr.count('worker=~"$worker"')
            assert expr.count("gpu_supervisor_gpu_") == expr.count('gpu=~"$gpu"')


def test_every_query_is_in_the_language_of_prometheus(promtool: str, tmp_path: Path) -> None:
    records = [{"record": f"query:{at}", "expr": query} for at, (_, query) in enumerate(queries())]
    file = tmp_path / "queries.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": records}]}))
    done = subprocess.run([promtool, "check", "rules", file], text=True, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{len(records)} rules found" in done.stdout
    assert len(records) > 40


def test_the_file_is_written_as_grafana_exports_it_and_names_no_machine() -> None:
    text = DASHBOARD.read_text()
    assert text == msgspec.json.format(text, indent=2) + "\n"
    assert dashboard().keys() & {"id", "__inputs"} == set()
