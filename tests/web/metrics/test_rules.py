"""The alerting rules for Prometheus: each fires and does not fire, on metrics that there are."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from supervisor.web.metrics import CHAPTERS
from web.metrics.shipped import DASHBOARD, NAME, RULES, RULES_TESTS, SCRAPE, rules

NAMES = [
    "GPUMemoryExhaustion",
    "HighMemoryUsage",
    "HostMemoryLow",
    "WorkerRestartLoop",
    "WorkerHeld",
    "DegradedWorker",
    "LeakForecast",
    "GPUHot",
    "GPUQuarantined",
    "SupervisorStale",
]
SERIES = {name for chapter in CHAPTERS for family in chapter.families for name in family.series}


def test_promtool_finds_the_rules_good(promtool: str) -> None:
    done = subprocess.run([promtool, "check", "rules", RULES], text=True, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "10 rules found" in done.stdout


def test_promtool_finds_each_rule_to_fire_and_not_to_fire_as_it_is_said_to(promtool: str) -> None:
    done = subprocess.run(
        [promtool, "test", "rules", RULES_TESTS], text=True, capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout


def test_the_rules_are_these() -> None:
    assert [rule["alert"] for rule in rules()] == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_rule_is_tested_to_fire_before_and_after_it_does_not(name: str) -> None:
    cases: list[dict[str, Any]] = yaml.safe_load(RULES_TESTS.read_text())["tests"]
    asked = [one for case in cases for one in case["alert_rule_test"] if one["alertname"] == name]
    assert any(one["exp_alerts"] for one in asked)
    assert sum(not one["exp_alerts"] for one in asked) >= 2


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_a_rule_says_what_is_wrong_how_bad_it_is_and_where_help_is(rule: dict[str, Any]) -> None:
    words = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=GPU)(?=[A-Z])", "-", rule["alert"]).lower()
    assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
    assert rule["annotations"]["runbook_url"] == f"docs/runbooks/{words}.md"
    assert rule["labels"]["severity"] in {"warning", "critical"}


def test_exhaustion_is_critical_above_95_percent_for_2_minutes() -> None:
    rule = rules()[0]
    assert rule["expr"].endswith(" > 0.95")
    assert (rule["for"], rule["labels"]) == ("2m", {"severity": "critical"})


@pytest.mark.parametrize("path", [RULES, RULES_TESTS, DASHBOARD], ids=lambda path: path.name)
def test_every_metric_that_is_asked_for_is_one_that_there_is(path: Path) -> None:
    asked = set(NAME.findall(path.read_text()))
    assert len(asked) > 8
    assert asked - SERIES == set()


def test_every_metric_but_a_few_is_on_the_dashboard() -> None:
    shown = set(NAME.findall(DASHBOARD.read_text()))
    assert SERIES - shown == {
        "gpu_supervisor_build_info",
        "gpu_supervisor_start_time_seconds",
        "gpu_supervisor_gpu_state",
        "gpu_supervisor_gpu_read_age_seconds",
        "gpu_supervisor_gpu_pressure",
        "gpu_supervisor_gpu_last_xid_timestamp_seconds",
        "gpu_supervisor_worker_start_time_seconds",
        "gpu_supervisor_worker_job_remaining_seconds",
    }


def test_promtool_finds_the_scrape_job_good_with_a_token_and_without(promtool: str, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("x")
    text = SCRAPE.read_text()
    with_token = re.sub(r"^    # (?=authorization:|  credentials_file:)", "    ", text, flags=re.MULTILINE)
    assert yaml.safe_load(with_token)["scrape_configs"][0]["authorization"] == {
        "credentials_file": "/etc/prometheus/gpu-supervisor-token"
    }
    for content in (text, with_token.replace("/etc/prometheus/gpu-supervisor-token", str(token))):
        config = tmp_path / "prometheus.yml"
        config.write_text(content)
        done = subprocess.run([promtool, "check", "config", config], capture_output=True, check=False)
        assert (done.returncode, done.stderr) == (0, b"")
