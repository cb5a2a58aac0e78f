"""The properties of a drain command's unit; tests/system/test_drain.py shows that systemd takes them."""

import pytest

from supervisor.model.plan import WorkerPlan
from supervisor.systemd.drain_unit import drain_properties, drain_unit
from supervisor.systemd.units import UnitPlaces, worker_of
from support.unit_plans import RICH

PLACES = UnitPlaces("/run/test/units")


def told(plan: WorkerPlan, *command: str, timeout_s: float = 60.0) -> dict[str, tuple[str, object]]:
    properties = drain_properties(plan, plan.settings, command, timeout_s, PLACES)
    found = {name: (signature, value) for name, signature, value in properties}
    assert len(found) == len(properties)
    return found


def test_a_drain_command_runs_in_a_unit_that_is_no_workers() -> None:
    assert drain_unit("chat-2") == "gpu-drain-chat-2.service"
    assert worker_of("gpu-drain-chat-2.service") is None


def test_a_plain_workers_command_has_what_every_command_has() -> None:
    assert told(WorkerPlan("chat", "chat", ("serve",)), "idle", "a b", "$HOME %n") == {
        "Description": ("s", "Drain command of worker chat of gpu-supervisor"),
        "Type": ("s", "oneshot"),
        "ExecStartEx": ("a(sasas)", [["idle", ["idle", "a b", "$HOME %n"], ["no-env-expand"]]]),
        "User": ("s", "root"),
        "Environment": ("as", ["CUDA_DEVICE_ORDER=PCI_BUS_ID"]),
        "EnvironmentFiles": ("a(sb)", [["/run/test/units/chat.env", True]]),
        "UnsetEnvironment": ("as", ["NOTIFY_SOCKET", "GPU_SUPERVISOR_SOCKET", "WATCHDOG_USEC"]),
        "CollectMode": ("s", "inactive-or-failed"),
        "SuccessExitStatus": ("(aiai)", [list(range(1, 256)), []]),
        "KillSignal": ("i", 9),
        "TimeoutStopUSec": ("t", 10_000_000),
        "TimeoutStartUSec": ("t", 65_000_000),
        "SyslogIdentifier": ("s", "gpu-drain-chat"),
        "LogExtraFields": ("aay", [b"WORKER=chat"]),
        "SyslogLevel": ("i", 5),
        "SyslogLevelPrefix": ("b", False),
        "LogLevelMax": ("i", 5),
        "Slice": ("s", "gpu-workers.slice"),
        "OOMPolicy": ("s", "kill"),
        "OOMScoreAdjust": ("i", 500),
        "CapabilityBoundingSet": ("t", 0xFFFF_FFF4_FDBF_FFFF),
    }


def test_a_command_runs_as_its_worker_does() -> None:
    found = told(RICH, "./idle", "now")
    assert found["ExecStartEx"] == (
        "a(sasas)",
        [["/var/lib/%n a /./idle", ["./idle", "now"], ["no-env-expand"]]],
    )
    assert found["WorkingDirectory"] == ("s", "/var/lib/%n a ")
    assert (found["User"], found["Group"]) == (("s", "daemon"), ("s", "games"))
    assert found["Environment"] == (
        "as",
        [
            "CUDA_DEVICE_ORDER=PCI_BUS_ID",
            "PATH=/opt/a/bin:/usr/bin:bin",
            "EMPTY=",
            "ODD=a b\n%$\"'\\",
        ],
    )
    assert found["ExecSearchPath"] == ("as", ["/opt/a/bin", "/usr/bin"])
    assert found["EnvironmentFiles"] == (
        "a(sb)",
        [["/etc/os-release", False], ["/run/test/units/rich-2.env", True]],
    )
    assert found["UnsetEnvironment"] == (
        "as",
        ["NOTIFY_SOCKET", "GPU_SUPERVISOR_SOCKET", "WATCHDOG_USEC", "GGML_CUDA_ENABLE_UNIFIED_MEMORY"],
    )


def test_the_deadline_of_systemd_is_later_than_ours() -> None:
    found = told(WorkerPlan("chat", "chat", ("serve",)), "idle", timeout_s=0.1)
    assert found["TimeoutStartUSec"] == ("t", 5_100_000)


@pytest.mark.parametrize(
    ("plan", "command", "why"),
    [
        (WorkerPlan("chat", "chat", ("s",)), ("idle", "a\0"), "word 1 of its command holds a NUL character"),
        (WorkerPlan("chat", "chat", ("s",)), ("idle/",), "its program 'idle/' is a directory"),
        (WorkerPlan("chat", "chat", ("s",), directory="srv"), ("idle",), "directory 'srv' is no absolute"),
        (WorkerPlan("chat", "chat", ("s",), environment={"A": "\udcff"}), ("idle",), "environment.A holds"),
        (WorkerPlan("chat", "chat", ("s",), environment={"A": "{b}"}), ("idle",), "environment.A cannot be"),
    ],
)
def test_what_systemd_cannot_be_told_is_refused_in_words(
    plan: WorkerPlan, command: tuple[str, ...], why: str
) -> None:
    with pytest.raises(ValueError, match=r"^") as refused:
        told(plan, *command)
    assert str(refused.value).startswith(why)
