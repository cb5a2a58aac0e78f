"""The control socket: real sockets, a desk that tells a story, peers that mean no good."""

import contextlib
import os
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.daemon.control import AlreadyRunningError, ControlSocketError, Limits, ReloadResult, listen
from supervisor.model.action import Notice
from supervisor.model.alert import AlertStatus
from supervisor.model.plan import WebPlan
from support.control_desk import StoryDesk, call, everything, raw, reply, serving, worker

CONTROL = "io.gpu-supervisor.Control"
LIMITS = Limits(connections=8, message_bytes=8192, queued=10, unsent=4, idle_s=60.0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "control"


@pytest.fixture
def desk(path: Path) -> Iterator[StoryDesk]:
    with serving(path, StoryDesk(everything(worker("chat"), worker("embed"))), LIMITS) as desk:
        yield desk


def is_dropped(sock: socket.socket) -> bool:
    """Read until the daemon hangs up."""
    with contextlib.suppress(ConnectionResetError):
        while sock.recv(65536):
            pass
    return True


def answers(path: Path) -> bool:
    """Ask as the next operator would."""
    with raw(path) as sock:
        return "parameters" in call(sock, f"{CONTROL}.Status")


def test_status_is_the_document_of_the_command(path: Path, desk: StoryDesk) -> None:
    with raw(path) as sock:
        told = call(sock, f"{CONTROL}.Status")["parameters"]
    assert [each["name"] for each in told["status"]["workers"]] == ["chat", "embed"]
    assert told["status"]["host"]["memory_total_bytes"] == 68719476736
    assert desk.asked == []


def test_status_can_be_of_some_workers_only(path: Path, desk: StoryDesk) -> None:
    del desk
    with raw(path) as sock:
        told = call(sock, f"{CONTROL}.Status", workers=["embed"])["parameters"]
        assert [each["name"] for each in told["status"]["workers"]] == ["embed"]
        assert call(sock, f"{CONTROL}.Status", workers=["nobody"]) == {
            "error": f"{CONTROL}.NoSuchWorker",
            "parameters": {"worker": "nobody"},
        }


def test_a_wish_reaches_the_desk_with_who_asked(path: Path, desk: StoryDesk) -> None:
    with raw(path) as sock:
        assert (
            call(sock, f"{CONTROL}.Ask", wish="restart", workers=["chat"], now=True, reason="new model") == {}
        )
    (asked,) = desk.asked
    assert (asked.wish, asked.workers, asked.now, asked.reason) == ("restart", ("chat",), True, "new model")
    assert asked.by == f"uid {os.getuid()}, pid {os.getpid()}"


def test_a_wish_on_behalf_of_another_tells_both(path: Path, desk: StoryDesk) -> None:
    with raw(path) as sock:
        call(sock, f"{CONTROL}.Ask", wish="restart", workers=["chat"], on_behalf="127.0.0.1\nover the web")
        call(sock, f"{CONTROL}.Ask", wish="stop", workers=["chat"], reason="it is slow", on_behalf="you")
    peer = f"uid {os.getuid()}, pid {os.getpid()}"
    assert (desk.asked[0].reason, desk.asked[1].reason) == ("", "it is slow, for you")
    assert desk.asked[0].by == f"{peer}, for 127.0.0.1 over the web"
    assert desk.told[0].reason == "restart chat: no reason given, for 127.0.0.1 over the web"


def test_the_web_face_is_told_its_settings(path: Path, desk: StoryDesk) -> None:
    desk.web_plan = WebPlan("192.0.2.1", 80, "/etc/token", allow_actions=False, hosts=("gpu.example",))
    with raw(path) as sock:
        told = call(sock, f"{CONTROL}.Web")["parameters"]["web"]
    assert told == {
        "host": "192.0.2.1",
        "port": 80,
        "token_file": "/etc/token",
        "allow_actions": False,
        "hosts": ["gpu.example"],
    }


def test_readings_are_told_of_a_worker_or_of_the_machine(path: Path, desk: StoryDesk) -> None:
    del desk
    with raw(path) as sock:
        of_chat = call(sock, f"{CONTROL}.Samples", since_wall_s=0.0, worker="chat")["parameters"]["samples"]
        others = call(sock, f"{CONTROL}.Samples", since_wall_s=0.0)["parameters"]["samples"]
    assert [(one["wall_s"], one["row"]["memory_bytes"]) for one in of_chat] == [(1_763_692_627.0, 8 << 30)]
    assert [one["row"]["type"] for one in others] == ["host", "gpu"]


def test_the_course_of_everything_is_told_in_slots(path: Path, desk: StoryDesk) -> None:
    del desk
    since = time.time() - 3600
    with raw(path) as sock:
        told = call(sock, f"{CONTROL}.Courses", since_wall_s=since, slot_s=60)["parameters"]["courses"]
        refused = call(sock, f"{CONTROL}.Courses", since_wall_s=0.0, slot_s=60)
    assert [(one["kind"], one["name"], one["memory_bytes"]) for one in told] == [
        ("worker", "chat", [7 << 30, 8 << 30])
    ]
    assert refused["parameters"] == {"parameter": "slot_s"}


def test_what_was_told_is_told_again_to_who_follows(path: Path, desk: StoryDesk) -> None:
    for reason in ("one", "two"):
        desk.recent.notice(Notice("info", "worker ready", reason, "chat"), 1.0)
    with raw(path) as sock:
        news = call(sock, f"{CONTROL}.News", epoch="epoch-1", after=1)["parameters"]["news"]
        refused = call(sock, f"{CONTROL}.News", limit=0)
    assert (news["epoch"], news["last"], news["missed"]) == ("epoch-1", 2, 0)
    assert [(one["seq"], one["event"], one["reason"]) for one in news["events"]] == [
        (2, "worker ready", "two")
    ]
    assert refused["parameters"] == {"parameter": "limit"}


def test_alerts_are_told_as_documents(path: Path, desk: StoryDesk) -> None:
    desk.alerting = (
        AlertStatus("GPUHot", "warning", "firing", "GPU 0 is hot", gpu="GPU-1", since_wall_s=5.0),
    )
    with raw(path) as sock:
        (alert,) = call(sock, f"{CONTROL}.Alerts")["parameters"]["alerts"]
    assert alert == {
        "name": "GPUHot",
        "severity": "warning",
        "state": "firing",
        "summary": "GPU 0 is hot",
        "worker": None,
        "gpu": "GPU-1",
        "value": None,
        "threshold": None,
        "unit": None,
        "since_wall_s": 5.0,
        "resolved_wall_s": None,
        "runbook": None,
    }


def test_every_command_is_logged_with_the_credentials_of_its_peer(path: Path, desk: StoryDesk) -> None:
    with raw(path) as sock:
        call(sock, f"{CONTROL}.Ask", wish="stop", workers=["chat"], reason="maintenance")
        call(sock, f"{CONTROL}.Reload")
    assert [(notice.event, notice.reason) for notice in desk.told] == [
        ("control command", "stop chat: maintenance"),
        ("control command", "reload"),
    ]
    assert desk.told[0].fields == {"pid": os.getpid(), "uid": os.getuid(), "gid": os.getgid()}


def test_a_wish_for_an_unknown_worker_is_refused_whole(path: Path, desk: StoryDesk) -> None:
    with raw(path) as sock:
        answer = call(sock, f"{CONTROL}.Ask", wish="stop", workers=["chat", "nobody"])
    assert answer == {"error": f"{CONTROL}.NoSuchWorker", "parameters": {"worker": "nobody"}}
    assert desk.asked == []


@pytest.mark.parametrize(
    ("parameters", "wrong"),
    [
        ({"wish": "explode", "workers": ["chat"]}, "wish"),
        ({"wish": "stop", "workers": []}, "workers"),
        ({"wish": "stop", "workers": "chat"}, "workers"),
        ({"wish": "stop", "workers": ["chat"], "reason": "x" * 1001}, "reason"),
        ({"wish": "stop"}, "workers"),
    ],
)
def test_a_wrong_parameter_is_named(
    path: Path, desk: StoryDesk, parameters: dict[str, object], wrong: str
) -> None:
    with raw(path) as sock:
        answer = call(sock, f"{CONTROL}.Ask", **parameters)
        assert answer["error"] in {
            "org.varlink.service.InvalidParameter",
            f"{CONTROL}.Failed",
        }
        if answer["error"] == "org.varlink.service.InvalidParameter":
            assert answer["parameters"] == {"parameter": wrong}
    assert desk.asked == []
    assert answers(path)


def test_reload_tells_changes_refusals_and_warnings(path: Path, desk: StoryDesk) -> None:
    desk.reloaded = ReloadResult(("chat: memory.cap 8GiB -> 9GiB",), (), ("/etc/c.yaml:3: a lint",))
    with raw(path) as sock:
        assert call(sock, f"{CONTROL}.Reload")["parameters"] == {
            "changes": ["chat: memory.cap 8GiB -> 9GiB"],
            "refused": [],
            "warnings": ["/etc/c.yaml:3: a lint"],
        }
    assert desk.reloads == [f"uid {os.getuid()}, pid {os.getpid()}"]


def test_incidents_are_asked_for_by_worker_time_and_number(path: Path, desk: StoryDesk) -> None:
    with raw(path) as sock:
        told = call(sock, f"{CONTROL}.Incidents", worker="chat", since_wall_s=5.5, limit=7)["parameters"]
        assert [each["id"] for each in told["incidents"]] == ["chat-1"]
        assert call(sock, f"{CONTROL}.Incidents", limit=0)["error"] == "org.varlink.service.InvalidParameter"
        assert call(sock, f"{CONTROL}.Incident", ident="none") == {
            "error": f"{CONTROL}.NoSuchIncident",
            "parameters": {"ident": "none"},
        }
    assert desk.queries == [("chat", 5.5, 7)]


def test_an_error_of_the_desk_is_an_error_reply_and_the_daemon_goes_on(path: Path, desk: StoryDesk) -> None:
    desk.trouble = RuntimeError("the disk is on fire")
    with raw(path) as sock:
        assert call(sock, f"{CONTROL}.Status") == {
            "error": f"{CONTROL}.Failed",
            "parameters": {"reason": "RuntimeError: the disk is on fire"},
        }
        desk.trouble = None
        assert "parameters" in call(sock, f"{CONTROL}.Status")
    assert [notice.event for notice in desk.told] == ["control call failed"]


def test_the_interface_can_be_introspected(path: Path, desk: StoryDesk) -> None:
    del desk
    with raw(path) as sock:
        info = call(sock, "org.varlink.service.GetInfo")["parameters"]
        assert info["interfaces"] == [CONTROL, "org.varlink.service"]
        told = call(sock, "org.varlink.service.GetInterfaceDescription", interface=CONTROL)["parameters"]
    lines = [line for line in str(told["description"]).splitlines() if line.startswith(("method", "error"))]
    assert lines == [
        "method Alerts() -> (alerts: []object)",
        (
            "method Ask(wish: (start, stop, restart, reset), workers: []string, now: ?bool, reason: ?string,"
            " on_behalf: ?string) -> ()"
        ),
        "method Courses(since_wall_s: float, slot_s: int) -> (courses: []object)",
        "method Incident(ident: string) -> (incident: object)",
        "method Incidents(worker: ?string, since_wall_s: ?float, limit: ?int) -> (incidents: []object)",
        "method LogFile(worker: string) -> (path: string)",
        "method News(epoch: ?string, after: ?int, limit: ?int) -> (news: object)",
        "method Reload() -> (changes: []string, refused: []string, warnings: []string)",
        "method Samples(since_wall_s: float, worker: ?string, limit: ?int) -> (samples: []object)",
        "method Status(workers: ?[]string) -> (status: object)",
        "method Web() -> (web: object)",
        "error NoSuchWorker (worker: string)",
        "error NoSuchIncident (ident: string)",
        "error Failed (reason: string)",
        "error Busy (reason: string)",
    ]


@pytest.mark.parametrize(
    "garbage",
    [
        b"hello\0",
        b"\xff\xfe\0",
        b"[]\0",
        b"\0\0\0",
        b"[" * 8000 + b"\0",
        b'{"method": ' + b"9" * 5000 + b"}\0",
        b"x" * 100_000,
        b'{"method": "' + b"x" * 10_000 + b'"}\0',
        b"{}\0" * 5000,
    ],
    ids=["text", "not-utf8", "list", "empty", "deep", "long-number", "endless", "large", "flood"],
)
def test_garbage_ends_its_connection_and_nothing_else(path: Path, desk: StoryDesk, garbage: bytes) -> None:
    with raw(path) as sock:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            sock.sendall(garbage)
        assert is_dropped(sock)
    assert answers(path)
    assert [notice.event for notice in desk.told] == ["control connection dropped"]


@pytest.mark.parametrize("odd", [b"{}\0", b'{"method": 5}\0', b'{"method": "x"}\0', b'{"method": "a.b.C"}\0'])
def test_an_odd_call_gets_an_error_and_the_connection_goes_on(
    path: Path, desk: StoryDesk, odd: bytes
) -> None:
    del desk
    with raw(path) as sock:
        sock.sendall(odd)
        assert "error" in reply(sock)
        assert "parameters" in call(sock, f"{CONTROL}.Status")


def test_what_a_dropped_peer_asked_for_after_its_garbage_is_not_done(path: Path, desk: StoryDesk) -> None:
    wish = (
        b'{"method": "io.gpu-supervisor.Control.Ask", "parameters": {"wish": "stop", "workers": ["chat"]}}\0'
    )
    with raw(path) as sock:
        sock.sendall(b"garbage\0" + wish)
        assert is_dropped(sock)
    assert answers(path)
    assert desk.asked == []


def test_half_a_message_waits_for_its_other_half(path: Path, desk: StoryDesk) -> None:
    del desk
    with raw(path) as sock:
        sock.sendall(b'{"method": "io.gpu-super')
        assert answers(path)
        sock.sendall(b'visor.Control.Status"}\0')
        assert "parameters" in reply(sock)


def test_a_peer_that_asks_and_never_reads_is_dropped(path: Path, desk: StoryDesk) -> None:
    ask = b'{"method": "io.gpu-supervisor.Control.Status"}\0'
    with raw(path) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deadline = time.monotonic() + 20
        while not desk.told and time.monotonic() < deadline:
            shown = desk.shown
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                sock.sendall(ask)
            while desk.shown == shown and not desk.told and time.monotonic() < deadline:
                time.sleep(0.001)
        assert is_dropped(sock)
    assert answers(path)
    assert [notice.reason for notice in desk.told] == ["more than 4 answers unread"]


def test_a_hundred_sleeping_peers_do_not_lock_an_operator_out(path: Path, desk: StoryDesk) -> None:
    del desk
    with contextlib.ExitStack() as sleepers:
        for _ in range(100):
            sleepers.enter_context(raw(path))
        assert answers(path)
    assert answers(path)


def test_a_silent_peer_is_dropped_after_a_while(path: Path) -> None:
    with serving(path, StoryDesk(everything()), Limits(idle_s=0.2)), raw(path) as sock:
        assert is_dropped(sock)
        assert answers(path)


def test_a_peer_that_goes_away_in_the_middle_harms_nobody(path: Path, desk: StoryDesk) -> None:
    for _ in range(20):
        sock = raw(path)
        sock.sendall(b'{"method": "io.gpu-supervisor.Control.Incidents"}\0{"method"')
        sock.close()
    assert answers(path)
    assert desk.told == []


def test_the_socket_is_for_its_owner_and_group_whatever_the_umask(path: Path) -> None:
    before = os.umask(0)
    try:
        first = listen(path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        first.close()
        os.umask(0o777)
        second = listen(path, mode=0o600)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        second.close()
    finally:
        os.umask(before)


def test_the_socket_is_given_to_the_group_that_is_named(path: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("only root may give a file to any group")
    listening = listen(path, group="daemon")
    assert path.stat().st_gid == 1
    listening.close()


def test_a_group_that_does_not_exist_is_named(path: Path) -> None:
    with pytest.raises(ControlSocketError, match="to group 'no-such-group': there is no such group"):
        listen(path, group="no-such-group")
    assert not path.exists()


def test_a_second_daemon_is_refused_and_told_the_pid_of_the_first(path: Path) -> None:
    listening = listen(path)
    with pytest.raises(AlreadyRunningError, match=rf"^another gpu-supervisor is running, pid {os.getpid()}$"):
        listen(path)
    listening.close()
    listen(path).close()
    assert not path.exists()


def test_a_socket_that_answers_is_not_taken_even_without_its_lock(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
        other.bind(str(path))
        other.listen(1)
        with pytest.raises(AlreadyRunningError, match=rf"pid {os.getpid()}$"):
            listen(path)
    assert path.exists()


def test_what_a_killed_daemon_left_is_replaced(path: Path) -> None:
    program = (
        "import os, pathlib, signal, sys\n"
        "from supervisor.daemon.control import listen\n"
        "listening = listen(pathlib.Path(sys.argv[1]))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run([sys.executable, "-c", program, str(path)], check=False)
    assert killed.returncode == -9
    assert stat.S_ISSOCK(path.lstat().st_mode)
    with serving(path, StoryDesk(everything())):
        assert answers(path)
    assert not path.exists()


def test_a_file_that_is_no_socket_is_left_alone(path: Path) -> None:
    path.write_text("precious")
    with pytest.raises(ControlSocketError, match="there is something that is not a socket"):
        listen(path)
    assert path.read_text() == "precious"


def test_a_path_too_long_for_a_socket_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(ControlSocketError, match="a socket's path has 107 bytes at most"):
        listen(tmp_path / ("x" * 108))


def test_a_missing_directory_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(ControlSocketError, match="No such file or directory"):
        listen(tmp_path / "none" / "control")
