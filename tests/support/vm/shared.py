"""The machine that all system tests share: booted once, clean for each, booted anew if a test broke it."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

from support.vm.image import Image
from support.vm.machine import Machine

# What a test may have left. Killed, not asked: it may be a stopped daemon, or a worker that ignores SIGTERM.
RESET: Final = """
systemctl --no-block stop gpu-supervisor.service gpu-workers.slice 'gpu-worker-*.service'
systemctl kill --signal=KILL gpu-supervisor.service 'gpu-worker-*.service'
systemctl stop gpu-supervisor.service gpu-workers.slice 'gpu-worker-*.service'
rm -rf /etc/systemd/system/gpu-* /etc/systemd/system.control/gpu-* /run/systemd/system/gpu-* \\
    /run/systemd/system.control/gpu-* /run/gpu-supervisor /var/lib/gpu-supervisor /etc/gpu-supervisor
systemctl daemon-reload
"""
FIRST_CONFIG: Final = """
mkdir -p /etc/gpu-supervisor
cp /usr/share/gpu-supervisor/config.yaml /etc/gpu-supervisor/
systemctl --quiet enable gpu-supervisor.service
"""
STATE: Final = "dpkg-query --show --showformat '${db:Status-Status} ${Version}' gpu-supervisor"


class SharedMachine:
    """Holds the machine, and the package that it builds when a test first asks for it."""

    def __init__(self, image: Image, package: Callable[[], Path]) -> None:
        self._image = image
        self._package = package
        self._machine: Machine | None = None

    def clean(self) -> Machine:
        """Return the machine with nothing left of the test before, but perhaps the package."""
        if self._machine is not None and not self._machine.answers():
            self.end()
        if self._machine is None:
            self._machine = Machine(self._image)
        self._machine.run(RESET)
        self._machine.clean()
        return self._machine

    def bare(self) -> Machine:
        """Return the clean machine without the package."""
        machine = self.clean()
        if machine.run(STATE).rc == 0:
            machine.ok("dpkg --purge gpu-supervisor", timeout_s=180)
        return machine

    def installed(self) -> Machine:
        """Return the clean machine with the package: stopped, enabled, with its first configuration."""
        machine, package = self.clean(), self._package()
        version = package.name.split("_")[1]
        if (state := machine.run(STATE).out) != f"installed {version}":
            if not state.startswith("installed "):  # a test has left it half done
                self.bare()
            machine.put(f"/var/tmp/{package.name}", package.read_bytes())
            machine.ok(f"dpkg --install /var/tmp/{package.name}", timeout_s=180)
        machine.ok(FIRST_CONFIG)
        return machine

    def end(self) -> None:
        """End the machine, if there is one."""
        if self._machine is not None:
            self._machine.end()
            self._machine = None
