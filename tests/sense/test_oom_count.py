"""How often the kernel has killed for want of memory."""

from pathlib import Path

from supervisor.model.reading import Missing
from supervisor.sense.oom_count import oom_kills


def test_the_count_is_that_of_vmstat(tmp_path: Path) -> None:
    (tmp_path / "vmstat").write_text("pgpgin 5\noom_kill 12\nnuma_hit 3\n", encoding="utf-8")
    assert oom_kills(tmp_path) == 12


def test_where_it_is_not_counted_it_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "vmstat"
    assert oom_kills(tmp_path) == Missing(f"cannot read {path}: No such file or directory")
    path.write_text("pgpgin 5\noom_kill many\n", encoding="utf-8")
    assert oom_kills(tmp_path) == Missing(f"cannot read {path}: it does not count OOM kills")


def test_the_real_one_counts() -> None:
    assert isinstance(oom_kills(), int)
