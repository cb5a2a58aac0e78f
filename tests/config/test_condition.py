"""The conditions of alerts: what can be written, what is refused and where; nothing breaks the parser."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config.conftest import Check
from supervisor.config import difference
from supervisor.config.condition import ConditionError, parse_condition
from supervisor.model.condition import (
    READINGS,
    Both,
    Comparison,
    Condition,
    Either,
    Flag,
    Not,
    Subject,
    subject_of,
    written,
)

FULL = Comparison("gpu.used", ">", 95.0, "percent")
HOT = Flag("gpu.hot")
QUARANTINED = Flag("gpu.quarantined")
NEEDS_SIZE = "write a size such as 2G, or a percentage of its memory such as 90%"
THAN = "than anything that is measured"
NEEDS_NAME = "write letters, digits and _ . : - such as GPUHot"


@pytest.mark.parametrize(
    ("text", "condition"),
    [
        ("gpu.used > 95%", FULL),
        ("gpu.used>95%", FULL),
        ("  gpu.used\n>  95% ", FULL),
        ("gpu.free < 1.5G", Comparison("gpu.free", "<", 1610612736.0, "bytes")),
        ("host.available < 2G", Comparison("host.available", "<", 2147483648.0, "bytes")),
        ("host.available < 2GB", Comparison("host.available", "<", 2e9, "bytes")),
        ("host.swap_used > 0", Comparison("host.swap_used", ">", 0.0, "bytes")),
        ("host.psi >= 7%", Comparison("host.psi", ">=", 7.0, "percent")),
        ("worker.memory > 90%", Comparison("worker.memory", ">", 90.0, "percent")),
        ("worker.forecast < 30min", Comparison("worker.forecast", "<", 1800.0, "s")),
        ("worker.age > 1h 30min", Comparison("worker.age", ">", 5400.0, "s")),
        ("worker.report_age > 90", Comparison("worker.report_age", ">", 90.0, "s")),
        ("worker.failures >= 3", Comparison("worker.failures", ">=", 3.0, "number")),
        ("worker.phase == held", Comparison("worker.phase", "==", "held", "word")),
        ("host.pressure >= critical", Comparison("host.pressure", ">=", "critical", "word")),
        ("gpu.temperature > 85", Comparison("gpu.temperature", ">", 85.0, "celsius")),
        ("gpu.temperature > 85C", Comparison("gpu.temperature", ">", 85.0, "celsius")),
        ("gpu.temperature > 85°C", Comparison("gpu.temperature", ">", 85.0, "celsius")),
        ("gpu.power > 650W", Comparison("gpu.power", ">", 650.0, "w")),
        ("gpu.power > 95%", Comparison("gpu.power", ">", 95.0, "percent")),
        ("gpu.state != ok", Comparison("gpu.state", "!=", "ok", "word")),
        ("gpu.quarantined", QUARANTINED),
        ("not gpu.quarantined", Not(QUARANTINED)),
        ("not not gpu.hot", Not(Not(HOT))),
        ("gpu.hot and gpu.quarantined or gpu.used > 95%", Either((Both((HOT, QUARANTINED)), FULL))),
        ("gpu.hot and (gpu.quarantined or gpu.used > 95%)", Both((HOT, Either((QUARANTINED, FULL))))),
        ("not (gpu.hot or gpu.quarantined)", Not(Either((HOT, QUARANTINED)))),
        ("gpu.hot or gpu.hot or gpu.hot", Either((HOT, HOT, HOT))),
    ],
)
def test_a_condition_is_read_by_the_quantity_of_its_reading(text: str, condition: Condition) -> None:
    assert parse_condition(text) == condition


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", 'is empty: write a comparison such as "gpu.used > 95%"'),
        ("gpu.usd > 5%", 'at character 1: there is no reading "gpu.usd"; did you mean gpu.used?'),
        ("gpu.hot and", "at character 12: a reading is missing"),
        ("gpu.used = 5%", 'at character 10: "=" means nothing here: write =='),
        ("gpu.hot && gpu.hot", 'at character 9: "&&" means nothing here: write and'),
        ("gpu.used", "at character 9: gpu.used needs a sign: < <= == != >= >"),
        ("gpu.used > 95", f'at character 12: "95" is none of its values: {NEEDS_SIZE}'),
        (
            "worker.vram > 5min",
            "at character 15: '5min' is not a size: write 8G, 512M or a number of bytes",
        ),
        (
            "gpu.temperature > 85%",
            'at character 19: "85%" is none of its values: write degrees such as 85C',
        ),
        (
            "worker.restarts > 5s",
            'at character 19: "5s" is none of its values: write a number such as 5',
        ),
        (
            "worker.forecast < 5G",
            "at character 19: '5G' is not a time span: write 30s, 1min 30s or 1h",
        ),
        (
            "host.psi > 40",
            'at character 12: "40" is none of its values: write a percentage such as 40%',
        ),
        ("gpu.used >", f"at character 11: gpu.used is compared with nothing: {NEEDS_SIZE}"),
        ("worker.phase > held", "at character 14: worker.phase has no order: write == or !="),
        ("worker.phase == hld", 'at character 17: "hld" is not one of its words; did you mean held?'),
        (
            "gpu.state == 5",
            'at character 14: "5" is not one of its words: write one of ok, lost, hung, mismatch, failed',
        ),
        (
            "gpu.quarantined == 1",
            "at character 17: gpu.quarantined is true or false: write it alone, or after 'not'",
        ),
        ("(gpu.hot", "at character 9: the parenthesis of character 1 is not closed"),
        ("gpu.hot)", 'at character 8: ")" is one too many: no parenthesis was opened'),
        (
            "gpu.hot gpu.hot",
            "at character 9: \"gpu.hot\" is one too many: 'and' or 'or' must come before it",
        ),
        (
            "gpu.hot and worker.held",
            "speaks of a gpu and of a worker: a rule is judged for one of them",
        ),
        ("not " * 21 + "gpu.hot", "at character 81: more than 20 parentheses and nots within one another"),
        ("gpu.used > 1000000000000000%", f'at character 12: "1000000000000000%" is larger {THAN}'),
        ("gpu.used > 5000T", 'at character 12: "5000T" is more than 4 PiB'),
        ("x" * 501, "has 501 characters, and 500 is the most"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_told_with_its_place(text: str, why: str) -> None:
    with pytest.raises(ConditionError) as refused:
        parse_condition(text)
    assert str(refused.value) == why


@pytest.mark.parametrize(
    ("text", "subject"),
    [
        ("gpu.hot", "gpu"),
        ("host.used > 5% and gpu.hot", "gpu"),
        ("host.used > 5% and worker.held", "worker"),
        ("supervisor.held > 1 and host.used > 5%", "host"),
        ("supervisor.held > 1", "supervisor"),
    ],
)
def test_a_rule_is_judged_for_the_gpus_or_the_workers_or_the_machine(text: str, subject: Subject) -> None:
    assert subject_of(parse_condition(text)) == subject


def comparisons(name: str) -> st.SearchStrategy[Condition]:
    """Return what can be written of one reading."""
    topic = READINGS[name]
    if topic.kind == "flag":
        return st.just(Flag(name))
    if topic.words:
        signs = ["==", "!="] if topic.kind == "word" else ["<", "<=", "==", "!=", ">=", ">"]
        return st.builds(
            Comparison, st.just(name), st.sampled_from(signs), st.sampled_from(topic.words), st.just("word")
        )
    units = {
        "memory": ["bytes", "percent"],
        "power": ["w", "percent"],
        "percent": ["percent"],
        "span": ["s"],
        "celsius": ["celsius"],
        "number": ["number"],
    }[topic.kind]
    return st.sampled_from(units).flatmap(
        lambda unit: st.builds(
            Comparison,
            st.just(name),
            st.sampled_from(["<", "<=", "==", "!=", ">=", ">"]),
            values(unit),
            st.just(unit),
        )
    )


def values(unit: str) -> st.SearchStrategy[float]:
    if unit == "bytes":
        return st.integers(0, 1 << 52).map(float)
    if unit == "s":
        return st.integers(0, 10**15).map(lambda micros: micros / 1e6)
    return st.floats(0, 1e14, allow_subnormal=False).map(lambda value: value + 0.0)


def trees(prefixes: tuple[str, ...]) -> st.SearchStrategy[Condition]:
    names = [name for name in READINGS if name.partition(".")[0] in prefixes]
    return st.recursive(
        st.sampled_from(names).flatmap(comparisons),
        lambda below: st.one_of(
            st.builds(Not, below),
            st.lists(below, min_size=2, max_size=3).map(lambda parts: Both(tuple(parts))),
            st.lists(below, min_size=2, max_size=3).map(lambda parts: Either(tuple(parts))),
        ),
        max_leaves=6,
    )


@given(st.one_of(trees(("gpu", "host", "supervisor")), trees(("worker", "host"))))
def test_what_is_written_of_a_condition_reads_back_as_the_same(condition: Condition) -> None:
    text = written(condition)
    if len(text) <= 500:
        assert parse_condition(text) == condition


PIECES = st.sampled_from(
    [
        *READINGS,
        *("and", "or", "not", "(", ")", "<", ">", "==", "!=", "=", "95%", "2G", "30min", "1h 30min"),
        *("ok", "held", "critical", "85", "85C", "300W", "-5", "1e9", ".", "%", "gpu", "gpu.", "\x00", "é"),
    ]
)


@given(
    st.one_of(
        st.text(max_size=60), st.lists(PIECES, max_size=25).map(" ".join), st.lists(PIECES).map("".join)
    )
)
@settings(max_examples=500)
def test_whatever_is_written_is_read_or_refused_in_a_sentence(text: str) -> None:
    found = read(text)
    if isinstance(found, str):
        assert found.isprintable()
        assert found
    else:
        assert parse_condition(written(found)) == found


def read(text: str) -> Condition | str:
    """Return the condition, or why it is none."""
    try:
        return parse_condition(text)
    except ConditionError as refused:
        return str(refused)


def test_every_fault_of_the_alerts_is_told_with_its_line(told: Callable[[str], list[str]]) -> None:
    text = """\
workers: {}
alerts:
  rules:
    - {name: A, when: "gpu.usd > 5%"}
    - name: A
      when: "gpu.used > 5"
    - {name: "a b", when: "gpu.hot"}
    - {when: "gpu.hot"}
  notify:
    - {webhook: "http://x", command: [page]}
    - {webhook: "ftp://x/secret"}
    - {webhook: "http://me:secret@x/"}
    - {command: []}
    - {webhook: "http://x", format: teams}
  repeat: 0
"""
    rules, notify = "alerts.rules", "alerts.notify"
    unknown = 'there is no reading "gpu.usd"; did you mean gpu.used?'
    assert told(text) == [
        f"config.yaml:4: {rules}[0].when: at character 1: {unknown}",
        f'config.yaml:5: {rules}[1].name: another rule is called "A"',
        f'config.yaml:6: {rules}[1].when: at character 12: "5" is none of its values: {NEEDS_SIZE}',
        f'config.yaml:7: {rules}[2].name: "a b" is no name: {NEEDS_NAME}',
        f"config.yaml:8: {rules}[3].name: is missing",
        f"config.yaml:10: {notify}[0]: needs either webhook or command",
        f"config.yaml:11: {notify}[1].webhook: must be a URL that begins with http:// or https://",
        f"config.yaml:12: {notify}[2].webhook: may not hold a user or a password",
        f"config.yaml:13: {notify}[3].command: is empty: it needs a program",
        f'config.yaml:14: {notify}[4].format: must be one of alertmanager, json, slack, not "teams"',
        "config.yaml:15: alerts.repeat: must be more than 0s, not 0s",
    ]


def test_there_can_be_too_many_rules(told: Callable[[str], list[str]]) -> None:
    rules = "".join(f"    - {{name: r{at}, when: gpu.hot}}\n" for at in range(101))
    assert told(f"workers: {{}}\nalerts:\n  rules:\n{rules}") == [
        "config.yaml:3: alerts.rules: has 101 entries, and 100 is the most"
    ]


def test_a_reload_shows_no_secret_of_a_webhook(check: Check) -> None:
    old = check("alerts: {notify: [{webhook: 'http://x/services/T1/hunter2'}]}").plan
    new = check(
        "alerts: {notify: [{webhook: 'http://x/services/T1/hunter3', format: slack}], repeat: 1h}"
    ).plan
    assert old is not None
    assert new is not None
    assert difference(old, new) == (
        "alerts.notify webhook ... alertmanager -> webhook ... slack",
        "alerts.repeat 4h -> 1h",
    )
