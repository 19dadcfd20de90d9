"""A throw-away Scrapy project whose spiders run as real ``scrapy crawl`` processes."""

from __future__ import annotations

import datetime as dt
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

from scrapy_dist.core.crawl import crawl_name
from tests.support.wait import any_starting, starting, wait_until

#: Seconds after which a worker counts as started whatever its log says.
START = 60.0

#: What switches the frontier on, for ``Project.crawl(frontier=…)``. "classic" are the
#: two lines of a scrapy-redis project, "memory" is Scrapy's own scheduler.
FRONTIERS: dict[str, dict[str, Any]] = {
    "classic": {
        "SCHEDULER": "scrapy_dist.scheduler.Scheduler",
        "DUPEFILTER_CLASS": "scrapy_dist.dupefilter.RFPDupeFilter",
    },
    "addon": {"ADDONS": {"scrapy_dist.Addon": 500}},
    "memory": {},
}

#: Settings of every crawl of the tests. Workers die soon, so that tests are fast.
SETTINGS: dict[str, Any] = {
    "BOT_NAME": "shop",
    "SPIDER_MODULES": ["shop.spiders"],
    "NEWSPIDER_MODULE": "shop.spiders",
    "LOG_LEVEL": "INFO",
    "TELNETCONSOLE_ENABLED": False,
    "ROBOTSTXT_OBEY": False,
    "DOWNLOAD_DELAY": 0,
    # 1 in the settings.py of a new project, which would slow the tests down.
    "CONCURRENT_REQUESTS_PER_DOMAIN": 16,
    # Pages wait until a test lets them go, e.g. when all workers are up.
    "DOWNLOAD_TIMEOUT": 180,
    "RETRY_ENABLED": False,
    "FRONTIER_WORKER_TTL": 3.0,
}

SETTINGS_PY = """\
import ast
import os

globals().update(ast.literal_eval(os.environ["CRAWL_SETTINGS"]))
"""

RECORD_PY = '''\
"""Spiders note here what they did; one line a call, whole even after SIGKILL."""

import json
import os


def record(spider, **facts):
    facts["worker"] = spider.settings["USER_AGENT"]
    line = json.dumps(facts, default=repr) + "\\n"
    target = os.open(spider.settings["RECORD"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(target, line.encode())
    finally:
        os.close(target)
'''

PRELUDE = """\
import asyncio
import json
import scrapy
from scrapy import FormRequest, Request, Spider
from shop.record import record

"""

_STATS = re.compile(
    r"Dumping Scrapy stats:\n(\{.*?\})\s*(?:\n\d{4}-\d\d-\d\d |\Z)", re.DOTALL
)


def package_parent() -> str:
    """The folder that makes ``import scrapy_dist`` work in the workers.

    That of the installed package, so that a wheel can be tested; else this checkout.
    """
    spec = importlib.util.find_spec("scrapy_dist")
    if spec is None or spec.origin is None:
        return str(Path(__file__).resolve().parents[2])
    return str(Path(spec.origin).parents[1])


class Worker:
    """One running ``scrapy crawl``. ``agent`` is its user agent at the site."""

    #: The name of the crawl, and whether it leaves no keys in the project's Redis.
    crawl = ""
    cleans_up = True

    def __init__(
        self, command: list[str], cwd: Path, env: dict[str, str], agent: str
    ) -> None:
        self.agent = agent
        self.log_path = cwd / f"{agent}.log"
        with self.log_path.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                cwd=cwd,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self._started_by = time.monotonic() + START
        starting.add(self.is_starting)

    def is_starting(self) -> bool:
        """Whether it is on its way up: it runs, and the spider is not open."""
        return (
            self.running()
            and "Spider opened" not in self.log()
            and time.monotonic() < self._started_by
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def running(self) -> bool:
        return self._process.poll() is None

    def wait(self, timeout: float = 120.0) -> int:
        """The exit code; fails the test when the worker is still there.

        *timeout* counts from when the processes that were started are up.
        """
        while any_starting():
            time.sleep(0.02)
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(
                f"{self.agent} still runs after {timeout} s:\n{self.tail()}"
            ) from None

    def log(self) -> str:
        """All it wrote to stdout and stderr so far."""
        return self.log_path.read_text("utf-8", "replace")

    def tail(self, lines: int = 60) -> str:
        return "\n".join(self.log().splitlines()[-lines:])

    def stats(self) -> dict[str, Any]:
        """The stats that Scrapy dumps into the log at the end."""
        found = _STATS.search(self.log())
        assert found, f"no stats in the log of {self.agent}:\n{self.tail()}"
        names = {"datetime": dt, "__builtins__": {}}
        stats: dict[str, Any] = eval(found[1], names)
        return stats

    def finish_time(self) -> float:
        """When the spider closed, as `time.time`."""
        finished: dt.datetime = self.stats()["finish_time"]
        return finished.timestamp()

    def reason(self) -> str:
        """Why it closed, e.g. ``finished``."""
        return str(self.stats().get("finish_reason"))

    def wait_for_log(self, text: str, timeout: float = 60.0) -> None:
        """Wait until *text* is in the log."""
        wait_until(lambda: text in self.log(), f"{text!r} in the log", timeout)

    def wait_open(self, timeout: float = 60.0) -> None:
        """Wait until the spider is open."""
        self.wait_for_log("Spider opened", timeout)

    def interrupt(self) -> None:
        """Ctrl-C, once: Scrapy stops in order."""
        self._process.send_signal(signal.SIGINT)

    def terminate(self) -> None:
        """SIGTERM, once: the same for Scrapy."""
        self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL: nothing of the worker runs any more."""
        self._process.kill()
        self._process.wait(10)

    def freeze(self) -> None:
        """SIGSTOP: the worker is silent until `thaw`; nobody waits for its start."""
        starting.discard(self.is_starting)
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def end(self) -> None:
        """Make sure that the process is gone."""
        if self.running():
            self._process.kill()
            self._process.wait(10)


class Project:
    """An ordinary Scrapy project in *folder*; its Redis is *redis_url*.

    Settings are those of `SETTINGS`, then of *settings*, then of each crawl.
    """

    def __init__(
        self,
        folder: Path,
        redis_url: str | None,
        settings: dict[str, Any] | None = None,
    ) -> None:
        self.folder = folder
        self.redis_url = redis_url
        self.settings = settings or {}
        self.workers: list[Worker] = []
        self._record = folder / "record.jsonl"
        self._modules = 0
        spiders = folder / "shop" / "spiders"
        spiders.mkdir(parents=True)
        (folder / "scrapy.cfg").write_text("[settings]\ndefault = shop.settings\n")
        (folder / "shop" / "__init__.py").write_text("")
        (folder / "shop" / "settings.py").write_text(SETTINGS_PY)
        (folder / "shop" / "record.py").write_text(RECORD_PY)
        (spiders / "__init__.py").write_text("")

    def module(self, name: str, source: str) -> None:
        """Add the module ``shop.NAME``, for middlewares, pipelines and so on."""
        (self.folder / "shop" / f"{name}.py").write_text(textwrap.dedent(source))

    def spider(self, source: str) -> None:
        """Add a module with spiders; what `PRELUDE` imports is there already."""
        self._modules += 1
        path = self.folder / "shop" / "spiders" / f"spiders_{self._modules}.py"
        path.write_text(PRELUDE + textwrap.dedent(source))

    def crawl(
        self,
        name: str,
        settings: dict[str, Any] | None = None,
        args: dict[str, Any] | None = None,
        frontier: str = "classic",
        python_options: tuple[str, ...] = (),
        env: dict[str, str] | None = None,
    ) -> Worker:
        """Start ``scrapy crawl NAME -a …`` and return at once."""
        agent = f"worker-{len(self.workers) + 1}"
        merged = {**SETTINGS, **FRONTIERS[frontier], "USER_AGENT": agent}
        merged["RECORD"] = str(self._record)
        if self.redis_url is not None:
            merged["REDIS_URL"] = self.redis_url
        merged |= {**self.settings, **(settings or {})}
        command = [sys.executable, *python_options, "-m", "scrapy", "crawl", name]
        for key, value in (args or {}).items():
            command += ["-a", f"{key}={value}"]
        worker = Worker(command, self.folder, self._environment(merged, env), agent)
        worker.crawl = crawl_name(name, merged.get("FRONTIER_JOB", ""))
        worker.cleans_up = (
            merged.get("REDIS_URL") == self.redis_url
            and not merged.get("SCHEDULER_PERSIST")
            and frontier != "memory"
        )
        self.workers.append(worker)
        return worker

    def crawl_many(self, count: int, name: str, **kwargs: Any) -> list[Worker]:
        """Start *count* workers of one spider at the same time."""
        return [self.crawl(name, **kwargs) for _ in range(count)]

    def _environment(
        self, settings: dict[str, Any], extra: dict[str, str] | None
    ) -> dict[str, str]:
        env = {k: v for k, v in os.environ.items() if not k.startswith("SCRAPY")}
        # Hundreds of processes import the package: only the first is to compile it.
        env.pop("PYTHONDONTWRITEBYTECODE", None)
        env["CRAWL_SETTINGS"] = repr(settings)
        env["PYTHONPATH"] = package_parent()
        return {**env, **(extra or {})}

    def records(self) -> list[dict[str, Any]]:
        """What the spiders passed to ``record(self, …)``, in order; and ``worker``."""
        if not self._record.exists():
            return []
        text = self._record.read_text()
        # A worker may be in the middle of a line.
        whole = text[: text.rfind("\n") + 1]
        return [json.loads(line) for line in whole.splitlines()]

    def recorded(self, field: str = "url") -> list[Any]:
        """One field of all `records` that have it."""
        return [record[field] for record in self.records() if field in record]

    def deaths(self) -> int:
        """How many workers others have found dead, as the logs say.

        A page may be fetched once more for each death of a worker that held it. On a
        busy machine a living one may be silent for longer than a short TTL, too.
        """
        logs = "".join(worker.log() for worker in self.workers)
        return sum(map(int, re.findall(r"(\d+) workers? (?:is|are) dead", logs)))

    def clear_records(self) -> None:
        self._record.unlink(missing_ok=True)

    def end(self) -> None:
        """Kill every worker that still runs."""
        for worker in self.workers:
            worker.end()


def wait_all(workers: list[Worker], timeout: float = 120.0) -> list[int]:
    """The exit codes of *workers*, when all have ended."""
    return [worker.wait(timeout) for worker in workers]


def assert_finished(workers: list[Worker], timeout: float = 120.0) -> None:
    """All *workers* end by themselves, with exit code 0 and reason ``finished``."""
    assert wait_all(workers, timeout) == [0] * len(workers)
    assert [worker.reason() for worker in workers] == ["finished"] * len(workers)
