"""Start the loopback site and ask it what was fetched; see `site_server` for pages."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import urllib.parse
import urllib.request
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.support.site_server import host

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Hit:
    """One request that reached the site.

    ``agent`` names the worker that sent it, ``time`` is `time.monotonic` of this
    machine, comparable with that of the test, ``clock`` is `time.time`. On Linux they are
    those at which the kernel had it.
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
    host: str


class Site:
    """The site in a process of its own, so that it does not slow the test down.

    *hosts*: how many addresses of loopback it has besides 127.0.0.1, see `host`.
    """

    def __init__(self, hosts: int = 0) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.site_server", str(hosts)],
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

    def waiting(self, gate: str = "") -> Counter[str]:
        """How many requests of each worker wait to be answered.

        Those at gates and at hosts on hold do not count, but those of the one named.
        """
        return Counter(self._control(f"waiting?gate={gate}"))

    def go_on(self, count: int) -> None:
        """Let *count* requests more be answered if all wait that there are."""
        if self.waiting():
            self.answer(count)

    def open_gate(self, name: str) -> None:
        """Answer the requests for /gate/NAME, those that wait and those to come."""
        self._control(f"open?gate={name}")

    def hold(self, name: str) -> None:
        """Take requests of host *name* but answer none until `let_go`."""
        self._control(f"hold?host={name}")

    def let_go(self, name: str) -> None:
        """Answer what waits at host *name*, and go on."""
        self._control(f"let_go?host={name}")

    def robots(self, name: str, text: str) -> None:
        """Let *text* be the robots.txt of host *name*, until the next reset."""
        self._control(f"robots?{urllib.parse.urlencode({'host': name, 'text': text})}")

    def most_open(self) -> dict[str, int]:
        """How many requests of each host or group were under way at once, at the most."""
        found: dict[str, int] = self._control("most_open")
        return found

    def arrivals(self, name: str) -> list[float]:
        """When requests of host *name* arrived, robots.txt too, as `time.monotonic`."""
        return arrivals_of(self.log(), name)

    def gaps(self, name: str) -> list[float]:
        """Seconds between requests of host *name*, in the order of their arrival."""
        return gaps_of(self.log(), name)

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


def arrivals_of(log: list[Hit], name: str) -> list[float]:
    """See `Site.arrivals`."""
    return sorted(hit.time for hit in log if hit.host == name)


def gaps_of(log: list[Hit], name: str) -> list[float]:
    """See `Site.gaps`."""
    return [later - time for time, later in pairwise(arrivals_of(log, name))]


def host_pages(hosts: int, pages: int) -> Counter[tuple[str, str]]:
    """Host and path of each page that /hosts/HOSTS/PAGES links to."""
    return Counter((host(n), f"/page/{i}") for n in range(hosts) for i in range(pages))


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
