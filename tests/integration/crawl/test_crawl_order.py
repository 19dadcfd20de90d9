"""The order in which pages are fetched, also when others stored the requests.

Those of several hosts have one order by these disciplines.
"""

from __future__ import annotations

import pytest

from tests.support.project import assert_finished, wait_all
from tests.support.redis_state import count_pending
from tests.support.site_server import host
from tests.support.together import start_together
from tests.support.wait import wait_until

#: Stores requests of the priorities in ``numbers`` when the file ``turn`` is there, and
#: is stopped before it fetches them: its only download slot waits at a gate.
FILL_AND_DRAIN = """
from pathlib import Path

class Order(Spider):
    name = "order"
    part = None
    hosts = ""
    numbers = ""

    async def start(self):
        if not self.part:
            return
        yield Request(f"{self.url}/gate/{self.part}")
        while not (self.crawler.engine.downloader.active and Path(self.turn).exists()):
            await asyncio.sleep(0.01)
        for i, n in enumerate(self.numbers.split(",")):
            url = self.hosts.split(",")[i % 3]
            yield Request(f"{url}/page/{self.part}-{i}", priority=int(n))

    def parse(self, response):
        pass
"""

PRIORITIES = {"a": [0, 5, -3, 5, 0, 7, -3, 0, 1, 5], "b": [5, 0, 7, -3, 2, 0, 5, 0]}


def expected_order(discipline: str) -> list[str]:
    """The paths in the order in which *discipline* hands them out."""
    stored = [
        (-priority, f"/page/{part}-{i}")
        for part, numbers in PRIORITIES.items()
        for i, priority in enumerate(numbers)
    ]
    if discipline == "PriorityQueue":
        stored.sort(key=lambda entry: entry[0])
    if discipline == "LifoQueue":
        stored.reverse()
    return [path for _, path in stored]


def fill(project, site, client, settings):
    """Two workers store their parts one after the other; none fetches any of it."""
    workers = []
    turns = {part: project.folder / f"turn-of-{part}" for part in PRIORITIES}
    for part, numbers in PRIORITIES.items():
        args = {
            "url": site.url,
            "part": part,
            "numbers": ",".join(map(str, numbers)),
            "turn": turns[part],
            "hosts": ",".join(f"http://{host(n)}:{site.port}" for n in range(3)),
        }
        workers.append(project.crawl("order", args=args, settings=settings))
    gates = {f"/gate/{part}": 1 for part in PRIORITIES}
    wait_until(lambda: site.hits() == gates, "both workers at a gate")
    stored = len(gates)
    for part, turn in turns.items():
        turn.touch()
        stored += len(PRIORITIES[part])
        wait_until(
            lambda stored=stored: (
                count_pending(client, "order") + client.hlen("order:leased") == stored
            ),
            f"{stored} requests in Redis",
        )
    for worker in workers:
        worker.interrupt()
        worker.wait_for_log("Closing spider")
    for part in PRIORITIES:
        site.open_gate(part)
    assert wait_all(workers) == [0, 0]
    assert count_pending(client, "order") == stored - len(gates)


DISCIPLINES = ["PriorityQueue", "FifoQueue", "LifoQueue"]


@pytest.mark.parametrize("discipline", DISCIPLINES)
def test_order_is_exact_for_what_other_workers_stored(
    project, hosts, redis_server, discipline
):
    site = hosts
    project.spider(FILL_AND_DRAIN)
    settings = {
        "CONCURRENT_REQUESTS": 1,
        "SCHEDULER_QUEUE_CLASS": f"scrapy_dist.queue.{discipline}",
    }
    with redis_server.client() as client:
        fill(project, site, client, settings)
    site.reset()

    assert_finished([project.crawl("order", args={"url": site.url}, settings=settings)])

    assert site.paths() == expected_order(discipline)


@pytest.mark.parametrize("discipline", ["PriorityQueue", "LifoQueue"])
def test_two_workers_share_one_order(project, hosts, redis_server, discipline):
    site = hosts
    project.spider(FILL_AND_DRAIN)
    settings = {
        "CONCURRENT_REQUESTS": 1,
        "SCHEDULER_QUEUE_CLASS": f"scrapy_dist.queue.{discipline}",
    }
    with redis_server.client() as client:
        fill(project, site, client, settings)
    site.reset()

    workers = start_together(
        project, site, 2, "order", 0, args={"url": site.url}, settings=settings
    )
    for _ in range(2):
        wait_until(lambda: len(site.waiting()) == 2, "both at work")
        site.answer(2)
    site.resume()
    assert_finished(workers)

    order = expected_order(discipline)
    places = {
        worker.agent: [
            order.index(hit.path) for hit in site.log() if hit.agent == worker.agent
        ]
        for worker in workers
    }
    assert sorted(site.paths()) == sorted(order)
    for own in places.values():
        assert own == sorted(own)
        assert len(own) >= 2
