"""The test machine itself: what all other system tests rely on."""

import os
import time
from pathlib import Path

import pytest

from support.vm import image
from support.vm.machine import Machine
from support.vm.qemu import Shape
from support.vm.shared import SharedMachine


def test_systemd_is_pid_1_on_cgroup_v2_with_the_memory_controller(machine: Machine) -> None:
    assert machine.ok("cat /proc/1/comm") == "systemd\n"
    assert machine.ok("stat -f -c %T /sys/fs/cgroup") == "cgroup2fs\n"
    controllers = machine.ok("cat /sys/fs/cgroup/cgroup.subtree_control").split()
    assert {"cpu", "memory", "pids"} <= set(controllers)
    assert machine.ok("cat /proc/pressure/memory").startswith("some avg10=")
    assert machine.run("systemctl is-system-running").out in (
        "running\n",
        "degraded\n",
    )  # up, whatever failed


def test_a_command_gives_its_exit_code_and_both_outputs_to_the_byte(machine: Machine) -> None:
    done = machine.run("printf '\\000\\377\\n'; echo wrong >&2; exit 7")
    assert (done.rc, done.out_bytes, done.err) == (7, b"\x00\xff\n", "wrong\n")
    assert machine.ok(["printf", "%s", "$HOME;'"]) == "$HOME;'"
    assert machine.run(["no-such-program"]).rc == 127
    assert machine.ok("cat", stdin="given") == "given"


def test_what_goes_in_comes_out_whatever_its_size(machine: Machine) -> None:
    content = os.urandom(3 << 20) + b"\n{}\n"
    machine.put("/srv/deep/er/file", content, mode=0o640)
    assert machine.get("/srv/deep/er/file") == content
    assert machine.ok("stat -c %a:%U /srv/deep/er/file") == "640:root\n"


def test_a_folder_goes_in_with_its_modes(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "tool").write_text("#!/bin/sh\necho it runs\n")
    (tmp_path / "in" / "tool").chmod(0o755)
    machine.put_tree(tmp_path, "/srv/tree")
    assert machine.ok("/srv/tree/in/tool") == "it runs\n"
    assert machine.ok("stat -c %U /srv/tree/in/tool") == "root\n"


def test_a_command_that_hangs_is_ended_with_all_that_it_started(machine: Machine) -> None:
    with pytest.raises(pytest.fail.Exception, match="took more than 1 s"):
        machine.run("setsid sleep 4321 & echo begun; sleep 4321", timeout_s=1)
    assert machine.run("pgrep -f 'sleep 432[1]'").rc == 1


def test_a_command_that_prints_without_end_is_ended(machine: Machine) -> None:
    with pytest.raises(pytest.fail.Exception, match="printed without end"):
        machine.run("cat /dev/zero")
    assert machine.ok("echo still there") == "still there\n"


def test_what_a_command_leaves_running_holds_nothing_up_and_is_gone_in_the_next_test(
    machine: Machine, shared_machine: SharedMachine
) -> None:
    machine.ok("sleep 4322 & echo begun", timeout_s=20)
    assert machine.run("pgrep -f 'sleep 432[2]'").rc == 0
    shared_machine.clean()
    machine.until("! pgrep -f 'sleep 432[2]'", "it is gone")


def test_commands_have_no_part_in_the_protection_of_the_agent(machine: Machine) -> None:
    assert machine.ok("cat /proc/self/oom_score_adj") == "0\n"
    assert "/commands/" in machine.ok("cat /proc/self/cgroup")
    agent = machine.ok("systemctl show --property=MainPID --value testagent").strip()
    assert machine.ok(f"cat /proc/{agent}/oom_score_adj") == "-1000\n"


def test_the_agent_outlives_a_machine_that_runs_out_of_memory(machine: Machine) -> None:
    before = machine.ok("systemctl show --property=MainPID --value testagent")
    hog = "import sys; kept = [bytearray(16 << 20) for _ in range(400)]"
    assert machine.run(["python3", "-c", hog], timeout_s=120).rc == -9
    assert machine.ok("systemctl show --property=MainPID --value testagent") == before
    assert any("Out of memory" in str(entry["MESSAGE"]) for entry in machine.journal("-k"))


def test_a_reboot_keeps_files_and_the_journal(machine: Machine) -> None:
    machine.put("/srv/kept", "kept")
    machine.ok("logger -t reboot-test before")
    boot_before = machine.boot
    machine.reboot()
    assert machine.boot != boot_before
    assert machine.get("/srv/kept") == b"kept"
    machine.ok("logger -t reboot-test after")
    assert [entry["MESSAGE"] for entry in machine.journal("-t", "reboot-test")] == ["before", "after"]


def test_a_hard_reboot_keeps_what_was_synced(machine: Machine) -> None:
    machine.put("/srv/synced", "synced")
    machine.ok("sync")
    machine.reboot(hard=True)
    assert machine.get("/srv/synced") == b"synced"
    assert machine.ok("systemctl is-system-running") == "running\n"


def test_swap_is_there_until_the_test_ends(machine: Machine, shared_machine: SharedMachine) -> None:
    machine.swap_on(64)
    assert len(machine.ok("cat /proc/swaps").splitlines()) == 2
    shared_machine.clean()
    assert len(machine.ok("cat /proc/swaps").splitlines()) == 1


def test_the_journal_begins_with_the_test(machine: Machine, shared_machine: SharedMachine) -> None:
    machine.ok("logger -t journal-test one")
    assert [entry["MESSAGE"] for entry in machine.journal("-t", "journal-test")] == ["one"]
    shared_machine.clean()
    assert machine.journal("-t", "journal-test") == []


def test_waiting_ends_with_what_was_seen_last(machine: Machine) -> None:
    machine.ok("(sleep 1; touch /run/there) &")
    machine.until("test -e /run/there", "the file is there", within_s=30)
    with pytest.raises(pytest.fail.Exception, match="still not so: it is so\n--- out\nnot yet"):
        machine.until("echo not yet; false", "it is so", within_s=0.5)


def test_a_machine_of_another_shape_sees_its_second_disk(vm_image: image.Image, tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "carried").write_text("in")
    image.make_disk(tmp_path / "disk.img", tmp_path / "files", 16 << 20)
    with Machine(vm_image, Shape(memory_mib=600, disks=(tmp_path / "disk.img",))) as small:
        assert small.ok("mount -o ro /dev/vdb /mnt && cat /mnt/carried") == "in"
        assert int(small.ok("sed -n 's/MemTotal: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo")) < 600 * 1024
        small.ok("echo told >/dev/console")
        assert "told" in small.console()
        small.ok("(sleep 1; systemctl poweroff) &")
        deadline_s = time.monotonic() + 60
        while small.answers():
            assert time.monotonic() < deadline_s
        with pytest.raises(pytest.fail.Exception, match="it is off"):
            small.run("true")
