"""Kill, freeze and cut at random while workers crawl a tree; then count.

    python -m tests.support.chaos [--minutes 10] [--pages 6000] [--workers 4] [--seed N]

crawls trees, one after another with one seed more each time, until the time is over. A
seed decides which faults come in which order; what they hit depends on the moment too.
"""

from __future__ import annotations

import argparse
import contextlib
import heapq
import itertools
import random
import re
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from scrapy_dist.brokers.redis import scripts
from tests.support.project import Project, Worker
from tests.support.proxy import Proxy
from tests.support.redis_server import RedisServer
from tests.support.redis_state import count_workers, damage, failed, items
from tests.support.site import Site
from tests.support.together import JOINED
from tests.support.wait import wait_until

if TYPE_CHECKING:
    import redis


#: Exit code of a worker that met a poison page.
POISONED = 66
#: Part of the pages after which there are no more faults, so that the crawl can end.
CALM_AFTER = 0.8
#: Seconds between two faults: at least, at most.
GAP = (0.3, 1.5)
#: Faults in a row without a new page; then there are none until one is crawled. Where a
#: worker takes longer to start than to be killed the crawl would not go on.
BURST = 4
#: Seconds between two looks.
TICK = 0.05
FAN = 3

SPIDER = f"""
import os
from urllib.parse import urlsplit

class Tree(Spider):
    name = "tree"

    async def start(self):
        yield Request(self.url)

    def parse(self, response):
        path = urlsplit(response.url).path
        if path.rpartition("/")[2] in self.poison.split(","):
            os._exit({POISONED})
        record(self, path=path)
        yield from response.follow_all(css="a::attr(href)")
        yield {{"path": path}}
"""


@dataclass(frozen=True)
class Plan:
    """What to crawl and how. *delay* of each page is in ms, *ttl* in seconds.

    *max_deliveries* must be so large that no innocent page is with that many random
    deaths; each poison page kills that many workers.
    """

    seed: int
    pages: int
    workers: int = 3
    poison: int = 2
    delay: float = 200
    ttl: float = 2.0
    max_deliveries: int = 5
    concurrency: int = 8
    #: Seconds after which the crawl must have ended, on the slowest machine.
    limit: float = 300

    def poisoned(self) -> set[int]:
        """Numbers of the poison pages: in the middle of the tree, not below another."""
        choice = random.Random(self.seed)
        found: set[int] = set()
        while len(found) < self.poison:
            n = choice.randrange(self.pages // 20, self.pages // 3)
            if not found & set(_above(n)) and not any(n in _above(m) for m in found):
                found.add(n)
        return found

    def expected(self) -> set[str]:
        """Paths of the pages that can be reached."""
        poisoned = self.poisoned()
        return {
            self.path(n)
            for n in range(self.pages)
            if n not in poisoned and not poisoned & set(_above(n))
        }

    def path(self, n: int) -> str:
        return f"/tree/{self.pages}/{FAN}/{n}"


def _above(n: int) -> list[int]:
    """Page *n*'s parent, its parent, and so on."""
    found = []
    while n:
        n = (n - 1) // FAN
        found.append(n)
    return found


@dataclass
class Outcome:
    """What was done, and what was found at the end."""

    plan: Plan
    faults: Counter[str] = field(default_factory=Counter)
    #: How workers ended: finished, killed, poisoned, not started.
    ends: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0
    fetched: int = 0
    rollbacks: int = 0

    def summary(self) -> str:
        """A few lines for people."""
        plan = self.plan
        again = self.fetched - len(plan.expected())
        head = (
            f"seed {plan.seed}: {plan.pages} pages, {plan.workers} workers,"
            f" {self.seconds:.0f} s; {again} fetches more than pages"
        )
        lines = [
            head,
            f"  {self.faults.total()} faults: {_counts(self.faults)}",
            f"  workers: {_counts(self.ends)}; rollbacks noticed {self.rollbacks}",
            *(f"  PROBLEM: {problem}" for problem in self.problems),
        ]
        return "\n".join(lines)


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{name} {n}" for name, n in sorted(counter.items()))


class Chaos:
    """One crawl. *folder* takes the project, the logs and Redis' data."""

    def __init__(self, folder: Path, site: Site, plan: Plan) -> None:
        self.plan = plan
        self.outcome = Outcome(plan)
        self._site = site
        self._random = random.Random(plan.seed)
        self._server = RedisServer(folder, appendonly="yes", appendfsync="everysec")
        self._proxy = Proxy(self._server.port)
        self._project = Project(folder / "project", self._proxy.url(self._server.url))
        self._project.spider(SPIDER)
        self._slots: list[Worker | None] = [None] * plan.workers
        self._killed: set[Worker] = set()
        self._frozen: set[Worker] = set()
        self._actions: list[tuple[float, int, Callable[[], None]]] = []
        self._action_count = itertools.count()
        self._sizes: list[tuple[float, int]] = []
        self._finished = self._is_calm = self._is_paused = False
        self._end = 0.0
        # More of what is cheap; of the others enough to happen in a short crawl.
        self._faults: dict[str, tuple[int, Callable[[], None]]] = {
            "worker killed": (4, self._kill_worker),
            "worker frozen": (2, lambda: self._freeze_worker(0.3)),
            "worker frozen for longer than the TTL": (
                2,
                lambda: self._freeze_worker(1.5),
            ),
            "Redis killed": (2, self._kill_redis),
            "Redis lost its last second": (2, self._power_loss),
            "Redis frozen": (1, lambda: self._freeze_redis(0.4)),
            "Redis frozen for longer than the TTL": (
                1,
                lambda: self._freeze_redis(1.3),
            ),
            "reply of a commit cut": (3, lambda: self._cut_reply("commit")),
            "reply of a lease cut": (3, lambda: self._cut_reply("lease")),
            "request cut": (3, self._cut_request),
            "all connections cut": (2, self._proxy.cut),
            "connections refused": (1, self._refuse),
        }

    def run(self) -> Outcome:
        """Crawl, with faults until most pages are done; never raises for what it finds."""
        started = time.monotonic()
        self._end = started + self.plan.limit
        try:
            self._start()
            self._go_wild()
            self._calm_down()
            while any(self._slots) and self._in_time():
                self._tick()
            self._look_at_the_end()
        finally:
            self.outcome.seconds = time.monotonic() - started
            self._project.end()
            self._proxy.close()
            self._server.kill()
        return self.outcome

    def logs(self) -> str:
        """The ends of the logs of those that did not finish."""
        return "\n".join(
            f"--- {worker.agent}\n{worker.tail(30)}"
            for worker in self._project.workers
            if worker not in self._killed and "finished" not in worker.tail(3)
        )

    # The supervisor

    def _start(self) -> None:
        self._site.delay(self.plan.delay)
        self._site.pause()
        for slot in range(self.plan.workers):
            self._start_worker(slot)
        with self._server.client() as client:
            wait_until(
                lambda: count_workers(client, "tree") == self.plan.workers,
                "all workers",
                timeout=100,
            )
        self._site.resume()

    def _start_worker(self, slot: int) -> None:
        plan = self.plan
        self._slots[slot] = self._project.crawl(
            "tree",
            args={
                "url": f"{self._site.url}{plan.path(0)}",
                "poison": ",".join(map(str, sorted(plan.poisoned()))),
            },
            settings={
                "CONCURRENT_REQUESTS": plan.concurrency,
                # A worker that was frozen for long finds its downloads late.
                "DOWNLOAD_TIMEOUT": 180,
                "FRONTIER_WORKER_TTL": plan.ttl,
                "FRONTIER_MAX_DELIVERIES": plan.max_deliveries,
                "ITEM_PIPELINES": {"scrapy_dist.pipelines.RedisPipeline": 400},
                # See _is_needed.
                "SCHEDULER_IDLE_BEFORE_CLOSE": 2 * plan.ttl,
            },
            frontier="addon",
        )

    def _tend(self) -> None:
        """Start workers that have ended again, until one has finished."""
        for slot, worker in enumerate(self._slots):
            if worker is None or worker.running():
                continue
            end = self._how_ended(worker)
            self.outcome.ends[end] += 1
            self._finished = self._finished or end == "finished"
            self._slots[slot] = None
            if end in ("finished", "failed"):
                continue
            if not self._finished and self._is_needed():
                self._start_worker(slot)

    def _is_needed(self) -> bool:
        """Whether one more worker comes before the end; later it begins a new crawl.

        Once there are no more faults, no page is answered until it is there.
        """
        if not self._is_calm:
            return True
        if not any(self._slots):
            return True
        self._hold(True)
        return len(self._done()) < len(self.plan.expected())

    def _hold(self, hold: bool) -> None:
        """Let the site answer nothing, or everything again."""
        if hold != self._is_paused:
            self._is_paused = hold
            self._site.pause() if hold else self._site.resume()

    def _is_starting(self, worker: Worker | None) -> bool:
        return worker is not None and worker.running() and JOINED not in worker.log()

    def _how_ended(self, worker: Worker) -> str:
        code = worker.wait(1)
        if worker in self._killed:
            return "killed"
        if code == POISONED:
            return "poisoned"
        if JOINED not in worker.log():
            # Redis was away; what a supervisor starts it again for.
            return "not started"
        if code == 0 and worker.reason() == "finished":
            return "finished"
        self.outcome.problems.append(f"{worker.agent} ended with {code}")
        return "failed"

    def _tick(self) -> None:
        now = time.monotonic()
        while self._actions and self._actions[0][0] <= now:
            heapq.heappop(self._actions)[2]()
        with contextlib.suppress(FileNotFoundError, ValueError):
            self._sizes.append((now, self._server.aof().stat().st_size))
            del self._sizes[:-100]
        self._tend()
        if self._is_calm:
            self._hold(any(map(self._is_starting, self._slots)))
        time.sleep(TICK)

    def _in_time(self) -> bool:
        if time.monotonic() < self._end:
            return True
        running = [worker.agent for worker in self._slots if worker is not None]
        if running:
            self.outcome.problems.append(f"still running: {', '.join(running)}")
        return False

    def _done(self) -> set[str]:
        return set(self._project.recorded("path"))

    # Faults

    def _go_wild(self) -> None:
        names = list(self._faults)
        weights = [weight for weight, _ in self._faults.values()]
        enough = CALM_AFTER * len(self.plan.expected())
        before = in_vain = 0
        while not self._finished and self._in_time():
            done = len(self._done())
            if done >= enough:
                break
            if done > before:
                before, in_vain = done, 0
            if in_vain == BURST:
                self._tick()
                continue
            in_vain += 1
            [name] = self._random.choices(names, weights)
            self.outcome.faults[name] += 1
            self._faults[name][1]()
            until = time.monotonic() + self._random.uniform(*GAP)
            while time.monotonic() < until:
                self._tick()

    def _calm_down(self) -> None:
        self._is_calm = True
        while self._actions:
            heapq.heappop(self._actions)[2]()

    def _later(self, delay: float, action: Callable[[], None]) -> None:
        when = time.monotonic() + delay
        heapq.heappush(self._actions, (when, next(self._action_count), action))

    def _any_worker(self) -> Worker | None:
        slot = self._random.randrange(self.plan.workers)
        return self._slots[slot]

    def _kill_worker(self) -> None:
        worker = self._any_worker()
        if worker is not None and worker.running():
            self._killed.add(worker)
            worker.kill()

    def _freeze_worker(self, ttls: float) -> None:
        worker = self._any_worker()
        if worker is not None and worker not in self._frozen:
            self._frozen.add(worker)
            worker.freeze()
            self._later(ttls * self.plan.ttl, lambda: self._thaw_worker(worker))

    def _thaw_worker(self, worker: Worker) -> None:
        self._frozen.discard(worker)
        if worker.running():
            worker.thaw()

    def _kill_redis(self) -> None:
        self._server.kill()
        self._wait(self._random.uniform(0, 1))
        self._restart_redis()

    def _power_loss(self) -> None:
        """Redis is killed, and what was not on the disk is gone: see appendfsync."""
        lost = self._random.uniform(0.1, 1)
        self._server.kill()
        size = self._server.aof().stat().st_size
        before = [s for when, s in self._sizes if when < time.monotonic() - lost]
        self._server.tear_aof(min([size, *before[-1:]]))
        self._wait(self._random.uniform(0, 1))
        self._restart_redis()
        # Redis would carry out half a script at its next start.
        with self._server.client() as client:
            client.bgrewriteaof()
            wait_until(lambda: not _rewrites(client), "the file is written anew")
        self._sizes.clear()

    def _restart_redis(self) -> None:
        self._server.start()
        found = damage(self._server.url, "tree")
        if found:
            self.outcome.problems.append(f"after a restart of Redis: {found}")

    def _freeze_redis(self, ttls: float) -> None:
        self._server.freeze()
        self._wait(ttls * self.plan.ttl)
        self._server.thaw()

    def _wait(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self._tick()

    def _cut_reply(self, script: str) -> None:
        after = self._random.randint(0, 60)
        self._proxy.cut_reply(after, request=scripts.load(script).sha.encode())

    def _cut_request(self) -> None:
        after = self._random.randint(0, 2_000)
        self._proxy.cut_request(after, mark=scripts.load("commit").sha.encode())

    def _refuse(self) -> None:
        self._proxy.refuse()
        self._later(self._random.uniform(0.2, 1), self._proxy.accept)

    # The end

    def _look_at_the_end(self) -> None:
        plan, problems = self.plan, self.outcome.problems
        expected, done = plan.expected(), self._done()
        _compare(problems, "pages not crawled", expected - done)
        _compare(problems, "pages that should not be reached", done - expected)
        with self._server.client() as client:
            found = items(client, "tree")
            letters = [_path(letter["payload"]) for letter in failed(client, "tree")]
            left = {
                key: count
                for key in ("requests", "suspects", "leases")
                if (count := client.zcard(f"tree:{key}"))
            }
        _compare(problems, "items missing", expected - set(found))
        _compare(problems, "items twice", {p for p, n in found.items() if n > 1})
        poison = {plan.path(n) for n in plan.poisoned()}
        _compare(problems, "poison pages not set aside", poison - set(letters))
        _compare(problems, "innocent pages set aside", set(letters) - poison)
        if len(letters) > len(set(letters)):
            problems.append("a page is set aside twice")
        if left:
            problems.append(f"left in Redis: {left}")
        found_damage = damage(self._server.url, "tree")
        if found_damage:
            problems.append(f"at the end: {found_damage}")
        self._look_at_logs()

    def _look_at_logs(self) -> None:
        self.outcome.fetched = self._site.hits().total()
        for worker in self._project.workers:
            log = worker.log()
            self.outcome.rollbacks += log.count("registers again")
            if JOINED in log and ("Traceback" in log or " ERROR: " in log):
                self.outcome.problems.append(f"an error in the log of {worker.agent}")


def _compare(problems: list[str], what: str, pages: set[str]) -> None:
    if pages:
        some = ", ".join(sorted(pages)[:5])
        problems.append(f"{len(pages)} {what}: {some}")


def _path(payload: bytes) -> str:
    """The path of a request in Redis; its URL comes first in it."""
    found = re.search(rb"/tree/\d+/\d+/\d+", payload)
    return found[0].decode() if found else repr(payload)


def _rewrites(client: redis.Redis) -> bool:
    return bool(client.info("persistence")["aof_rewrite_in_progress"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=10, help="default 10")
    parser.add_argument("--pages", type=int, default=6000, help="of each crawl")
    parser.add_argument("--workers", type=int, default=4, help="default 4")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    options = parser.parse_args()
    site = Site()
    end = time.monotonic() + options.minutes * 60
    seed, bad = options.seed, 0
    try:
        while time.monotonic() < end:
            site.reset()
            limit = 300 + options.pages / 10
            plan = Plan(seed, options.pages, options.workers, poison=4, limit=limit)
            with tempfile.TemporaryDirectory() as folder:
                chaos = Chaos(Path(folder), site, plan)
                outcome = chaos.run()
                print(outcome.summary(), flush=True)
                if outcome.problems:
                    print(chaos.logs(), flush=True)
            bad += bool(outcome.problems)
            seed += 1
    finally:
        site.stop()
    raise SystemExit(f"{bad} crawls with problems" if bad else 0)


if __name__ == "__main__":
    main()
