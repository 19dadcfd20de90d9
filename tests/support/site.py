"""Start the loopback site and ask it what was fetched; see `site_server` for pages."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import urllib.request
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Hit:
    """One request that reached the site.

    ``agent`` names the worker that sent it, ``time`` is `time.monotonic` of this
    machine, comparable with that of the test, ``clock`` is `time.time`.
    """

    method: str
    path: str
    query: str
    cookies: str
    agent: str
    body: str
    time: float
    clock: float
    port: int
    status: int


class Site:
    """The site in a process of its own, so that it does not slow the test down."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.site_server"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())
        self.host = f"127.0.0.1:{self.port}"
        self.url = f"http://{self.host}"

    def stop(self) -> None:
        self._process.kill()
        self._process.communicate()

    def reset(self) -> None:
        """Forget all requests."""
        self._control("reset")

    def delay(self, delay_ms: float) -> None:
        """Answer every page this late, until the next reset."""
        self._control(f"delay?ms={delay_ms}")

    def pause(self) -> None:
        """Take requests but answer none until `resume`."""
        self.answer(0)

    def answer(self, count: float) -> None:
        """Answer *count* more requests, and none behind them until `resume`.

        So a crawl is under way for as long as a test likes, on any machine. Gates have
        their own time.
        """
        self._control(f"answer?count={count}")

    def resume(self) -> None:
        """Answer what waits, and go on."""
        self.answer(math.inf)

    def waiting(self) -> Counter[str]:
        """How many requests of each worker wait to be answered; those at gates do not count."""
        return Counter(self._control("waiting"))

    def go_on(self, count: int) -> None:
        """Let *count* requests more be answered if all wait that there are."""
        if self.waiting():
            self.answer(count)

    def open_gate(self, name: str) -> None:
        """Answer the requests for /gate/NAME, those that wait and those to come."""
        self._control(f"open?gate={name}")

    def log(self) -> list[Hit]:
        """All requests in the order of their arrival."""
        return [Hit(**record) for record in self._control("records")]

    def paths(self) -> list[str]:
        """All paths in the order of their arrival, repeated ones too."""
        return [hit.path for hit in self.log()]

    def hits(self) -> Counter[str]:
        """How often each path was asked for, with any method and query."""
        return Counter(self.paths())

    def hits_by_worker(self) -> Counter[str]:
        """How many requests each worker sent, by its user agent."""
        return Counter(hit.agent for hit in self.log())

    def first(self, path: str) -> Hit:
        """The first request for *path*."""
        return next(hit for hit in self.log() if hit.path == path)

    def _control(self, command: str) -> Any:
        with urllib.request.urlopen(f"{self.url}/_control/{command}") as reply:
            return json.load(reply)


def tree_pages(size: int, fan: int) -> Counter[str]:
    """What `Site.hits` is after one complete crawl of the tree."""
    return Counter(f"/tree/{size}/{fan}/{n}" for n in range(size))


def graph_pages(size: int, links: int) -> Counter[str]:
    """What `Site.hits` is after one complete crawl of the graph.

    All pages can be reached from page 0 as long as *links* is at least 1.
    """
    return Counter(f"/graph/{size}/{links}/{n}" for n in range(size))


def chain_pages(size: int) -> Counter[str]:
    """What `Site.hits` is after one complete crawl of the chain."""
    return Counter(f"/chain/{size}/{n}" for n in range(size))
