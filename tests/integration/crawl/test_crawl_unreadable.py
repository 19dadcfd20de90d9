"""Most of what a worker reads cannot be decoded: the code is wrong, not the data."""

from __future__ import annotations

import json
import pickle
import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgpack
import pytest

from scrapy_dist.core.slots import slot_number
from tests.support.frontiers import member
from tests.support.project import Worker, assert_finished, wait_all
from tests.support.redis_state import failed

RENAMED = """
from urllib.parse import urlsplit

class Renamed(Spider):
    name = "renamed"

    async def start(self):
        return
        yield

    def parse(self, response):
        record(self, path=urlsplit(response.url).path)
"""


def stored(url: str, **fields: object) -> bytes:
    return b"\x01" + msgpack.packb({"url": url, **fields})


def fill(client: Any, payloads: list[bytes]) -> None:
    """Make *payloads* pending, as an earlier version of the spider left them."""
    members = {
        member(payload, n + 1, n % 3 - 1): slot_number("127.0.0.1")
        for n, payload in enumerate(payloads)
    }
    client.zadd("renamed:requests", members)


def pending(client: Any) -> list[tuple[bytes, float]]:
    return client.zrange("renamed:requests", 0, -1, withscores=True)


def assert_closed_as_unreadable(workers: list[Worker], *said: str) -> None:
    assert wait_all(workers) == [1] * len(workers)
    for worker in workers:
        assert worker.reason() == "unreadable"
        errors = re.findall(r"^.* ERROR: .*$", worker.log(), re.MULTILINE)
        [error] = errors
        assert "the code is wrong" in error
        for text in said:
            assert text in error
        assert " WARNING: " not in worker.log().replace("maxmemory-policy", "")
        assert len(worker.log().splitlines()) < 100


@pytest.mark.parametrize("frontier", ["classic", "addon"])
def test_pending_requests_of_a_renamed_callback_stay_as_they_are(
    project, site, redis_server, frontier
):
    project.spider(RENAMED)
    with redis_server.client() as client:
        fill(
            client,
            [
                stored(f"{site.url}/page/{n}", callback="parse_item")
                for n in range(12_000)
            ],
        )
        before = pending(client)
        workers = project.crawl_many(2, "renamed", frontier=frontier)
        assert_closed_as_unreadable(workers, "'parse_item'", "Renamed has no method")
        assert pending(client) == before
        assert failed(client, "renamed") == []
        for key in ("suspects", "leases", "leased"):
            assert not client.exists(f"renamed:{key}")
    assert site.hits().total() == 0


def pickles(url: str) -> list[bytes]:
    """As scrapy-redis stores them: without an order id."""
    return [
        pickle.dumps({"url": f"{url}/page/{n}", "callback": "parse"}, -1)
        for n in range(200)
    ]


KINDS: dict[str, tuple[Callable[[str], list[bytes]], dict[str, Any], str]] = {
    "errback": (
        lambda url: [stored(f"{url}/page/{n}", errback="on_error") for n in range(60)],
        {},
        "its errback is not allowed: Renamed has no method 'on_error'",
    ),
    "serializer": (
        lambda url: [
            json.dumps({"url": f"{url}/page/{n}"}).encode() for n in range(60)
        ],
        {},
        "Set SCHEDULER_SERIALIZER to the module",
    ),
    "own serializer": (
        lambda url: [stored(f"{url}/page/{n}") for n in range(60)],
        {"SCHEDULER_SERIALIZER": "json"},
        "leave SCHEDULER_SERIALIZER out",
    ),
    "class": (
        lambda url: [
            stored(f"{url}/page/{n}", _class="shop.requests.Paged") for n in range(60)
        ],
        {},
        "Add 'shop.requests.Paged' to FRONTIER_REQUEST_CLASSES again",
    ),
    "version": (
        lambda url: [b"\x04" + stored(f"{url}/page/{n}") for n in range(60)],
        {},
        "with the version of scrapy-dist",
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_makes_requests_unreadable_is_named_with_its_remedy(
    project, site, redis_server, kind
):
    payloads, settings, said = KINDS[kind]
    project.spider(RENAMED)
    with redis_server.client() as client:
        fill(client, payloads(site.url))
        before = pending(client)
        assert_closed_as_unreadable([project.crawl("renamed", settings=settings)], said)
        assert pending(client) == before
        assert failed(client, "renamed") == []


def test_pickles_of_scrapy_redis_stay_as_they_are_and_can_be_imported(
    project, site, redis_server
):
    project.spider(RENAMED)
    with redis_server.client() as client:
        members = {pickled: -n for n, pickled in enumerate(pickles(site.url))}
        client.zadd("renamed:requests", members)
        before = pending(client)
        assert_closed_as_unreadable(
            [project.crawl("renamed")],
            "scrapy frontier import renamed --from-scrapy-redis",
        )
        assert pending(client) == before


def test_mixed_requests_are_crawled_or_stay(project, site, redis_server):
    """Three of five cannot be read; what can be read is crawled until it is told."""
    project.spider(RENAMED)
    with redis_server.client() as client:
        payloads = [
            stored(f"{site.url}/page/{n}", callback="gone" if n % 5 < 3 else "parse")
            for n in range(1000)
        ]
        fill(client, payloads)
        before = dict(pending(client))
        assert_closed_as_unreadable([project.crawl("renamed")], "'gone'")
        after = dict(pending(client))
        assert failed(client, "renamed") == []
    paths = Counter(project.recorded("path"))
    assert set(paths.values()) <= {1}
    assert len(after) + len(paths) == len(before)
    assert after.items() <= before.items()


def test_single_unreadable_requests_are_set_aside(project, site, redis_server):
    project.spider(RENAMED)
    with redis_server.client() as client:
        good = [stored(f"{site.url}/page/{n}") for n in range(30)]
        bad = [stored(f"{site.url}/page/bad-{n}", callback="gone") for n in range(5)]
        fill(client, bad + good)
        workers = project.crawl_many(2, "renamed")
        assert_finished(workers)
        assert {letter["payload"] for letter in failed(client, "renamed")} == set(bad)
    assert site.hits().total() == 30
