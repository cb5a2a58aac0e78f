"""The web face as its unit runs it: a user that exists only for it, a token that it may not read itself."""

import json
from collections.abc import Iterator

import pytest

from support.vm.machine import Machine

UNIT = "gpu-supervisor-web.service"
TOKEN = "0123456789abcdef0123456789abcdef"
CONFIG = (
    "host: {critical_available: 64M, warn_available: 96M}\nworkers: {sleeper: {command: [sleep, infinity]}}\n"
)
FETCH = "import sys, urllib.request as u; r = u.Request(sys.argv[1], method=sys.argv[2]); \
[r.add_header(*each.split('=', 1)) for each in sys.argv[3:]]; print(u.urlopen(r, timeout=20).read().decode())"


@pytest.fixture
def served(installed: Machine) -> Iterator[Machine]:
    """Return a machine whose daemon runs and whose web face may be started."""
    installed.put("/etc/gpu-supervisor/config.yaml", CONFIG)
    installed.ok("systemctl start gpu-supervisor", timeout_s=120)
    yield installed
    installed.run(f"systemctl stop {UNIT}; rm -f /etc/gpu-supervisor/web-token")


def fetch(machine: Machine, path: str, method: str = "GET", *headers: str) -> str:
    where = f"http://127.0.0.1:8095{path}"
    return machine.ok(["/usr/bin/python3", "-c", FETCH, where, method, *headers])


def test_the_unit_serves_as_a_user_of_its_own_and_restarts_a_worker(served: Machine) -> None:
    served.ok(f"systemctl start {UNIT}", timeout_s=120)
    shown = served.ok(f"systemctl show --value --property=ActiveState {UNIT}").split()
    assert shown.count("active") == 1
    pid = served.ok(f"systemctl show --value --property=MainPID {UNIT}").strip()
    uids = served.ok(f"grep ^Uid: /proc/{pid}/status").split()[1:]
    assert all(61184 <= int(uid) <= 65519 for uid in uids)  # systemd's range of dynamic users

    status = json.loads(fetch(served, "/api/v1/status"))
    assert [one["name"] for one in status["workers"]] == ["sleeper"]
    assert status["web"]["daemon"] == "ok"
    assert "gpu_supervisor_up 1.0" in fetch(served, "/metrics")

    before = served.ok("systemctl show --value --property=MainPID gpu-worker-sleeper.service").strip()
    assert json.loads(fetch(served, "/api/v1/workers/sleeper/restart", "POST")) == {"taken": True}
    served.until(
        "p=$(systemctl show --value --property=MainPID gpu-worker-sleeper.service);"
        f' [ "$p" != 0 ] && [ "$p" != {before} ]',
        "the worker lives anew",
    )
    assert "web client 127.0.0.1" in served.ok("gpu-supervisor history")


def test_a_token_reaches_the_unit_that_may_not_read_it(served: Machine) -> None:
    served.put("/etc/gpu-supervisor/web-token", f"{TOKEN}\n")
    served.ok("chmod 600 /etc/gpu-supervisor/web-token")
    served.ok(f"systemctl start {UNIT}", timeout_s=120)

    refused = served.run(["/usr/bin/python3", "-c", FETCH, "http://127.0.0.1:8095/api/v1/status", "GET"])
    assert "HTTP Error 401" in refused.err
    assert "sleeper" in fetch(served, "/api/v1/status", "GET", f"Authorization=Bearer {TOKEN}")
    assert json.loads(fetch(served, "/healthz")) == {"alive": True}


def test_an_address_for_everybody_is_refused_without_a_token_and_not_tried_again(served: Machine) -> None:
    served.put("/etc/gpu-supervisor/config.yaml", CONFIG + "web: {listen: '0.0.0.0:8095'}\n")
    served.ok("gpu-supervisor reload")
    served.run(f"systemctl start {UNIT}", timeout_s=120)

    assert served.ok(f"systemctl show --value --property=ExecMainStatus {UNIT}").strip() == "78"
    assert served.run(f"systemctl is-active {UNIT}").out == "failed\n"
    assert "cannot listen on 0.0.0.0 without a token" in served.ok(f"journalctl -u {UNIT} --no-pager")
    served.ok(f"systemctl reset-failed {UNIT}")
