"""Fixtures of the tests on a real systemd: one virtual machine for all of them, clean for each.

* `machine`: a Debian 12 that answers, with nothing left of the test before; the package may be there.
* `installed`: the same with gpu-supervisor from this checkout's .deb: stopped, no worker, first config.
* `bare`: the same without the package.
* `boot`: makes a machine of the test's own, for one that needs another shape; ended with the test.

All tests in this folder are marked `system`, and have more time than the others. What the console and the
journal said last stands below a test that failed.
"""

from collections.abc import Callable, Generator, Iterator
from functools import cache
from pathlib import Path
from typing import Final, Protocol

import pytest

from support.vm import image
from support.vm.image import Image
from support.vm.machine import Machine
from support.vm.package import build_package
from support.vm.qemu import Shape
from support.vm.shared import SharedMachine

HERE: Final = Path(__file__).parent
TIMEOUT_S: Final = 600  # for a test that hangs, beyond the deadlines of what it asks of the machine
# Those of the bare machine, those of the installed product, those that install and remove it.
ORDER: Final = (
    *("machine", "units_quoting", "units_verify", "units_commands", "sensing", "logs", "limits", "emergency"),
    *(
        "drain",
        "reports",
        "kernel",
        "daemon_life",
        "admin",
        "many",
        "boot",
        "llama",
        "web",
        "package",
        "install",
    ),
)
FAULT: Final = pytest.StashKey[str]()
USED: Final = pytest.StashKey[list[Machine]]()


class Boot(Protocol):
    """Boots a machine of the test's own."""

    def __call__(
        self, memory_mib: int = ..., disks: tuple[Path, ...] = ..., kernel: str = ...
    ) -> Machine: ...


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Generator[None]:
    """Mark these tests before -m selects, and have them last once all is shuffled, in one order.

    They share a machine that is slow to change.
    """
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.system)
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(TIMEOUT_S))
    yield
    items.sort(key=_place)


def _place(item: pytest.Item) -> tuple[int, str, int]:
    if HERE not in item.path.parents:
        return 0, "", 0  # in the order in which they come
    name, line = item.path.stem.removeprefix("test_"), item.location[1] or 0
    place = ORDER.index(name) if name in ORDER else len(ORDER)
    return 1 + place, name, line


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build the image before the first test, so that no test's time limit pays for it."""
    wanted = any(item.get_closest_marker("system") for item in session.items)
    if not wanted or not session.config.getoption("--install") or session.config.option.collectonly:
        return
    if not image.missing_tools():
        try:
            image.build()
        except RuntimeError as error:
            session.config.stash[FAULT] = str(error)


@pytest.fixture(scope="session")
def vm_image(pytestconfig: pytest.Config, require: Callable[[object, str], None]) -> Image:
    """Return the image that machines boot from."""
    missing = image.missing_tools()
    require(not missing, f"a virtual machine needs {', '.join(missing)}")
    found = image.built()
    absent = "the machine's image is not built (pytest --install, or scripts/test, does it)"
    require(found, pytestconfig.stash.get(FAULT, absent))
    assert found is not None
    return found


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Path]:
    """Return what builds this checkout's .deb, the first time that it is called."""
    return cache(lambda: build_package(tmp_path_factory.mktemp("package")))


@pytest.fixture(scope="session")
def shared_machine(vm_image: Image, package: Callable[[], Path]) -> Iterator[SharedMachine]:
    """Keep one machine for all tests; it boots when the first asks, and again when one has broken it."""
    shared = SharedMachine(vm_image, package)
    yield shared
    shared.end()


def _used(machine: Machine, request: pytest.FixtureRequest) -> Machine:
    node: pytest.Item = request.node
    node.stash.setdefault(USED, []).append(machine)
    return machine


@pytest.fixture
def machine(shared_machine: SharedMachine, request: pytest.FixtureRequest) -> Machine:
    """Return a machine that answers, with nothing left of the test before."""
    return _used(shared_machine.clean(), request)


@pytest.fixture
def bare(shared_machine: SharedMachine, request: pytest.FixtureRequest) -> Machine:
    """Return a clean machine on which gpu-supervisor is not installed."""
    return _used(shared_machine.bare(), request)


@pytest.fixture
def installed(shared_machine: SharedMachine, request: pytest.FixtureRequest) -> Machine:
    """Return a machine with gpu-supervisor installed, stopped, without workers."""
    return _used(shared_machine.installed(), request)


@pytest.fixture
def boot(vm_image: Image, request: pytest.FixtureRequest) -> Iterator[Boot]:
    """Return what boots a machine of the test's own."""
    booted: list[Machine] = []

    def one(memory_mib: int = 1500, disks: tuple[Path, ...] = (), kernel: str = "") -> Machine:
        booted.append(_used(Machine(vm_image, Shape(memory_mib, disks, kernel)), request))
        return booted[-1]

    yield one
    for machine in booted:
        machine.end()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        for machine in item.stash.get(USED, list[Machine]()):
            report.sections.append(("console of the machine", machine.console()))
            report.sections.append(("journal of the machine", machine.last_words()))
    return report
