"""What a good file comes to."""

# ruff: noqa: E501 - a message stands on one line, as people see it

from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec.inspect as mi
import pytest
import yaml
from msgspec import Struct

from supervisor.config import Loaded, Machine, load
from supervisor.config.shape import ConfigShape
from supervisor.model.condition import Comparison
from supervisor.model.plan import (
    AfterTarget,
    AlertRule,
    AlertsPlan,
    BreachRule,
    CommandNotify,
    CommandTarget,
    DrainRule,
    GpuChoice,
    GuardTarget,
    HealthRule,
    HttpTarget,
    LlamaTarget,
    MemoryCaps,
    Needs,
    NotifyTarget,
    Plan,
    RestartRule,
    TcpTarget,
    WebhookNotify,
    WorkerPlan,
)

Check = Callable[[str], Loaded]
SHIPPED = Path(__file__).parents[2] / "etc" / "config.yaml"

INTERFACE = """\
poll_interval: 2s             # a full look at host, GPUs and workers
launcher: auto                # auto | systemd | direct
host:
  warn_available: 4G          # MemAvailable below this: warn
  critical_available: 2G      # below this: emergency, one victim at a time
  max_used: null              # e.g. 90%: emergency above it as well
  pressure: {full: 40%, for: 10s}   # PSI memory "full" avg10
gpu:
  pressure: {high: 75%, critical: 85%, extreme: 95%, hysteresis: 5%}
  restart_above: null
  restart_for: 10s            # ... once it has lasted
  hot_above: 85               # degrees C
  power_near: 95%             # of the enforced power limit
defaults: {}                  # any worker key below, for every worker
workers:
  chat:                       # [a-z0-9][a-z0-9-]{0,40}
    preset: llama-server
    command: [llama-server, --model, /models/chat.gguf, --port, "8081", --n-gpu-layers, "{n_gpu_layers}"]
    directory: /srv/chat
    user: llm
    group: llm
    environment: {LLAMA_ARG_THREADS: "6"}
    environment_file: /etc/gpu-supervisor/chat.env
    gpus: [0]
    priority: 0               # higher is spared longer
    memory: {cap: 8G, high: 8.5G, max: 9G, swap_max: 0}
    vram: {cap: 6G}
    needs: {memory: 2G, vram: 0}
    cpu: {quota: 600%}        # CPUQuota=
    breach: {samples: 3, of: 5, warm_up: 30s}
    max_age: 60min            # restarted when this old ...
    max_age_jitter: 10%       # ... give or take, drawn once per life
    leak: {forecast: 30min}
    start_timeout: 5min
    stop_signal: SIGTERM
    stop_again: null
    stop_timeout: 2min        # then SIGKILL to all that is left of it
    ready: {http: "http://127.0.0.1:8081/health"}
    health: {http: "http://127.0.0.1:8081/health", interval: 10s, timeout: 5s, failures: 3}
    heartbeat: 60s
    drain: {llama: "http://127.0.0.1:8081", timeout: 60s}
    restart: {first: 1s, max: 5min, starts: 5, within: 10min}
    settings: {n_gpu_layers: 25, ctx: 4096}
    ladder: [{n_gpu_layers: 15}, {n_gpu_layers: 8, ctx: 2048}, {n_gpu_layers: 0}]
    replicas: 1
    after: [other]            # started when these are ready
alerts:
  rules:
    - {name: GPUMemoryExhaustion, when: "gpu.used > 95%", for: 2min, severity: critical, runbook: docs/x.md}
  notify:
    - {webhook: "http://127.0.0.1:9093/api/v2/alerts", format: alertmanager}
    - {command: [/usr/local/bin/page]}
web: {listen: "127.0.0.1:8095", token_file: null, allow_actions: true}
"""


def only(loaded: Loaded) -> WorkerPlan:
    """Return the one worker of a file that is free of faults."""
    assert loaded.faults == ()
    assert loaded.plan is not None
    (worker,) = loaded.plan.workers.values()
    return worker


def worker_of(check: Check, keys: str) -> WorkerPlan:
    """Return a worker with `keys` and the command `run`."""
    return only(check(f"workers:\n  w:\n    command: [run]\n    {keys}\n"))


def test_the_interface_s_own_example_loads(check: Check, tmp_path: Path) -> None:
    (tmp_path / "chat.env").write_text("A=b\n")
    text = INTERFACE.replace("/srv/chat", str(tmp_path)).replace(
        "/etc/gpu-supervisor/chat.env", f"{tmp_path}/chat.env"
    )
    loaded = check(text.replace("alerts:", "  other: {command: sleep 60}\nalerts:", 1))

    assert loaded.faults == ()
    assert loaded.plan is not None
    assert loaded.plan.workers["chat"] == WorkerPlan(
        name="chat",
        base="chat",
        preset="llama-server",
        command=(
            "llama-server",
            "--model",
            "/models/chat.gguf",
            "--port",
            "8081",
            "--n-gpu-layers",
            "{n_gpu_layers}",
        ),
        directory=str(tmp_path),
        user="llm",
        group="llm",
        environment={"LLAMA_ARG_THREADS": "6", "GGML_NO_BACKTRACE": "1"},
        environment_file=f"{tmp_path}/chat.env",
        gpus=GpuChoice("listed", (0,)),
        memory=MemoryCaps(8_589_934_592, 9_126_805_504, 9_663_676_416, 0),
        vram_cap_bytes=6_442_450_944,
        needs=Needs(2_147_483_648, 0),
        cpu_quota=6.0,
        breach=BreachRule(3, 5, 30.0),
        max_age_s=3600.0,
        max_age_jitter=0.1,
        leak_forecast_s=1800.0,
        leak_plateau_bytes=8589934592,
        start_timeout_s=300.0,
        stop_signal=15,
        stop_again_s=None,
        stop_timeout_s=120.0,
        ready=HttpTarget("http://127.0.0.1:8081/health"),
        health=HealthRule(HttpTarget("http://127.0.0.1:8081/health"), 10.0, 5.0, 3),
        heartbeat_s=60.0,
        drain=DrainRule(LlamaTarget("http://127.0.0.1:8081"), 60.0),
        restart=RestartRule(1.0, 300.0, 5, 600.0),
        settings={"n_gpu_layers": 25, "ctx": 4096},
        ladder=({"n_gpu_layers": 15}, {"n_gpu_layers": 8, "ctx": 2048}, {"n_gpu_layers": 0}),
        after=("other",),
    )
    assert loaded.plan.alerts == AlertsPlan(
        rules=(
            AlertRule(
                "GPUMemoryExhaustion",
                "gpu.used > 95%",
                Comparison("gpu.used", ">", 95.0, "percent"),
                120.0,
                "critical",
                "docs/x.md",
            ),
        ),
        notify=(
            WebhookNotify("http://127.0.0.1:9093/api/v2/alerts", "alertmanager"),
            CommandNotify(("/usr/local/bin/page",)),
        ),
    )


def test_the_shipped_file_loads_and_holds_the_defaults() -> None:
    loaded = load(SHIPPED, machine=Machine(64 << 30, 8, "/usr/bin"))
    assert loaded == Loaded(Plan(source=str(SHIPPED)))


def test_the_example_in_the_shipped_file_loads(check: Check) -> None:
    lines = SHIPPED.read_text().splitlines()
    start = lines.index("# workers:")
    end = lines.index("alerts:")
    example = "\n".join(line.removeprefix("#").removeprefix(" ") for line in lines[start:end])
    loaded = check(example)
    assert loaded.faults == ()
    assert loaded.plan is not None
    assert list(loaded.plan.workers) == ["chat"]
    rest = [line for line in lines[end:] if line not in {"  rules: []", "  notify: []"}]
    alerts = "\n".join(f"  {line.removeprefix('  # ')}" if line.startswith("  # ") else line for line in rest)
    told = check(alerts)
    assert told.faults == ()
    assert told.plan is not None
    assert [rule.name for rule in told.plan.alerts.rules] == [
        *("GPUMemoryExhaustion", "HighMemoryUsage", "HostMemoryLow", "WorkerRestartLoop", "WorkerHeld"),
        *("DegradedWorker", "LeakForecast", "GPUHot", "GPUQuarantined"),
    ]
    assert len(told.plan.alerts.notify) == 4


def keys_of(kind: object) -> set[str]:
    """Return every key that a shape, or what lies in it, can hold."""
    found: set[str] = set()
    if isinstance(kind, mi.Metadata):
        found = keys_of(kind.type)
    elif isinstance(kind, mi.UnionType):
        found = {key for choice in kind.types for key in keys_of(choice)}
    elif isinstance(kind, mi.VarTupleType):
        found = keys_of(kind.item_type)
    elif isinstance(kind, mi.DictType):
        found = keys_of(kind.value_type)
    elif isinstance(kind, mi.StructType):
        found = {field.encode_name for field in kind.fields}
        found |= {key for field in kind.fields for key in keys_of(field.type)}
    return found


def test_the_shipped_file_mentions_every_key() -> None:
    text = SHIPPED.read_text()
    known = keys_of(mi.type_info(ConfigShape))
    assert len(known) > 70
    assert [key for key in sorted(known) if f"{key}:" not in text] == []


def test_the_smallest_file_is_a_plan_of_defaults(check: Check, tmp_path: Path) -> None:
    source = str(tmp_path / "config.yaml")
    assert check("workers: {}").plan == Plan(source=source)
    assert check("workers:\nhost:\ndefaults:\ngpu:\nalerts:\nweb:\n").plan == Plan(source=source)


def test_a_command_is_a_list_or_a_string_that_is_split_as_a_shell_would(check: Check) -> None:
    assert only(check("workers: {w: {command: \"run 'a b' --port 8081 $HOME\"}}")).command == (
        *("run", "a b"),
        *("--port", "8081", "$HOME"),
    )
    assert only(check("workers: {w: {command: [run, 8081, 010, on, 1.50, 1:30, 'x y']}}")).command == (
        *("run", "8081", "010"),
        *("on", "1.50", "1:30", "x y"),
    )


def test_settings_keep_their_types_and_environment_its_text(check: Check) -> None:
    worker = worker_of(check, "settings: {a: 1, b: 1.5, c: true, d: on, e: '1', f: 010}")
    assert worker.settings == {"a": 1, "b": 1.5, "c": True, "d": "on", "e": "1", "f": "010"}
    assert worker_of(check, "environment: {A: 6, B: yes, C: 1.50, D: ''}").environment == {
        "A": "6",
        "B": "yes",
        "C": "1.50",
        "D": "",
    }


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ("ready: {http: 'https://[::1]:8081/health'}", HttpTarget("https://[::1]:8081/health")),
        ("ready: {tcp: '127.0.0.1:8081'}", TcpTarget("127.0.0.1", 8081)),
        ("ready: {tcp: '[::1]:8081'}", TcpTarget("::1", 8081)),
        ("ready: {notify: true}", NotifyTarget()),
        ("ready: {after: 3s}", AfterTarget(3.0)),
        ("ready: null", None),
    ],
)
def test_a_worker_shows_that_it_is_ready_in_one_of_four_ways(
    check: Check, keys: str, expected: Struct | None
) -> None:
    assert worker_of(check, keys).ready == expected


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ("gpus: null", GpuChoice("any")),
        ("gpus: none", GpuChoice("none")),
        ("gpus: []", GpuChoice("none")),
        ("gpus: auto", GpuChoice("auto", (), 1)),
        ("{gpus: auto, gpu_count: 2}", GpuChoice("auto", (), 2)),
        ("gpus: 1", GpuChoice("listed", (1,))),
        ("gpus: [0, '1', GPU-1234-5678]", GpuChoice("listed", (0, 1, "GPU-1234-5678"))),
    ],
)
def test_gpus_are_listed_picked_hidden_or_left_alone(check: Check, keys: str, expected: GpuChoice) -> None:
    text = keys.strip("{}").replace(", gpu_count", "\n    gpu_count")
    assert worker_of(check, text).gpus == expected


def test_a_job_that_is_done_with_status_0_is_written_so(check: Callable[[str], Loaded]) -> None:
    """YAML 1.1 reads a plain `on` as true, as a key too; here it is what is written."""
    for written in ("{on: failure}", '{"on": failure}'):
        plan = check(f"workers: {{job: {{command: [sleep, '1'], restart: {written}}}}}").plan
        assert plan is not None
        assert plan.workers["job"].restart == RestartRule(1.0, 300.0, 5, 600.0, on="failure")


def test_a_signal_is_written_by_name_or_number(check: Check) -> None:
    signals = [worker_of(check, f"stop_signal: {text}").stop_signal for text in ("SIGINT", "int", "2")]
    assert signals == [2, 2, 2]


def test_defaults_lie_under_every_worker_key_by_key(check: Check) -> None:
    loaded = check("""\
defaults:
  priority: 5
  memory: {cap: 8G, max: 9G}
  environment: {A: a, B: b}
  ready: {tcp: "127.0.0.1:1"}
  gpus: auto
  gpu_count: 2
workers:
  a:
    command: run
    memory: {cap: 4G}
    environment: {B: c}
    ready: {after: 1s}
    gpus: [0]
  b:
    command: run
    memory: null
    ready: null
""")
    assert loaded.plan is not None
    a, b = loaded.plan.workers.values()
    assert (a.priority, b.priority) == (5, 5)
    assert a.memory == MemoryCaps(cap_bytes=4 << 30, max_bytes=9 << 30)
    assert b.memory == MemoryCaps()
    assert a.environment == {"A": "a", "B": "c"}
    assert (a.ready, b.ready) == (AfterTarget(1.0), None)
    assert (a.gpus, b.gpus) == (GpuChoice("listed", (0,)), GpuChoice("auto", (), 2))


def test_yaml_merge_keys_work_and_what_is_written_wins(check: Check) -> None:
    loaded = check("""\
workers:
  a: &a {command: run, priority: 1, max_age: 1h}
  b: {<<: *a, priority: 2}
""")
    assert loaded.plan is not None
    b = loaded.plan.workers["b"]
    assert (b.command, b.priority, b.max_age_s) == (("run",), 2, 3600.0)


def test_replicas_are_workers_of_their_own_with_ports_of_their_own(check: Check) -> None:
    loaded = check("""\
workers:
  chat:
    command: [server, --port, "{port}", --id, "{replica}"]
    settings: {port: 8081}
    replicas: 3
    ready: {tcp: "127.0.0.1:{port}"}
    health: {http: "http://127.0.0.1:{port+100}/health"}
    drain: {command: [idle, "{replica}"]}
""")
    assert loaded.faults == ()
    assert loaded.plan is not None
    workers = loaded.plan.workers
    assert list(workers) == ["chat-1", "chat-2", "chat-3"]
    assert [worker.base for worker in workers.values()] == ["chat", "chat", "chat"]
    third = workers["chat-3"]
    assert third.replica == 3
    assert third.command == ("server", "--port", "{port}", "--id", "{replica}")
    assert third.ready == TcpTarget("127.0.0.1", 8083)
    assert third.health == HealthRule(HttpTarget("http://127.0.0.1:8183/health"))
    assert third.drain == DrainRule(CommandTarget(("idle", "3")))


def test_a_drain_by_the_guard_replaces_that_of_a_preset(check: Check) -> None:
    text = "{preset: llama-server, command: llama-server --port 81, drain: {guard: true, timeout: 30s}}"
    plan = check(f"workers: {{chat: {text}}}").plan
    assert plan is not None
    assert plan.workers["chat"].drain == DrainRule(GuardTarget(), 30.0)


PRESETS: Mapping[str, tuple[str, tuple[object, ...]]] = {
    "llama-server on its port": (
        "{preset: llama-server, command: [llama-server, -m, x, --port, 8081]}",
        ("http://127.0.0.1:8081", "http://127.0.0.1:8081", "http://127.0.0.1:8081", 10.0, 30.0),
    ),
    "llama-server by --port=, host and prefix": (
        "{preset: llama-server, command: [llama-server, --port=81, --host, '::', --api-prefix, /x]}",
        ("http://[::1]:81/x", "http://[::1]:81/x", "http://[::1]:81/x", 10.0, 30.0),
    ),
    "llama-server by its environment": (
        "{preset: llama-server, command: llama-server, environment: {LLAMA_ARG_PORT: 82, LLAMA_ARG_HOST: 10.0.0.1}}",
        ("http://10.0.0.1:82", "http://10.0.0.1:82", "http://10.0.0.1:82", 10.0, 30.0),
    ),
    "llama-server by a setting": (
        "{preset: llama-server, command: 'llama-server --port {port+1}', settings: {port: 8081}}",
        ("http://127.0.0.1:8082", "http://127.0.0.1:8082", "http://127.0.0.1:8082", 10.0, 30.0),
    ),
    "llama-server whose slots are guarded": (
        "{preset: llama-server, command: 'llama-server --port 81 --api-key-file /x'}",
        ("http://127.0.0.1:81", "http://127.0.0.1:81/health", None, 10.0, 30.0),
    ),
    "llama-server whose slots are counted": (
        "{preset: llama-server, command: 'llama-server --port 81 --no-slots --metrics'}",
        ("http://127.0.0.1:81", "http://127.0.0.1:81", "http://127.0.0.1:81", 10.0, 30.0),
    ),
    "llama-server that may sleep": (
        "{preset: llama-server, command: 'llama-server --port 81 --sleep-idle-seconds 60'}",
        ("http://127.0.0.1:81", "http://127.0.0.1:81/health", "http://127.0.0.1:81", 10.0, 30.0),
    ),
    "llama-server that routes": (
        "{preset: llama-server, command: 'llama-server --port 81 --host 127.0.0.1,/run/x.sock --models-dir /m'}",
        ("http://127.0.0.1:81/health", "http://127.0.0.1:81", "http://127.0.0.1:81", 10.0, 30.0),
    ),
    "written keys win": (
        "{preset: llama-server, command: 'llama-server --port 81', drain: null, stop_again: null, stop_timeout: 9s, ready: {after: 1s}, health: {failures: 9}}",
        (None, "http://127.0.0.1:81", None, None, 9.0),
    ),
    "vllm": (
        "{preset: vllm, command: vllm serve x --host 0.0.0.0}",
        ("http://127.0.0.1:8000/health", "http://127.0.0.1:8000/health", None, None, 120.0),
    ),
    "torchserve": (
        "{preset: torchserve, command: torchserve --start --foreground}",
        ("http://127.0.0.1:8080/ping", "http://127.0.0.1:8080/ping", None, None, 120.0),
    ),
    "triton": (
        "{preset: triton, command: tritonserver --http-port 8008}",
        ("http://127.0.0.1:8008/v2/health/ready", "http://127.0.0.1:8008/v2/health/live", None, None, 120.0),
    ),
}


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_fills_what_is_not_written(check: Check, name: str) -> None:
    text, expected = PRESETS[name]
    worker = only(check(f"workers:\n  w: {text}\n"))
    ready, health, drain = worker.ready, worker.health, worker.drain
    assert (
        ready.url if isinstance(ready, HttpTarget | LlamaTarget) else None,
        health.target.url if health is not None else None,
        drain.target.url if drain is not None and isinstance(drain.target, LlamaTarget) else None,
        worker.stop_again_s,
        worker.stop_timeout_s,
    ) == expected


def test_what_a_preset_fills_in_is_told_and_what_is_written_is_not(check: Check) -> None:
    loaded = check("""\
defaults: {stop_timeout: 9s}
workers:
  w:
    preset: llama-server
    command: llama-server --port 81 -m x
    health: {interval: 30s}
    drain: {command: [idle]}
    stop_again: null
""")
    assert loaded.faults == ()
    assert loaded.filled == (
        "workers.w.ready.llama: http://127.0.0.1:81",
        "workers.w.health.llama: http://127.0.0.1:81",
        "workers.w.stop_signal: SIGTERM",
        "workers.w.environment.GGML_NO_BACKTRACE: 1",
        "workers.w.leak.plateau: 8192MiB",
    )
    assert check("workers: {w: {command: sleep 5}}").filled == ()


def test_another_probe_than_the_preset_s_has_its_own_times(check: Check) -> None:
    server = "preset: llama-server, command: 'llama-server --port 81 -m x'"
    worker = only(check(f"workers: {{w: {{{server}, health: {{http: 'http://127.0.0.1:81/health'}}}}}}"))
    assert worker.health == HealthRule(HttpTarget("http://127.0.0.1:81/health"), 10.0, 5.0, 3)
    worker = only(check(f"workers: {{w: {{{server}}}}}"))
    assert worker.health == HealthRule(LlamaTarget("http://127.0.0.1:81"), 10.0, 60.0, 3)
    assert worker.drain == DrainRule(LlamaTarget("http://127.0.0.1:81"), 60.0)


def test_a_llama_server_may_stand_still_for_a_minute_unless_written(check: Check) -> None:
    llama = worker_of(check, "health: {llama: 'http://127.0.0.1:1/'}").health
    assert llama == HealthRule(LlamaTarget("http://127.0.0.1:1"), 10.0, 60.0, 3)
    written = worker_of(check, "health: {llama: 'http://127.0.0.1:1', timeout: 5min}").health
    assert written == HealthRule(LlamaTarget("http://127.0.0.1:1"), 10.0, 300.0, 3)
    http = worker_of(check, "health: {http: 'http://127.0.0.1:1/'}").health
    assert http == HealthRule(HttpTarget("http://127.0.0.1:1/"), 10.0, 5.0, 3)


def test_a_preset_with_every_probe_written_needs_no_port(check: Check) -> None:
    text = "workers: {w: {preset: llama-server, command: ./serve, ready: null, health: null, drain: null}}"
    worker = only(check(text))
    assert (worker.ready, worker.health, worker.drain, worker.stop_again_s) == (None, None, None, 10.0)


def test_a_file_of_a_thousand_workers_loads(check: Check) -> None:
    rows = [
        f"  w{n}: {{command: [run, '{n}'], memory: {{cap: 1M}}, after: [{f'w{n - 1}' if n else ''}]}}"
        for n in range(1000)
    ]
    loaded = check("\n".join(["workers:", *rows]))
    assert loaded.plan is not None
    assert len(loaded.plan.workers) == 1000


def test_the_shipped_file_is_plain_yaml() -> None:
    assert set(yaml.safe_load(SHIPPED.read_text())) == {
        *("poll_interval", "launcher", "stop_workers", "host", "gpu"),
        *("defaults", "workers", "alerts", "web"),
    }


@pytest.mark.parametrize(
    ("keys", "plateau_bytes"),
    [
        ("", 8 << 30),
        (", environment: {LLAMA_ARG_CACHE_RAM: 100}", 100 << 20),
        (", environment: {LLAMA_ARG_CACHE_RAM: -1}", 0),
        (", leak: {plateau: 1G}", 1 << 30),
        (", leak: {forecast: 1h}", 8 << 30),
    ],
)
def test_the_prompt_cache_of_a_llama_server_is_growth_that_is_expected(
    check: Callable[[str], Loaded], keys: str, plateau_bytes: int
) -> None:
    def loaded(command: str) -> int:
        plan = check(f"workers: {{a: {{preset: llama-server, command: {command}{keys}}}}}\n").plan
        assert plan is not None
        return plan.workers["a"].leak_plateau_bytes

    assert loaded("[llama-server, --port, 8081]") == plateau_bytes
    assert loaded("[llama-server, --port, 8081, --cache-ram, 512]") == (
        1 << 30 if "plateau" in keys else 512 << 20
    )
