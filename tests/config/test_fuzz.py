"""Nothing that a file can hold raises: it is a plan, or at least one fault."""

from pathlib import Path

import msgspec.inspect as mi
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from supervisor.config import Machine, difference, load
from supervisor.config.shape import ConfigShape, WorkerShape

QUIET = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
MACHINE = Machine(8 << 30, 2, "/usr/bin")


def names(shape: type[ConfigShape | WorkerShape]) -> list[str]:
    """Return the keys of a shape and of the shapes in it, one level down."""
    kind = mi.type_info(shape)
    assert isinstance(kind, mi.StructType)
    inner = [
        "cap",
        "high",
        "max",
        "http",
        "tcp",
        "after",
        "llama",
        "command",
        "timeout",
        "first",
        "for",
        "full",
        "port",
    ]
    return [field.encode_name for field in kind.fields] + inner


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(
        ["8G", "2s", "85%", "auto", "none", "{port}", "{port+1}", "{x", "SIGTERM", "llama-server", "w"]
    ),
    st.sampled_from(
        ["http://127.0.0.1:{port}/", "127.0.0.1:80", "run --port 8081", "http://[", "-1", "1e400"]
    ),
)
KEYS = st.one_of(
    st.sampled_from([*names(ConfigShape), *names(WorkerShape)]), st.text(max_size=8), st.integers()
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(KEYS, inner, max_size=5)),
    max_leaves=25,
)
WORKERS = st.dictionaries(
    st.sampled_from(["w", "a-1", "a", "B"]), st.dictionaries(KEYS, VALUES, max_size=8), max_size=4
)
CONFIGS = st.fixed_dictionaries(
    {},
    optional={
        "workers": st.one_of(WORKERS, VALUES),
        "defaults": st.one_of(st.dictionaries(KEYS, VALUES, max_size=6), VALUES),
        "host": VALUES,
        "gpu": VALUES,
        "alerts": VALUES,
        "web": VALUES,
        "poll_interval": SCALARS,
    },
)


def judge(file: Path) -> None:
    """Load a file; hold that it is a plan or faults, and that all of it can be shown."""
    loaded = load(file, machine=MACHINE)
    assert (loaded.plan is None) == bool(loaded.faults)
    for fault in (*loaded.faults, *loaded.warnings):
        assert "\n" not in str(fault)
        assert str(fault).startswith(str(file))
    if loaded.plan is not None:
        assert difference(loaded.plan, loaded.plan) == ()


@QUIET
@given(st.binary(max_size=400))
def test_any_bytes_are_a_plan_or_a_fault(tmp_path: Path, data: bytes) -> None:
    file = tmp_path / "config.yaml"
    file.write_bytes(data)
    judge(file)


@QUIET
@given(st.text(alphabet="workersdefaultcmn: {}[]&*!<|>-?'\"\n\t#%@`,0~\\", max_size=200))
def test_any_text_that_looks_like_yaml_is_a_plan_or_a_fault(tmp_path: Path, text: str) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(text)
    judge(file)


@QUIET
@given(CONFIGS)
def test_any_structure_is_a_plan_or_a_fault(tmp_path: Path, config: dict[str, object]) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(config, allow_unicode=True))
    judge(file)


@QUIET
@given(st.dictionaries(st.sampled_from(names(WorkerShape)[:37]), VALUES, min_size=1, max_size=6))
def test_any_keys_of_a_worker_are_a_plan_or_a_fault(tmp_path: Path, keys: dict[str, object]) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(
        yaml.safe_dump({"workers": {"w": {"command": ["run", "{port}"], "settings": {"port": 1}, **keys}}})
    )
    judge(file)


@pytest.mark.parametrize("cut", range(0, 4000, 97))
def test_the_shipped_file_cut_anywhere_is_a_plan_or_a_fault(tmp_path: Path, cut: int) -> None:
    shipped = Path(__file__).parents[2] / "etc" / "config.yaml"
    file = tmp_path / "config.yaml"
    file.write_bytes(shipped.read_bytes()[:cut])
    judge(file)
