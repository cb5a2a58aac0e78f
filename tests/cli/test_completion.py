import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from support.command_line import environment, gpu_supervisor
from support.control_desk import StoryDesk


def complete(*words: str, control: Path) -> list[str]:
    ran = gpu_supervisor("complete", "--", *words, control=control)
    assert (ran.code, ran.err) == (0, "")
    return ran.out.splitlines()


def test_commands_options_choices_and_workers_are_completed(control: Path, desk: StoryDesk) -> None:
    del desk
    assert complete("re", control=control) == ["restart", "reset", "reload", "recommend", "replay"]
    assert complete("restart", "", control=control) == ["chat", "embed"]
    assert complete("restart", "chat", "em", control=control) == ["embed"]
    assert complete("restart", "--n", control=control) == ["--now", "--no-wait"]
    assert complete("restart", "--reason", "ch", control=control) == []
    assert complete("restart", "--now", "ch", control=control) == ["chat"]
    assert complete("run", "--launcher", "", control=control) == ["auto", "systemd", "direct"]
    assert complete("run", "--config", "", control=control) == []
    assert complete("completion", "", control=control) == ["bash", "fish", "zsh"]
    assert complete("dance", "", control=control) == []


def test_without_a_daemon_there_are_no_names_and_no_errors(control: Path) -> None:
    assert complete("restart", "", control=control) == []


@pytest.fixture
def command(tmp_path: Path) -> str:
    """Put a `gpu-supervisor` where a shell finds it."""
    program = tmp_path / "bin" / "gpu-supervisor"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m supervisor.cli.main "$@"\n')
    program.chmod(0o755)
    return str(program.parent)


def test_bash_completes_a_workers_name(control: Path, desk: StoryDesk, command: str) -> None:
    del desk
    script = (
        "source <(gpu-supervisor completion bash)\n"
        "COMP_WORDS=(gpu-supervisor restart em); COMP_CWORD=2\n"
        '_gpu_supervisor; printf "%s\\n" "${COMPREPLY[@]}"\n'
        "complete -p gpu-supervisor\n"
    )
    env = environment(GPU_SUPERVISOR_CONTROL=str(control))
    env["PATH"] = f"{command}:{env['PATH']}"
    ran = subprocess.run(["/bin/bash", "-c", script], env=env, capture_output=True, text=True, check=True)
    assert ran.stdout == "embed\ncomplete -F _gpu_supervisor gpu-supervisor\n"


def test_fish_completes_a_workers_name_and_files_where_a_file_is_wanted(
    control: Path, desk: StoryDesk, command: str, tmp_path: Path, require: Callable[[object, str], None]
) -> None:
    del desk
    fish = shutil.which("fish")
    require(fish, "no fish on this machine")
    (tmp_path / "embers.yaml").touch()
    script = (
        "gpu-supervisor completion fish | source\n"
        "complete -C 'gpu-supervisor restart em'\n"
        "complete -C 'gpu-supervisor check-config em'\n"
    )
    env = environment(GPU_SUPERVISOR_CONTROL=str(control), HOME=str(tmp_path))
    env["PATH"] = f"{command}:{env['PATH']}"
    ran = subprocess.run(
        [str(fish), "-c", script], env=env, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert [line.split("\t")[0] for line in ran.stdout.splitlines()] == ["embed", "embers.yaml"]


def test_zsh_completes_a_workers_name(
    control: Path, desk: StoryDesk, command: str, tmp_path: Path, require: Callable[[object, str], None]
) -> None:
    del desk
    zsh = shutil.which("zsh")
    require(zsh, "no zsh on this machine")
    script = (
        "autoload -U compinit; compinit -u -D\n"
        "source <(gpu-supervisor completion zsh)\n"
        "compadd() { print -l -- ${(P)@[-1]}; }\n"  # what zsh would be offered: it has no terminal here
        "words=(gpu-supervisor restart em); CURRENT=3\n"
        "$_comps[gpu-supervisor]\n"
    )
    env = environment(GPU_SUPERVISOR_CONTROL=str(control), HOME=str(tmp_path))
    env["PATH"] = f"{command}:{env['PATH']}"
    ran = subprocess.run([str(zsh), "-f", "-c", script], env=env, capture_output=True, text=True, check=True)
    assert ran.stdout == "embed\n"
