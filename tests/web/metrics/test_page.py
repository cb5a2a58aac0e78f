"""The page of metrics: what Prometheus is told, and what it is not told."""

import subprocess
from collections.abc import Mapping

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from supervisor.model.alert import AlertStatus
from supervisor.model.phase import Cause, Phase
from supervisor.model.status import SelfStatus, Status
from supervisor.web.metrics import CHAPTERS, CONTENT_TYPE, render
from support.control_desk import everything, worker
from web.metrics.scene import ALERTS, full, unread

GPU = {"gpu": "0", "uuid": "GPU-1"}
CHAT = {"worker": "chat"}


class Read:
    """A page as a scraper reads it."""

    def __init__(self, page: bytes) -> None:
        self.families = list(text_string_to_metric_families(page.decode()))
        self.series = {
            (one.name, frozenset(one.labels.items())): one.value
            for family in self.families
            for one in family.samples
        }
        self.names = {name for name, _ in self.series}

    def value(self, name: str, labels: Mapping[str, str] | None = None) -> float | None:
        return self.series.get((f"gpu_supervisor_{name}", frozenset((labels or {}).items())))

    def by(self, label: str, name: str, labels: Mapping[str, str]) -> dict[str, float]:
        """Return the values of a metric of one subject by one more label."""
        return {
            dict(found)[label]: value
            for (one, found), value in self.series.items()
            if one == f"gpu_supervisor_{name}" and labels.items() <= dict(found).items()
        }


def told() -> Read:
    return Read(render(full(), ALERTS))


@pytest.mark.parametrize(
    "status", [full(), unread(), everything(), None], ids=["all", "unread", "empty", "away"]
)
def test_promtool_finds_nothing_to_say_of_the_page(status: Status | None, promtool: str) -> None:
    done = subprocess.run(
        [promtool, "check", "metrics"], input=render(status, ALERTS), capture_output=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_promtool_does_find_a_name_without_a_unit_of_its_kind(promtool: str) -> None:
    page = render(full()).replace(b"gpu_supervisor_worker_age_seconds", b"gpu_supervisor_worker_age_total")
    done = subprocess.run([promtool, "check", "metrics"], input=page, capture_output=True, check=False)
    assert done.returncode == 3
    assert b"gpu_supervisor_worker_age_total" in done.stderr


def test_the_page_is_text_of_version_0_0_4() -> None:
    assert CONTENT_TYPE == "text/plain; version=0.0.4; charset=utf-8"
    assert render(None) == (
        b"# HELP gpu_supervisor_up 1 while the supervisor answers; 0: nothing else is known, and nothing else"
        b" is told\n# TYPE gpu_supervisor_up gauge\ngpu_supervisor_up 0.0\n"
    )


def test_where_everything_is_known_every_metric_is_there_with_the_labels_that_it_is_said_to_have() -> None:
    found: dict[str, set[str]] = {}
    for name, labels in told().series:
        found.setdefault(name, set()).update(dict(labels))
    expected = {
        name: {*chapter.labels, *(family.labels if not name.endswith(("_sum", "_count")) else ())}
        for chapter in CHAPTERS
        for family in chapter.families
        for name in family.series
    }
    assert found == expected


def test_the_names_are_these() -> None:
    assert sorted(name.removeprefix("gpu_supervisor_") for name in told().names) == [
        "adopted_total",
        "alert_firing",
        "build_info",
        "config_refused",
        "gpu_info",
        "gpu_last_xid_timestamp_seconds",
        "gpu_memory_total_bytes",
        "gpu_memory_used_bytes",
        "gpu_power_limit_watts",
        "gpu_power_watts",
        "gpu_pressure",
        "gpu_quarantined",
        "gpu_read_age_seconds",
        "gpu_state",
        "gpu_temperature_celsius",
        "gpu_throttled",
        "gpu_utilization_ratio",
        "gpu_xid_errors_total",
        "history_dropped_total",
        "host_memory_available_bytes",
        "host_memory_stalled_ratio",
        "host_memory_total_bytes",
        "host_pressure",
        "host_swap_used_bytes",
        "last_turn_timestamp_seconds",
        "quarantines_total",
        "readings_missing_total",
        "start_time_seconds",
        "turn_duration_seconds_bucket",
        "turn_duration_seconds_count",
        "turn_duration_seconds_sum",
        "up",
        "worker_age_seconds",
        "worker_batch_size",
        "worker_forecast_seconds",
        "worker_held",
        "worker_items_per_second",
        "worker_job_done_items",
        "worker_job_remaining_seconds",
        "worker_job_size_items",
        "worker_max_age_seconds",
        "worker_memory_bytes",
        "worker_memory_cap_bytes",
        "worker_oom_events_total",
        "worker_phase",
        "worker_ready",
        "worker_recoveries_total",
        "worker_restarts_total",
        "worker_rung",
        "worker_start_time_seconds",
        "worker_vram_bytes",
        "worker_vram_cap_bytes",
    ]


@pytest.mark.parametrize(
    ("name", "labels", "value"),
    [
        ("up", {}, 1),
        ("build_info", {"version": "0.1.0", "launcher": "direct"}, 1),
        ("start_time_seconds", {}, 1_795_228_000.5),
        ("last_turn_timestamp_seconds", {}, 1_795_228_628),
        ("readings_missing_total", {}, 6),
        ("adopted_total", {}, 2),
        ("quarantines_total", {}, 1),
        ("history_dropped_total", {}, 0),
        ("config_refused", {}, 0),
        ("host_memory_total_bytes", {}, 68719476736),
        ("host_memory_available_bytes", {}, 44023414784),
        ("host_swap_used_bytes", {}, 0),
        ("host_memory_stalled_ratio", {}, 0),
        ("gpu_info", {**GPU, "name": "NVIDIA H200"}, 1),
        ("gpu_memory_total_bytes", GPU, 149250113536),
        ("gpu_memory_used_bytes", GPU, 6442450944),
        ("gpu_temperature_celsius", GPU, 40),
        ("gpu_power_watts", GPU, 70),
        ("gpu_power_limit_watts", GPU, 700),
        ("gpu_utilization_ratio", GPU, 0.03),
        ("gpu_xid_errors_total", GPU, 3),
        ("gpu_last_xid_timestamp_seconds", {**GPU, "code": "79"}, 1_795_228_568),
        ("gpu_quarantined", GPU, 0),
        ("worker_ready", CHAT, 1),
        ("worker_ready", {"worker": "embed"}, 0),
        ("worker_held", CHAT, 0),
        ("worker_held", {"worker": "embed"}, 1),
        ("worker_start_time_seconds", CHAT, 1_795_228_554),
        ("worker_age_seconds", CHAT, 74),
        ("worker_max_age_seconds", CHAT, 3600),
        ("worker_memory_bytes", {**CHAT, "kind": "anon"}, 2437393940),
        ("worker_memory_bytes", {**CHAT, "kind": "file"}, 1073741824),
        ("worker_memory_cap_bytes", CHAT, 8589934592),
        ("worker_vram_bytes", CHAT, 5476083302),
        ("worker_vram_cap_bytes", CHAT, 6442450944),
        ("worker_forecast_seconds", CHAT, 5400),
        ("worker_rung", CHAT, 1),
        ("worker_oom_events_total", CHAT, 2),
        ("worker_recoveries_total", CHAT, 3),
        ("worker_batch_size", CHAT, 8),
        ("worker_items_per_second", CHAT, 12.5),
        ("worker_job_done_items", CHAT, 120),
        ("worker_job_size_items", CHAT, 400),
        ("worker_job_remaining_seconds", CHAT, 22.4),
    ],
)
def test_each_value_is_told_in_base_units(name: str, labels: dict[str, str], value: float) -> None:
    assert told().value(name, labels) == value


def test_of_the_states_of_a_thing_one_is_1_and_the_others_are_0() -> None:
    page = told()
    assert page.by("phase", "worker_phase", {"worker": "embed"}) == {
        phase: float(phase == "held") for phase in Phase
    }
    assert page.by("state", "gpu_state", GPU) == {"ok": 1, "lost": 0, "hung": 0, "mismatch": 0, "failed": 0}
    assert page.by("level", "gpu_pressure", GPU) == {"normal": 1, "high": 0, "critical": 0, "extreme": 0}
    assert page.by("level", "host_pressure", {}) == {"normal": 1, "high": 0, "critical": 0, "extreme": 0}
    assert page.by("reason", "gpu_throttled", GPU) == {
        "sw-power-cap": 0,
        "hw-slowdown": 0,
        "sw-thermal": 1,
        "hw-thermal": 0,
        "hw-power-brake": 0,
    }


def test_causes_that_never_were_are_told_too_so_that_the_first_restart_is_an_increase() -> None:
    restarts = told().by("cause", "worker_restarts_total", CHAT)
    assert set(restarts) == {cause.value for cause in Cause}
    assert {cause: times for cause, times in restarts.items() if times} == {"vram-oom": 2, "age": 1}


def test_a_cause_of_a_later_supervisor_is_told_as_it_is() -> None:
    page = Read(render(everything(worker("chat", restarts_by_cause={"comet": 1}))))
    assert page.value("worker_restarts_total", {**CHAT, "cause": "comet"}) == 1


def test_the_times_of_turns_are_a_histogram_whose_buckets_add_up() -> None:
    page = told()
    assert page.by("le", "turn_duration_seconds_bucket", {}) == {
        "0.0005": 4,
        "0.005": 9,
        "1.0": 9,
        "+Inf": 10,
    }
    assert page.value("turn_duration_seconds_count") == 10
    assert page.value("turn_duration_seconds_sum") == 0.0425


def test_before_the_first_turn_there_is_no_histogram() -> None:
    page = Read(render(msgspec.structs.replace(full(), supervisor=SelfStatus(4711, 0.0))))
    assert page.value("readings_missing_total") == 0
    assert page.value("turn_duration_seconds_count") is None


def test_readings_of_a_gpu_that_no_longer_answers_are_told_with_their_age() -> None:
    status = full()
    gpus = tuple(msgspec.structs.replace(gpu, read_age_s=42.5) for gpu in status.gpus)
    page = Read(render(msgspec.structs.replace(status, gpus=gpus)))
    assert page.value("gpu_read_age_seconds", GPU) == 42.5


def test_a_reading_that_is_missing_is_no_series() -> None:
    page = Read(render(unread()))
    assert sorted(name.removeprefix("gpu_supervisor_") for name in page.names) == [
        "build_info",
        "config_refused",
        "gpu_info",
        "gpu_pressure",
        "gpu_quarantined",
        "gpu_read_age_seconds",
        "gpu_state",
        "host_pressure",
        "last_turn_timestamp_seconds",
        "up",
        "worker_held",
        "worker_oom_events_total",
        "worker_phase",
        "worker_ready",
        "worker_restarts_total",
        "worker_rung",
    ]
    assert b"NaN" not in render(unread())


def test_a_worker_that_is_gone_has_no_series() -> None:
    two = Read(render(everything(worker("chat"), worker("embed"))))
    one = Read(render(everything(worker("chat"))))
    assert {dict(labels).get("worker") for _, labels in two.series} == {None, "chat", "embed"}
    assert {dict(labels).get("worker") for _, labels in one.series} == {None, "chat"}


def test_a_config_that_was_refused_and_a_gpu_in_quarantine_are_1() -> None:
    status = full()
    gpu = msgspec.structs.replace(status.gpus[0], quarantine="memory did not come back")
    page = Read(render(msgspec.structs.replace(status, gpus=(gpu,), config_refused="line 3: why")))
    assert page.value("config_refused") == 1
    assert page.value("gpu_quarantined", GPU) == 1


def test_alerts_that_fire_are_told_with_what_they_are_about_and_others_are_not() -> None:
    labels = [dict(labels) for name, labels in told().series if name == "gpu_supervisor_alert_firing"]
    assert sorted(labels, key=lambda one: one["alert"]) == [
        {"alert": "GPUMemoryExhaustion", "severity": "critical", "uuid": "GPU-1", "gpu": "0"},
        {"alert": "HostMemoryLow", "severity": "warning"},
        {"alert": "WorkerHeld", "severity": "warning", "worker": "chat"},
    ]


def test_an_alert_that_is_there_twice_is_one_series() -> None:
    alert = AlertStatus("GPUHot", "warning", "firing", "", gpu="GPU-1")
    series = render(full(), [alert, msgspec.structs.replace(alert, value=91.0)]).splitlines()
    assert sum(line.startswith(b"gpu_supervisor_alert_firing{") for line in series) == 1


def test_a_name_of_an_alert_may_hold_any_character() -> None:
    name = 'say "too hot"\nor \\ not'
    page = Read(render(full(), [AlertStatus(name, "info", "firing", "")]))
    assert page.value("alert_firing", {"alert": name, "severity": "info"}) == 1


def test_what_batches_did_is_told_where_no_job_says_more() -> None:
    status = full()
    reported = status.workers[0].reported
    assert reported is not None
    chat = msgspec.structs.replace(
        status.workers[0], reported=msgspec.structs.replace(reported, progress=None)
    )
    page = Read(render(msgspec.structs.replace(status, workers=(chat,))))
    assert page.value("worker_batch_size", CHAT) == 4
    assert page.value("worker_items_per_second", CHAT) == 11
    assert page.value("worker_job_done_items", CHAT) is None
