"""The daemon's service reads the kernel's log, as hardened as it is."""

import json
from typing import Any

from support.vm.machine import Machine
from support.vm.supervised import SLEEP, configure, lines, lived, start

BUS = "0000:01:00"
XID = f"NVRM: Xid (PCI:{BUS}): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus."


def say(machine: Machine, line: str) -> None:
    """Write a line into the kernel's log, as root may; without its end it is shown only with the next one."""
    machine.put("/run/line", f"<3>{line}\n")
    machine.ok("cat /run/line >/dev/kmsg; rm /run/line")


def xids(machine: Machine) -> list[dict[str, Any]]:
    """Return the incidents of the GPU that there is not."""
    listed = json.loads(machine.ok(["gpu-supervisor", "history", "--json"]))["incidents"]
    return [one for one in listed if one["gpu"] == BUS]


def test_an_xid_in_the_kernels_log_is_in_the_history_and_changes_nothing_for_workers(
    installed: Machine,
) -> None:
    installed.ok("echo 1 >/proc/sys/kernel/dmesg_restrict")
    configure(installed, {"chat": SLEEP})
    start(installed, "chat")
    before = lived(installed)
    say(installed, XID)
    (told,) = installed.until(lambda: xids(installed), "the Xid is in the history")
    assert (told["cause"], told["worker"]) == ("gpu-fault", None)
    assert told["reason"] == "Xid 79 (fallen off the bus): GPU has fallen off the bus."
    assert told["outcome"] == "nothing is quarantined: no GPU is known at that address"
    told_by_it = lines(installed, "-u", "gpu-supervisor")
    assert [line for line in told_by_it if line.startswith("no kernel log")] == []
    assert lived(installed) == before

    installed.ok("systemctl restart gpu-supervisor", timeout_s=180)
    installed.until("gpu-supervisor status", "it answers")
    assert lived(installed) == before
