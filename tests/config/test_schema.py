"""The JSON schema that editors use."""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import yaml

from supervisor.config import schema

Json = Any
TYPES: Mapping[str, Any] = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "integer": int,
    "number": (int, float),
    "null": type(None),
}


def is_a(value: Json, names: str | list[str]) -> bool:
    """Say whether a value is of one of the types that JSON schema names; true is no number there."""
    listed = [names] if isinstance(names, str) else names
    return any(
        isinstance(value, TYPES[name]) and (name == "boolean" or not isinstance(value, bool))
        for name in listed
    )


def accepts(rule: Json, value: Json, root: Json) -> bool:
    """Say whether a schema accepts a value; knows the keywords that ours uses, and no others."""
    text, number = isinstance(value, str), isinstance(value, int | float)
    row, table = isinstance(value, list), isinstance(value, dict)
    checks: dict[str, Callable[[Any], bool]] = {
        "$ref": lambda ref: accepts(root["$defs"][ref.removeprefix("#/$defs/")], value, root),
        "anyOf": lambda rules: any(accepts(each, value, root) for each in rules),
        "enum": lambda values: value in values,
        "type": lambda names: is_a(value, names),
        "pattern": lambda pattern: not text or re.search(pattern, value) is not None,
        "minimum": lambda least: not number or value >= least,
        "exclusiveMinimum": lambda least: not number or value > least,
        "maximum": lambda most: not number or value <= most,
        "minItems": lambda least: not row or len(value) >= least,
        "minLength": lambda least: not text or len(value) >= least,
        "items": lambda each: not row or all(accepts(each, item, root) for item in value),
        "required": lambda names: not table or all(name in value for name in names),
        "propertyNames": lambda each: not table or all(accepts(each, key, root) for key in value),
        "properties": lambda each: (
            not table or all(accepts(each[key], item, root) for key, item in value.items() if key in each)
        ),
        "additionalProperties": lambda each: (
            not table
            or all(
                each is not False and accepts(each, item, root)
                for key, item in value.items()
                if key not in rule.get("properties", {})
            )
        ),
    }
    notes = {"$schema", "$defs", "title", "description", "default", "examples"}
    assert rule.keys() <= checks.keys() | notes
    return all(check(rule[key]) for key, check in checks.items() if key in rule)


GOOD = """\
poll_interval: 2
host: {warn_available: 4G, pressure: {full: 40%, for: 10s}}
defaults: {max_age: 1h}
workers:
  chat:
    preset: vllm
    command: [run, --port, 8081]
    gpus: [0, GPU-1234]
    memory: {cap: 8.5G, swap_max: 0}
    environment: {A: 6}
    ready: {notify: true}
    stop_signal: 15
    stop_again: null
    settings: {a: 1, b: true, c: x}
    ladder: [{a: 0}]
  other: {command: run it}
alerts: {rules: [{name: a, when: b > 5, for: 2min}], notify: [{command: page}]}
"""


def test_the_schema_accepts_a_good_file() -> None:
    assert accepts(schema(), yaml.safe_load(GOOD), schema())


@pytest.mark.parametrize(
    "text",
    [
        "pol_interval: 2s",
        "poll_interval: soon",
        "poll_interval: -1",
        "launcher: docker",
        "host: {max_used: 0.9}",
        "workers: {Chat: {command: run}}",
        "workers: {chat: {command: run, memory: {cap: lots}}}",
        "workers: {chat: {command: []}}",
        "workers: {chat: {command: run, replicas: 0}}",
        "workers: {chat: {comand: run}}",
        "alerts: {rules: [{name: a}]}",
    ],
)
def test_the_schema_refuses_what_the_loader_refuses(text: str) -> None:
    assert not accepts(schema(), yaml.safe_load(text), schema())


def test_the_schema_names_its_dialect_and_describes_every_key() -> None:
    made: Json = schema()
    assert made["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    for shape in (made, *made["$defs"].values()):
        assert shape["additionalProperties"] is False
        assert shape["description"]
        assert [key for key, rule in shape["properties"].items() if not rule.get("description")] == []
    assert made["properties"]["poll_interval"]["default"] == "2s"
    assert made["$defs"]["Host"]["properties"]["warn_available"]["default"] == "4GiB"
    assert made["$defs"]["Worker"]["properties"]["stop_signal"]["default"] == "SIGTERM"
    assert made["$defs"]["Stall"]["properties"]["for"]["default"] == "10s"
    assert json.loads(json.dumps(made)) == made
