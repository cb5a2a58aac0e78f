# ruff: noqa: S607, T201 - a benchmark runs what is in PATH, and prints
"""gpu-supervisor and its peers, each at its defaults, set up to keep the same workers alive."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from bench.figures import Births, children, pid_of, runs, until

ROOT: Final = Path(__file__).parents[2]
SLOWEST_S: Final = 60.0
JUST_BORN_S: Final = 0.3  # after this a worker that was being started has noted its birth


def _kill(pids: Sequence[int]) -> None:
    for pid in pids:
        if runs(pid):
            os.kill(pid, signal.SIGKILL)


class Peer:
    """One supervisor with one set of workers, in a folder of its own."""

    name = ""
    pause_s = 0.1  # how long a worker must have lived for its end to be handled as usual

    def __init__(self, folder: Path, tools: Path) -> None:
        self.folder = folder
        self.tools = tools
        self.births = Births(folder / "births")
        self.process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True)

    def available(self) -> bool:
        return True

    def start(self, command: Sequence[str], count: int) -> None:
        """Start it with `count` workers of one command, and return when the last of them was born."""
        raise NotImplementedError

    def daemons(self) -> list[int]:
        """Return its own processes, workers excepted."""
        assert self.process is not None
        return [self.process.pid]

    def stop(self) -> None:
        """End it and all workers as an operator would, and return when all of them are gone."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(SLOWEST_S)
        self.until_gone()

    def until_gone(self) -> None:
        until(lambda: not self.births.living(), f"no worker of {self.name} is left", SLOWEST_S)

    def until_born(self, count: int) -> None:
        until(lambda: self._born(count), f"{count} workers of {self.name}", SLOWEST_S)

    def _born(self, count: int) -> bool:
        if self.process is not None and self.process.poll() is not None:
            output = (self.folder / "output").read_text(encoding="utf-8", errors="replace")
            raise ChildProcessError(f"{self.name} ended:\n{output[-2000:]}")
        return self.births.count() >= count

    def close(self) -> None:
        """End whatever is left, by force: first what would start another worker, then the workers."""
        own = self.daemons() if self.started() else []
        _kill(own)
        if self.process is not None:
            self.process.wait()
        if own:
            time.sleep(JUST_BORN_S)
        _kill(self.births.living())

    def started(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def _spawn(self, *command: str, environment: Mapping[str, str] | None = None) -> None:
        with (self.folder / "output").open("ab") as output:
            self.process = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**os.environ, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )


class Ours(Peer):
    name = "gpu-supervisor"
    extra = ""  # more of its configuration: of the machine, or of every worker ("defaults")
    defaults: Mapping[str, object] = {}

    def start(self, command: Sequence[str], count: int) -> None:
        defaults = {"restart": {"first": "0s", "starts": 1000}, **self.defaults}
        plan = {
            "defaults": defaults,
            "workers": {f"worker-{at}": {"command": list(command)} for at in range(count)},
        }
        lines = [f"{key}: {json.dumps(value)}" for key, value in plan.items()]
        (self.folder / "config.yaml").write_text("\n".join([*lines, self.extra]), encoding="utf-8")
        environment = {"RUNTIME_DIRECTORY": f"{self.folder}/run", "STATE_DIRECTORY": f"{self.folder}/state"}
        config = str(self.folder / "config.yaml")
        self._spawn(sys.executable, "-m", "supervisor", "run", "--config", config, environment=environment)
        self.until_born(count)


class Supervisord(Peer):
    name = "supervisord"
    pause_s = 1.2

    def available(self) -> bool:
        return (self.tools / "bin" / "supervisord").exists()

    def start(self, command: Sequence[str], count: int) -> None:
        config = self.folder / "supervisord.conf"
        config.write_text(
            f"[supervisord]\nnodaemon=true\nlogfile={self.folder}/log\npidfile={self.folder}/pid\n"
            f"minfds=8192\n[program:worker]\ncommand={' '.join(command)}\nnumprocs={count}\n"
            f"process_name=worker-%(process_num)d\nautorestart=true\n",
            encoding="utf-8",
        )
        self._spawn(str(self.tools / "bin" / "supervisord"), "-c", str(config))
        self.until_born(count)


class Circus(Peer):
    name = "circus"
    delay = ""

    def available(self) -> bool:
        return (self.tools / "bin" / "circusd").exists()

    def start(self, command: Sequence[str], count: int) -> None:
        config = self.folder / "circus.ini"
        ends = "\n".join(f"{end} = ipc://{self.folder}/{end}" for end in ("endpoint", "pubsub_endpoint"))
        config.write_text(
            f"[circus]\n{ends}\n{self.delay}\n[watcher:worker]\ncmd = {' '.join(command)}\n"
            f"numprocesses = {count}\n",
            encoding="utf-8",
        )
        self._spawn(str(self.tools / "bin" / "circusd"), str(config))
        self.until_born(count)


class QuickCircus(Circus):
    name = "circus, check_delay 0.5"
    delay = "check_delay = 0.5"


class Pm2(Peer):
    name = "PM2"
    pause_s = 0.3
    memory: str | None = None

    def _pm2(self, *words: str) -> None:
        found = shutil.which("pm2") or str(self.tools / "node_modules" / ".bin" / "pm2")
        subprocess.run(
            [found, *words],
            env={**os.environ, "PM2_HOME": str(self.folder / "home")},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=True,
            timeout=SLOWEST_S,
        )

    def available(self) -> bool:
        local = self.tools / "node_modules" / ".bin" / "pm2"
        return shutil.which("node") is not None and (shutil.which("pm2") is not None or local.exists())

    def start(self, command: Sequence[str], count: int) -> None:
        app: dict[str, object] = {
            "name": "worker",
            "script": command[0],
            "args": list(command[1:]),
            "interpreter": "none",
        }
        app |= {"exec_mode": "fork", "instances": count, "max_restarts": 1000}
        app |= {} if self.memory is None else {"max_memory_restart": self.memory}
        config = self.folder / "ecosystem.json"
        config.write_text(json.dumps({"apps": [app]}), encoding="utf-8")
        self._pm2("start", str(config))
        self.until_born(count)

    def daemons(self) -> list[int]:
        return [pid_of(self.folder / "home" / "pm2.pid")]

    def stop(self) -> None:
        self._pm2("kill")
        self.until_gone()

    def started(self) -> bool:
        return (self.folder / "home" / "pm2.pid").exists()


class Runit(Peer):
    name = "runit"
    pause_s = 1.2  # one that lived for less than a second is started again after a second

    def available(self) -> bool:
        return shutil.which("runsvdir") is not None

    def start(self, command: Sequence[str], count: int) -> None:
        for at in range(count):
            service = self.folder / "services" / f"worker-{at}"
            service.mkdir(parents=True)
            (service / "run").write_text(f"#!/bin/sh\nexec {' '.join(command)}\n", encoding="utf-8")
            (service / "run").chmod(0o755)
        self._spawn("runsvdir", str(self.folder / "services"))
        self.until_born(count)

    def daemons(self) -> list[int]:
        assert self.process is not None
        return [self.process.pid, *children(self.process.pid)]

    def stop(self) -> None:
        assert self.process is not None
        each = children(self.process.pid)
        self.process.send_signal(signal.SIGHUP)  # runsvdir ends every runsv, and they their services
        self.process.wait(SLOWEST_S)
        until(lambda: not any(runs(pid) for pid in each), "no runsv is left", SLOWEST_S)
        self.until_gone()


OTHERS: Final[Sequence[Callable[[Path, Path], Peer]]] = (Supervisord, Circus, QuickCircus, Pm2, Runit)


def install(tools: Path) -> None:
    """Install supervisord and circus from PyPI and PM2 from npm; runit is a package of the system."""
    if not (tools / "bin" / "circusd").exists():
        subprocess.run([sys.executable, "-m", "venv", str(tools)], check=True)
        pip = [str(tools / "bin" / "python"), "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
        subprocess.run([*pip, "setuptools<81", "supervisor==4.3.0", "circus==0.19.0"], check=True)
    if shutil.which("npm") and not (tools / "node_modules").exists():
        subprocess.run(["npm", "install", "--silent", "--prefix", str(tools), "pm2@7.0.4"], check=True)
    if shutil.which("runsvdir") is None:
        print("runit is not installed and is left out (Debian: apt-get install runit)", file=sys.stderr)
