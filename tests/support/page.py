"""Fixture: a browser for the tests of one module. A module that wants it imports it by name."""

from collections.abc import Callable, Iterator

import pytest

from support.browser import Browser, absent, browsing


@pytest.fixture(scope="module")
def browser(
    tmp_path_factory: pytest.TempPathFactory, require: Callable[[object, str], None]
) -> Iterator[Browser]:
    require(not absent(), absent())
    with browsing(tmp_path_factory.mktemp("browser")) as opened:
        yield opened


def look(browser: Browser, port: int) -> None:
    """Open the dashboard as somebody does who likes it light, and wait until it shows what is."""
    browser.open("about:blank")
    browser.log()
    browser.size(1440, 1000)
    browser.prefer(color_scheme="light", reduced_motion="no-preference")
    browser.open(f"http://127.0.0.1:{port}/")
    browser.until_text("#link-word", "^live$")
    browser.until(
        lambda: browser.run("return !document.querySelector('#main').ariaBusy"), "the page shows it"
    )


def complaints(browser: Browser) -> list[str]:
    """Return the errors and warnings of the page since it was opened."""
    return [line for line in browser.log() if line.startswith(("SEVERE", "WARNING"))]
