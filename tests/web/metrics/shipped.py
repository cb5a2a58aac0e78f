"""The files for Prometheus and Grafana that are shipped, and the queries that are in them."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml

CHECKOUT: Final = Path(__file__).resolve().parents[3]
RULES: Final = CHECKOUT / "etc/prometheus/rules.yaml"
SCRAPE: Final = CHECKOUT / "etc/prometheus/scrape.yaml"
DASHBOARD: Final = CHECKOUT / "etc/grafana/dashboard.json"
RULES_TESTS: Final = CHECKOUT / "tests/web/prometheus/rules_test.yaml"
NAME: Final = re.compile(r"\bgpu_supervisor_[a-z0-9_]+")
LABEL_VALUES: Final = re.compile(r"label_values\((.*), (\w+)\)")

Document = dict[str, Any]


def rules() -> list[Document]:
    """Return the rules."""
    groups: list[Document] = yaml.safe_load(RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def dashboard() -> Document:
    """Return the dashboard."""
    read: Document = json.loads(DASHBOARD.read_text())
    return read


def panels() -> list[Document]:
    """Return the panels that show something, without the rows above them."""
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def queries() -> Iterator[tuple[str, str]]:
    """Yield every query of the dashboard, with a name for it; its variables stand for everything."""
    for panel in panels():
        for target in panel["targets"]:
            yield f"{panel['title']} {target['refId']}", _everything(target["expr"])
    for note in dashboard()["annotations"]["list"]:
        if "expr" in note:
            yield f"annotation {note['name']}", _everything(note["expr"])
    for variable in dashboard()["templating"]["list"]:
        found = LABEL_VALUES.fullmatch(variable["definition"]) if variable["type"] == "query" else None
        if found is not None:
            yield f"variable {variable['name']}", f"count by ({found[2]}) ({_everything(found[1])})"


def _everything(query: str) -> str:
    query = query.replace("$__rate_interval", "1m")
    return re.sub(r"\$(instance|worker|gpu)\b", ".*", query)
