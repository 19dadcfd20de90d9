"""Who reads the seeds of a spider, and what scrapy-redis has for that."""

from __future__ import annotations

import functools

import fakeredis
import pytest
from scrapy import Request, Spider
from scrapy.crawler import Crawler

from scrapy_dist.compat.overrides import names_used
from scrapy_dist.exceptions import BadSeed, ConfigurationError
from scrapy_dist.spiders import RedisCrawlSpider, RedisMixin, RedisSpider
from scrapy_dist.worker import engine


class Plain(RedisSpider):
    name = "plain"


class Filters(Plain):
    def next_requests(self):
        return (r for r in super().next_requests() if r.url)


class FiltersOnce(Filters):
    def next_requests(self):
        yield from Filters.next_requests(self)


class AsksRedis(Plain):
    def make_request_from_data(self, data):
        return None if self.known(data) else super().make_request_from_data(data)

    def known(self, data):
        return self.is_in(data)

    @staticmethod
    def unrelated(data):
        return data

    is_in = property(lambda self: self.server.sismember)


class Pops(Plain):
    def next_requests(self):
        yield self.make_request_from_data(self.server.lpop(self.redis_key))


class PopsAndAsks(Pops):
    def next_requests(self):
        yield from super().next_requests()


class Schedules(Plain):
    def schedule_next_requests(self):
        super().schedule_next_requests()


class SchedulesAll(Plain):
    def schedule_next_requests(self):
        for request in self.next_requests():
            self.crawler.engine.crawl(request)


class SchedulesItsOwn(Plain):
    def schedule_next_requests(self):
        self.crawler.engine.crawl(self.server.lpop("tasks"))


class SchedulesAndPops(Pops):
    def schedule_next_requests(self):
        super().schedule_next_requests()


class SchedulesWithHelp(Plain):
    def schedule_next_requests(self):
        self.help()

    def help(self):
        self.fetch_data("tasks", 1)


class Idles(Plain):
    def spider_idle(self):
        if self.count_size("tasks"):
            self.schedule_next_requests()


class IdlesByOthers(SchedulesItsOwn):
    def spider_idle(self):
        self.schedule_next_requests()
        super().spider_idle()


class Crawls(RedisCrawlSpider, Spider):
    name = "crawls"


def made(cls, **settings):
    return cls.from_crawler(Crawler(cls, settings))


@pytest.mark.parametrize(
    ("cls", "leased", "thread", "start"),
    [
        (Plain, True, False, True),
        (Crawls, True, False, True),
        (Filters, True, False, True),
        (FiltersOnce, True, False, True),
        (AsksRedis, True, True, False),
        (Pops, False, True, False),
        (PopsAndAsks, False, True, False),
        (Schedules, True, False, False),
        (SchedulesAll, True, False, False),
        (SchedulesItsOwn, False, False, False),
    ],
)
def test_who_reads_the_seeds(cls, leased, thread, start):
    spider = made(cls)
    assert (spider.seeds_are_leased, spider.seeds_in_thread) == (leased, thread)
    assert spider.seeds_start == start


@pytest.mark.parametrize(
    ("cls", "schedules", "idles"),
    [
        (Plain, False, False),
        (Pops, False, False),
        (Schedules, False, False),
        (SchedulesAll, False, False),
        (SchedulesItsOwn, True, False),
        (SchedulesAndPops, True, False),
        (SchedulesWithHelp, True, False),
        (Idles, False, True),
        (IdlesByOthers, True, False),
    ],
)
def test_which_other_overrides_run_in_a_thread(cls, schedules, idles):
    spider = made(cls)
    assert (spider.schedules_in_thread, spider.idles_in_thread) == (schedules, idles)


def test_names_used_by_methods_of_all_kinds():
    def wrapped(function):
        @functools.wraps(function)
        def wrapper(*args):
            return function(*args)

        return wrapper

    class Own(RedisSpider):
        name = "own"

        @wrapped
        def next_requests(self):
            return [self.count_size(key) for key in self.keys()]

        @classmethod
        def keys(cls):
            return list(cls.more.items())

        more = max

    used, to_base = names_used(Own, "next_requests", RedisMixin)
    assert {"count_size", "keys", "items", "more"} <= used
    assert not to_base
    assert names_used(Own, "make_request_from_data", RedisMixin) == (frozenset(), True)


@pytest.mark.parametrize("decoded", [False, True])
def test_seeds_by_the_type_of_their_key(decoded):
    spider = made(Plain)
    spider.server = server = fakeredis.FakeRedis(decode_responses=decoded)
    server.rpush("list", "a", "b", "c")
    server.sadd("set", "a", "b", "c")
    server.zadd("zset", {"a": 1, "b": 3, "c": 2})

    def text(seeds):
        return [s if isinstance(s, str) else s.decode() for s in seeds]

    assert spider.count_size(["list", "set", "zset", "nothing"]) == 9
    assert text(spider.fetch_data("list", 2)) == ["a", "b"]
    assert text(spider.fetch_data("zset", 2)) == ["b", "c"]
    assert sorted(text(spider.fetch_data("set", 5))) == ["a", "b", "c"]
    assert text(spider.fetch_data(["nothing", "list", "zset"], 2)) == ["c", "a"]
    assert spider.fetch_data("list", 2) == []
    assert spider.count_size("list") == 0
    server.set("text", "x")
    with pytest.raises(ConfigurationError, match="'text' is a string"):
        spider.fetch_data("text", 1)


@pytest.mark.parametrize("method", ["pop_list_queue", "pop_priority_queue"])
def test_fetch_data_asks_the_methods_of_a_subclass(method):
    cls = type("Own", (Plain,), {method: lambda self, key, size: [b"own"] * size})
    spider = made(cls)
    spider.server = fakeredis.FakeRedis()
    spider.server.rpush("list", "a")
    spider.server.zadd("zset", {"a": 1})
    key = "list" if method == "pop_list_queue" else "zset"
    assert spider.fetch_data(key, 2) == [b"own", b"own"]


def test_setup_redis_of_ones_own_need_not_call_ours():
    class Own(Plain):
        def setup_redis(self, crawler=None):
            self.server = "mine"

    spider = made(Own)
    assert spider.server == "mine"
    assert spider.seed_keys == ["plain:start_urls"]
    assert spider.redis_batch_size == 16


def test_bad_seed_that_a_spider_has_popped_itself_is_told_and_ends_no_loop(caplog):
    class Raises(Pops):
        def make_request_from_data(self, data):
            return Request(data.decode("ascii"))

    assert made(Pops).make_request_from_data(b"http://a.example/").method == "GET"
    assert made(Pops).make_request_from_data(b"no URL") is None
    assert made(Raises).make_request_from_data(b"\xff") is None
    told = [r for r in caplog.records if "is left out" in r.getMessage()]
    assert [bool(r.exc_info) for r in told] == [False, True]
    with pytest.raises(BadSeed):
        made(Plain).make_request_from_data(b"no URL")


def warnings_of(caplog, cls):
    caplog.clear()
    made(cls)
    return [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]


def test_start_requests_that_nobody_calls_is_said_once(caplog, monkeypatch):
    class Old(Plain):
        def start_requests(self):
            yield from ()

    class Both(Old):
        async def start(self):
            yield None

    class Calls(Plain):
        async def start(self):
            for request in self.start_requests():
                yield request

    class CallsOld(Calls):
        def start_requests(self):
            yield from ()

    monkeypatch.setattr(engine, "CALLS_START_REQUESTS", False)
    [warning] = warnings_of(caplog, Old)
    assert "Old.start_requests()" in warning
    assert "async def start(self)" in warning
    for cls in (Plain, Both, CallsOld):
        assert warnings_of(caplog, cls) == []
    monkeypatch.setattr(engine, "CALLS_START_REQUESTS", True)
    assert warnings_of(caplog, Old) == []
