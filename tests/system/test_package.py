"""The Debian package: installed, upgraded, removed and purged as dpkg does it, on a real systemd."""

import hashlib
from pathlib import Path
from typing import Final

import pytest

from support.vm.machine import Done, Machine
from support.vm.package import build_package

CONFIG: Final = "/etc/gpu-supervisor/config.yaml"
WITH_A_WORKER: Final = """
# edited by a user
host: {warn_available: 64M, critical_available: 32M}
workers:
  sleeper: {command: sleep 4323, stop_timeout: 5s}
"""
WITH_A_SERVER: Final = (
    WITH_A_WORKER
    + """
  server:
    command: [/usr/bin/python3, -m, http.server, "8099", --bind, 127.0.0.1, --directory, /srv]
    ready: {tcp: "127.0.0.1:8099"}
"""
)
# Asks again and again for as long as the file is there.
CLIENT: Final = """\
while [ -e /run/asking ]; do
    exec 3<>/dev/tcp/127.0.0.1/8099 && printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3 || exit
    IFS= read -r line <&3
    echo "$line"
    exec 3>&-
    sleep 0.05
done
"""
# What dpkg and the journal write about every package, and what other programs keep up to date.
LISTED: Final = (
    "find / -xdev -not -path '/var/lib/dpkg/*' -not -path '/var/log/*' -not -path '/var/cache/*'"
    " -not -path '/var/tmp/*' | sort"
)


@pytest.fixture(scope="module")
def newer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a package of the same checkout with a higher version."""
    return build_package(tmp_path_factory.mktemp("newer"), revision="2")


def dpkg_install(machine: Machine, package: Path) -> Done:
    machine.put(f"/var/tmp/{package.name}", package.read_bytes())
    return machine.run(["dpkg", "--install", f"/var/tmp/{package.name}"], timeout_s=240)


def upgraded(machine: Machine, package: Path) -> Done:
    done = dpkg_install(machine, package)
    assert done.rc == 0, done.err
    assert machine.ok("dpkg-query --show --showformat '${Version}' gpu-supervisor").endswith("-2")
    return done


def daemon_pid(machine: Machine) -> int:
    return int(machine.ok("systemctl show --property=MainPID --value gpu-supervisor.service"))


def test_it_is_enabled_but_not_started_before_its_first_edit(installed: Machine) -> None:
    assert installed.run("systemctl is-enabled gpu-supervisor").out == "enabled\n"
    assert installed.run("systemctl is-active gpu-supervisor").out == "inactive\n"
    assert installed.ok("gpu-supervisor --version").startswith("gpu-supervisor ")
    assert "good, 0 workers" in installed.ok("gpu-supervisor check-config 2>&1")
    assert installed.ok("getent group gpu-supervisor").startswith("gpu-supervisor:x:")
    assert installed.ok("man --where gpu-supervisor").strip().endswith("/man1/gpu-supervisor.1.gz")
    assert installed.ok("stat -c %U:%a /etc/gpu-supervisor/config.yaml") == "root:644\n"


def test_it_runs_on_the_python_of_the_distribution(installed: Machine) -> None:
    assert installed.ok("readlink -f /opt/gpu-supervisor/bin/python3").startswith("/usr/bin/python3.")
    found = installed.ok("/opt/gpu-supervisor/bin/python3 -c 'import supervisor; print(supervisor.__file__)'")
    assert found.startswith("/opt/gpu-supervisor/lib/python3.")
    assert installed.run("/usr/bin/python3 -c 'import supervisor'").rc == 1


def test_it_starts_and_answers(installed: Machine) -> None:
    installed.ok("systemctl start gpu-supervisor", timeout_s=120)
    assert installed.status()["workers"] == []
    assert installed.run("systemctl is-active gpu-supervisor").out == "active\n"


def test_what_a_user_has_written_survives_upgrade_removal_and_reinstallation(
    installed: Machine, newer: Path
) -> None:
    installed.put(CONFIG, WITH_A_WORKER)
    installed.put("/var/lib/gpu-supervisor/kept", "kept")
    upgraded(installed, newer)
    assert installed.get(CONFIG).decode() == WITH_A_WORKER

    installed.ok("dpkg --remove gpu-supervisor", timeout_s=180)
    assert installed.run("test -e /opt/gpu-supervisor -o -e /usr/bin/gpu-supervisor").rc == 1
    assert installed.get(CONFIG).decode() == WITH_A_WORKER

    upgraded(installed, newer)
    assert installed.get(CONFIG).decode() == WITH_A_WORKER
    assert installed.get("/var/lib/gpu-supervisor/kept") == b"kept"


def test_an_upgrade_under_load_brings_the_new_daemon_and_restarts_no_worker(
    installed: Machine, newer: Path
) -> None:
    installed.put(CONFIG, WITH_A_SERVER)
    installed.put("/srv/client", CLIENT)
    installed.ok("rm -rf /run/asking /run/answers && systemctl start gpu-supervisor", timeout_s=120)
    before = {name: installed.until_phase(name, "ready")["pid"] for name in ("sleeper", "server")}
    daemon_before = daemon_pid(installed)
    installed.ok("touch /run/asking; bash /srv/client >/run/answers 2>&1 &")
    upgraded(installed, newer)
    assert daemon_pid(installed) not in (0, daemon_before)
    for name, pid in before.items():
        worker = installed.until_phase(name, "ready")
        assert (worker["pid"], worker["restarts"]) == (pid, 0)
    installed.ok("rm /run/asking; sleep 1")
    answers = installed.ok("cat /run/answers").splitlines()
    assert len(answers) > 10
    assert set(answers) == {"HTTP/1.0 200 OK"}


def test_an_upgrade_leaves_the_old_daemon_where_the_new_one_refuses_the_config(
    installed: Machine, newer: Path
) -> None:
    installed.put(CONFIG, WITH_A_WORKER)
    installed.ok("systemctl start gpu-supervisor", timeout_s=120)
    daemon_before = daemon_pid(installed)
    installed.put(CONFIG, "no_such_key: 1\n")
    done = upgraded(installed, newer)
    assert "the old version runs on" in done.err
    assert daemon_pid(installed) == daemon_before
    assert installed.get(CONFIG) == b"no_such_key: 1\n"


def test_an_upgrade_leaves_a_service_that_was_disabled_and_stopped_so(
    installed: Machine, newer: Path
) -> None:
    installed.ok("systemctl disable gpu-supervisor")
    upgraded(installed, newer)
    assert installed.run("systemctl is-enabled gpu-supervisor").out == "disabled\n"
    assert installed.run("systemctl is-active gpu-supervisor").out == "inactive\n"


def test_removal_stops_the_daemon_and_its_workers(installed: Machine) -> None:
    installed.put(CONFIG, WITH_A_WORKER)
    installed.ok("systemctl start gpu-supervisor", timeout_s=120)
    installed.until_phase("sleeper", "ready")
    installed.ok("dpkg --remove gpu-supervisor", timeout_s=240)
    assert installed.run("pgrep -f 'sleep 432[3]'").rc == 1
    assert installed.run("pgrep -f gpu-superviso[r]").rc == 1
    assert installed.ok("systemctl list-units --plain --no-legend 'gpu-*'") == ""


def test_purge_leaves_nothing(bare: Machine, newer: Path) -> None:
    before = bare.ok(LISTED).splitlines()
    assert dpkg_install(bare, newer).rc == 0
    bare.put(CONFIG, WITH_A_WORKER)
    bare.ok("systemctl start gpu-supervisor", timeout_s=120)
    bare.until_phase("sleeper", "ready")
    bare.ok("dpkg --purge gpu-supervisor", timeout_s=240)
    # dpkg takes /opt away with the last that was in it, whoever made it.
    assert sorted(set(bare.ok(LISTED).splitlines()) ^ set(before)) in ([], ["/opt"])
    assert bare.run("getent group gpu-supervisor").rc == 2
    assert bare.run("ls -d /run/gpu-supervisor /run/systemd/system/gpu-*").out == ""
    assert bare.ok("systemctl --failed --plain --no-legend") == ""


def test_it_does_not_go_over_what_install_sh_has_laid_out(bare: Machine, newer: Path) -> None:
    bare.put("/opt/gpu-supervisor/installed", "")
    done = dpkg_install(bare, newer)
    bare.ok("rm -r /opt/gpu-supervisor")
    assert done.rc == 1
    assert "scripts/install.sh has installed it" in done.err
    assert bare.run("test -e /usr/bin/gpu-supervisor").rc == 1


@pytest.mark.usefixtures("vm_image")  # where there is a machine to install it, there is what builds it
def test_two_builds_are_the_same_to_the_byte(tmp_path: Path) -> None:
    one, other = build_package(tmp_path / "one"), build_package(tmp_path / "other")
    assert hashlib.sha256(one.read_bytes()).digest() == hashlib.sha256(other.read_bytes()).digest()
