"""``admin.crawl.Crawl``: what people and programs do with a crawl from outside."""

from __future__ import annotations

import pytest
from scrapy import Request, Spider
from scrapy.settings import Settings
from scrapy.utils.request import fingerprint

from scrapy_dist.admin.crawl import Crawl
from scrapy_dist.admin.project import Project
from scrapy_dist.admin.urls import explain, recrawl
from scrapy_dist.brokers.redis.broker import RedisBroker
from scrapy_dist.codec import compact
from scrapy_dist.core.crawl import PARTS
from scrapy_dist.core.frontier import NewRequest
from scrapy_dist.core.slots import slot_number
from scrapy_dist.exceptions import ConfigurationError
from tests.support.engine import make_crawler
from tests.support.frontiers import KEYS, Worker, contents

URL = "http://site.example/"


@pytest.fixture
async def crawl(client):
    """The crawl ``s`` in an empty Redis; outside of any project."""
    found = Crawl(Settings({"REDIS_URL": "redis://site.example"}), "s")
    await found.open(RedisBroker(client))
    yield found
    await found.close()


def page(n):
    request = Request(f"{URL}{n}")
    payload = b"\x01" + compact.dumps({"url": request.url, "callback": "parse_page"})
    slot = slot_number("site.example")
    return NewRequest(payload, float(n), fingerprint(request).hex(), slot=slot)


@pytest.fixture
async def worker(client):
    """A worker of that crawl, with page 0 in hand, and 1 to 3 pending."""
    worker = await Worker(client).join("web1:4711")
    await worker.commit([page(n) for n in range(4)])
    await worker.lease(1)
    return worker


async def test_pause_and_resume_tell_what_was(crawl, worker):
    first = await crawl.pause()
    assert (first.before, first.alive) == (False, 1)
    assert list(await worker.lease()) == []
    assert (await crawl.status()).paused
    assert (await crawl.pause()).before
    assert (await crawl.pause(False)).before
    assert not (await crawl.pause(False)).before
    assert len(await worker.lease()) == 3


@pytest.mark.parametrize("form", ["name", "number", "int", "status", "list", "all"])
async def test_workers_are_stopped_by_any_of_their_names(crawl, worker, form):
    other = await Worker(worker.frontier.client).join("web2:4712")
    [found] = [w for w in (await crawl.status()).workers if w.worker == "web1:4711"]
    forms = {
        "name": "web1:4711",
        "number": worker.number,
        "int": int(worker.number),
        "status": found,
        "list": ["web1:4711", found],
        "all": ["all"],
    }
    stopped = await crawl.stop(forms[form])
    everybody = form == "all"
    assert stopped.asked == len(stopped.workers) == 1 + everybody
    assert (await worker.heartbeat()).stop
    assert (await other.heartbeat()).stop == everybody


@pytest.mark.parametrize(
    "wrong", ["web9:1", 7, b"all", ["web1:4711", "x\x1b[2J"], None]
)
async def test_worker_that_is_not_there_is_refused(crawl, worker, wrong):
    with pytest.raises(ConfigurationError) as caught:
        await crawl.stop(wrong)
    assert "\x1b" not in str(caught.value)
    assert not (await worker.heartbeat()).stop


async def test_names_that_nobody_knows_leave_no_key_behind(crawl, client):
    changes = (crawl.pause(), crawl.pause(False), crawl.stop("all"))
    for change in (*changes, recrawl(crawl, [URL])):
        with pytest.raises(ConfigurationError, match="no frontier of a spider 's'"):
            await change
    assert (await crawl.clear()).done
    assert (await explain(crawl, URL)).place == "unknown"
    assert [some async for some in crawl.peek(5)] in ([], [[]])
    assert await contents(client) == {}


async def test_clear_is_refused_while_workers_live(crawl, worker, client):
    before = await contents(client)
    with pytest.raises(ConfigurationError, match=r"1 worker is alive.*force=True"):
        await crawl.clear()
    assert await contents(client) == before
    cleared = await crawl.clear(force=True)
    assert cleared.deleted["pending"] == 3
    assert cleared.deleted["leased"] == cleared.deleted["workers"] == 1
    assert await contents(client) == {}


async def test_parts_are_cleared_and_the_rest_stays(crawl, worker, client):
    await client.rpush(KEYS.items, "x")
    await worker.leave()
    assert (await crawl.clear("dupefilter", "items")).deleted == {"seen": 4, "items": 1}
    status = await crawl.status()
    assert (status.seen, status.items, status.left) == (0, 0, 4)


@pytest.mark.parametrize("part", ["frontier", "", "seed", None, 3, "x\x1b[2J"])
async def test_part_that_there_is_not_is_refused(crawl, worker, client, part):
    before = await contents(client)
    with pytest.raises(ConfigurationError, match=", ".join(PARTS)) as caught:
        await crawl.clear("requests", part, force=True)
    assert "\x1b" not in str(caught.value)
    assert await contents(client) == before


async def test_peek_gives_requests_in_their_order(crawl, worker):
    shown = [each async for some in crawl.peek(2) for each in some]
    assert [each.fields["url"] for each in shown] == [f"{URL}1", f"{URL}2"]
    assert (shown[0].kind, shown[0].fields["callback"]) == ("pending", "parse_page")


async def test_explain_tells_where_a_request_is(crawl, worker):
    found = await explain(crawl, f"{URL}0")
    assert (found.place, found.holder.worker, found.seen) == (
        "leased",
        "web1:4711",
        True,
    )
    found = await explain(crawl, f"{URL}2")
    assert (found.place, found.found.rank) == ("pending", 1)


async def test_recrawl_queues_what_is_nowhere(crawl, worker, client):
    done = await recrawl(crawl, [f"{URL}0", f"{URL}3", f"{URL}9", f"{URL}9"])
    told = [(each.url[-1], each.queued, each.place, each.before) for each in done]
    assert told == [
        ("0", False, "leased", None),
        ("3", False, "pending", 2),
        ("9", True, "pending", None),
    ]
    assert await client.sismember(KEYS.dupefilter, page(9).fingerprint)
    [forced] = await recrawl(crawl, f"{URL}3", priority=100, callback="any", force=True)
    assert forced.queued
    [first] = [each async for some in crawl.peek(1) for each in some]
    assert first.fields["url"] == f"{URL}3"
    assert (first.fields["callback"], first.fields["priority"]) == ("any", 100)


@pytest.mark.parametrize("known", [False, True])
async def test_what_is_queued_again_passes_every_filter(crawl, worker, known):
    """Also what it is redirected to, which was seen as well."""
    if known:
        crawl.project = Project(make_crawler(type("S", (Spider,), {"name": "s"})()))
    await recrawl(crawl, f"{URL}9", priority=100)
    [first] = [each async for some in crawl.peek(1) for each in some]
    assert first.fields["url"] == f"{URL}9"
    assert first.fields["dont_filter"] is True


@pytest.mark.parametrize(
    ("argument", "named"),
    [
        ({"urls": ["example.org"]}, "'example.org' is no URL"),
        ({"urls": [None]}, "None is no URL"),
        ({"urls": 5}, "urls = 5"),
        ({"urls": ["x\x1b[2J"]}, "is no URL"),
        ({"urls": ["file:///etc/passwd"]}, "FRONTIER_SCHEMES"),
        ({"urls": [URL], "priority": "1"}, "priority = '1'"),
        ({"urls": [URL], "priority": 10**30}, "priority = 1000"),
        ({"urls": [URL], "priority": True}, "priority = True"),
    ],
)
async def test_wrong_request_is_refused_and_none_is_queued(
    crawl, worker, client, argument, named
):
    before = await contents(client)
    with pytest.raises(ConfigurationError) as caught:
        await recrawl(crawl, **argument)
    assert named in str(caught.value)
    assert "\x1b" not in str(caught.value)
    assert await contents(client) == before


@pytest.mark.parametrize("limit", [-1, "3", 2.5, True])
async def test_limit_is_a_whole_number(crawl, worker, limit):
    for work in (crawl.newest_failed(limit), anext(crawl.peek(limit))):
        with pytest.raises(ConfigurationError, match="no whole number"):
            await work


@pytest.mark.parametrize("ids", [5, None, [5], ["x"], "\x1b"])
async def test_ids_of_dead_letters_are_checked(crawl, worker, ids):
    for change in (crawl.retry, crawl.forget):
        if ids is None:  # all of them
            continue
        with pytest.raises(ConfigurationError) as caught:
            await change(ids)
        assert "\x1b" not in str(caught.value)


async def test_frontier_of_another_version_is_not_changed(crawl, worker, client):
    await client.hset(KEYS.state, "format", 99)
    before = await contents(client)
    changes = (crawl.pause(), crawl.stop("all"), crawl.clear(force=True))
    for change in (*changes, recrawl(crawl, [f"{URL}9"])):
        with pytest.raises(ConfigurationError, match="format 99"):
            await change
    assert await contents(client) == before


async def test_fingerprinter_of_the_settings_names_requests(client, worker):
    settings = {
        "REQUEST_FINGERPRINTER_CLASS": (
            "scrapy_dist.fingerprints.ScrapyRedisFingerprinter"
        )
    }
    other = Crawl(Settings(settings), "s")
    await other.open(RedisBroker(client))
    found = await explain(other, f"{URL}2")
    assert (found.place, found.seen) == ("pending", False)
    assert found.fingerprint != page(2).fingerprint
