"""The processes of the show: the site and the workers."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import urllib.request
from typing import TYPE_CHECKING

from bookshop.site import REPORT_PATH

if TYPE_CHECKING:
    from pathlib import Path


class Site:
    """The bookshop, in a process of its own on a free port."""

    def __init__(self, categories: int, books: int) -> None:
        size = ["--categories", str(categories), "--books", str(books)]
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "bookshop.site",
                "--port",
                "0",
                "--until-eof",
                *size,
            ],
            # Closing its input ends it; so does the death of this process.
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.url = self._process.stdout.readline().strip()
        if not self.url:
            raise SystemExit("The bookshop did not start; the reason is above.")

    def visits(self) -> dict[str, list[str]]:
        """Path -> names of the workers that asked for it, in order."""
        with urllib.request.urlopen(self.url + REPORT_PATH, timeout=30) as answer:
            return json.load(answer)

    def stop(self) -> None:
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()


class Worker:
    """One ``scrapy crawl`` process."""

    def __init__(
        self,
        name: str,
        spider: str,
        *,
        arguments: dict[str, str],
        settings: dict[str, object],
        log: Path,
    ) -> None:
        self.name = name
        self.log = log
        self.killed = False
        # The site knows the workers apart by the last word of their user agent.
        settings = {"USER_AGENT": f"bookshop {name}"} | settings
        options = [f"-a{key}={value}" for key, value in arguments.items()]
        options += [f"-s{key}={value}" for key, value in settings.items()]
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "scrapy", "crawl", spider, *options],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                # Ctrl-C reaches the show alone; it asks the workers to end.
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    @property
    def failed(self) -> bool:
        return not self.killed and self._process.poll() not in (None, 0)

    def last_line(self) -> str:
        """Of the log: where a worker that failed says why."""
        lines = self.log.read_text(errors="replace").splitlines()
        return lines[-1] if lines else "(empty)"

    def state(self, pages: int) -> str:
        if self.killed:
            return "killed"
        if self.running:
            return "crawling" if pages else "starting"
        return "failed" if self.failed else "finished"

    def kill(self) -> None:
        """End at once, like a machine that loses power."""
        self.killed = True
        self._process.kill()
        self._process.wait()

    def interrupt(self) -> None:
        """Ask for a graceful end, as Ctrl-C does."""
        if self.running:
            self._process.send_signal(signal.SIGINT)

    def wait(self, seconds: float) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
