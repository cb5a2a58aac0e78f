"""What is refused, and in which words."""

# ruff: noqa: E501 - a message stands on one line, as people see it

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from supervisor.config import load

Told = Callable[[str], list[str]]


def test_every_fault_is_told_at_once_with_its_line_and_path(told: Told) -> None:
    text = """\
poll_interval: soon
lancher: direct
host: {warn_available: 2G, critical_available: 4G}
gpu:
  pressure: {high: 90%, critical: 85%}
workers:
  chat:
    command: [server, --ctx, "{ctxx}"]
    memory:
      cap: 8G
      max: 6G
    settings: {ctx: 4096}
    ready: {http: "ftp://127.0.0.1/health"}
    stop_signal: SIGTREM
    breach: {samples: 6, of: 5}
    after: [embedd]
  Embed: {command: sleep 1, colour: red}
  embed: {command: ""}
alerts:
  rules: [{name: x}]
web: {listen: 8095}
"""
    assert told(text) == [
        "config.yaml:1: poll_interval: 'soon' is not a time span: write 30s, 1min 30s or 1h",
        "config.yaml:2: lancher: unknown key; did you mean launcher?",
        "config.yaml:3: host.critical_available: 4GiB must be below warn_available, 2GiB",
        "config.yaml:5: gpu.pressure.critical: 85% must be above high, 90%",
        "config.yaml:8: workers.chat.command[2]: {ctxx} names no setting; did you mean ctx?",
        "config.yaml:11: workers.chat.memory.max: 6GiB must be above cap, 8GiB, or the kernel kills first",
        "config.yaml:13: workers.chat.ready.http: must be a URL that begins with http:// or https://",
        "config.yaml:14: workers.chat.stop_signal: 'SIGTREM' is no signal: write SIGTERM, TERM or 15",
        "config.yaml:15: workers.chat.breach.samples: 6 of 5 readings can never be",
        'config.yaml:16: workers.chat.after[0]: there is no worker "embedd"; did you mean embed?',
        "config.yaml:17: workers.Embed.colour: unknown key",
        "config.yaml:17: workers.Embed: a worker's name is a-z, 0-9 and -, at most 41 of them, and no - at its front",
        "config.yaml:18: workers.embed.command: is missing: a worker needs a program to run",
        "config.yaml:20: alerts.rules[0].when: is missing",
        "config.yaml:21: web.listen: must be HOST:PORT such as 127.0.0.1:8081",
    ]


@pytest.mark.parametrize(
    ("worker", "why"),
    [
        ("memory: {cap: 8G, high: 8G}", "memory.high: 8GiB must be above cap, 8GiB"),
        ("memory: {high: 9G, max: 8G}", "memory.high: 9GiB must not be above max, 8GiB"),
        (
            "needs: {memory: 5G}\n    memory: {cap: 4G}",
            "needs.memory: 5GiB is above memory.cap, 4GiB: it would be restarted for ever",
        ),
        ("memory: {cap: 0}", "memory.cap: must be more than 0B, not 0B"),
        ("memory: {cap: -1G}", "memory.cap: -1G is negative: write 8G, 512M or a number of bytes"),
        ("memory: [8G]", "memory: must be a mapping of keys, not a list"),
        ("memory: 8G", "memory: must be a mapping of keys, not text"),
        ("priority: high", "priority: must be a whole number, not text"),
        ("priority: 1.5", "priority: must be a whole number, not 1.5"),
        ("replicas: 0", "replicas: must be at least 1, not 0"),
        ("replicas: 1000000000", "replicas: must be at most 1000, not 1000000000"),
        ("max_age: 0", "max_age: must be more than 0s, not 0s"),
        ("max_age_jitter: 100%", "max_age_jitter: must be below 100%, or a life could have no length"),
        ("max_age_jitter: 0.1", "max_age_jitter: '0.1' is not a percentage: write 85%, with its sign"),
        ("restart: {first: 10min}", "restart.first: 10min must not be above max, 5min"),
        (
            "restart: {on: failures}",
            'restart.on: must be one of always, failure, not "failures"; did you mean failure?',
        ),
        ("start_timeout: null", "start_timeout: is empty: leave the key out for its default"),
        ("stop_signal: 99", "stop_signal: '99' is no signal: write SIGTERM, TERM or 15"),
        (
            "preset: llama",
            'preset: must be one of llama-server, torchserve, triton, vllm, not "llama"; did you mean llama-server?',
        ),
        (
            "preset: llama-server",
            "preset: cannot find where llama-server listens: put --port into command, or write ready, health and drain",
        ),
        ("ready: {}", "ready: needs one of http, llama, tcp, notify or after"),
        ('ready: {tcp: "h:1", after: 3s}', "ready: has tcp and after, and only one counts"),
        ("ready: {notify: false}", "ready.notify: must be true; leave ready out for no readiness"),
        ("ready: {notify: 5}", "ready.notify: must be true or false, not 5"),
        ("ready: {tcp: localhost}", "ready.tcp: must be HOST:PORT such as 127.0.0.1:8081"),
        ('ready: {tcp: "h:0"}', 'ready.tcp: "0" is no port: must be HOST:PORT such as 127.0.0.1:8081'),
        (
            'ready: {tcp: "h:65536"}',
            'ready.tcp: "65536" is no port: must be HOST:PORT such as 127.0.0.1:8081',
        ),
        ('ready: {tcp: "::1:80"}', "ready.tcp: an IPv6 address needs brackets: [::1]:8081"),
        ('ready: {http: "http://h:99999/"}', "ready.http: is no URL: port out of range 0-65535"),
        ('ready: {http: "http://me:pw@h/"}', "ready.http: may not hold a user or a password"),
        ('ready: {http: "http:///x"}', "ready.http: is a URL without a host"),
        (
            'ready: {http: "http://h/a b"}',
            "ready.http: must be a URL such as http://127.0.0.1:8081/health, without spaces",
        ),
        ('ready: {http: "http://h:{prt}/"}', "ready.http: {prt} names no setting"),
        ("health: {interval: 5s}", "health: needs one of http or llama"),
        ("drain: {command: []}", "drain.command: is empty: it needs a program"),
        ("drain: {timeout: 5s}", "drain: needs one of http, llama, command or guard"),
        ("drain: {guard: false}", "drain.guard: must be true; leave drain out for no draining"),
        ("drain: {guard: true, http: 'http://h/'}", "drain: has http and guard, and only one counts"),
        ("gpus: [0, 0]", "gpus: names one GPU twice"),
        ("gpus: [first]", 'gpus: "first" is neither an index nor a uuid (GPU-... or MIG-...), auto or none'),
        (
            "gpus: aut",
            'gpus: "aut" is neither an index nor a uuid (GPU-... or MIG-...), auto or none; did you mean auto?',
        ),
        ("gpu_count: 2", "gpu_count: counts only with gpus: auto"),
        ("directory: relative", 'directory: "relative" must be an absolute path'),
        ("directory: /nonexistent", 'directory: cannot use "/nonexistent": No such file or directory'),
        ("directory: /etc/hostname", 'directory: "/etc/hostname" is not a directory'),
        (
            "environment_file: /nonexistent",
            'environment_file: cannot use "/nonexistent": No such file or directory',
        ),
        ("environment_file: /etc", 'environment_file: "/etc" is a directory'),
        ("environment: {A-B: x}", "environment.A-B: is no name of a variable"),
        ("environment: {NOTIFY_SOCKET: x}", "environment.NOTIFY_SOCKET: is set by the supervisor itself"),
        ("environment: {A: [x]}", "environment.A: must be a single value, not a list"),
        ("environment: {A: }", 'environment.A: is empty; write "" for an empty text'),
        ('environment: {A: "x\\0y"}', "environment.A: holds a NUL character, which no program can be given"),
        ('environment: {A: "{b}"}', "environment.A: {b} names no setting"),
        (
            "settings: {replica: 1}",
            "settings.replica: cannot stand in braces: a setting is a-z, 0-9 and _, and not replica",
        ),
        ("settings: {a: [1]}", "settings.a: must be a single value, not a list"),
        ("ladder: [{ctx: 1}]", "ladder[0].ctx: settings holds no such value to fall back from"),
        (
            "settings: {ctx: auto}",
            "settings.ctx: can be auto for a llama.cpp server only (llama-server, or preset: llama-server)",
        ),
        ("after: [w]", "after: waits for itself: w -> w"),
        ("user: ''", "user: is empty"),
    ],
)
def test_a_fault_says_what_would_be_right(told: Told, worker: str, why: str) -> None:
    text = f"workers:\n  w:\n    command: sleep 5\n    {worker}\n"
    assert told(text) == [f"config.yaml:4: workers.w.{why}"]


def test_auto_is_for_what_a_llama_server_is_given(told: Told) -> None:
    head = "workers:\n  w:\n    command: [/opt/llama-server, -m, /m.gguf, -c, '{ctx}']\n    settings: "
    assert told(f"{head}{{ctx: auto, fa: auto}}\n") == []
    unused = "is auto, and neither command nor environment uses {n_gpu_layers}"
    assert told(f"{head}{{ctx: auto, n_gpu_layers: auto}}\n") == [
        f"config.yaml:4: workers.w.settings.n_gpu_layers: {unused}"
    ]
    assert told(f"{head}{{ctx: 4096}}\n    ladder: [{{ctx: auto}}]\n") == [
        "config.yaml:5: workers.w.ladder: ctx cannot be auto on a rung: write what to fall back to"
    ]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "config.yaml: the file is empty: it needs at least 'workers: {}'"),
        ("  \n\n", "config.yaml: the file is empty: it needs at least 'workers: {}'"),
        ("# nothing\n", "config.yaml: the file must be a mapping of keys, such as 'workers: {}'"),
        ("[a]\n", "config.yaml:1: the file must be a mapping of keys, such as 'workers: {}'"),
        ("hello\n", "config.yaml:1: the file must be a mapping of keys, such as 'workers: {}'"),
        ("workers:\n\tchat: 1\n", "config.yaml:2: not YAML: a tab indents it, and YAML takes spaces only"),
        (
            "workers: {\n",
            "config.yaml:2: not YAML: did not find expected node content (while parsing a flow node)",
        ),
        ("a: b: c\n", "config.yaml:1: not YAML: mapping values are not allowed in this context"),
        ("a: \x01\n", "config.yaml:1: not YAML: control characters are not allowed"),
        (
            "--- {}\n--- {}\n",
            "config.yaml:2: not YAML: but found another document (expected a single document in the stream)",
        ),
        ("a: &x [*x]\n", "config.yaml:1: an alias stands inside its own anchor"),
        ("a: *x\n", "config.yaml:1: not YAML: found undefined alias"),
        ("[" * 5000, "config.yaml:1: nested more than 64 levels deep"),
        ("- " * 5000, "config.yaml:1: nested more than 64 levels deep"),
        ("#" * (1 << 20) + "\n", "config.yaml: cannot read it: it is larger than 1 MiB"),
    ],
)
def test_a_file_that_is_no_configuration_is_one_clear_fault(told: Told, text: str, why: str) -> None:
    assert told(text) == [why]


def test_an_alias_bomb_is_refused_before_it_is_written_out(told: Told) -> None:
    rows = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    rows += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    assert told("\n".join(rows)) == [
        "config.yaml:5: more than 100000 values once its aliases are written out"
    ]


def test_aliases_that_nest_deeper_and_deeper_are_refused(told: Told) -> None:
    rows = ["a0: &a0 [x]", *(f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, 200))]
    assert told("\n".join(rows)) == [
        "config.yaml:64: nested more than 64 levels deep once its aliases are written out"
    ]


def test_a_key_that_is_written_twice_is_a_fault(told: Told) -> None:
    text = "workers:\n  w:\n    command: sleep 5\n    priority: 1\n    priority: 2\nworkers: {}\n"
    assert told(text) == [
        "config.yaml:5: workers.w.priority: written twice; first on line 4",
        "config.yaml:6: workers: written twice; first on line 1",
    ]


def test_an_unknown_tag_is_a_fault(told: Told) -> None:
    text = "workers:\n  w: {command: !shell sleep 5}\n"
    assert told(text) == ['config.yaml:2: workers.w.command: the tag "!shell" is not understood here']


def test_workers_that_wait_for_each_other_in_a_circle_are_a_fault(told: Told) -> None:
    text = """\
workers:
  a: {command: sleep 5, after: [b]}
  b: {command: sleep 5, after: [c]}
  c: {command: sleep 5, after: [b]}
"""
    assert told(text) == ["config.yaml:3: workers.b.after: waits for itself: b -> c -> b"]


def test_a_replica_may_not_take_the_name_of_another_worker(told: Told) -> None:
    text = "workers:\n  a-2: {command: sleep 5}\n  a: {command: sleep 5, replicas: 2}\n"
    assert told(text) == ["config.yaml:3: workers.a: its replica a-2 has the name of another worker"]


def test_a_rung_may_not_change_what_a_probe_was_told(told: Told) -> None:
    text = """\
workers:
  a:
    command: [server, "{port}"]
    settings: {port: 8081}
    ready: {tcp: "127.0.0.1:{port}"}
    ladder: [{port: 8082}]
"""
    assert told(text) == [
        "config.yaml:6: workers.a.ladder[0].port: may not change: ready, health or drain uses it"
    ]


def test_a_port_that_only_the_last_replica_passes_is_found(told: Told) -> None:
    text = "workers:\n  a: {command: [server, '{port}'], settings: {port: 65530}, replicas: 10}\n"
    assert told(text) == [
        "config.yaml:2: workers.a.command[1]: {port} comes to 65539, and ports end at 65535"
    ]


def test_a_fault_in_defaults_is_told_once_for_all_workers(told: Told) -> None:
    text = """\
defaults:
  priority: high
  memroy: {cap: 8G}
workers:
  a: {command: sleep 5}
  b: {command: sleep 5}
"""
    assert told(text) == [
        "config.yaml:2: defaults.priority: must be a whole number, not text",
        "config.yaml:3: defaults.memroy: unknown key; did you mean memory?",
    ]


def test_thousands_of_faults_are_counted_and_not_all_written(told: Told) -> None:
    lines = told("\n".join(f"key{n}: 1" for n in range(5000)))
    assert len(lines) == 201
    assert lines[-1] == "config.yaml: and 4800 more faults"


def test_no_fault_shows_the_value_of_a_variable(told: Told) -> None:
    assert "hunter2" not in "".join(
        told("workers: {w: {command: x, environment: {A: '{hunter2', B: {hunter2: 1}}}}\n")
    )


def test_a_file_that_may_not_be_read_is_one_clear_fault(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("workers: {}\n")
    file.chmod(0)
    user = os.geteuid()
    if user == 0:  # whom no mode keeps out
        os.seteuid(65534)
    try:
        loaded = load(file)
    finally:
        os.seteuid(user)
    assert [str(fault) for fault in loaded.faults] == [f"{file}: cannot read it: Permission denied"]


def test_what_cannot_be_read_is_one_clear_fault(tmp_path: Path) -> None:
    absent, latin = tmp_path / "absent.yaml", tmp_path / "latin.yaml"
    latin.write_bytes(b"workers:\n  # caf\xe9\n")
    assert [str(fault) for fault in load(absent).faults] == [
        f"{absent}: cannot read it: No such file or directory"
    ]
    assert [str(fault) for fault in load(tmp_path).faults] == [f"{tmp_path}: cannot read it: Is a directory"]
    assert [str(fault) for fault in load(latin).faults] == [f"{latin}: cannot read it: line 2 is not UTF-8"]
    device = Path("/dev/null")
    assert [str(fault) for fault in load(device).faults] == [
        "/dev/null: cannot read it: it is not a regular file"
    ]
