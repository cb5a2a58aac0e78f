"""A real chromium, driven through chromedriver by the W3C WebDriver protocol (https://www.w3.org/TR/webdriver2/).

The protocol is JSON over HTTP; what the tests use of it is little enough to be spoken by hand.
"""

import base64
import contextlib
import http.client
import json
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, Final

import pytest

WITHIN_S: Final = 20.0
ANSWER_S: Final = 40.0  # a browser that starts on a busy machine
ELEMENT: Final = "element-6066-11e4-a52e-4f735466cecf"  # the key that the protocol gives references
ARGUMENTS: Final = (
    "--headless=new",
    "--no-sandbox",  # chromium refuses its sandbox to root, and in most containers
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
)

TAB: Final = "\ue004"
ENTER: Final = "\ue007"
ESCAPE: Final = "\ue00c"

Document = dict[str, Any]
Value = Any  # whatever JSON holds


class WebDriverError(Exception):
    """The browser could not do it; the text is what it says."""


class Browser:
    """One window of one chromium."""

    def __init__(self, port: int, folder: Path) -> None:
        """Open a window through the chromedriver at `port`; the profile is kept in `folder`."""
        self._port = port
        self._path = ""
        options = {"args": [*ARGUMENTS, f"--user-data-dir={folder}"], "binary": _chromium()}
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        opened = self._ask("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        self._path = f"/session/{opened['sessionId']}"

    def _ask(self, method: str, path: str, body: object = None) -> Value:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=ANSWER_S)
        content = None if body is None else json.dumps(body)
        with contextlib.closing(connection):
            connection.request(method, self._path + path, content, {"Content-Type": "application/json"})
            response = connection.getresponse()
            value = json.loads(response.read())["value"]
        if response.status != http.client.OK:
            raise WebDriverError(f"{value['error']}: {value['message'].splitlines()[0]}")
        return value

    def open(self, url: str) -> None:
        self._ask("POST", "/url", {"url": url})

    def size(self, width: int, height: int, *, phone: bool = False) -> None:
        """Give the page itself this size in CSS pixels."""
        shape = {"width": width, "height": height, "deviceScaleFactor": 2 if phone else 1, "mobile": phone}
        self.devtools("Emulation.setDeviceMetricsOverride", **shape)

    def prefer(self, **media: str) -> None:
        """Set what the reader prefers: `color_scheme="dark"`, `reduced_motion="reduce"`."""
        features = [
            {"name": f"prefers-{key.replace('_', '-')}", "value": value} for key, value in media.items()
        ]
        self.devtools("Emulation.setEmulatedMedia", features=features)

    def devtools(self, command: str, **parameters: object) -> Value:
        """Give a command of the Chrome DevTools protocol."""
        return self._ask("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def run(self, script: str, *arguments: object) -> Value:
        """Return what a function body returns in the page; a promise is waited for."""
        return self._ask("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def find(self, selector: str) -> Document:
        found: Document = self._ask("POST", "/element", {"using": "css selector", "value": selector})
        return found

    def click(self, selector: str) -> None:
        """Click as a mouse does: refused where it is hidden or covered."""
        self._ask("POST", f"/element/{self.find(selector)[ELEMENT]}/click", {})

    def type(self, keys: str) -> None:
        """Press and let go of one key after the other, whatever has the focus."""
        steps = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self._ask("POST", "/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": steps}]})

    def text(self, selector: str) -> str:
        """Return the text of the first such element as it is seen; empty where there is none."""
        found: str = self.run("return document.querySelector(arguments[0])?.innerText ?? ''", selector)
        return found

    def shown(self, selector: str) -> bool:
        script = "return document.querySelector(arguments[0])?.checkVisibility() ?? false"
        found: bool = self.run(script, selector)
        return found

    def until(self, true: Callable[[], object], what: str, within_s: float = WITHIN_S) -> None:
        deadline_s = time.monotonic() + within_s
        while not true():
            if time.monotonic() > deadline_s:
                pytest.fail(
                    f"still not so: {what}\n{self.run('return document.body.innerText')}\n{self.log()}"
                )
            time.sleep(0.05)

    def until_text(self, selector: str, pattern: str, within_s: float = WITHIN_S) -> str:
        """Wait until the element says something that `pattern` finds; return what it says."""
        said = ""

        def says() -> bool:
            nonlocal said
            said = self.text(selector).replace("\u00a0", " ")
            return re.search(pattern, said) is not None

        self.until(says, f"{selector} says {pattern}", within_s)
        return said

    def log(self) -> list[str]:
        """Return what was written to the console since it was asked last, refusals of the CSP among it."""
        entries = self._ask("POST", "/se/log", {"type": "browser"})
        return [f"{entry['level']}: {entry['message']}" for entry in entries]

    def screenshot(self, path: Path, *, whole: bool = False) -> None:
        """Write a PNG of what is seen, or of the whole page."""
        taken = self.devtools("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(taken["data"]))

    def close(self) -> None:
        self._ask("DELETE", "")


def _chromium() -> str | None:
    return shutil.which("chromium") or shutil.which("google-chrome")


def absent() -> str:
    """Say what is not installed of a browser, or nothing."""
    if _chromium() is None:
        return "no chromium (Debian: chromium)"
    return "" if shutil.which("chromedriver") else "no chromedriver (Debian: chromium-driver)"


@contextlib.contextmanager
def browsing(folder: Path) -> Generator[Browser]:
    """Run a browser until the end of the block."""
    output = folder / "chromedriver.log"
    with output.open("wb") as log:
        driver = subprocess.Popen(["chromedriver", "--port=0"], stdout=log, stderr=log)  # noqa: S607
    try:
        browser = Browser(_port(driver, output), folder / "profile")
        try:
            yield browser
        finally:
            browser.close()
    finally:
        driver.terminate()
        driver.wait(WITHIN_S)


def _port(driver: subprocess.Popen[bytes], output: Path) -> int:
    deadline_s = time.monotonic() + WITHIN_S
    while True:
        said = output.read_text(errors="replace")
        if found := re.search(r"on port (\d+)\.\n", said):
            return int(found[1])
        if driver.poll() is not None or time.monotonic() > deadline_s:
            pytest.fail(f"chromedriver did not start:\n{said}")
        time.sleep(0.02)
