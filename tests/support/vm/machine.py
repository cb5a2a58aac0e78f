"""A Debian 12 with systemd as PID 1 and cgroup v2, in a virtual machine without KVM, for tests to command.

    with Machine(image) as machine:                # boots: some 8 s
        machine.ok("systemctl start x")            # -> what it printed; fails the test unless it ended with 0
        machine.run(["printf", "$x"])              # -> Done(rc, out, err); a list is run without a shell
        machine.run("sleep 99", timeout_s=5)       # fails, and ends it and all that it started
        machine.put("/etc/x", "a: 1", mode=0o600)  # text or bytes; makes the directories above it
        machine.put_tree(Path("tests/support/workers"), "/srv/workers")
        machine.get("/var/log/x")                  # -> bytes
        machine.until("test -e /x", "x is there")  # until the command ends with 0,
        machine.until(lambda: machine.journal("-u", "x"), "x has logged")  # or the callable returns something
        machine.status()                           # -> gpu-supervisor status --json
        machine.until_phase("chat", "ready")       # -> what the status says of the worker
        machine.journal("-u", "x")                 # -> journal entries as dicts, since the test began
        machine.swap_on(512)                       # MiB, on the machine's disk; until the test ends
        machine.reboot()                           # in order; `hard=True`: as when the current fails

Commands run as root, in a cgroup of their own that belongs to no unit of what is tested; what they leave
running in the background lives on until the next test. Time in the machine is real time, but a program takes
some 10 times as long as outside: give deadlines generously, and judge by what happens, never by how fast.
"""

import io
import json
import tarfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar, overload

import pytest

from support.vm.channel import Answer, Channel, Silent
from support.vm.image import Image
from support.vm.qemu import Qemu, Shape

BOOT_S: Final = 240.0  # 11 s on a machine that does little else
PUT_BYTES: Final = 1 << 20
SHOWN_CHARACTERS: Final = 4000

Document = dict[str, Any]
Command = str | Sequence[str]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Done:
    """How a command ended in the machine; what it printed, as text and as bytes."""

    rc: int
    out_bytes: bytes
    err_bytes: bytes

    @property
    def out(self) -> str:
        """Return what was written to its standard output."""
        return self.out_bytes.decode(errors="replace")

    @property
    def err(self) -> str:
        """Return what was written to its standard error."""
        return self.err_bytes.decode(errors="replace")


class Machine:
    """One virtual machine, from its boot to its end."""

    def __init__(self, image: Image, shape: Shape | None = None) -> None:
        self.boot = ""
        self.since = ""
        self._channel: Channel | None = None
        self._qemu = Qemu(image, Shape() if shape is None else shape)
        try:
            self._boot()
        except BaseException:
            self.end()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def end(self) -> None:
        """End the machine at once; may be called again."""
        self._qemu.end()
        if self._channel is not None:
            self._channel.close()

    def answers(self) -> bool:
        """Say whether the machine is alive and its agent answers."""
        try:
            self._line().ask((), timeout_s=0, slack_s=20)
        except (Silent, OSError):
            return False
        return True

    def console(self) -> str:
        """Return the end of what was said on the console: what the kernel killed, where it hangs."""
        return self._qemu.tail()

    def last_words(self) -> str:
        """Return the end of the journal, or why it cannot be had."""
        if not self.answers():
            return "the machine does not answer"
        told = self._line().ask(
            ["journalctl", "-q", "--no-pager", "-n", "60", "-o", "short-precise"], timeout_s=20
        )
        return told.out.decode(errors="replace")

    def run(self, command: Command, *, stdin: bytes | str = b"", timeout_s: float = 60.0) -> Done:
        """Run one command to its end; fails the test when it has not ended by then, or prints without end."""
        __tracebackhide__ = True
        argv = ["sh", "-c", command] if isinstance(command, str) else list(command)
        given = stdin.encode() if isinstance(stdin, str) else stdin
        answer = self._ask(argv, given, timeout_s)
        done = Done(answer.rc, answer.out, answer.err)
        if answer.ended == "timeout":
            pytest.fail(f"{_shown(command)} took more than {timeout_s:g} s in the machine{_printed(done)}")
        if answer.ended is not None:
            pytest.fail(f"{_shown(command)} printed without end in the machine{_printed(done)}")
        return done

    def ok(self, command: Command, *, stdin: bytes | str = b"", timeout_s: float = 60.0) -> str:
        """Run one command and return what it printed; fails the test unless it ends with 0."""
        __tracebackhide__ = True
        done = self.run(command, stdin=stdin, timeout_s=timeout_s)
        if done.rc != 0:
            pytest.fail(f"{_shown(command)} ended with {done.rc} in the machine{_printed(done)}")
        return done.out

    def put(self, path: str, content: bytes | str, mode: int = 0o644) -> None:
        """Write a file in the machine whole, or not at all; makes the directories above it."""
        __tracebackhide__ = True
        given = content.encode() if isinstance(content, str) else content
        new = f"{path}.new"
        self.ok(
            ["sh", "-c", 'mkdir -p "$(dirname "$1")" && : >"$1" && chmod "$2" "$1"', "sh", new, f"{mode:o}"]
        )
        for start in range(0, len(given), PUT_BYTES):
            self.ok(["sh", "-c", 'cat >>"$1"', "sh", new], stdin=given[start : start + PUT_BYTES])
        self.ok(["mv", "-fT", new, path])

    def put_tree(self, folder: Path, at: str) -> None:
        """Copy a folder of this machine to `at`, with its modes, belonging to root."""
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as tar:
            tar.add(folder, arcname=".", filter=_of_root)
        self.put(f"{at}.tar", packed.getvalue())
        self.ok(
            ["sh", "-c", 'mkdir -p "$1" && tar -C "$1" -xf "$1.tar" && rm "$1.tar"', "sh", at], timeout_s=300
        )

    def get(self, path: str) -> bytes:
        """Return what a file of the machine holds."""
        __tracebackhide__ = True
        done = self.run(["cat", path])
        if done.rc != 0:
            pytest.fail(f"cannot read {path} in the machine: {done.err}")
        return done.out_bytes

    @overload
    def until(self, check: str, what: str, within_s: float = ...) -> Done: ...
    @overload
    def until(self, check: Callable[[], T], what: str, within_s: float = ...) -> T: ...
    def until(self, check: str | Callable[[], T], what: str, within_s: float = 120.0) -> T | Done:
        """Wait until a command ends with 0, or a callable returns something true; return that."""
        __tracebackhide__ = True
        deadline_s = time.monotonic() + within_s
        while True:
            seen = self.run(check) if isinstance(check, str) else check()
            if seen.rc == 0 if isinstance(seen, Done) else seen:
                return seen
            if time.monotonic() > deadline_s:
                last = _printed(seen) if isinstance(seen, Done) else f": {seen!r}"
                pytest.fail(f"after {within_s:g} s still not so: {what}{last}")
            time.sleep(0.2)

    def status(self) -> Document:
        """Return what the installed gpu-supervisor says of itself."""
        __tracebackhide__ = True
        document: Document = json.loads(self.ok(["gpu-supervisor", "status", "--json"]))
        return document

    def worker(self, name: str) -> Document:
        """Return what it says of one worker."""
        __tracebackhide__ = True
        found: Document = next(one for one in self.status()["workers"] if one["name"] == name)
        return found

    def until_phase(self, name: str, *phases: str, within_s: float = 120.0) -> Document:
        """Wait until a worker is in one of these phases; return what is said of it."""
        __tracebackhide__ = True

        def there() -> Document | None:
            done = self.run(["gpu-supervisor", "status", "--json"])
            found: list[Document] = json.loads(done.out)["workers"] if done.rc == 0 else []  # not up yet
            return next((one for one in found if one["name"] == name and one["phase"] in phases), None)

        seen = self.until(there, f"{name} is {' or '.join(phases)}", within_s)
        assert seen is not None
        return seen

    def journal(self, *words: str) -> list[Document]:
        """Return the journal's entries since the test began; `words` are journalctl's (-u UNIT, WORKER=chat).

        By the time, not by a cursor: with a filter beside it, journalctl 252 leaves out the first entry that
        matches after a cursor (it skips one entry for the cursor's own, which the filter has taken away).
        """
        __tracebackhide__ = True
        since = ["--since", self.since] if self.since else []
        self.ok("journalctl --sync")
        lines = self.ok(["journalctl", "-q", "--no-pager", "-a", "-o", "json", *since, *words]).splitlines()
        return [json.loads(line) for line in lines]

    def swap_on(self, mib: int) -> None:
        """Give the machine swap space, on its disk."""
        self.ok(f"fallocate -l {mib}M /swap && chmod 600 /swap && mkswap -q /swap && swapon /swap")

    def reboot(self, *, hard: bool = False) -> None:
        """Boot again, in order or (hard) in the middle of everything; what was on the disk is there."""
        command = "echo b >/proc/sysrq-trigger" if hard else "systemctl --no-block reboot"
        self._line().tell(["sh", "-c", command])
        if not self._qemu.await_off(BOOT_S):
            pytest.fail(f"the machine does not go down\n--- console\n{self.console()}")
        self._boot()

    def clean(self) -> None:
        """Make a fresh start: no swap, nothing left running, no unit failed, the journal from here on."""
        self.ok(
            "swapoff -a; rm -f /swap; systemctl reset-failed;"
            " for left in /sys/fs/cgroup/testagent.slice/testagent.service/commands/*/; do"
            '  grep -qxF $$ "$left/cgroup.procs" || { echo 1 >"$left/cgroup.kill"; rmdir "$left" || :; }'
            "; done"
        )
        self.since = self.ok("date +@%s.%6N").strip()

    def _ask(self, argv: Sequence[str], stdin: bytes, timeout_s: float) -> Answer:
        __tracebackhide__ = True
        try:
            return self._line().ask(argv, stdin, timeout_s)
        except (Silent, OSError) as error:
            state = " (it is off)" if self._qemu.await_off(1.0) else ""
            pytest.fail(f"{error}{state}, asked for {_shown(argv)}\n--- console\n{self.console()}")

    def _line(self) -> Channel:
        if self._channel is None:
            raise Silent("the machine has not been booted")
        return self._channel

    def _boot(self) -> None:
        if self._channel is not None:
            self._channel.close()
        self._qemu.start()
        self._channel = self._connect()
        try:
            self.boot = self._channel.ask((), timeout_s=0, slack_s=BOOT_S).boot
        except Silent as error:
            raise RuntimeError(
                f"the machine does not come up: {error}\n--- console\n{self.console()}"
            ) from error
        self.run(["systemctl", "is-system-running", "--wait"], timeout_s=BOOT_S)

    def _connect(self) -> Channel:
        deadline_s = time.monotonic() + 30.0
        while True:
            try:
                return Channel(self._qemu.port)
            except OSError as error:
                if not self._qemu.alive() or time.monotonic() > deadline_s:
                    raise RuntimeError(f"cannot start QEMU: {self.console() or error}") from error
                time.sleep(0.02)


def _of_root(found: tarfile.TarInfo) -> tarfile.TarInfo | None:
    if "__pycache__" in found.name:
        return None
    found.uid = found.gid = 0
    found.uname = found.gname = "root"
    return found


def _shown(command: Command) -> str:
    return f"`{command if isinstance(command, str) else ' '.join(command)}`"


def _printed(done: Done) -> str:
    texts = [
        f"--- {name}\n{text[-SHOWN_CHARACTERS:]}"
        for name, text in (("out", done.out), ("err", done.err))
        if text
    ]
    return "\n".join(["", *texts])
