"""What the benchmarks of real crawls share: Redis, the site, the distance, one run."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.benchmarks.distance import Distance
from tests.benchmarks.shop import Shop
from tests.support.project import package_parent
from tests.support.redis_server import RedisServer
from tests.support.site import Site

if TYPE_CHECKING:
    from typing_extensions import Self

WORKER = Path(__file__).with_name("crawl_worker.py")
#: Names of what is compared: Scrapy's own scheduler, ours, and the one before us.
MEMORY, OURS, THEIRS = "memory", "scrapy_dist", "scrapy_redis"
#: Ours without the setting that Scrapy's own scheduler could do with as well.
UNFROZEN = "unfrozen"
#: Ours with signed requests.
SIGNED = "signed"
_ADDON = {"ADDONS": {"scrapy_dist.Addon": 500}}
#: What switches each of them on.
SETTINGS: dict[str, dict[str, Any]] = {
    MEMORY: {},
    OURS: _ADDON,
    UNFROZEN: {**_ADDON, "FRONTIER_GC_FREEZE": False},
    SIGNED: {**_ADDON, "FRONTIER_SECRET": "of the benchmark only"},
    THEIRS: {
        "SCHEDULER": "scrapy_redis.scheduler.Scheduler",
        "DUPEFILTER_CLASS": "scrapy_redis.dupefilter.RFPDupeFilter",
    },
}
#: Variable that names a Python with scrapy-redis, if this one has none.
OTHER_PYTHON = "SCRAPY_REDIS_PYTHON"
#: Seconds that one run may take.
PATIENCE = 300.0


@dataclass
class Run:
    """One crawl of one process, see `crawl_worker.Meter.facts`.

    Seconds are those between the first request and the last page. *redis* is the work
    of Redis meanwhile, *round_trips* are those of the whole life of the process, and
    *site_cpu* is the site's share of a core.
    """

    pages: int
    seconds: float
    cpu: float
    first: float
    last: float
    closed: float
    gap: float
    gap_without_gc: float
    rss: int
    redis: dict[str, float]
    stats: dict[str, Any] = field(repr=False)
    starts: list[tuple[str, float]] = field(repr=False)
    round_trips: int = 0
    site_cpu: float = 0.0

    @property
    def rate(self) -> float:
        """Pages per second."""
        return self.pages / self.seconds

    @property
    def cpu_us(self) -> float:
        """CPU of the process per page, in microseconds."""
        return self.cpu * 1e6 / self.pages

    @property
    def redis_us(self) -> float:
        """CPU of Redis per page, in microseconds."""
        return self.redis["cpu"] * 1e6 / self.pages


class Crawl:
    """A process that crawls; `result` waits for its end."""

    def __init__(
        self, python: str, job: dict[str, Any], log: Path, env: dict[str, str]
    ) -> None:
        self._log = log
        with log.open("wb") as stderr:
            self._process = subprocess.Popen(
                [python, str(WORKER), json.dumps(job)],
                cwd=log.parent,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            )

    def wait_open(self) -> None:
        """Wait until the spider is open."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line == "open\n", self._complaint()

    def ask_to_close(self) -> None:
        """What Ctrl-C does, once."""
        self._process.send_signal(signal.SIGTERM)

    def result(self) -> Run:
        """What the process says of itself at its end."""
        out, _ = self._process.communicate(timeout=PATIENCE)
        assert self._process.returncode == 0, self._complaint()
        return Run(**json.loads(out.splitlines()[-1]))

    def end(self) -> None:
        """Make sure that the process is gone."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()

    def _complaint(self) -> str:
        return self._log.read_text("utf-8", "replace")[-5000:]


class Bench:
    """A Redis, a site, and proxies in front of Redis; all end with the ``with`` block."""

    def __init__(self) -> None:
        self._ends = contextlib.ExitStack()
        enter = self._ends.enter_context
        self.folder = Path(enter(tempfile.TemporaryDirectory()))
        self.redis = enter(RedisServer(self.folder / "redis"))
        self.shop = enter(Shop())
        self._towns: dict[int, Site] = {}
        self._distances: dict[float, Distance] = {}
        self._crawls = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *args: object) -> None:
        self._ends.close()

    def distance(self, ms: float) -> Distance:
        """The proxy that puts Redis *ms* away."""
        if ms not in self._distances:
            distance = Distance(self.redis.port, ms)
            self._distances[ms] = self._ends.enter_context(distance)
        return self._distances[ms]

    def town(self, hosts: int) -> Site:
        """The site of as many hosts, with an empty log."""
        if hosts not in self._towns:
            self._towns[hosts] = Site(hosts)
            self._ends.callback(self._towns[hosts].stop)
        self._towns[hosts].reset()
        return self._towns[hosts]

    @cached_property
    def python_of_theirs(self) -> str | None:
        """A Python that can import scrapy_redis, or None."""
        if importlib.util.find_spec(THEIRS) is not None:
            return sys.executable
        return os.environ.get(OTHER_PYTHON)

    def clear(self) -> None:
        """Empty Redis."""
        with self.redis.client() as client:
            client.flushall()
            client.config_resetstat()

    def start(
        self,
        library: str,
        path: str,
        pages: int,
        *,
        spider: str = "follow",
        ms: float = 0,
        url: str | None = None,
        tick: bool = False,
        stop: bool = False,
        starts: bool = False,
        site: str | None = None,
        settings: dict[str, Any] | None = None,
    ) -> Crawl:
        """Start a crawl of the *path* of the shop or *site*, with Redis *ms* away or at *url*.

        *pages* end the measured part, with *stop* the crawl too. *tick*: look for gaps
        of the event loop. *starts*: note each of them. *settings* of this crawl, besides those of the library.
        """
        if url is None:
            url = self.distance(ms).url if ms else self.redis.url
        job = {
            "spider": library if spider == "pushed" else spider,
            "url": (site or self.shop.url) + path,
            "pages": pages,
            "tick": tick,
            "stop": stop,
            "starts": starts,
            "redis_port": self.redis.port,
            "settings": {**SETTINGS[library], "REDIS_URL": url, **(settings or {})},
        }
        env = {k: v for k, v in os.environ.items() if not k.startswith("SCRAPY")}
        env.pop("PYTHONPATH", None)
        python: str | None = sys.executable
        if library == THEIRS:
            python = self.python_of_theirs
        else:
            env["PYTHONPATH"] = package_parent()
        assert python is not None
        self._crawls += 1
        log = self.folder / f"crawl-{self._crawls}.log"
        crawl = Crawl(python, job, log, env)
        self._ends.callback(crawl.end)
        return crawl

    def run(self, library: str, path: str, pages: int, **options: Any) -> Run:
        """Crawl to the end; Redis keeps what it holds before."""
        before = self.shop.load()
        ms = options.get("ms", 0)
        trips = self.distance(ms).round_trips if ms else 0
        run = self.start(library, path, pages, **options).result()
        assert run.pages >= pages, f"{run.pages} of {pages} pages"
        after = self.shop.load()
        run.site_cpu = (after["cpu"] - before["cpu"]) / max(run.seconds, 1e-9)
        run.round_trips = self.distance(ms).round_trips - trips if ms else 0
        report(f"{library:12}{ms:4} ms {path:16}{run.rate:8.1f} pages/s")
        return run


def report(line: str) -> None:
    """Tell whoever waits what has been done."""
    print(line, file=sys.stderr, flush=True)
