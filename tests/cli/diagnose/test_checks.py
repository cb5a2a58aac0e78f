"""Each check as a table: what is seen of a machine, and what is found."""

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from supervisor.cli.diagnose.checks.access import check_access
from supervisor.cli.diagnose.checks.caps import check_caps
from supervisor.cli.diagnose.checks.config import check_config
from supervisor.cli.diagnose.checks.daemon import check_daemon
from supervisor.cli.diagnose.checks.driver import check_driver
from supervisor.cli.diagnose.checks.everything import CHECKS, judge
from supervisor.cli.diagnose.checks.gpus import check_gpus
from supervisor.cli.diagnose.checks.host import check_host
from supervisor.cli.diagnose.checks.kernel_log import check_kernel_log
from supervisor.cli.diagnose.checks.units import check_units
from supervisor.cli.diagnose.checks.workers import check_workers
from supervisor.cli.diagnose.facts import (
    Access,
    Away,
    Disk,
    Driver,
    FileSeen,
    Gpus,
    Incidents,
    KernelLine,
    KernelLog,
    Owner,
    ServiceSeen,
    Units,
    UnitSeen,
)
from supervisor.cli.diagnose.finding import Severity
from supervisor.cli.diagnose.scrub import Scrubber
from supervisor.model.incident import Incident
from supervisor.model.phase import GpuState, Throttle
from supervisor.model.reading import Missing
from supervisor.model.snapshot import GpuProcess
from supervisor.model.status import LastRestartStatus, XidStatus
from support.control_desk import worker
from support.diagnosing import CONFIG, GIB, NOW_S, configured, daemon, facts, found, gpu, host, names, status

GONE = Missing("it is gone")


def test_where_all_is_well_nothing_is_found() -> None:
    seen = judge(facts(), Scrubber())
    assert [each for each in seen if each.severity is not Severity.OK] == []
    assert len(seen) > 12


def test_where_nothing_can_be_read_every_check_says_so_and_none_fails() -> None:
    nothing = facts(
        daemon=Away("/run/x", "refused", "no permission for /run/x"),
        host=GONE,
        gpus=GONE,
        driver=GONE,
        kernel_log=GONE,
        config=GONE,
        access=GONE,
        disks=GONE,
        units=GONE,
        owners={},
        incidents=GONE,
        output={},
    )
    seen = judge(nothing, Scrubber())
    assert {each.severity for each in seen} == {Severity.INFO}
    assert [each.id for each in seen if not each.id.endswith("-not-looked-at")] == []
    assert len(seen) >= len(CHECKS)


HELD = worker("chat", "held", held="3 failures within 10min; `gpu-supervisor reset chat` releases it")


def test_a_held_worker_is_critical_with_its_last_lines() -> None:
    (held,) = found(check_workers, facts(daemon=daemon(HELD), output={"chat": ("boom",)}))
    assert (held.severity, held.id, held.subject) == (Severity.CRITICAL, "worker-held", "worker chat")
    assert held.seen.startswith("held: 3 failures within 10min")
    assert held.runbook == "docs/runbooks/worker-held.md"
    assert held.lines == ("boom",)


def test_lines_that_cannot_be_read_are_told_as_that() -> None:
    (held,) = found(check_workers, facts(daemon=daemon(HELD), output={"chat": Missing("no permission")}))
    assert held.lines == ("its lines: not looked at: no permission",)


def incident(age_s: float, cause: str = "crash", name: str = "chat") -> Incident:
    return Incident("1", name, None, cause, "killed by SIGSEGV", NOW_S - age_s)


@pytest.mark.parametrize(
    ("incidents", "expected"),
    [
        ((incident(60), incident(120), incident(3500)), [("warning", "worker-restart-loop")]),
        ((incident(60), incident(120), incident(3700)), []),
        ((incident(60), incident(120, "operator"), incident(180)), []),
        ((incident(60), incident(120, name="embed"), incident(180)), []),
    ],
)
def test_three_failures_within_an_hour_are_a_loop(
    incidents: tuple[Incident, ...], expected: list[tuple[str, str]]
) -> None:
    assert names(found(check_workers, facts(incidents=Incidents(incidents)))) == expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"rung": 2, "oom_events": 2}, [("warning", "worker-degraded")]),
        ({"oom_events": 1}, [("info", "worker-oom")]),
        ({"forecast_s": 900.0}, [("warning", "worker-leaks")]),
        ({"memory_bytes": 7 * GIB}, []),
        ({"memory_bytes": 15 * GIB // 2}, [("info", "worker-near-cap")]),
        ({"vram_bytes": 6 * GIB}, [("info", "worker-near-cap")]),
        ({"waits_for": "GPU 0"}, [("info", "worker-waits")]),
        ({"missing": {"vram_bytes": "why"}}, [("info", "worker-reading-not-looked-at")]),
        (
            {"last_restart": LastRestartStatus("crash", "killed", "2026-11-21T02:00:00Z")},
            [("info", "worker-failed")],
        ),
        ({"last_restart": LastRestartStatus("age", "old", "2026-11-21T02:00:00Z")}, []),
    ],
)
def test_what_is_said_of_a_worker(fields: Mapping[str, Any], expected: list[tuple[str, str]]) -> None:
    told = worker("chat", **fields)
    assert names(found(check_workers, facts(daemon=daemon(told)))) == expected


@pytest.mark.parametrize(
    ("used", "expected"),
    [
        (67 * GIB, []),
        (68 * GIB, [("warning", "gpu-memory-high")]),
        (75 * GIB, [("warning", "gpu-memory-high")]),
        (76 * GIB, [("critical", "gpu-memory-exhausted")]),
        (GONE, [("info", "gpu-memory-not-looked-at")]),
    ],
)
def test_the_memory_of_a_gpu_is_judged_by_its_levels(
    used: int | Missing, expected: list[tuple[str, str]]
) -> None:
    held = () if isinstance(used, Missing) else (GpuProcess(17650, used),)
    seen = gpu(memory_used_bytes=used, processes=held)
    assert names(found(check_gpus, facts(gpus=Gpus((seen,))))) == expected


def test_the_levels_are_those_of_the_file() -> None:
    lower = configured("gpu: {pressure: {high: 5%, critical: 6%, extreme: 7%, hysteresis: 1%}}\nworkers: {}")
    seen = found(check_gpus, facts(config=lower))
    assert names(seen) == [("critical", "gpu-memory-exhausted")]
    assert seen[0].seen == "6G of 80G used, 7.5%"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"state": GpuState.LOST, "fault": "GPU is lost"}, [("critical", "gpu-not-ok")]),
        ({"state": GpuState.HUNG, "fault": None}, [("critical", "gpu-not-ok")]),
        ({"temperature_c": 85.0}, []),
        ({"temperature_c": 86.0}, [("warning", "gpu-hot")]),
        ({"temperature_c": GONE}, [("info", "gpu-hot-not-looked-at")]),
        ({"throttle": (Throttle.SW_POWER_CAP,)}, []),
        ({"throttle": (Throttle.HW_THERMAL,)}, [("warning", "gpu-throttled")]),
        ({"unified": True, "memory_used_bytes": GONE}, []),
        ({"processes": GONE}, [("info", "gpu-stranger-not-looked-at")]),
        ({"memory_used_bytes": 9 * GIB}, [("warning", "gpu-memory-unaccounted")]),
        ({"processes": (GpuProcess(17650, GONE),)}, []),
        (
            {"processes": (GpuProcess(17650, 3 * GIB), GpuProcess(99, 2 * GIB))},
            [("info", "gpu-stranger")],
        ),
        (
            {"processes": (GpuProcess(99, 8 * GIB),), "memory_used_bytes": 8 * GIB},
            [("warning", "gpu-stranger")],
        ),
    ],
)
def test_what_is_said_of_a_gpu(fields: Mapping[str, Any], expected: list[tuple[str, str]]) -> None:
    assert names(found(check_gpus, facts(gpus=Gpus((gpu(**fields),))))) == expected


def test_a_stranger_is_named_with_its_user() -> None:
    seen = gpu(processes=(GpuProcess(99, 2 * GIB), GpuProcess(98, GONE)), memory_used_bytes=3 * GIB)
    (stranger,) = found(check_gpus, facts(gpus=Gpus((seen,)), owners={99: Owner(None, "python", "ann")}))
    assert stranger.seen == "2G held by 2 processes that are no workers: nothing caps it"
    assert stranger.lines == (
        "2G  pid 99, a stranger, python of user ann",
        "?  pid 98, which is gone or hidden from here",
    )


def test_where_nobody_knows_whose_processes_are_nobody_is_called_a_stranger() -> None:
    full = gpu(memory_used_bytes=79 * GIB, processes=(GpuProcess(17650, 79 * GIB),))
    seen = found(check_gpus, facts(gpus=Gpus((full,)), owners=Missing("/proc hangs")))
    assert names(seen) == [("critical", "gpu-memory-exhausted"), ("info", "gpu-stranger-not-looked-at")]
    assert seen[0].lines == ("79G  pid 17650: /proc hangs",)
    assert seen[1].seen == "not looked at: GPU 0: /proc hangs"


def test_who_uses_a_gpu_is_told_also_when_all_is_well() -> None:
    (memory,) = [each for each in check_gpus(facts()) if each.id == "gpu-memory"]
    assert (memory.severity, memory.lines) == (Severity.OK, ("5G  pid 17650, worker chat",))


def test_a_quarantine_of_the_daemon_is_critical() -> None:
    told = daemon()
    quarantined = msgspec.structs.replace(told.status.gpus[0], quarantine="memory did not come back")
    status = msgspec.structs.replace(told.status, gpus=(quarantined,))
    seen = found(check_gpus, facts(daemon=msgspec.structs.replace(told, status=status)))
    assert names(seen) == [("critical", "gpu-quarantined")]
    blind = facts(daemon=msgspec.structs.replace(told, status=status), gpus=Gpus((), "it hangs"))
    assert names(found(check_gpus, blind)) == [("critical", "gpu-quarantined")]


PINNED = "workers: {chat: {command: sleep 1, gpus: [0], memory: {cap: 8G}, vram: {cap: 6G}}}"
NO_DRIVER = "no NVIDIA driver: libnvidia-ml.so.1 is not installed"
UPGRADED = "the NVIDIA driver was upgraded underneath its library: reload its modules or reboot"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"driver": Driver("550.54.14", "535.183.01")}, [("critical", "driver-library-mismatch")]),
        ({"gpus": Gpus((), UPGRADED)}, [("critical", "driver-library-mismatch")]),
        ({"gpus": Gpus((gpu(state=GpuState.MISMATCH),))}, [("critical", "driver-library-mismatch")]),
        ({"driver": Driver("550.54.14", GONE)}, [("info", "driver-library-mismatch-not-looked-at")]),
        ({"driver": Driver(GONE, GONE), "gpus": Gpus((), NO_DRIVER)}, [("info", "driver-absent")]),
        (
            {"driver": Driver(GONE, GONE), "gpus": Gpus((), NO_DRIVER), "config": configured(PINNED)},
            [("critical", "driver-absent")],
        ),
        ({"gpus": Gpus((), "the NVIDIA driver does not answer")}, [("critical", "driver-no-gpu")]),
        (
            {"driver": Driver(GONE, GONE), "gpus": Gpus((), "the NVIDIA driver did not answer within 20 s")},
            [("critical", "driver-no-gpu")],
        ),
    ],
)
def test_what_is_said_of_the_driver(fields: Mapping[str, Any], expected: list[tuple[str, str]]) -> None:
    assert names(found(check_driver, facts(**fields))) == expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"memory_available_bytes": 4 * GIB}, []),
        ({"memory_available_bytes": 3 * GIB}, [("warning", "host-memory-low")]),
        ({"memory_available_bytes": GIB}, [("critical", "host-memory-low")]),
        ({"memory_available_bytes": GONE}, [("info", "host-memory-not-looked-at")]),
        ({"psi_full_avg10": 9.9}, []),
        ({"psi_full_avg10": 10.0}, [("warning", "host-stalls")]),
        ({"psi_full_avg10": 40.0}, [("critical", "host-stalls")]),
        ({"psi_full_avg10": GONE}, [("info", "host-stalls-not-looked-at")]),
        ({"swap_total_bytes": 0, "swap_free_bytes": 0}, [("info", "swap")]),
        ({"swap_free_bytes": GIB // 2}, [("warning", "swap")]),
    ],
)
def test_what_is_said_of_the_host(fields: Mapping[str, Any], expected: list[tuple[str, str]]) -> None:
    assert names(found(check_host, facts(host=host(**fields)))) == expected


@pytest.mark.parametrize(
    ("free_bytes", "free_files", "expected"),
    [
        (2 * GIB, 1000, []),
        (GIB // 2, 1000, [("warning", "disk-full")]),
        (1 << 20, 1000, [("critical", "disk-full")]),
        (2 * GIB, 3, [("critical", "disk-full")]),
        (2 * GIB, None, []),
    ],
)
def test_a_disk_is_full_by_bytes_or_by_files(
    free_bytes: int, free_files: int | None, expected: list[tuple[str, str]]
) -> None:
    disk = Disk("/var/lib/gpu-supervisor", 100 * GIB, free_bytes, free_files)
    assert names(found(check_host, facts(disks=(disk,)))) == expected


def test_cgroup_v1_is_a_warning_where_units_are_wanted() -> None:
    old = msgspec.structs.replace(host(), cgroup="hybrid")
    wanted = configured(f"launcher: systemd\n{CONFIG}")
    assert names(found(check_host, facts(host=old))) == [("info", "cgroup")]
    assert names(found(check_host, facts(host=old, config=wanted))) == [("warning", "cgroup")]


XID_79 = "NVRM: Xid (PCI:0000:65:00): 79, pid=1234, name=llama-server, GPU has fallen off the bus."
XID_31 = "NVRM: Xid (PCI:0000:65:00): 31, pid=1234, name=python, Ch 00000010, MMU Fault"
KILLED = "Out of memory: Killed process 31514 (python) total-vm:26100936kB, anon-rss:24025616kB"
IN_CGROUP = "Memory cgroup out of memory: Killed process 77 (llama-server) total-vm:1kB"


@pytest.mark.parametrize(
    ("text", "age_s", "expected"),
    [
        (XID_79, 60.0, [("critical", "kernel-xid")]),
        (XID_79, 90_000.0, [("warning", "kernel-xid")]),
        ("NVRM: GPU 0000:65:00.0: GPU has fallen off the bus.", 60.0, [("critical", "kernel-xid")]),
        (XID_31, 60.0, [("warning", "kernel-xid-program")]),
        (
            XID_31.replace("(PCI:0000:65:00)", "(PCI:0000:65:00 GPU-I:05)"),
            60.0,
            [("warning", "kernel-xid-program")],
        ),
        (XID_79.replace(": 79", ": 94"), 60.0, [("warning", "kernel-xid-program")]),
        (XID_79.replace(": 79", ": 63"), 60.0, [("info", "kernel-xid-note")]),
        (XID_79.replace(": 79", ": 999"), 60.0, [("info", "kernel-xid-note")]),
        (KILLED, 60.0, [("critical", "kernel-oom-kill")]),
        (KILLED, 90_000.0, [("warning", "kernel-oom-kill")]),
        (IN_CGROUP, 60.0, [("warning", "kernel-cgroup-oom-kill")]),
        ("usb 1-1: new device", 60.0, []),
        ("NVRM: loading NVIDIA UNIX x86_64 Kernel Module  550.54.14", 60.0, []),
    ],
)
def test_what_is_said_of_the_kernels_log(text: str, age_s: float, expected: list[tuple[str, str]]) -> None:
    log = KernelLog("/dev/kmsg", (KernelLine(NOW_S - age_s, text),))
    assert names(found(check_kernel_log, facts(kernel_log=log))) == expected


def test_what_the_daemon_has_heard_is_told_where_the_kernels_log_may_not_be_read() -> None:
    last = XidStatus(79, "GPU has fallen off the bus.", "2026-11-21T02:36:48.000Z")
    heard = msgspec.structs.replace(status().gpus[0], xids=2, last_xid=last)
    seen = found(check_kernel_log, facts(kernel_log=GONE, daemon=daemon(gpus=(heard,))))
    assert names(seen) == [("info", "kernel-log-not-looked-at"), ("critical", "kernel-xid")]
    assert seen[1].seen == (
        "2 Xids since boot, the last at 2026-11-21T02:36:48.000Z:"
        " Xid 79 (fallen off the bus): GPU has fallen off the bus."
    )


def test_faults_of_a_gpu_are_counted_and_the_newest_are_shown() -> None:
    lines = tuple(KernelLine(NOW_S - 100 + n, XID_79.replace("79", str((62, 48)[n % 2]))) for n in range(9))
    (xid,) = found(check_kernel_log, facts(kernel_log=KernelLog("/dev/kmsg", lines)))
    assert xid.seen == (
        "9 times since boot a GPU was at fault: Xid 48 (uncorrectable memory error),"
        " Xid 62 (its micro-controller halted), of 0000:65:00"
    )
    assert len(xid.lines) == 5
    assert xid.lines[-1].startswith("2026-11-21T02:36:48Z NVRM: Xid (PCI:0000:65:00): 62, ")


def test_a_gpu_that_fell_off_the_bus_is_counted_once_where_two_lines_tell_it() -> None:
    texts = (XID_79, "NVRM: GPU 0000:65:00.0: GPU has fallen off the bus.")
    log = KernelLog("/dev/kmsg", tuple(KernelLine(NOW_S - 60, text) for text in texts))
    (xid,) = found(check_kernel_log, facts(kernel_log=log))
    assert xid.seen == "once since boot a GPU was at fault: Xid 79 (fallen off the bus), of 0000:65:00"


PAIR = """
workers:
  chat: {command: sleep 1, gpus: [0], vram: {cap: FIRST}}
  embed: {command: sleep 2, gpus: [0], vram: {cap: 40G}}
"""


@pytest.mark.parametrize(
    ("fields", "config", "expected"),
    [
        ({"needs_memory_bytes": 9 * GIB}, CONFIG, [("critical", "cap-below-baseline")]),
        ({"needs_memory_bytes": 8 * GIB}, CONFIG, []),
        ({"needs_vram_bytes": 7 * GIB}, CONFIG, [("critical", "cap-below-baseline")]),
        (
            {"unit": "gpu-worker-chat.service", "memory_bytes": GIB, "memory_file_bytes": 9 * GIB},
            "workers: {chat: {command: sleep 1, memory: {cap: 8G, max: 9G}}}",
            [("warning", "memory-max-below-mapped-files")],
        ),
        (
            {"unit": "gpu-worker-chat.service", "memory_bytes": GIB, "memory_file_bytes": 8 * GIB},
            "workers: {chat: {command: sleep 1, memory: {cap: 8G, max: 9G}}}",
            [],
        ),
        (
            {"gpus": ("GPU-1",)},
            PAIR.replace("FIRST", "50G"),
            [("warning", "vram-caps-above-gpu")],
        ),
        (
            {"gpus": ("GPU-1",)},
            PAIR.replace("FIRST", "40G"),
            [],
        ),
        ({}, "workers: [", [("info", "caps-not-looked-at")]),
    ],
)
def test_caps_are_held_against_what_is_real(
    fields: Mapping[str, Any], config: str, expected: list[tuple[str, str]]
) -> None:
    told = facts(daemon=daemon(worker("chat", **fields)), config=configured(config))
    assert names(found(check_caps, told)) == expected


def test_the_configuration_is_held_against_the_daemon() -> None:
    other = configured(CONFIG.replace("8G", "9G").replace("}}}", "}}, embed: {command: sleep 2}}"))
    seen = found(check_config, facts(config=other))
    assert seen[0].seen.endswith("it differs for chat, embed")
    assert names(seen) == [("warning", "config-not-in-force")]


def test_what_the_linter_says_is_one_finding_with_its_lines() -> None:
    linted = configured(CONFIG.replace("sleep 1", "/none/sleep"))
    seen = found(check_config, facts(config=linted))
    assert names(seen) == [("warning", "config-warnings")]
    assert seen[0].lines == (
        '/etc/gpu-supervisor/config.yaml:1: workers.chat.command: there is no program "/none/sleep"',
    )


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"taken_at": "2026-11-21T02:36:00.000Z"}, [("critical", "daemon-stale")]),
        ({"taken_at": "yesterday"}, [("info", "daemon-stale-not-looked-at")]),
        ({"version": "0.0.9"}, [("warning", "daemon-version")]),
        ({"dry_run": True}, [("warning", "daemon-dry-run")]),
        ({"config_refused": "line 3"}, [("warning", "config-refused")]),
        ({"history": "in memory only: disk full"}, [("warning", "history-in-memory")]),
    ],
)
def test_what_is_said_of_the_daemon(fields: Mapping[str, Any], expected: list[tuple[str, str]]) -> None:
    assert names(found(check_daemon, facts(daemon=daemon(**fields)))) == expected


def test_a_daemon_that_does_not_answer_is_critical() -> None:
    away = Away("/run/x", "silent", "the daemon did not answer within 15 s")
    assert names(found(check_daemon, facts(daemon=away))) == [("critical", "daemon-silent")]


UNIT = UnitSeen(
    "chat",
    loaded=True,
    active=True,
    memory_high_bytes=None,
    memory_max_bytes=9 * GIB,
    swap_max_bytes=None,
    cpu_quota=6.0,
)
LIMITED = configured("workers: {chat: {command: sleep 1, memory: {cap: 8G, max: 9G}, cpu: {quota: 600%}}}")


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, []),
        ({"memory_max_bytes": 10 * GIB}, [("warning", "unit-limits")]),
        ({"memory_max_bytes": 9 * GIB - 4096}, []),
        ({"memory_high_bytes": GIB}, [("warning", "unit-limits")]),
        ({"swap_max_bytes": 0}, [("warning", "unit-limits")]),
        ({"cpu_quota": None}, [("warning", "unit-limits")]),
        ({"cpu_quota": 6.0001}, []),
        (
            {"memory_max_bytes": GIB, "drop_ins": ("/etc/systemd/system/x.conf",)},
            [("info", "unit-limits-by-drop-in")],
        ),
        ({"stale": True}, [("warning", "unit-not-reloaded")]),
        ({"loaded": False, "memory_max_bytes": None}, []),
    ],
)
def test_the_limits_in_force_are_held_against_the_file(
    fields: Mapping[str, Any], expected: list[tuple[str, str]]
) -> None:
    units = Units({"chat": msgspec.structs.replace(UNIT, **fields)}, None)
    told = facts(daemon=daemon(launcher="systemd"), units=units, config=LIMITED)
    assert names(found(check_units, told)) == expected


def test_a_limit_that_differs_is_told_with_both_numbers() -> None:
    units = Units({"chat": msgspec.structs.replace(UNIT, memory_max_bytes=None)}, None)
    (limits,) = found(check_units, facts(daemon=daemon(launcher="systemd"), units=units, config=LIMITED))
    assert limits.lines == ("MemoryMax= is none in force, 9G (9663676416) in the configuration",)


@pytest.mark.parametrize(
    ("service", "expected"),
    [
        (ServiceSeen("active", "success", 0, 30.0), []),
        (ServiceSeen("active", "success", 0, None), [("warning", "service-no-watchdog")]),
        (ServiceSeen("active", "success", 3, 30.0), [("warning", "service-restarts")]),
        (ServiceSeen("active", "watchdog", 1, 30.0), [("warning", "service-restarts")]),
        (ServiceSeen("failed", "exit-code", 0, 30.0), [("critical", "service-failed")]),
    ],
)
def test_what_is_said_of_the_daemons_unit(service: ServiceSeen, expected: list[tuple[str, str]]) -> None:
    told = facts(daemon=daemon(launcher="systemd"), units=Units({}, service))
    assert names(found(check_units, told)) == expected


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        (FileSeen("control-socket", "/run/x", 0o660, "root", "gpu-supervisor"), []),
        (FileSeen("control-socket", "/run/x", 0o666, "root", "root"), [("critical", "control-socket-open")]),
        (FileSeen("config", "/etc/x", 0o644, "root", "root"), []),
        (FileSeen("config", "/etc/x", 0o646, "root", "root"), [("critical", "config-open")]),
        (FileSeen("state-dir", "/var/x", 0o700, "root", "root"), []),
        (FileSeen("state-dir", "/var/x", 0o755, "root", "root"), [("warning", "state-dir-open")]),
        (
            FileSeen("environment-file", "/etc/e", Missing("there is none"), absent=True),
            [],
        ),
        (FileSeen("state-dir", "/var/x", Missing("there is none"), absent=True), []),
        (FileSeen("config", "/etc/x", Missing("Permission denied")), [("info", "config-not-looked-at")]),
    ],
)
def test_the_modes_of_files_are_judged(file: FileSeen, expected: list[tuple[str, str]]) -> None:
    assert names(found(check_access, facts(access=Access("ann", ("ann",), (file,))))) == expected


def test_what_is_found_comes_with_the_worst_first_and_without_secrets() -> None:
    told = facts(
        daemon=daemon(HELD, dry_run=True), output={"chat": ("Bearer abcdefgh", "pass-phrase-of-mine")}
    )
    seen = judge(told, Scrubber(["pass-phrase-of-mine"]))
    order = [each.severity.value for each in seen]
    assert order == sorted(order, key=["critical", "warning", "info", "ok"].index)
    assert seen[0].lines == ("Bearer [removed]", "[removed]")
