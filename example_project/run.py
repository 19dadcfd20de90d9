"""Runs the whole example: a bookshop, Redis, several Scrapy workers, a summary.

python example_project/run.py                       three workers follow the links
python example_project/run.py --spider seeded       addresses are tasks in Redis
python example_project/run.py --spider datasheets   PDFs through FilesPipeline
python example_project/run.py --kill                one worker is killed half way
python example_project/run.py --rabbitmq            the addresses are tasks from RabbitMQ
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import shutil
import signal
import sys
import time
from collections import Counter, deque
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from bookshop.catalogue import CATEGORIES, Catalogue
from scrapy.utils.project import get_project_settings
from show.display import Progress, WorkerProgress, choose_display
from show.outcome import judge
from show.plan import SPIDERS, make_plan
from show.processes import Site, Worker
from show.rabbit import Rabbit

from scrapy_dist import Client
from scrapy_dist.exceptions import FrontierError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from show.display import Display, Row

PROJECT = Path(__file__).resolve().parent
#: Where the user is; paths are shown from there.
START = Path.cwd()
#: Categories, and books in each of them.
FULL_SIZE, SMALL_SIZE = (len(CATEGORIES), 40), (4, 12)
#: Seconds between two looks at the site and at Redis.
INTERVAL = 0.25
#: Seconds over which a worker's rate is taken.
RATE_WINDOW = 2.0
#: Seconds without a new page after which the show gives up.
STALL = 60.0
#: Seconds that an interrupted worker has to end by itself.
PATIENCE = 20.0
#: FRONTIER_WORKER_TTL with --kill: the default, a minute, is long to watch.
KILL_TTL = 3
#: Workers of the seeded spider end after so many seconds without a seed.
IDLE = 2
#: What the tasks of the seeded spider have in common.
BATCH = "shelves"
#: The embedded Redis ends so many seconds after its last user.
LINGER = 5


class Show:
    """One crawl from its start to its summary."""

    def __init__(self, options: argparse.Namespace, display: Display) -> None:
        size = SMALL_SIZE if options.small else FULL_SIZE
        self.kill = options.kill
        self.spider = options.spider
        self.display = display
        self.shop = Catalogue(*size)
        self.plan = make_plan(self.spider, self.shop)
        self.seeds = deque(self.plan.seeds)
        self.results = Path("results", self.spider)
        self.victim: Worker | None = None
        self.history: deque[tuple[float, Counter[str]]] = deque()
        self.started = time.monotonic()
        settings = get_project_settings()
        settings.set("FRONTIER_EMBEDDED_LINGER", LINGER, priority="cmdline")
        self.crawl = Client(None, self.spider, settings=settings)
        self.site = Site(*size)
        self.workers: list[Worker] = []
        self.rabbit: Rabbit | None = None
        self.with_rabbit = options.rabbitmq
        self.count = options.workers

    def run(self) -> bool:
        """Crawl; returns whether everything is there, and nothing twice."""
        shutil.rmtree(self.results, ignore_errors=True)
        self.results.mkdir(parents=True)
        self._forget()
        self.display.say(f"Bookshop: {len(self.shop.books)} books on {self.site.url}")
        self.display.say(f"Redis:    {self.crawl.redis}")
        if self.with_rabbit:
            linger = {"FRONTIER_EMBEDDED_LINGER": LINGER}
            self.rabbit = Rabbit(self.spider, linger, self.results / "bridge.log")
            self.display.say(f"RabbitMQ: `scrapy frontier bridge {self.spider}`")
        self._push_seeds()
        self._start_workers()
        with self.display:
            self._crawl()
        return self._summary()

    def _forget(self) -> None:
        """Delete what an interrupted show left: its site had another address."""
        self.crawl.clear(force=True)
        parts = ("failed", "items", "seeds", "history", "tasks")
        self.crawl.clear(*parts, force=True)

    def stop(self) -> None:
        """End everything that was started, gently as long as that works."""
        for worker in self.workers:
            worker.interrupt()
        with suppress(KeyboardInterrupt):
            for worker in self.workers:
                worker.wait(PATIENCE)
        for worker in self.workers:
            if worker.running:
                self.display.say(f"{worker.name} has not ended yet: killing it.")
                worker.kill()
        if self.rabbit:
            self.rabbit.stop()
        self.site.stop()
        self.crawl.close()

    def _start_workers(self) -> None:
        self.display.say(f"Workers:  {self.count} times `scrapy crawl {self.spider}`")
        settings: dict[str, object] = {"FRONTIER_EMBEDDED_LINGER": LINGER}
        if self.kill:
            settings["FRONTIER_WORKER_TTL"] = KILL_TTL
        if self.plan.seeds:
            settings["MAX_IDLE_TIME_BEFORE_CLOSE"] = IDLE
            self.display.say(
                f"          They end {IDLE} s after the last seed is done, because of"
                f" MAX_IDLE_TIME_BEFORE_CLOSE = {IDLE}."
            )
        self.started = time.monotonic()
        for name in (f"worker-{number}" for number in range(1, self.count + 1)):
            worker = Worker(
                name,
                self.spider,
                arguments={} if self.plan.seeds else {"site": self.site.url},
                settings=settings,
                log=self.results / f"{name}.log",
            )
            self.workers.append(worker)

    def _push_seeds(self) -> None:
        if not self.seeds:
            return
        urls = [self.site.url + path for path in self.seeds.popleft()]
        if self.rabbit:
            self.rabbit.publish(urls)
            self.display.say(f"Tasks:    {len(urls)}, published with pika")
            return
        self.crawl.submit_many(urls, batch=BATCH)
        command = f"scrapy frontier tasks {self.spider} --batch {BATCH}"
        self.display.say(f"Seeds:    {len(urls)}, each a task: {command}")

    def _crawl(self) -> None:
        done, changed = -1, time.monotonic()
        while any(worker.running for worker in self.workers):
            progress = self._look()
            self.display.update(progress)
            if self.rabbit:
                self.rabbit.collect()
            if progress.done > done:
                done, changed = progress.done, time.monotonic()
            elif time.monotonic() - changed > STALL:
                self.display.say(f"No new page for {STALL:.0f} s: giving up.")
                return
            if done * 2 >= progress.total:
                self._half_way()
            time.sleep(INTERVAL)
        self.display.update(self._look())

    def _half_way(self) -> None:
        self._push_seeds()
        if self.kill and not self.victim:
            self.victim = self.workers[-1]
            self.victim.kill()
            self.display.say(
                f"{self.victim.name} killed with SIGKILL. What it held goes to the"
                f" others {KILL_TTL} s later (FRONTIER_WORKER_TTL = {KILL_TTL})."
            )

    def _look(self) -> Progress:
        visits = self.site.visits()
        pages = Counter(name for names in visits.values() for name in names)
        now = time.monotonic()
        self.history.append((now, pages))
        while now - self.history[0][0] > RATE_WINDOW:
            self.history.popleft()
        then, before = self.history[0]
        status = self.crawl.status()
        workers = [
            WorkerProgress(
                name=worker.name,
                pid=worker.pid,
                state=worker.state(pages[worker.name]),
                pages=pages[worker.name],
                rate=(pages[worker.name] - before[worker.name]) / max(now - then, 1),
            )
            for worker in self.workers
        ]
        return Progress(
            seconds=now - self.started,
            done=len(self.plan.pages & visits.keys()),
            total=len(self.plan.pages),
            wanted=len(self.plan.scraped),
            workers=workers,
            pending=status.pending + status.suspect,
            leased=status.leased,
            seeds=status.seeds,
            items=status.items,
            failed=status.failed,
        )

    def _summary(self) -> bool:
        seconds = time.monotonic() - self.started
        items = list(self.crawl.items())
        with (self.results / "items.jsonl").open("w") as file:
            file.writelines(f"{json.dumps(item)}\n" for item in items)
        visits = self.site.visits()
        outcome = judge(
            self.plan,
            self.shop,
            visits,
            item_urls=[item["url"] for item in items],
            files=self.results / "files",
            victim=self.victim.name if self.victim else None,
        )
        rows = [*self._worker_rows(visits), *outcome.rows()]
        if self.victim:
            again = f"{outcome.again} pages, {outcome.items_again} items"
            rows.append(("again after the kill", again))
        if self.plan.seeds and not self.rabbit:
            batch = self.crawl.batch(BATCH)
            told = f"{batch.ended} of {batch.total} have ended, {batch.failed} failed"
            rows.append(("tasks", told))
        rate = outcome.fetched.total() / seconds
        rows.append(("elapsed", f"{seconds:.1f} s, {rate:.0f} pages/s"))
        rows += self._result_rows()
        problems = outcome.problems()
        if self.rabbit:
            if not self.rabbit.wait(PATIENCE):
                problems.append("tasks without an answer")
            rows.append(("answers", self.rabbit.summary()))
        bad = [worker for worker in self.workers if worker.failed or worker.running]
        for worker in bad:
            state = "did not end" if worker.running else "failed"
            problems.append(f"{worker.name} {state}")
        verdict = "Wrong: " + ", ".join(problems)
        if bad:
            verdict += f". The log of {bad[0].name} ends with:\n{bad[0].last_line()}"
        if not problems:
            twice = "nothing else was done" if self.victim else "nothing was done"
            verdict = f"Nothing is lost, and {twice} twice."
        self.display.summary(rows, verdict, good=not problems)
        return not problems

    def _worker_rows(self, visits: dict[str, list[str]]) -> list[Row]:
        pages = Counter(name for names in visits.values() for name in names)
        return [
            (worker.name, f"{pages[worker.name]} pages, {worker.state(1)}")
            for worker in self.workers
        ]

    def _result_rows(self) -> list[Row]:
        rows = [("items in", from_start(self.results / "items.jsonl"))]
        if self.plan.files:
            rows.append(("files in", from_start(self.results / "files")))
        return [*rows, ("logs", from_start(self.results / "worker-*.log"))]


def from_start(path: Path) -> str:
    return os.path.relpath(path, START)


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workers", type=int, default=3, help="3 if not given")
    parser.add_argument("--spider", choices=SPIDERS, help=f"{SPIDERS[0]} if not given")
    parser.add_argument("--kill", action="store_true", help="kill one worker half way")
    parser.add_argument(
        "--rabbitmq",
        action="store_true",
        help="tasks come from RabbitMQ, which is started if it is installed",
    )
    parser.add_argument("--plain", action="store_true", help="lines, no live screen")
    parser.add_argument("--small", action="store_true", help="a tenth of the shop")
    options = parser.parse_args()
    if options.rabbitmq:
        # The spider that takes addresses from elsewhere.
        if options.spider not in (None, "seeded"):
            parser.error("--rabbitmq: only the spider seeded takes tasks")
        options.spider = "seeded"
    options.spider = options.spider or SPIDERS[0]
    if options.workers < 1 + options.kill:
        parser.error("--workers: at least 1, and with --kill at least 2")
    return options


@contextmanager
def only_show() -> Iterator[None]:
    """Hold the project's lock: two shows would mix two sites in one crawl."""
    Path(".scrapy").mkdir(exist_ok=True)
    with Path(".scrapy", "show.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SystemExit("The show is already running in this folder.") from None
        yield


def main() -> int:
    options = read_options()
    display = choose_display(plain=options.plain)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    os.chdir(PROJECT)
    with only_show():
        try:
            show = Show(options, display)
        except FrontierError as e:
            raise SystemExit(str(e)) from None
        try:
            return 0 if show.run() else 1
        except KeyboardInterrupt:
            display.say("Interrupted: the workers finish what they have begun.")
            return 130
        finally:
            show.stop()


if __name__ == "__main__":
    sys.exit(main())
