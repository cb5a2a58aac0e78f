"""`scripts/install.sh` below a directory of the test's own, and the one-line errors, the help and the manual.

What a real systemd makes of it is in tests/system/test_install.py.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from scripts.print_man import pages
from supervisor.cli.main import all_commands
from support import wheelhouse

CHECKOUT = Path(__file__).resolve().parents[1]
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
DAY = "January 31, 2026"
PARTS = ("pyproject.toml", "README.md", "LICENSE", "supervisor", "requirements", "scripts", "units", "etc")

OUTSIDE = {
    "/usr/local/bin/gpu-supervisor",
    "/usr/local/lib/systemd/system/gpu-supervisor.service",
    "/usr/local/lib/systemd/system/gpu-workers.slice",
    "/usr/local/lib/systemd/system/gpusupervisor.slice",
    "/usr/local/share/bash-completion/completions/gpu-supervisor",
    "/usr/local/share/fish/vendor_completions.d/gpu-supervisor.fish",
    "/usr/local/share/gpu-supervisor/grafana/dashboard.json",
    "/usr/local/share/gpu-supervisor/prometheus/rules.yaml",
    "/usr/local/share/gpu-supervisor/prometheus/scrape.yaml",
    "/usr/local/share/man/man1/gpu-supervisor.1",
    "/usr/local/share/man/man5/gpu-supervisor.yaml.5",
    "/usr/local/share/zsh/site-functions/_gpu-supervisor",
}

Require = Callable[[object, str], None]


class Place(NamedTuple):
    """A copy of the checkout, which a test may change, and where it installs to."""

    checkout: Path
    root: Path
    wheels: Path

    def install(self, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.checkout / "scripts/install.sh", "--root", self.root, *words],
            env={**os.environ, "PYTHON": sys.executable, "PIP_FIND_LINKS": "", **more},
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )

    def installed(self) -> subprocess.CompletedProcess[str]:
        done = self.install("--wheels", str(self.wheels))
        assert done.returncode == 0, done.stderr
        return done

    def home(self) -> Path:
        return self.root / "opt/gpu-supervisor"

    def releases(self) -> list[str]:
        return sorted(path.name for path in (self.home() / "releases").iterdir() if path.is_dir())

    def change(self) -> None:
        """Make the copy another version."""
        version = self.checkout / "supervisor/__init__.py"
        version.write_text(re.sub(r'"\d.*"', '"99.0"', version.read_text()))

    def version(self) -> str:
        done = subprocess.run(
            [self.home() / "bin/gpu-supervisor", "version"],
            capture_output=True,
            text=True,
            check=True,
            timeout=20,
        )
        return done.stdout.split()[1]

    def files(self) -> set[str]:
        """Name what lies outside the prefix, directories too."""
        found = {f"/{path.relative_to(self.root)}" for path in self.root.rglob("*")}
        return {path for path in found if not path.startswith("/opt")}


@pytest.fixture(scope="session")
def wheels(pytestconfig: pytest.Config, require: Require) -> Path:
    why = "not downloaded (pytest --install, or scripts/test, does it)"
    if pytestconfig.getoption("--install"):
        try:
            return wheelhouse.download(PYTHON)
        except RuntimeError as error:
            why = str(error)
    found = wheelhouse.wheels(PYTHON)
    require(found.is_dir(), f"the pinned packages: {why}")
    return found


@pytest.fixture
def place(tmp_path: Path, wheels: Path) -> Place:
    copy = tmp_path / "checkout"
    copy.mkdir()
    for part in PARTS:
        if (CHECKOUT / part).is_dir():
            shutil.copytree(CHECKOUT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(CHECKOUT / part, copy / part)
    return Place(copy, tmp_path / "root", wheels)


@pytest.mark.slow
def test_it_lays_everything_in_its_place_and_takes_it_away_again(place: Place) -> None:
    before = {path.relative_to(place.checkout) for path in place.checkout.rglob("*")}
    place.installed()
    assert {path.relative_to(place.checkout) for path in place.checkout.rglob("*")} == before
    assert place.version() == "0.1.0"
    files = {path for path in place.files() if not (place.root / path[1:]).is_dir()}
    assert files >= OUTSIDE | {"/etc/gpu-supervisor/config.yaml"}
    link = place.root / "usr/local/bin/gpu-supervisor"
    assert link.readlink() == Path("/opt/gpu-supervisor/bin/gpu-supervisor")
    unit = (place.root / "usr/local/lib/systemd/system/gpu-supervisor.service").read_text()
    assert "\nExecStart=/opt/gpu-supervisor/bin/gpu-supervisor run" in unit
    completion = (place.root / "usr/local/share/bash-completion/completions/gpu-supervisor").read_text()
    assert "complete -F _gpu_supervisor gpu-supervisor" in completion
    listed = (place.home() / "installed").read_text().splitlines()
    assert {path for path in listed if not path.endswith("/")} == files - {"/etc/gpu-supervisor/config.yaml"}

    (place.root / "usr/local/share/man/man1/other.1").write_text("somebody else's")
    gone = place.install("--uninstall")
    assert gone.returncode == 0, gone.stderr
    assert "kept: /etc/gpu-supervisor and the group" in gone.stdout
    files = {path for path in place.files() if not (place.root / path[1:]).is_dir()}
    assert files == {"/etc/gpu-supervisor/config.yaml", "/usr/local/share/man/man1/other.1"}
    assert not place.home().exists()
    assert not (place.root / "usr/local/share/fish").exists()
    assert place.install("--uninstall", "--purge").returncode == 0
    assert not (place.root / "etc/gpu-supervisor").exists()
    assert place.install("--uninstall").stdout == "==> nothing is installed in /opt/gpu-supervisor\n"


@pytest.mark.slow
def test_a_second_time_changes_nothing_and_keeps_an_edited_configuration(place: Place) -> None:
    place.installed()
    config = place.root / "etc/gpu-supervisor/config.yaml"
    config.write_text("workers: {}\n")
    before, files, listed = place.releases(), place.files(), (place.home() / "installed").read_text()
    made = (place.home() / "current/complete").stat().st_ino
    done = place.installed()
    assert "is made already" in done.stdout
    assert "keeping /etc/gpu-supervisor/config.yaml as it is" in done.stdout
    assert config.read_text() == "workers: {}\n"
    assert (place.releases(), place.files()) == (before, files)
    assert (place.home() / "installed").read_text() == listed
    assert (place.home() / "current/complete").stat().st_ino == made


@pytest.mark.slow
def test_a_failing_update_leaves_the_old_version_working_and_a_good_one_replaces_it(place: Place) -> None:
    place.installed()
    before = place.releases()
    place.change()
    empty = place.root / "empty"
    empty.mkdir()
    failed = place.install("--wheels", str(empty))
    assert failed.returncode == 1
    last = failed.stderr.splitlines()[-1]
    assert last.startswith("install.sh: cannot install: pip install "), failed.stderr
    assert last.endswith("requirements/build.txt failed (see above)")
    assert (place.releases(), place.version()) == (before, "0.1.0")

    with subprocess.Popen(
        [place.checkout / "scripts/install.sh", "--root", place.root, "--wheels", place.wheels]
    ) as cut:
        deadline = time.monotonic() + 30
        while place.releases() == before and time.monotonic() < deadline:
            time.sleep(0.02)
        cut.send_signal(signal.SIGTERM)  # its child of the moment ends first
    assert cut.returncode == 143
    assert (place.releases(), place.version()) == (before, "0.1.0")

    stale = place.root / "usr/local/lib/systemd/system/gpu-supervisor-old.service"
    stale.write_text("[Unit]\n")
    with (place.home() / "installed").open("a") as listed:
        listed.write("/usr/local/lib/systemd/system/gpu-supervisor-old.service\n")
    place.installed()
    assert place.version() == "99.0"
    assert [name.partition("-")[0] for name in place.releases()] == ["99.0"]
    assert not stale.exists()  # of an older version, and not of this one


@pytest.mark.slow
def test_a_release_is_kept_for_as_long_as_somebody_runs_from_it(place: Place) -> None:
    place.installed()
    (old,) = place.releases()
    program = "import msgspec, sys; print(flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [place.home() / "current/bin/python", "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as running:
        assert running.stdout is not None
        running.stdout.readline()
        place.change()
        place.installed()
        assert place.version() == "99.0"
        assert old in place.releases()
    place.installed()
    assert [name.partition("-")[0] for name in place.releases()] == ["99.0"]


@pytest.mark.slow
def test_another_prefix_is_written_into_the_units(place: Place) -> None:
    done = place.install("--wheels", str(place.wheels), "--prefix=/srv/gpu/supervisor")
    assert done.returncode == 0, done.stderr
    unit = (place.root / "usr/local/lib/systemd/system/gpu-supervisor.service").read_text()
    assert "\nExecStart=/srv/gpu/supervisor/bin/gpu-supervisor run" in unit
    assert "/opt/gpu-supervisor" not in unit
    refused = place.install("--prefix", "/opt/other")
    assert refused.returncode == 1
    assert "it is installed in /srv/gpu/supervisor already" in refused.stderr
    # Where it is, it is found without being told.
    assert place.install("--uninstall").returncode == 0
    assert not (place.root / "srv/gpu/supervisor").exists()


@pytest.mark.parametrize(
    ("words", "why", "code"),
    [
        (["--prefix"], "--prefix needs a directory", 2),
        (["--prefix", "relative"], "--prefix relative is no plain absolute path", 2),
        (["--prefix", "/a b"], "--prefix /a b is no plain absolute path", 2),
        (["--prefix=/opt/../etc"], "--prefix /opt/../etc is no plain absolute path", 2),
        (["--prefix=/usr/local"], "--prefix /usr/local is no directory of its own", 2),
        (
            ["--prefix=/taken"],
            "/taken is there and was not made by install.sh; remove it, or name another with --prefix",
            1,
        ),
        (["--wheels", "/nonexistent"], "--wheels /nonexistent is no directory", 1),
        (["--purge"], "--purge goes with --uninstall", 2),
        (["--dance"], "--dance is not understood (see --help)", 2),
    ],
)
def test_what_cannot_be_done_is_one_line_and_changes_nothing(
    tmp_path: Path, words: list[str], why: str, code: int
) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken/data").touch()
    done = Place(CHECKOUT, tmp_path, tmp_path).install(*words)
    assert (done.returncode, done.stderr) == (code, f"install.sh: cannot install: {why}\n")
    assert {path.name for path in tmp_path.rglob("*") if not path.is_dir()} <= {"data", ".lock"}


def test_too_old_a_python_is_one_line(tmp_path: Path) -> None:
    old = tmp_path / "python2.7"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    done = Place(CHECKOUT, tmp_path / "root", tmp_path).install(PYTHON=str(old))
    assert (done.returncode, done.stderr) == (
        1,
        f"install.sh: cannot install: PYTHON={old} is no Python 3.11 or newer\n",
    )


def test_a_python_without_venv_names_the_package_to_install(tmp_path: Path) -> None:
    bare = tmp_path / "python3"
    bare.write_text(f'#!/bin/sh\ncase $* in *ensurepip*) exit 1 ;; esac\nexec {sys.executable} "$@"\n')
    bare.chmod(0o755)
    done = Place(CHECKOUT, tmp_path / "root", tmp_path).install(PYTHON=str(bare))
    assert done.returncode == 1
    assert done.stderr == (
        f"install.sh: cannot install: {bare} has no venv or ensurepip;"
        " install the package python3-venv (Debian, Ubuntu) or its like\n"
    )


@pytest.mark.skipif(os.getuid() != 0, reason="becoming another user needs root")
@pytest.mark.parametrize(("script", "verb"), [("install", "install"), ("restart_service", "restart")])
def test_without_root_it_is_one_line(script: str, verb: str, tmp_path: Path) -> None:
    copy = tmp_path / f"{script}.sh"  # the checkout may be closed to others
    shutil.copy(CHECKOUT / f"scripts/{script}.sh", copy)
    for directory in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        directory.chmod(0o755)
    done = subprocess.run(
        ["/bin/bash", copy],
        user=65534,
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == 1
    assert re.fullmatch(rf"{script}\.sh: cannot {verb}: it needs root[^\n]*\n", done.stderr)


@pytest.mark.parametrize("script", ["install", "restart_service"])
def test_help_tells_every_option(script: str) -> None:
    text = (CHECKOUT / f"scripts/{script}.sh").read_text()
    done = subprocess.run(
        [CHECKOUT / f"scripts/{script}.sh", "--help"], capture_output=True, text=True, timeout=20, check=True
    )
    options = set(re.findall(r"^ +(?:-h \| )?(--[a-z-]+)[ )]", text, re.MULTILINE)) - {"--help"}
    assert len(options) > 0
    assert [option for option in options if option not in done.stdout] == []


def test_the_manual_names_every_command_option_and_exit_code() -> None:
    page = pages(DAY)["gpu-supervisor.1"]
    for command in all_commands():
        assert f"\n.Ss {command.name}\n" in page
    assert ".It Fl Fl config Ar F\n" in page
    assert ".It Fl n , Fl Fl lines Ar N\n" in page
    assert ".Dl gpu\\-supervisor restart chat \\-\\-reason \\(dqnew model\\(dq\n" in page
    assert re.findall(r"^\.It Li (\d+)$", page, re.MULTILINE) == ["0", "1", "2", "3", "4", "78", "130", "141"]


def test_the_manual_names_every_key() -> None:
    page = pages(DAY)["gpu-supervisor.yaml.5"]
    rows = re.findall(r"^\| `([^`]+)` ", (CHECKOUT / "docs/config.md").read_text(), re.MULTILINE)
    assert re.findall(r"^\.It Ic (\S+)$", page, re.MULTILINE) == rows
    meaning = "MemAvailable below this: emergency, one victim at a time.\n(size, default 2GiB)\n"
    assert f".It Ic host.critical_available\n{meaning}" in page


@pytest.mark.parametrize("name", ["gpu-supervisor.1", "gpu-supervisor.yaml.5"])
@pytest.mark.parametrize(
    "linter",
    [["mandoc", "-T", "lint", "-W", "warning"], ["groff", "-mandoc", "-ww", "-z", "-Tutf8"]],
    ids=lambda each: each[0],
)
def test_the_manual_is_good_mdoc(name: str, linter: list[str], tmp_path: Path) -> None:
    if shutil.which(linter[0]) is None:
        pytest.skip(f"no {linter[0]} on this machine")
    (tmp_path / name).write_text(pages(DAY)[name])
    done = subprocess.run([*linter, tmp_path / name], capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_day_of_a_reproducible_build_is_its_own(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "scripts.print_man", tmp_path],
        cwd=CHECKOUT,
        env={**os.environ, "SOURCE_DATE_EPOCH": "1769817600"},
        timeout=20,
        check=True,
    )
    assert "\n.Dd January 31, 2026\n" in (tmp_path / "gpu-supervisor.1").read_text()
