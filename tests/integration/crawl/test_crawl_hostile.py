"""Who can write to Redis cannot run code on the workers, nor stop them."""

from __future__ import annotations

import json
import pickle
from collections import Counter

import msgpack
import pytest

from tests.support.frontiers import member
from tests.support.project import assert_finished
from tests.support.redis_state import failed
from tests.support.site import tree_pages
from tests.support.together import start_together
from tests.support.wait import wait_until

VICTIM = """
from pathlib import Path
from urllib.parse import urlsplit

class Victim(Spider):
    name = "victim"

    def __init__(self, url=None, marker=None, **kwargs):
        if url is None or isinstance(url, scrapy.http.Response):
            Path("hacked").touch()
        super().__init__(**kwargs)
        self.url = url

    async def start(self):
        yield Request(self.url)

    def parse(self, response):
        record(self, path=urlsplit(response.url).path)
        yield from response.follow_all(css="a::attr(href)")

    @classmethod
    def a_classmethod(cls, response):
        Path("hacked").touch()

    @staticmethod
    def a_staticmethod(response):
        Path("hacked").touch()
"""


class Exploit:
    """Unpickling it makes the file ``hacked`` in the worker's folder."""

    def __reduce__(self):
        return (open, ("hacked", "w"))


def hostile_payloads(url: str) -> dict[str, bytes]:
    """Payloads that no worker may run; all name pages that the site would count."""

    def dicts(name: str, **fields: object) -> dict[str, bytes]:
        request = {"url": f"{url}/page/hostile-{name}", **fields}
        return {
            f"{name}-json": json.dumps(request).encode(),
            f"{name}-msgpack": b"\x01" + msgpack.packb(request),
        }

    callbacks = (
        "__init__",
        "__class__",
        "__del__",
        "from_crawler",
        "update_settings",
        "a_classmethod",
        "a_staticmethod",
        "name",
        "settings",
        "logger.info",
        "no_such_method",
    )
    return {
        "pickle": pickle.dumps(Exploit()),
        "pickle-0": pickle.dumps(Exploit(), protocol=0),
        "pickle-request": pickle.dumps({"url": f"{url}/page/hostile-pickle"}, 4),
        "pickle-tagged": b"\x01" + pickle.dumps(Exploit()),
        **dicts("class", _class="subprocess.Popen", args="touch hacked"),
        **dicts("class-os", _class="os.system"),
        **dicts("class-type", _class=5),
        **{
            key: value
            for name in callbacks
            for key, value in dicts(f"callback-{name}", callback=name).items()
        },
        **dicts("errback", errback="__init__"),
        **dicts("callback-type", callback=["parse"]),
        **dicts("method-type", method={"a": 1}),
        **dicts("headers-type", headers=7),
        **dicts("meta-type", meta="text"),
        **dicts("priority-type", priority="high"),
        "no-url": b"\x01" + msgpack.packb({"method": "GET"}),
        "url-type": b"\x01" + msgpack.packb({"url": 17}),
        "url-relative": b"\x01" + msgpack.packb({"url": "/page/hostile-relative"}),
        "not-a-dict": b"\x01" + msgpack.packb([1, 2, 3]),
        "truncated": b"\x01" + msgpack.packb({"url": f"{url}/page/x"})[:-3],
        "trailing": b"\x01" + msgpack.packb({"url": f"{url}/page/hostile-tail"}) + b"x",
        "deep": b"\x01" + b"\x91" * 5000 + b"\x90",
        "deep-json": b'{"url": ' + b"[" * 100_000,
        "huge-length": b"\x01\xdd\xff\xff\xff\xff",
        "unknown-ext": b"\x01" + msgpack.packb(msgpack.ExtType(99, b"x")),
        "too-large": b"\x01"
        + msgpack.packb({"url": f"{url}/page/hostile-big", "body": b"x" * 2_000_000}),
        "garbage": bytes(range(256)),
        "text": b"hello",
        "empty": b"",
        "nul": b"\x00",
    }


#: The first of many order ids that no crawl here comes to.
UNUSED_ID = 0x7000000000

MEMBERS_WITHOUT_ORDER = (b"", b"x", b"0000000000", b"zzzzzzzzzzzzzzzz{}", b"\xff" * 40)


@pytest.mark.parametrize("key", ["requests", "suspects"])
def test_planted_requests_are_set_aside_and_the_crawl_completes(
    project, site, redis_server, key
):
    project.spider(VICTIM)
    payloads = list(hostile_payloads(site.url).values())
    if key == "suspects":
        # They come before all others: ten of one kind would be taken for wrong code.
        json = [payload for payload in payloads if payload[:1] == b"{"]
        payloads = [payload for payload in payloads if payload not in json[9:]]
    with redis_server.client() as client:
        for n, payload in enumerate(payloads):
            planted = member(payload, UNUSED_ID + n, n % 5 - 2)
            client.zadd(f"victim:{key}", {planted: n % 5 - 2})
        for score, foreign in enumerate(MEMBERS_WITHOUT_ORDER):
            client.zadd(f"victim:{key}", {foreign: score})
        workers = start_together(
            project, site, 2, "victim", args={"url": f"{site.url}/tree/40/3/0"}
        )
        assert_finished(workers)
        letters = failed(client, "victim")

    assert site.hits() == tree_pages(40, 3)
    assert Counter(project.recorded("path")) == tree_pages(40, 3)
    assert not (project.folder / "hacked").exists()
    assert len(letters) == len(payloads) + len(MEMBERS_WITHOUT_ORDER)
    for letter in letters:
        assert letter["kind"] in (b"request", b"seed")
        assert len(letter["reason"]) > 10
    # Long ones may be shortened.
    found = {
        (b"\x00" * (letter["kind"] == b"seed") + letter["payload"])[:200]
        for letter in letters
    }
    assert {payload[:200] for payload in payloads} - found == set()


@pytest.mark.parametrize("first_id", [1, UNUSED_ID])
def test_garbage_planted_while_they_crawl(project, site, redis_server, first_id):
    project.spider(VICTIM)
    site.delay(30)
    workers = start_together(
        project, site, 2, "victim", 60, args={"url": f"{site.url}/tree/120/3/0"}
    )
    payloads = list(hostile_payloads(site.url).values())
    wait_until(lambda: site.hits().total() >= 10, "ten pages")
    with redis_server.client() as client:
        for n, payload in enumerate(payloads):
            # 1, 2, 3 … are in use, or will be: a stranger knows no better.
            client.zadd("victim:requests", {member(payload, first_id + n, -1000): 0})
        site.resume()
        assert_finished(workers)
        letters = failed(client, "victim")

    assert site.hits() == tree_pages(120, 3)
    assert Counter(project.recorded("path")) == tree_pages(120, 3)
    if first_id != 1:  # else one may take the place of another
        assert len(letters) == len(payloads)
    assert not (project.folder / "hacked").exists()


def test_frontier_of_scrapy_redis_is_not_unpickled(project, site, redis_server):
    """Its members have no order id; its keys have the same names."""
    project.spider(VICTIM)
    with redis_server.client() as client:
        for n in range(3):
            request = {"url": f"{site.url}/page/old-{n}", "callback": "parse"}
            client.zadd("victim:requests", {pickle.dumps(request, -1): n})
        client.zadd("victim:requests", {pickle.dumps(Exploit(), -1): 9})
        assert_finished(
            [project.crawl("victim", args={"url": f"{site.url}/tree/5/3/0"})]
        )
        assert len(failed(client, "victim")) == 4

    assert site.hits() == tree_pages(5, 3)
    assert not (project.folder / "hacked").exists()


READER = """
class Reader(Spider):
    name = "reader"

    async def start(self):
        yield Request("data:,own")
        yield Request("data:,own too")
        yield Request(self.url)

    def parse(self, response):
        record(self, url=response.url)
        yield {"body": response.text}
"""


@pytest.mark.parametrize("frontier", ["addon", "classic"])
def test_files_are_not_read_or_written_for_who_writes_to_redis(
    project, site, redis_server, frontier, tmp_path
):
    project.spider(READER)
    secret = tmp_path / "secret"
    secret.write_text("of the machine")
    planted = [
        {"url": secret.as_uri()},
        {"url": "data:text/plain,planted"},
        {"url": "FILE:" + str(secret)},
        {
            "url": "ftp://127.0.0.1:1/x",
            "meta": {"ftp_local_filename": str(tmp_path / "written")},
        },
        {
            "url": f"{site.url}/page/hostile",
            "meta": {"ftp_local_filename": str(tmp_path / "written")},
        },
        {"url": "gopher://127.0.0.1/"},
    ]
    page = f"{site.url}/page/1"
    with redis_server.client() as client:
        for n, request in enumerate(planted):
            payload = b"\x01" + msgpack.packb(request)
            client.zadd("reader:requests", {member(payload, UNUSED_ID + n, -9): 0})
        worker = project.crawl("reader", args={"url": page}, frontier=frontier)
        assert_finished([worker])
        reasons = [letter["reason"] for letter in failed(client, "reader")]

    assert sorted(project.recorded()) == ["data:,own", "data:,own%20too", page]
    assert sum(site.hits().values()) == 1
    assert len(reasons) == len(planted)
    assert sum(b"FRONTIER_SCHEMES" in reason for reason in reasons) == 5
    assert sum(b"ftp_local_filename" in reason for reason in reasons) == 1
    # What the spider itself asks for goes on, and one line says how to share it.
    assert worker.log().count("write FRONTIER_SCHEMES = ['data']") == 1


RESOLVER = """
from scrapy.resolver import CachingThreadedResolver
from twisted.internet import defer

class Resolver(CachingThreadedResolver):
    asked = 0

    def getHostByName(self, name, timeout=()):
        if name == "public.test":
            return defer.succeed("8.8.8.8")
        if name == "rebind.test":  # another answer each time
            self.asked += 1
            return defer.succeed("8.8.8.8" if self.asked == 1 else "127.0.0.1")
        if name == "private.test":
            return defer.succeed("127.0.0.1")
        return super().getHostByName(name, timeout)
"""

PUBLIC_SITE = """
from scrapy.http import HtmlResponse

class PublicSite:
    def process_request(self, request, spider=None):
        if "//public.test/redirect" in request.url:
            target = request.url.partition("?")[2]
            return HtmlResponse(request.url, status=302, headers={"Location": target})
        if "//public.test/" in request.url:
            return HtmlResponse(request.url, body=b"public")
"""

LIMITED = """
from scrapy_dist.spiders import RedisSpider

class Limited(RedisSpider):
    name = "limited"
    custom_settings = {
        "DOWNLOADER_MIDDLEWARES": {"shop.public.PublicSite": 50},
        "FRONTIER_SEED_PRIVATE": False,
        "MAX_IDLE_TIME_BEFORE_CLOSE": 1,
    }

    async def start(self):
        yield Request(self.url)
        async for request in super().start():
            yield request

    def make_request_from_data(self, data):
        made = super().make_request_from_data(data)
        if b"several" in data:
            return [made, made.replace(url=made.url + "2")]
        return made

    def parse(self, response):
        record(self, url=response.url)
"""


def test_seeds_do_not_reach_private_addresses(project, site, redis_server):
    project.spider(LIMITED)
    project.module("resolver", RESOLVER)
    project.module("public", PUBLIC_SITE)
    port = site.host.rpartition(":")[2]
    own = f"{site.url}/page/own"
    refused = [
        f"{site.url}/page/seed",
        f"http://0x7f.1:{port}/page/seed",
        f"http://[::ffff:127.0.0.1]:{port}/page/seed",
        f"http://private.test:{port}/page/seed",
        f"http://public.test/redirect?{site.url}/page/redirected",
        f"http://public.test/redirect?http://private.test:{port}/page/redirected",
        f"http://rebind.test:{port}/page/rebound",
    ]
    free = [
        "http://public.test/a",
        "http://public.test/several",
        "http://public.test/redirect?http://public.test/b",
    ]
    with redis_server.client() as client:
        client.rpush("limited:start_urls", *refused, *free)
        settings = {
            "DNS_RESOLVER": "shop.resolver.Resolver",
            "TWISTED_DNS_RESOLVER": "shop.resolver.Resolver",
        }
        worker = project.crawl(
            "limited", args={"url": own}, settings=settings, frontier="addon"
        )
        assert_finished([worker])
        letters = failed(client, "limited")
        client.delete("limited:failed")

    assert sorted(project.recorded()) == sorted(
        [
            own,
            *(
                f"http://public.test/{name}"
                for name in ("a", "b", "several", "several2")
            ),
        ]
    )
    # Of the name with another address each time the page is fetched, and not handed on.
    assert site.hits() == {"/page/own": 1, "/page/rebound": 1}
    assert {letter["payload"].decode() for letter in letters} == set(refused)
    for letter in letters:
        assert b"FRONTIER_SEED_PRIVATE is False" in letter["reason"]
    # With the classic lines nobody would see the redirects.
    worker = project.crawl("limited", args={"url": own})
    assert worker.wait() == 1
    errors = [line for line in worker.log().splitlines() if " ERROR: " in line]
    assert len(errors) == 1
    assert "DOWNLOADER_MIDDLEWARES" in errors[0]
