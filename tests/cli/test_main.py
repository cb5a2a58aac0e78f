import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from supervisor import __version__
from supervisor.cli.client import control_path
from supervisor.cli.main import MODULES, all_commands
from support.command_line import environment, gpu_supervisor
from support.control_desk import StoryDesk, everything, serving


def test_help_names_every_command() -> None:
    ran = gpu_supervisor("--help")
    assert ran.code == 0
    for name in MODULES:
        assert f"    {name}" in ran.out
    assert "answer a shell" not in ran.out


@pytest.mark.parametrize("name", list(MODULES))
def test_every_command_has_a_sentence_and_an_example(name: str) -> None:
    ran = gpu_supervisor(name, "--help")
    assert ran.code == 0
    assert ran.out.startswith(f"usage: gpu-supervisor {name}")
    assert "\nexample:\n  " in ran.out
    assert "gpu-supervisor" in ran.out.split("\nexample:\n  ")[1]


def test_the_table_of_modules_is_what_the_modules_hold() -> None:
    assert [command.name for command in all_commands()] == list(MODULES)


def test_version_names_the_python_as_well() -> None:
    expected = f"gpu-supervisor {__version__} (Python {platform.python_version()})\n"
    assert gpu_supervisor("version").out == expected
    assert gpu_supervisor("--version").out == f"gpu-supervisor {__version__}\n"


def test_python_m_supervisor_is_the_same_command() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "supervisor", "version"],
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.startswith(f"gpu-supervisor {__version__} ")


@pytest.mark.parametrize("words", [(), ("dance",), ("--dance",), ("status", "a", "b")])
def test_what_is_no_command_is_2(words: tuple[str, ...]) -> None:
    ran = gpu_supervisor(*words)
    assert (ran.code, ran.out) == (2, "")
    assert len(ran.err.splitlines()) == 1


def test_a_dry_run_has_no_web_face() -> None:
    ran = gpu_supervisor("run", "--web", "--dry-run")
    assert (ran.code, ran.err) == (
        2,
        "gpu-supervisor: cannot run with --web: a dry run has no control socket to ask\n",
    )


def test_status_needs_none_of_the_daemons_parts() -> None:
    program = (
        "import sys\n"
        "from supervisor.cli.main import main\n"
        "main(['status', '--socket', '/nonexistent'])\n"
        "print([name for name in ('asyncio', 'asyncvarlink', 'structlog', 'yaml', 'psutil', 'sqlite3')"
        " if name in sys.modules])\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], env=environment(), capture_output=True, text=True, check=True
    )
    assert ran.stdout == "[]\n"


def test_a_daemon_is_spared_what_it_never_uses() -> None:
    program = (
        "import sys\n"
        "from supervisor.cli.main import main\n"
        "main(['run', '--help'])\n"
        "import supervisor.daemon.wiring\n"
        "names = ['supervisor.llama.recommend', 'supervisor.llama.fit', 'typing_extensions']\n"
        "names += ['supervisor.config.condition', 'difflib', '_ssl', '_hashlib', 'rich', 'pygments']\n"
        "names += ['zlib', '_bz2', '_lzma']\n"
        "print([name for name in names if name in sys.modules])\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], env=environment(), capture_output=True, text=True, check=True
    )
    assert ran.stdout.splitlines()[-1] == "[]"


def test_the_own_daemon_comes_before_the_systems(tmp_path: Path) -> None:
    own = tmp_path / "gpu-supervisor"
    own.mkdir()
    (own / "control").touch()
    environ = {"XDG_RUNTIME_DIR": str(tmp_path), "HOME": str(tmp_path)}
    assert control_path(None, environ, 1000) == own / "control"
    assert control_path("/x", environ, 1000) == Path("/x")
    assert control_path(None, {**environ, "GPU_SUPERVISOR_CONTROL": "/y"}, 1000) == Path("/y")
    assert control_path(None, {}, 0) == Path("/run/gpu-supervisor/control")


def test_who_lacks_permission_is_told_the_group(tmp_path: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("only root may become somebody else")
    tmp_path.chmod(0o755)
    control = Path("/tmp") / f"gpu-supervisor-test-{os.getpid()}" / "control"
    control.parent.mkdir(mode=0o755)
    program = (
        "import os, sys\n"
        "from supervisor.cli.main import main\n"
        "import locale, supervisor.cli.status  # while they can still be read\n"
        "os.setgid(65534); os.setgroups([]); os.setuid(65534)\n"
        "raise SystemExit(main(['status', '--socket', sys.argv[1]]))\n"
    )
    try:
        with serving(control, StoryDesk(everything())):
            os.chown(control, 0, 1)
            ran = subprocess.run(
                [sys.executable, "-c", program, str(control)],
                env=environment(),
                capture_output=True,
                text=True,
                check=False,
            )
    finally:
        (control.parent / "control.lock").unlink(missing_ok=True)
        control.parent.rmdir()
    assert ran.returncode == 1
    assert ran.stderr == (
        f"gpu-supervisor: cannot show status: no permission for {control};"
        " be a member of group 'daemon', or use sudo\n"
    )
