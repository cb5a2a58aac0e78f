"""Drain commands on a real systemd: they run as the worker does, are asked in time, and leave nothing."""

import json
from typing import Final

from support.vm.machine import Machine

PYTHON: Final = "/opt/gpu-supervisor/bin/python"
CONFIG: Final = "/etc/gpu-supervisor/config.yaml"
SECRETS: Final = "/home/polite.env"  # where the daemon may only read
IDLE: Final = "/tmp/polite-is-idle"
UNTIL_TERM: Final = """[sh, -c, 'trap "echo signalled; exit 0" TERM; while :; do sleep 0.2; done']"""
WORKERS: Final = f"""
poll_interval: 500ms
host: {{warn_available: 64M, critical_available: 32M}}
workers:
  polite:
    user: daemon
    directory: /srv
    environment: {{SAID: 'a  $HOME %n "'}}
    environment_file: {SECRETS}
    command: {UNTIL_TERM}
    drain:
      command:
        - sh
        - -c
        - |
          echo "$(id -un) in $(pwd) of $GPU_SUPERVISOR_WORKER with $SAID and $SECRET [$NOTIFY_SOCKET]"
          test -e {IDLE}
      timeout: 5min
  hung:
    command: {UNTIL_TERM}
    drain: {{command: [sh, -c, 'trap "" TERM; echo waits; sleep 4441 & sleep 4442'], timeout: 4s}}
  patient:
    command: {UNTIL_TERM}
    drain: {{command: sleep 4443, timeout: 5min}}
"""
# Some commands as the daemon runs them, each with the answer that it has.
ANSWERS: Final = """
import asyncio, json, subprocess
from supervisor.act.systemd_link import SystemdLink
from supervisor.act.unit_command import UnitCommands
from supervisor.act.unit_jobs import UnitJobs
from supervisor.model.action import Launch
from supervisor.model.plan import WorkerPlan
from supervisor.systemd.bus import JobEnded
from supervisor.systemd.units import UnitPlaces

async def main():
    jobs = UnitJobs()
    hear = lambda heard: jobs.ended(heard) if isinstance(heard, JobEnded) else None

    async def back():
        pass

    link = SystemdLink(hear, jobs.lost, back)
    await link.open()
    commands = UnitCommands(link, jobs, UnitPlaces())

    async def runs(command):
        while subprocess.run(["pgrep", "-f", f"{command}$"], stdout=subprocess.DEVNULL).returncode != 0:
            await asyncio.sleep(0.1)

    async def ask(*command, timeout_s=60.0, **plan):
        order = Launch("chat", "run-1", WorkerPlan("chat", "chat", ("true",), **plan), {}, None, "test")
        return await commands.run(order, command, timeout_s)

    print(json.dumps([
        await ask("true"),
        await ask("sh", "-c", "exit 3"),
        await ask("sh", "-c", "kill -SEGV $$"),
        await ask("no-such-program"),
        await ask("true", directory="/no/such/place"),
        await ask("true", user="nobody-has-this-name"),
        await ask("true", environment_file="/no/such/file"),
        await ask("sleep", "4444", timeout_s=1.0),
    ]))
    given_up = asyncio.create_task(ask("sleep", "4445"))
    await runs("sleep 4445")
    given_up.cancel()
    print(json.dumps(await ask("true")))  # in its turn, after the end of the other
    abandoned = asyncio.create_task(ask("sleep", "4446"))
    await runs("sleep 4446")
    await commands.end_strays()
    print(json.dumps(await abandoned))
    cut_off = asyncio.create_task(ask("sleep", "4447"))
    await runs("sleep 4447")
    link.systemd.close()
    print(json.dumps(await cut_off))
    while not link.up:
        await asyncio.sleep(0.1)
    print(json.dumps(await ask("true")))  # and the one that was left is ended
    link.close()

asyncio.run(main())
"""


def no_drain_units(machine: Machine) -> bool:
    listed = machine.ok("systemctl list-units --all --no-legend 'gpu-drain-*'; ls /run/systemd/transient")
    return "gpu-drain" not in listed and machine.run("pgrep -f 'sleep 444[0-9]'").rc == 1


def printed(machine: Machine, name: str) -> list[str]:
    machine.ok("journalctl --sync")
    return machine.ok(f"gpu-supervisor logs {name}").splitlines()


def stop_and_see_it_asked(machine: Machine, name: str) -> str:
    """Stop a worker; return the invocation of its drain command once that runs."""
    machine.ok(f"gpu-supervisor stop --no-wait {name}")
    return until_asked(machine, name)


def until_asked(machine: Machine, name: str, but: str = "") -> str:
    """Wait until a drain command runs, another than `but`; return its invocation."""

    def asked() -> str:
        unit = f"gpu-drain-{name}.service"
        words = f"systemctl show --value --property=ActiveState --property=InvocationID {unit}"
        state, *rest = machine.ok(words).split()
        return rest[0] if state == "activating" and rest != [but] else ""

    return machine.until(asked, f"{name} is asked")


def test_a_command_is_answered_for_and_leaves_nothing(installed: Machine) -> None:
    told = installed.ok([PYTHON, "-c", ANSWERS]).splitlines()
    answered, after, ended, cut_off, again = map(json.loads, told)
    assert answered == [
        [True, "it exited with 0"],
        [False, "it exited with 3"],
        [False, "it was ended by SIGSEGV"],
        [
            False,
            "cannot run no-such-program: there is no such program, or it cannot be executed (status 203)",
        ],
        [False, "cannot run true: its directory cannot be entered (status 200)"],
        [False, "cannot run true: there is no such user (status 217)"],
        [False, "cannot run true: systemd says resources"],
        [False, "it did not end within 1 s"],
    ]
    assert after == [True, "it exited with 0"]
    assert ended == [False, "it was ended by SIGKILL"]
    assert cut_off == [False, "cannot run sleep: it was closed"]
    assert again == [True, "it exited with 0"]
    installed.until(lambda: no_drain_units(installed), "nothing is left")


def test_a_worker_is_asked_by_its_drain_command_before_it_is_stopped(installed: Machine) -> None:
    installed.put(SECRETS, "SECRET=s3cret\n", mode=0o600)
    installed.put(CONFIG, WORKERS)
    installed.ok(f"rm -f {IDLE}; systemctl start gpu-supervisor", timeout_s=120)
    for name in ("polite", "hung", "patient"):
        installed.until_phase(name, "ready")

    # Busy: asked again and again, as its user, in its environment; not signalled.
    installed.ok("gpu-supervisor stop --no-wait polite")
    installed.until(lambda: len(printed(installed, "polite")) > 1, "it is asked a second time")
    busy = 'daemon in /srv of polite with a  $HOME %n " and s3cret []'
    assert set(printed(installed, "polite")) == {busy}
    assert installed.worker("polite")["phase"] == "draining"
    entry = installed.journal("_SYSTEMD_UNIT=gpu-drain-polite.service")[0]
    assert (entry["_SYSTEMD_SLICE"], entry["WORKER"]) == ("gpu-workers.slice", "polite")
    assert entry["SYSLOG_IDENTIFIER"] == "gpu-drain-polite"

    # Idle: it is stopped.
    installed.put(IDLE, "")
    installed.until_phase("polite", "stopped")
    assert printed(installed, "polite")[-2:] == [busy, "signalled"]
    assert installed.journal("UNIT=gpu-drain-polite.service") == []  # that it began and ended, nobody asked

    # A command that hangs is ended with its children, and the worker is stopped all the same.
    installed.ok("gpu-supervisor stop hung")
    assert installed.worker("hung")["phase"] == "stopped"
    assert printed(installed, "hung") == ["waits", "signalled"]
    installed.until(lambda: no_drain_units(installed), "nothing is left of the one that hung")

    # A daemon that is killed meanwhile: the next one asks anew. What nobody waits for any longer is killed.
    first = stop_and_see_it_asked(installed, "patient")
    installed.ok("systemctl kill --signal=KILL --kill-whom=main gpu-supervisor")
    second = until_asked(installed, "patient", first)
    assert installed.ok("pgrep -fxc 'sleep 4443'") == "1\n"
    installed.ok("gpu-supervisor stop --now patient")
    assert second != first
    installed.until(lambda: no_drain_units(installed), "nothing is left")

    # A daemon that ends takes its commands along.
    installed.ok("gpu-supervisor start patient")
    stop_and_see_it_asked(installed, "patient")
    installed.ok("systemctl stop gpu-supervisor", timeout_s=120)
    installed.until(lambda: no_drain_units(installed), "nothing is left of a daemon that ended")
    assert installed.ok("systemctl list-units --failed --no-legend") == ""
    installed.ok(f"rm {SECRETS} {IDLE}")
