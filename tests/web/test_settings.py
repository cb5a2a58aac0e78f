"""Where the web face listens and who may use it: from the daemon, a file, flags; and what is refused."""

import os
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from support.control_desk import StoryDesk, everything, serving
from support.web_face import ROOT, WebFace, web_face

TOKEN = "0123456789abcdef-the-token"
ONE_WORD = "it must be one word of 16 to 1024 ASCII characters"
OTHERS = "others may read or change it (mode {})"
Require = Callable[[object, str], None]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "config.yaml"


def _refused(face: WebFace, *flags: str) -> tuple[int, str]:
    """Run it to its end; return its exit code and what it said."""
    done = subprocess.run(
        face.command(*flags),
        cwd=ROOT,
        env=face.environment,
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
    )
    return done.returncode, done.stderr


def _port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
        return port


def test_it_listens_where_the_daemons_configuration_says(
    tmp_path: Path, control: Path, desk: StoryDesk
) -> None:
    desk.web_plan = msgspec.structs.replace(desk.web_plan, port=_port())
    face = WebFace(tmp_path, control)
    face.listen_flags = ()
    try:
        face.start()
        assert face.port == desk.web_plan.port
        assert face.get("/api/v1/status").status == 200
    finally:
        face.end()


def test_the_command_becomes_the_program(tmp_path: Path, control: Path, desk: StoryDesk) -> None:
    assert desk is not None
    face = WebFace(tmp_path, control)
    face.words = ("-m", "supervisor", "web")
    try:
        face.start()
        assert face.get("/api/v1/status").status == 200
        assert face.process is not None
        command = Path(f"/proc/{face.process.pid}/cmdline").read_bytes().split(b"\0")
        assert b"supervisor.web" in command
    finally:
        assert face.end() == 0


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "[::]:0"])
def test_an_address_for_others_needs_a_token(
    tmp_path: Path, control: Path, desk: StoryDesk, listen: str
) -> None:
    assert desk is not None
    code, said = _refused(WebFace(tmp_path, control), "--listen", listen)

    host = listen.removesuffix(":0").strip("[]")
    assert (code, said) == (
        78,
        (
            f"gpu-supervisor: cannot listen on {host} without a token, for others could restart workers:"
            " set web.token_file\n"
        ),
    )


def test_an_address_for_others_is_served_with_one(tmp_path: Path, control: Path, desk: StoryDesk) -> None:
    file = tmp_path / "token"
    file.write_text(TOKEN)
    file.chmod(0o640)
    desk.web_plan = msgspec.structs.replace(desk.web_plan, token_file=str(file))
    with web_face(tmp_path, control, "--listen", "0.0.0.0:0") as face:
        assert face.get("/api/v1/status").status == 401
        assert face.get("/api/v1/status", Authorization=f"Bearer {TOKEN}").status == 200


@pytest.mark.parametrize(
    ("content", "mode", "why"),
    [
        (TOKEN, 0o644, OTHERS.format("0644")),
        (TOKEN, 0o660, OTHERS.format("0660")),
        ("short", 0o600, ONE_WORD),
        ("two words of text", 0o600, ONE_WORD),
        ("", 0o600, ONE_WORD),
        ("x" * 2000, 0o600, ONE_WORD),
    ],
)  # fmt: skip
def test_a_token_that_is_no_secret_is_refused(  # noqa: PLR0913, PLR0917 - a table of files
    tmp_path: Path, control: Path, desk: StoryDesk, content: str, mode: int, why: str
) -> None:
    file = tmp_path / "token"
    file.write_text(content)
    file.chmod(mode)
    desk.web_plan = msgspec.structs.replace(desk.web_plan, token_file=str(file))

    code, said = _refused(WebFace(tmp_path, control), "--listen", "127.0.0.1:0")

    assert (code, said) == (78, f"gpu-supervisor: cannot use the token in {file}: {why}\n")


def test_the_service_managers_credential_is_the_token(tmp_path: Path, control: Path, desk: StoryDesk) -> None:
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "web-token").write_text(f"{TOKEN}\n")
    desk.web_plan = msgspec.structs.replace(desk.web_plan, token_file="/nonexistent/token")
    face = WebFace(tmp_path, control)
    face.environment["CREDENTIALS_DIRECTORY"] = str(credentials)
    try:
        face.start()
        assert face.get("/api/v1/status").status == 401
        assert face.get("/api/v1/status", Authorization=f"Bearer {TOKEN}").status == 200
    finally:
        face.end()


def test_an_empty_credential_is_none(tmp_path: Path, control: Path, desk: StoryDesk) -> None:
    assert desk is not None
    (tmp_path / "web-token").write_text("")
    face = WebFace(tmp_path, control)
    face.environment["CREDENTIALS_DIRECTORY"] = str(tmp_path)
    try:
        face.start()
        assert face.get("/api/v1/status").status == 200
    finally:
        face.end()


def test_a_file_that_is_named_counts_and_its_faults_are_told(
    tmp_path: Path, control: Path, config: Path
) -> None:
    config.write_text("web: {listen: 8095, colour: red}\n")
    code, said = _refused(WebFace(tmp_path, control), "--config", str(config))
    assert code == 78
    assert said.splitlines() == [
        f"gpu-supervisor: {config}:1: web.colour: unknown key",
        f"gpu-supervisor: {config}:1: web.listen: must be HOST:PORT such as 127.0.0.1:8081",
    ]


def test_a_name_that_is_none_is_a_fault_of_the_file(tmp_path: Path, control: Path, config: Path) -> None:
    config.write_text("web: {hosts: ['gpu.example', 'http://x']}\n")
    code, said = _refused(WebFace(tmp_path, control), "--config", str(config))
    assert code == 78
    assert said == (
        f'gpu-supervisor: {config}:1: web.hosts[1]: "http://x" is no host name, such as gpu.example.org,'
        " without a port\n"
    )


@pytest.mark.slow
def test_without_a_daemon_and_without_a_file_the_defaults_count(tmp_path: Path, control: Path) -> None:
    face = WebFace(tmp_path, control)
    face.environment["CONFIGURATION_DIRECTORY"] = str(tmp_path)
    try:
        face.start()
        assert face.get("/healthz").status == 200
        assert face.get("/readyz").status == 503
    finally:
        face.end()


@pytest.mark.slow
def test_without_a_daemon_a_file_that_cannot_be_used_is_waited_for(
    tmp_path: Path, control: Path, config: Path
) -> None:
    config.write_text("web: {listen: 5}\n")
    face = WebFace(tmp_path, control)
    face.environment["CONFIGURATION_DIRECTORY"] = str(tmp_path)
    code, said = _refused(face)
    assert code == 3
    assert said.startswith("gpu-supervisor: cannot learn the settings: the daemon does not answer, and ")


def test_an_address_that_is_taken_is_told_in_one_line(tmp_path: Path, control: Path, desk: StoryDesk) -> None:
    assert desk is not None
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, said = _refused(WebFace(tmp_path, control), "--listen", f"127.0.0.1:{port}")
    assert (code, said) == (1, f"gpu-supervisor: cannot listen on 127.0.0.1:{port}: Address already in use\n")


@pytest.fixture
def public() -> Iterator[Path]:
    """Return a directory that all may enter, as /run/gpu-supervisor."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def test_roots_web_face_becomes_nobody(public: Path, require: Require) -> None:
    require(os.getuid() == 0, "only root can become somebody else")
    with serving(public / "control", StoryDesk(everything())), web_face(public, public / "control") as face:
        assert face.get("/api/v1/status").status == 200
        assert face.process is not None
        status = Path(f"/proc/{face.process.pid}/status").read_text()
        told = {line.partition(":")[0]: line.partition(":")[2].split() for line in status.splitlines()}
        assert told["Uid"] == ["65534"] * 4
        assert told["Gid"] == ["65534"] * 4
        assert told["CapEff"] == ["0000000000000000"]
