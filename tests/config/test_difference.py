"""What a reload says has changed."""

from collections.abc import Callable

from supervisor.config import Loaded, difference

Check = Callable[[str], Loaded]

BEFORE = """\
poll_interval: 2s
workers:
  gone: {command: run}
  same: {command: run, max_age: 1h}
  chat:
    command: run --token secret1
    environment: {A: secret2, B: x}
    memory: {cap: 8G}
    max_age: 1h
    settings: {n: 1}
    stop_signal: SIGTERM
"""
AFTER = """\
poll_interval: 500ms
host: {max_used: 90%, pressure: {full: 50%}}
workers:
  same: {max_age: 60min, command: run}
  chat:
    command: run --token secret3
    environment: {A: secret4, C: x}
    memory: {cap: 9G, max: 10G}
    max_age: 90min
    settings: {n: 2}
    ready: {http: "http://127.0.0.1:1/"}
    stop_signal: SIGINT
    gpus: [0, 1]
  fresh: {command: run}
web: {listen: "127.0.0.1:9"}
"""


def changes(check: Check, before: str, after: str) -> tuple[str, ...]:
    """Return the difference between two texts."""
    old, new = check(before).plan, check(after).plan
    assert old is not None
    assert new is not None
    return difference(old, new)


def test_a_change_is_told_in_the_words_of_the_file_and_shows_no_secret(check: Check) -> None:
    assert changes(check, BEFORE, AFTER) == (
        "worker gone: removed",
        "worker fresh: added",
        "worker chat: command changed",
        "worker chat: environment.A changed",
        "worker chat: environment.B removed",
        "worker chat: environment.C added",
        "worker chat: gpus.kind any -> listed",
        "worker chat: gpus.listed none -> 0, 1",
        "worker chat: memory.cap 8GiB -> 9GiB",
        "worker chat: memory.max none -> 10GiB",
        "worker chat: max_age 1h -> 1h 30min",
        "worker chat: stop_signal SIGTERM -> SIGINT",
        "worker chat: ready none -> http http://127.0.0.1:1/",
        "worker chat: settings n=1 -> n=2",
        "poll_interval 2s -> 500ms",
        "host.max_used none -> 90%",
        "host.pressure.full 40% -> 50%",
        "web.port 8095 -> 9",
    )


def test_files_that_mean_the_same_do_not_differ(check: Check) -> None:
    assert changes(check, BEFORE, f"# a comment\n{BEFORE}") == ()
    assert changes(check, "workers: {}", "poll_interval: 2000ms") == ()


def test_a_change_too_small_for_people_is_shown_in_full(check: Check) -> None:
    before = "workers: {a: {command: run, max_age: 1h}}"
    assert changes(check, before, before.replace("1h", "1h 1ms")) == ("worker a: max_age 3600.0 -> 3600.001",)
