"""What is warned of, and what is said to be not acted on."""

# ruff: noqa: E501 - a message stands on one line, as people see it

from collections.abc import Callable
from pathlib import Path

import pytest

from supervisor.config import Loaded, Machine, load, this_machine

Warned = Callable[[str], list[str]]
Check = Callable[[str], Loaded]


@pytest.mark.parametrize(
    ("worker", "why"),
    [
        ("cpu: {quota: 900%}", "cpu.quota: 900% is more than the machine's 8 cores: it limits nothing"),
        ("{vram: {cap: 1G}, gpus: none}", "vram.cap: never counts: gpus is none"),
        ("{needs: {vram: 1G}, gpus: none}", "needs.vram: never counts: gpus is none"),
        (
            "needs: {vram: 1G}",
            "needs.vram: never counts: gpus is not written, so that nobody knows on which it will be",
        ),
        (
            "environment: {HF_TOKEN: abc}",
            "environment.HF_TOKEN: looks like a secret; put it into environment_file",
        ),
        (
            "environment: {X: sk-abcdefghijkl}",
            "environment.X: looks like a secret; put it into environment_file",
        ),
        (
            "command: [sleep, --api-key, abc]",
            "command[1]: looks like a secret, and everybody sees a command; put it into environment_file",
        ),
        ("command: no-such-program", 'command: there is no program "no-such-program" on PATH'),
        ("command: /no/such/program", 'command: there is no program "/no/such/program"'),
        ("user: no-such-user", 'user: there is no user "no-such-user" on this machine'),
        ("group: no-such-group", 'group: there is no group "no-such-group" on this machine'),
        ("health: {http: 'http://h/', timeout: 20s}", "health.timeout: is longer than interval, 10s"),
        ("{stop_again: 3min}", "stop_again: is never sent: SIGKILL comes after stop_timeout, 2min"),
        (
            "{stop_timeout: 1h, drain: {http: 'http://h/', timeout: 1h}}",
            "stop_timeout: a stop may take 2h, draining included",
        ),
        ("max_age: 5min", "max_age: is not longer than start_timeout, 5min"),
        (
            "{settings: {a: 1}, ladder: [{a: 2}]}",
            "ladder[0]: changes nothing: neither command nor environment uses its settings",
        ),
        (
            "{settings: {a: 1, b: 1}, command: 'sleep {a}', ladder: [{a: 2, b: 2}]}",
            "ladder[0].b: is used by neither command nor environment",
        ),
        (
            "{settings: {a: 2, b: 1}, command: 'sleep {a} {b}', ladder: [{a: 1}, {b: 0}, {a: 1, b: 0}]}",
            "ladder[2]: changes nothing: the rungs before it have come to the same, so it is passed over",
        ),
        ("climb_after: 1d", "climb_after: never counts: there is no ladder"),
        (
            "{gpus: [0], environment: {CUDA_VISIBLE_DEVICES: '0'}}",
            "environment.CUDA_VISIBLE_DEVICES: is overwritten by gpus",
        ),
    ],
)
def test_what_is_hardly_meant_is_warned_of(warned: Warned, worker: str, why: str) -> None:
    keys = worker if worker.startswith("{") else f"{{{worker}}}"
    text = f"workers:\n  w:\n    <<: {keys}\n"
    if "command" not in worker:
        text += "    command: sleep 5\n"
    assert [line.partition(" workers.w.")[2] for line in warned(text)] == [why]


def test_a_worker_that_is_as_it_should_be_is_not_warned_of(warned: Warned) -> None:
    text = """\
workers:
  a: {command: [sleep, '{port}'], settings: {port: 8081}, replicas: 3, ready: {tcp: '127.0.0.1:{port}'}}
  b: {command: sleep --port 9000, environment: {TOKENIZERS_PARALLELISM: 'false', MAX_TOKENS: '5'}, max_age: 1h}
"""
    assert warned(text) == []


def test_climbing_has_a_ladder_to_climb_where_one_is_made(warned: Warned) -> None:
    text = """\
workers:
  a: {command: [llama-server, --model-url, 'http://m', --port, '1'], climb_after: 1d}
  b: {command: [llama-server, --model-url, 'http://m', --port, '2'], climb_after: 1d, ladder: []}
"""
    assert [line for line in warned(text) if "climb_after" in line] == [
        "config.yaml:3: workers.b.climb_after: never counts: there is no ladder"
    ]


def test_two_workers_on_one_port_are_warned_of(warned: Warned) -> None:
    text = """\
workers:
  a: {command: sleep --port 8081}
  b: {command: sleep 5, ready: {tcp: '127.0.0.1:8081'}}
  c: {command: sleep --port=8082, replicas: 3}
  d: {command: sleep --port 8083, ready: {tcp: '127.0.0.1:8083'}}
"""
    assert warned(text) == [
        "config.yaml:3: workers.b: uses port 8081, and so does a",
        "config.yaml:4: workers.c: its replicas all use port 8082: write {port}, with a setting port",
    ]


def test_caps_and_floors_beyond_the_machine_are_warned_of(warned: Warned) -> None:
    text = """\
host: {warn_available: 64G, critical_available: 2G}
workers:
  a: {command: sleep 5, memory: {cap: 30G}, replicas: 3}
"""
    assert warned(text) == [
        "config.yaml:1: host.warn_available: 64GiB is never available: the machine has 64GiB",
        "config.yaml:2: workers: their memory caps add up to 90GiB, and the machine has 64GiB",
    ]


def test_an_unknown_machine_is_not_judged(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("workers: {a: {command: no-such-program, memory: {cap: 900T}, cpu: {quota: 90000%}}}")
    assert load(file, machine=Machine()).warnings == ()
    assert load(file).warnings == ()


def test_this_machine_is_known() -> None:
    machine = this_machine()
    assert machine.memory_total_bytes is not None
    assert machine.memory_total_bytes > 1 << 20
    assert machine.cores is not None
    assert machine.cores >= 1


def test_an_environment_file_that_everybody_can_read_is_warned_of(warned: Warned, tmp_path: Path) -> None:
    secrets = tmp_path / "secrets"
    secrets.write_text("A=b\n")
    text = f"workers:\n  a:\n    command: sleep 5\n    environment_file: {secrets}\n"
    secrets.chmod(0o644)
    assert warned(text) == [
        "config.yaml:4: workers.a.environment_file: every user of the machine can read it: chmod 600"
    ]
    secrets.chmod(0o600)
    assert warned(text) == []


def test_a_llama_server_that_will_not_do_what_it_seems_to_is_warned_of(
    warned: Warned, tmp_path: Path
) -> None:
    model = tmp_path / "model.gguf"
    model.write_bytes(b"x" * 4096)
    text = f"""\
workers:
  a:
    preset: llama-server
    command: [sleep, --port, '1', -m, {model}, --no-slots]
    memory: {{cap: 1K, max: 2K}}
  b: {{preset: llama-server, command: sleep --port 2, environment: {{LLAMA_ARG_CACHE_RAM: 0}}, memory: {{cap: 1G}}}}
  c: {{preset: llama-server, command: sleep --port 3 -m /no/such.gguf}}
  d: {{preset: llama-server, command: sleep --port 4 --models-dir /models --sleep-idle-seconds 60}}
  e:
    preset: llama-server
    command: sleep --port 5 --models-dir /models --sleep-idle-seconds 60
    health: {{llama: 'http://127.0.0.1:5', timeout: 20s}}
"""
    assert warned(text) == [
        "config.yaml:2: workers.a: its slots cannot be asked (API key, or --no-slots without --metrics): it is stopped undrained; write drain",
        "config.yaml:5: workers.a.memory.max: is less than the model, 4KiB, whose mapped pages count against it",
        "config.yaml:5: workers.a.memory.cap: its prompt cache may grow to 8GiB, and the cap is 1KiB: pass --cache-ram MIB",
        "config.yaml:6: workers.b.command: names no model: llama-server then routes between none, answers /health, and never gets ready",
        'config.yaml:7: workers.c.command: cannot use the model "/no/such.gguf": No such file or directory',
        "config.yaml:12: workers.e.health.timeout: is judged by less than 3 looks: lengthen it",
        "config.yaml:12: workers.e.health.llama: looks at its slots, so it never sleeps: write health: {http: URL/health}",
    ]


def test_torchserve_and_triton_are_warned_of_by_their_own_flags(warned: Warned) -> None:
    text = """\
workers:
  a: {preset: torchserve, command: sleep --start --ts-config /x}
  b: {preset: triton, command: sleep --exit-timeout-secs 300}
"""
    assert warned(text) == [
        "config.yaml:2: workers.a.command: without --foreground torchserve goes to the background, which looks like an exit",
        "config.yaml:2: workers.a.preset: the preset asks 127.0.0.1:8080; where inference_address differs, write ready and health",
        "config.yaml:3: workers.b.stop_timeout: Triton finishes its requests for 5min: allow it longer than that",
    ]


def test_a_web_face_that_everybody_may_use_is_warned_of(warned: Warned) -> None:
    assert warned("web: {listen: '0.0.0.0:8095'}") == [
        "config.yaml:1: web.listen: whoever reaches this address could restart workers: the web face does not start without a token"
    ]
    assert warned("web: {listen: '[::1]:8095'}") == []


def test_a_token_that_others_may_read_is_warned_of(warned: Warned, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("0123456789abcdef")
    token.chmod(0o644)
    assert warned(f"web: {{listen: '0.0.0.0:8095', token_file: {token}}}") == [
        "config.yaml:1: web.token_file: others may read or change it: the web face refuses such a token; chmod 0640"
    ]
    token.chmod(0o640)
    assert warned(f"web: {{listen: '0.0.0.0:8095', token_file: {token}}}") == []


def test_keys_that_are_not_acted_on_yet_are_said_plainly(check: Check) -> None:
    text = """\
launcher: LAUNCHER
workers:
  a:
    command: sleep '{x}'
    gpus: auto
    memory: {cap: 1G, high: 2G, max: 3G, swap_max: 0}
    cpu: {quota: 50%}
    health: {llama: 'http://127.0.0.1:1'}
    drain: {llama: 'http://127.0.0.1:1'}
    leak: {forecast: 30min}
    settings: {x: 5}
    replicas: 2
alerts: {rules: [{name: a, when: host.used > 5%}]}
web: {listen: '127.0.0.1:1'}
"""
    assert check(text.replace("LAUNCHER", "direct")).later == (
        "workers.a.memory.high: kernel limits need the systemd launcher",
        "workers.a.memory.max: kernel limits need the systemd launcher",
        "workers.a.memory.swap_max: kernel limits need the systemd launcher",
        "workers.a.cpu.quota: kernel limits need the systemd launcher",
    )
    assert check(text.replace("LAUNCHER", "systemd")).later == ()
    assert check(text.replace("LAUNCHER", "auto")).later == ()
    assert check("workers: {a: {command: sleep 5}}").later == ()
