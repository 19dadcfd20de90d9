"""Tasks in the real worker: from their seeds to the exact end."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from scrapy import Request

from scrapy_dist.core.frontier import Lease
from scrapy_dist.dupefilter import RFPDupeFilter
from scrapy_dist.spiders import RedisSpider
from tests.support.pages import URL, names, request
from tests.support.redis_state import (
    cancel_task,
    count_failed,
    count_leased,
    plant_task,
    results_of,
    task_of,
)
from tests.support.worker import Worker, until

KEY = "s:start_urls"
TOKEN = "0123456789abcdef"


class Seeded(RedisSpider):
    name = "s"


class Several(Seeded):
    """Makes two requests of each seed."""

    def make_request_from_data(self, data):
        seed = json.loads(data)
        self.crawler.stats.set_value("read", sorted(seed))
        return [Request(f"{URL}{seed['id']}-{n}", dont_filter=True) for n in range(2)]


class Asks(Seeded):
    """Saves what can be saved of a failed download."""

    def saved(self, failure):
        yield Request(URL + "saved")


class OwnFilter(RFPDupeFilter):
    """Decides itself, in this process."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.seen = set()

    def request_seen(self, request):
        known = request.url in self.seen
        self.seen.add(request.url)
        return known


def push(redis, id_: Any, name: str = "a", **more: Any) -> None:
    redis.rpush(KEY, json.dumps({"url": URL + name, "id": id_, **more}))


def shown(redis, id_: str = "t") -> tuple[str, int, int, int, int] | None:
    """State, open, done, failed, items."""
    task = task_of(redis, "s", id_)
    if task is None:
        return None
    return (task.state.value, task.open, task.done, task.failed, task.items)


async def is_shown(redis, *wanted: Any, id_: str = "t") -> None:
    await until(lambda: shown(redis, id_) == wanted, f"the task {wanted}")


async def begin(start, spider=Seeded, **options) -> Worker:
    worker = await start(spider, **options)
    worker.run_start()
    return worker


async def test_a_task_ends_with_the_last_page_of_it(start, redis):
    worker = await begin(start)
    push(redis, "t", batch="b")
    page = await worker.next()
    await is_shown(redis, "running", 1, 0, 0, 0)
    worker.yields(page, request("b"), request("c"), request("b"), {"n": 1})
    worker.end(page, ask=False)
    await is_shown(redis, "running", 2, 1, 0, 1)
    pages = await worker.all(2)
    await worker.crawl(pages[0], {"n": 2})
    await is_shown(redis, "running", 1, 2, 0, 2)
    await worker.crawl(pages[1], {"n": 3})
    await is_shown(redis, "done", 0, 3, 0, 3)
    assert [json.loads(x)["n"] for x in results_of(redis, "s", "t")] == [1, 2, 3]


async def test_other_seeds_begin_nothing(start, redis):
    worker = await begin(start)
    redis.rpush(KEY, URL + "a")
    page = await worker.next()
    await worker.crawl(page, request("b"))
    assert not worker.sent("begin")
    assert task_of(redis, "s", "t") is None


async def test_a_lost_reply_begins_it_once(start, redis):
    worker = await begin(start)
    worker.proxy.cut_reply(request=worker.sha("begin"))
    push(redis, "t")
    page = await worker.next()
    assert worker.sent("begin") >= 2
    await is_shown(redis, "running", 1, 0, 0, 0)
    worker.end(page)
    await is_shown(redis, "done", 0, 1, 0, 0)


async def test_a_living_id_is_refused(start, redis, log):
    worker = await begin(start)
    push(redis, "t")
    page = await worker.next()
    push(redis, "t", "again")
    await until(lambda: count_failed(redis, "s") == 1, "the dead letter")
    assert "still queued or running" in log.text
    worker.end(page)
    await is_shown(redis, "done", 0, 1, 0, 0)
    push(redis, "t", "later")
    worker.end(await worker.next())
    await is_shown(redis, "done", 0, 1, 0, 0)


@pytest.mark.parametrize("id_", [[], True, "", "a\nb", "x" * 256])
async def test_a_bad_id_is_a_dead_letter(start, redis, log, id_):
    worker = await begin(start)
    push(redis, id_)
    await until(lambda: count_failed(redis, "s") == 1, "the dead letter")
    assert "id " in log.text
    assert not worker.sent("begin")


async def test_a_seed_that_cannot_be_read_fails_its_task(start, redis):
    await begin(start)
    push(redis, "t", meta=5)
    await is_shown(redis, "failed", 0, 0, 1, 0)
    task = task_of(redis, "s", "t")
    assert task is not None
    assert "meta is a JSON number" in task.reason


async def test_without_the_addon_it_fails_and_says_why(start, redis, log):
    await begin(start, addon=False)
    for id_ in ("t", "u"):
        push(redis, id_)
    await is_shown(redis, "failed", 0, 0, 1, 0)
    await is_shown(redis, "failed", 0, 0, 1, 0, id_="u")
    task = task_of(redis, "s", "t")
    assert task is not None
    assert 'ADDONS = {"scrapy_dist.Addon": 500}' in task.reason
    errors = [r.getMessage() for r in log.records if r.levelname == "ERROR"]
    assert len([error for error in errors if "ADDONS" in error]) == 1


async def test_requests_of_tasks_need_the_addon_too(start, redis):
    first = await begin(start)
    push(redis, "t")
    page = await first.next()
    first.yields(page, request("b"))
    first.end(page, ask=False)
    await is_shown(redis, "running", 1, 1, 0, 0)
    await first.close("shutdown")
    other = await start(addon=False)
    await until(lambda: other.take() or count_failed(redis, "s"), "the dead letter")
    await is_shown(redis, "failed", 0, 1, 1, 0)


async def test_a_task_of_several_requests(start, redis):
    worker = await begin(start, Several)
    push(redis, "t", task=TOKEN)
    await is_shown(redis, "running", 2, 0, 0, 0)
    assert worker.stat("read") == ["id", "url"]
    for page in await worker.all(2):
        worker.end(page)
    await is_shown(redis, "done", 0, 2, 0, 0)


async def test_who_gets_a_seed_after_a_death_reads_the_same(start, redis, frontier):
    worker = await begin(start, Several)
    worker.holds_start()
    push(redis, "t", task=TOKEN)
    await is_shown(redis, "running", 1, 0, 0, 0)
    await worker.vanish()
    frontier.is_silent(worker)
    other = await begin(start, Several)
    await is_shown(redis, "running", 2, 0, 0, 0)
    assert other.stat("read") == ["id", "url"]
    for page in await other.all(2):
        other.end(page)
    await is_shown(redis, "done", 0, 2, 0, 0)


async def test_parts_that_go_ahead_of_their_page_are_of_it(start, redis):
    worker = await begin(start, FRONTIER_COMMIT_CHUNK=4)
    push(redis, "t")
    page = await worker.next()
    again = [request("b", dont_filter=True) for _ in range(5)]
    worker.yields(page, *again, *({"n": n} for n in range(6)))
    await until(lambda: (shown(redis) or (0, 0))[1] > 1, "a part")
    worker.end(page, ask=False)
    await is_shown(redis, "running", 5, 1, 0, 6)
    for each in await worker.all(5):
        worker.end(each)
    await is_shown(redis, "done", 0, 6, 0, 6)


async def test_a_lease_that_another_has_got_does_not_begin(start, redis):
    worker = await begin(start)
    queues = worker.scheduler.worker.queues
    seed = json.dumps({"url": URL, "id": "t"}).encode()
    record = queues.leases.open(Lease("f" * 16, seed, is_seed=True))
    queues.beginnings.add(record, seed)
    await until(lambda: not queues.seeds.to_begin, "the end of it")
    assert worker.sent("begin")
    assert not queues.seeds
    assert shown(redis) is None


async def test_many_begin_in_some_exchanges(start, redis):
    worker = await begin(start, CONCURRENT_REQUESTS=300)
    for n in range(250):
        push(redis, f"t{n}", f"{n}", batch="b")
    for page in await worker.all(250):
        worker.end(page)
    await until(lambda: count_leased(redis, "s") == 0, "the acks")
    assert {shown(redis, f"t{n}") for n in range(250)} == {("done", 0, 1, 0, 0)}
    assert worker.sent("begin") < 50


async def test_an_id_of_the_projects_own_makes_no_task(start, redis):
    worker = await begin(start, Several)
    push(redis, "t", batch=[1])
    for page in await worker.all(2):
        worker.end(page)
    await until(lambda: count_leased(redis, "s") == 0, "the acks")
    assert worker.stat("read") == ["batch", "id", "url"]
    assert shown(redis) is None


async def test_what_stays_here_keeps_its_task_open(start, redis):
    worker = await begin(start)
    push(redis, "t")
    page = await worker.next()
    worker.yields(page, request("stays", meta={"frontier_local": True}))
    worker.end(page, ask=False)
    local = await worker.next()
    assert names(local) == ["stays"]
    await worker.has_sent("heartbeat")
    await is_shown(redis, "running", 1, 0, 0, 0)
    worker.yields(local, request("b"), {"n": 1})
    worker.end(local, ask=False)
    await is_shown(redis, "running", 1, 1, 0, 1)
    worker.end(await worker.next())
    await is_shown(redis, "done", 0, 2, 0, 1)


async def test_redirects_and_retries_are_of_it(start, redis):
    worker = await begin(start)
    push(redis, "t")
    page = await worker.next()
    redirect = page.replace(url=URL + "target", dont_filter=True)
    redirect.meta["redirect_urls"] = [page.url]
    worker.is_replaced(page, redirect)
    worker.end(page, ask=False)
    target = await worker.next()
    worker.yields(target, request("b"))
    worker.end(target, ask=False)
    await is_shown(redis, "running", 1, 1, 0, 0)

    link = await worker.next()
    again = link.replace(dont_filter=True)
    again.meta["retry_times"] = 1
    worker.is_replaced(link, again)
    worker.end(link, ask=False)
    link = await worker.next()
    assert link.meta["retry_times"] == 1
    await is_shown(redis, "running", 1, 1, 0, 0)
    worker.end(link)
    await is_shown(redis, "done", 0, 2, 0, 0)


async def test_what_an_errback_yields_is_of_it(start, redis):
    worker = await begin(start, Asks)
    push(redis, "t", errback="saved")
    page = await worker.next()
    original = page.errback
    worker.fails(page)
    worker.arrives(page)
    failure = type("Failure", (), {"request": page})()
    for output in page.errback(failure):
        worker.enqueue(output)
    assert page.errback == original
    worker.end(page, ask=False)
    await is_shown(redis, "running", 1, 1, 0, 0)
    worker.end(await worker.next())
    await is_shown(redis, "done", 0, 2, 0, 0)


async def test_pages_that_run_ahead_of_redis_count_when_it_hears_of_them(start, redis):
    worker = await begin(start)
    push(redis, "t", "0")
    behind = []
    for n in range(1, 30):
        await worker.crawl(await worker.next(), request(f"{n}"), {"n": n})
        behind.append(n - shown(redis)[2])
    assert max(behind) > 1
    await worker.crawl(await worker.next(), {"n": 30})
    await is_shown(redis, "done", 0, 30, 0, 30)
    found = [json.loads(x)["n"] for x in results_of(redis, "s", "t")]
    assert found == list(range(1, 31))
    assert worker.sent("commit") < 30


async def test_what_a_filter_of_the_projects_lets_through_is_of_it(start, redis):
    worker = await begin(start, DUPEFILTER_CLASS=OwnFilter)
    push(redis, "t")
    page = await worker.next()
    links = [request("b"), request("b"), request("c", meta={"frontier_local": True})]
    worker.yields(page, *links)
    worker.end(page, ask=False)
    await is_shown(redis, "running", 2, 0, 0, 0)
    pages = await worker.all(2)
    assert sorted(names(*pages)) == ["b", "c"]
    for each in pages:
        worker.end(each)
    await is_shown(redis, "done", 0, 2, 0, 0)


async def test_what_was_not_begun_goes_back_with_its_task(start, redis):
    worker = await begin(start)
    push(redis, "t")
    page = await worker.next()
    worker.yields(page, *(request(f"{n}") for n in range(3)))
    worker.end(page, ask=False)
    await is_shown(redis, "running", 3, 1, 0, 0)
    await worker.close("shutdown")
    assert count_leased(redis, "s") == 0
    await is_shown(redis, "running", 3, 1, 0, 0)

    other = await begin(start)
    for page in await other.all(3):
        other.end(page)
    await is_shown(redis, "done", 0, 4, 0, 0)


async def test_a_rollback_to_before_it_began_begins_it_again(start, redis, frontier):
    worker = await begin(start)
    push(redis, "t", task=TOKEN)
    before = frontier.dump()
    page = await worker.next()
    worker.yields(page, request("b"))
    await is_shown(redis, "running", 2, 0, 0, 0)
    frontier.go_back(before)
    await worker.has_sent("register")
    worker.end(page)
    seen = set()
    while (shown(redis) or ("", 1))[1]:
        page = worker.take()
        if page is not None:
            seen.add(names(page)[0])
            worker.yields(page, *([request("b")] if page.url == URL + "a" else []))
            worker.end(page, ask=False)
        await asyncio.sleep(0.01)
    assert seen == {"a", "b"}
    assert (shown(redis) or ())[0] == "done"


async def test_a_death_in_the_middle_ends_it_once(start, redis, frontier):
    worker = await begin(start)
    push(redis, "t")
    page = await worker.next()
    worker.yields(page, request("b"))
    await is_shown(redis, "running", 2, 0, 0, 0)
    await worker.vanish()
    frontier.is_silent(worker)

    other = await begin(start)
    for _ in range(2):
        page = await other.next()
        other.yields(page, request("b"), {"of": page.url})
        other.end(page, ask=False)
    await is_shown(redis, "done", 0, 2, 0, 2)


async def test_a_link_that_a_cancelled_task_lost_is_new_for_others(start, redis):
    worker = await begin(start)
    push(redis, "t")
    page = await worker.next()
    await is_shown(redis, "running", 1, 0, 0, 0)
    cancel_task(redis, "s", "t")
    worker.yields(page, request("b"))
    worker.end(page, ask=False)
    await until(lambda: names(*worker.dropped) == ["b"], "the dropped link")
    assert worker.stat("frontier/dropped") == 1
    assert not worker.stat("dupefilter/filtered")
    await is_shown(redis, "cancelled", 0, 1, 0, 0)
    redis.rpush(KEY, URL + "other")
    page = await worker.next()
    assert worker.yields(page, request("b")) == [True]
    worker.end(page, ask=False)
    assert names(await worker.next()) == ["b"]


@pytest.mark.parametrize("dont_filter", [False, True])
async def test_what_stays_here_ends_with_its_task(start, redis, dont_filter):
    worker = await begin(start)
    push(redis, "t")
    page = await worker.next()
    await is_shown(redis, "running", 1, 0, 0, 0)
    cancel_task(redis, "s", "t")
    stays = request("stays", meta={"frontier_local": True}, dont_filter=dont_filter)
    worker.yields(page, stays)
    worker.end(page, ask=False)
    await is_shown(redis, "cancelled", 0, 1, 0, 0)
    assert names(*worker.dropped) == ["stays"]
    assert worker.stat("frontier/dropped") == 1
    assert worker.take() is None


async def test_a_task_that_was_cancelled_before_it_began_is_dropped(start, redis, log):
    push(redis, "t", task=TOKEN)
    plant_task(redis, "s", "t", TOKEN)
    cancel_task(redis, "s", "t")
    worker = await begin(start)
    await until(lambda: worker.stat("frontier/dropped"), "the stat")
    await until(lambda: count_leased(redis, "s") == 0, "the ack")
    assert worker.take() is None
    await is_shown(redis, "cancelled", 0, 0, 0, 0)
    assert log.text.count("was cancelled before it began") == 1
