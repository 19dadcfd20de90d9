"""Debian's Chromium, and ``scrapy frontier web`` as a process of its own."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.project import SETTINGS, package_parent
from tests.support.wait import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-extensions",
    "--force-color-profile=srgb",
    "--window-size=1100,900",
)


class Address(str):
    """Where a page is, and the *pid* of the process that serves it."""

    __slots__ = ("pid",)

    pid: int


@contextmanager
def web(
    folder: Path, redis_url: str, *args: str, port: str = "0", **environ: str
) -> Iterator[Address]:
    """``scrapy frontier web ARGS`` in *folder*, at *port* or any that is free: its address.

    It ends in order, and has told nothing on stderr but what its options lead to.
    """
    env = {k: v for k, v in os.environ.items() if not k.startswith("SCRAPY")}
    env["CRAWL_SETTINGS"] = repr({**SETTINGS, "REDIS_URL": redis_url})
    env["PYTHONPATH"] = package_parent()
    process = subprocess.Popen(
        [sys.executable, "-m", "scrapy", "frontier", "web", "--port", port, *args],
        cwd=folder,
        env={**env, **environ},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"at (http://\S+)/; Ctrl-C ends", line)
        assert found, (line, process.communicate(timeout=100))
        address = Address(found[1])
        address.pid = process.pid
        yield address
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=100)
        assert (process.returncode, out, err) == (0, "", "")
    finally:
        process.kill()
        process.communicate()


@contextmanager
def chromium(folder: Path) -> Iterator[Any]:
    """A driver of Chromium without a window; skips the test where there is none."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium")
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    program = shutil.which("chromium") or shutil.which("chromium-browser")
    driver = shutil.which("chromedriver")
    if program is None or driver is None:
        pytest.skip("needs Debian's chromium and chromium-driver")
    options = Options()
    options.binary_location = program
    for each in (*_OPTIONS, f"--user-data-dir={folder / 'chromium'}"):
        options.add_argument(each)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options=options, service=Service(driver))
    try:
        browser.set_page_load_timeout(120)
        yield browser
    finally:
        browser.quit()


class Page:
    """What a person sees and does in the window of *browser*, at *address*."""

    def __init__(self, browser: Any, address: str) -> None:
        self.browser = browser
        self.address = address

    def open(self, path: str) -> str:
        """Load the page; its heading."""
        self.browser.get(f"{self.address}{path}")
        return self.text("h1")

    def text(self, css: str) -> str:
        """What *css* shows, '' if it is not there."""
        return self.browser.execute_script(
            "const e = document.querySelector(arguments[0]);"
            " return e && e.checkVisibility() ? e.innerText : ''",
            css,
        )

    def sees(self, css: str, wanted: str) -> None:
        """Wait until *css* shows *wanted*, on the page as it is: nothing is loaded."""
        wait_until(
            lambda: wanted in self.text(css), f"{wanted!r} at {css}", interval=0.1
        )

    def press(self, css: str) -> None:
        """Press the button at *css* by the keyboard, and wait for the page behind it.

        A part of the page may be drawn anew meanwhile; what has the focus keeps it.
        """
        from selenium.webdriver.common.keys import Keys

        here = self.run("return document.documentElement")
        self.run("document.querySelector(arguments[0]).focus()", css)
        self.browser.switch_to.active_element.send_keys(Keys.ENTER)
        wait_until(lambda: self._is_gone(here), f"the page behind {css}", interval=0.1)
        wait_until(
            lambda: self.run("return document.readyState") == "complete", "the page"
        )

    def _is_gone(self, element: Any) -> bool:
        from selenium.common.exceptions import StaleElementReferenceException

        try:
            return not element.is_enabled()
        except StaleElementReferenceException:
            return True

    def type(self, css: str, text: str) -> None:
        field = self.browser.find_element("css selector", css)
        field.send_keys(text)

    def run(self, script: str, *args: Any) -> Any:
        return self.browser.execute_script(script, *args)

    def complaints(self) -> list[str]:
        """What the browser has complained of since the last time, of scripts and such."""
        return [entry["message"] for entry in self.browser.get_log("browser")]
