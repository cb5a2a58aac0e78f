"""Which files are laid over a unit; tests/system/test_units_verify.py shows that systemd sees the same."""

from pathlib import Path

from supervisor.systemd.drop_ins import find_drop_ins

UNIT = "gpu-worker-chat-1.service"


def lay(root: Path, *paths: str) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text("[Service]\nNice=1\n")


def found(root: Path, unit: str = UNIT) -> list[str]:
    return [str(path.relative_to(root)) for path in find_drop_ins(unit, root)]


def test_a_unit_without_drop_ins_has_none(tmp_path: Path) -> None:
    assert found(tmp_path) == []


def test_drop_ins_are_read_by_the_names_of_their_files(tmp_path: Path) -> None:
    lay(
        tmp_path,
        f"usr/lib/systemd/system/{UNIT}.d/20.conf",
        f"etc/systemd/system/{UNIT}.d/30.conf",
        f"run/systemd/system/{UNIT}.d/10.conf",
    )
    assert [path.rpartition("/")[2] for path in found(tmp_path)] == ["10.conf", "20.conf", "30.conf"]


def test_of_two_of_one_name_the_admin_s_counts(tmp_path: Path) -> None:
    lay(tmp_path, f"usr/lib/systemd/system/{UNIT}.d/a.conf", f"etc/systemd/system/{UNIT}.d/a.conf")
    assert found(tmp_path) == [f"etc/systemd/system/{UNIT}.d/a.conf"]


def test_drop_ins_of_all_workers_and_of_all_services_count(tmp_path: Path) -> None:
    lay(
        tmp_path,
        "etc/systemd/system/gpu-worker-.service.d/a.conf",
        "etc/systemd/system/gpu-worker-chat-.service.d/b.conf",
        "etc/systemd/system/gpu-.service.d/c.conf",
        "etc/systemd/system/service.d/d.conf",
        "etc/systemd/system/gpu-worker-other.service.d/e.conf",
        "etc/systemd/system/gpu-worker-.slice.d/f.conf",
    )
    assert [path.rpartition("/")[2] for path in found(tmp_path)] == ["a.conf", "b.conf", "c.conf", "d.conf"]


def test_other_files_are_no_drop_ins(tmp_path: Path) -> None:
    at = f"etc/systemd/system/{UNIT}.d"
    lay(tmp_path, f"{at}/a.conf~", f"{at}/.b.conf", f"{at}/c.txt", f"{at}/d.conf/e")
    assert found(tmp_path) == []
