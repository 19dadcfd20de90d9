"""Seeds on their way in: checked, pushed in order, read from files of any kind."""

from __future__ import annotations

import gzip
import json
import os
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scrapy import Spider
from scrapy.settings import Settings

from scrapy_dist.admin.crawl import Crawl
from scrapy_dist.admin.seed_files import Tally, Unpacker, _Splitter, read_file
from scrapy_dist.admin.seeding import BATCH, SeedMaker, Sower, kind_of_new_key
from scrapy_dist.brokers.redis.tools.seeds import SeedPusher
from scrapy_dist.codec.seed import parse_seed
from scrapy_dist.codec.seed_rules import SeedRules
from scrapy_dist.exceptions import BadSeed, ConfigurationError, RedisUnavailable
from scrapy_dist.spiders import RedisSpider
from tests.support.frontiers import ON_REDIS_ONLY, SEED_KEYS, Worker

URL = "https://site.example/"
KEY = SEED_KEYS[0]
RULES = SeedRules(max_size=1000)
MAKER = SeedMaker(RULES)


class Books(RedisSpider):
    name = "books"

    def parse_book(self, response):
        """A callback."""


class Numbers(RedisSpider):
    """Reads seeds that are numbers."""

    name = "numbers"

    def make_request_from_data(self, data):
        raise AssertionError("nothing of the spider is run")


def bare(spider_class):
    return spider_class.__new__(spider_class)


# Making seeds


@pytest.mark.parametrize(
    ("value", "data"),
    [
        (URL, URL.encode()),
        (f"  {URL}\r\n", URL.encode()),
        (URL.encode(), URL.encode()),
        (URL + "ü", (URL + "ü").encode()),
        ('{"url": "https://a/"}', b'{"url": "https://a/"}'),
        ({"url": "https://a/", "meta": {"n": 1}}, None),
    ],
)
def test_url_text_and_object_become_a_seed(value, data):
    made = MAKER.make(value).data
    assert made == (data or json.dumps(value).encode())


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("", "empty"),
        ("site.example", "no scheme"),
        ("ftp://site.example/", "not allowed"),
        ("two words", "spaces"),
        (b"\xff\xfe", "not valid utf-8"),
        ("https://a/\udcff", "cannot be written as utf-8"),
        ('{"url": "https://a/"', "broken"),
        ("[1]", "JSON list"),
        ({"url": "https://a/", "shop": 1}, "unknown key"),
        ({"url": "https://a/", "meta": {"proxy": "x"}}, "steers"),
        ({"url": object()}, "no JSON"),
        ({"url": URL, "meta": {"x": float("nan")}}, "no JSON"),
        (URL + "x" * 1000, "FRONTIER_SEED_MAX_SIZE"),
    ],
)
def test_what_workers_would_refuse_is_refused(value, reason):
    with pytest.raises(BadSeed, match=reason):
        MAKER.make(value)


def test_seed_that_says_more_keeps_what_it_says():
    maker = SeedMaker(RULES, meta={"shop": "7", "page": "1"}, priority=3)
    url = maker.make(URL)
    own = maker.make({"url": URL, "meta": {"page": 2}, "priority": 9, "method": "HEAD"})
    assert json.loads(url.data) == {
        "url": URL,
        "meta": {"shop": "7", "page": "1"},
        "priority": 3,
    }
    assert url.priority == 3
    assert json.loads(own.data) == {
        "url": URL,
        "meta": {"shop": "7", "page": 2},
        "priority": 9,
        "method": "HEAD",
    }
    assert own.priority == 9


def test_bad_seed_is_not_made_good_by_what_is_added():
    maker = SeedMaker(RULES, meta={"shop": "7"})
    for value in ("site.example", "[1]", "a b", {"meta": {"a": 1}}, '{"meta": 1}'):
        with pytest.raises(BadSeed):
            maker.make(value)


def test_what_is_added_counts_for_the_size():
    maker = SeedMaker(RULES, meta={"shop": "x" * 900})
    assert maker.make(URL)
    with pytest.raises(BadSeed, match="FRONTIER_SEED_MAX_SIZE"):
        maker.make(URL + "x" * 100)


def test_what_is_wrong_with_all_seeds_is_said_at_once():
    with pytest.raises(BadSeed, match="'proxy' steers Scrapy"):
        SeedMaker(RULES, meta={"proxy": "http://p/"})
    with pytest.raises(BadSeed, match="priority is beyond"):
        SeedMaker(RULES, priority=2**60)
    assert SeedMaker(SeedRules(meta=frozenset({"proxy"})), meta={"proxy": "http://p/"})


def test_callbacks_are_those_of_the_spider():
    maker = SeedMaker(RULES, spider=bare(Books))
    assert maker.make({"url": URL, "callback": "parse_book"})
    with pytest.raises(BadSeed, match="no method 'parse_bok'"):
        maker.make({"url": URL, "callback": "parse_bok"})


@pytest.mark.parametrize("name", ["from_crawler", "__init__", "start", "a b", "", 7])
def test_any_callback_may_be_named_where_the_spider_is_unknown_but_no_hook(name):
    assert MAKER.make({"url": URL, "callback": "parse_x", "errback": "oops"})
    for field in ("callback", "errback"):
        with pytest.raises(BadSeed, match=field):
            MAKER.make({"url": URL, field: name})


def test_seeds_of_a_form_of_its_own_are_checked_for_their_size_only():
    maker = SeedMaker(RULES, spider=bare(Numbers))
    assert maker.own_form
    assert not SeedMaker(RULES, spider=bare(Books)).own_form
    assert maker.make("4711").data == b"4711"
    assert maker.make('{"n": 1, "priority": 7}').priority == 7
    for value in ("", "1" * 1001):
        with pytest.raises(BadSeed, match="FRONTIER_SEED_MAX_SIZE"):
            maker.make(value)


def test_settings_and_the_spider_say_what_a_seed_may_be():
    settings = Settings({"FRONTIER_SEED_SCHEMES": ["ftp"], "REDIS_ENCODING": "latin-1"})
    maker = Crawl(settings, "s").seed_maker()
    assert maker.make("ftp://a/ü").data == b"ftp://a/\xfc"
    with pytest.raises(BadSeed, match="not allowed"):
        maker.make(URL)
    spider = bare(Books)
    spider.redis_encoding = "cp1251"
    maker = Crawl(Settings(), "s", project=SimpleNamespace(spider=spider)).seed_maker()
    assert maker.make(URL + "я").data == URL.encode() + b"\xff"


@given(st.text() | st.binary())
def test_whatever_is_made_a_worker_reads(value):
    maker = SeedMaker(RULES, meta={"a": "b"}, priority=1)
    try:
        seed = maker.make(value)
    except BadSeed:
        return
    request = parse_seed(seed.data, RULES, bare(Spider))
    assert request.priority == seed.priority


# Pushing


def sower(client, maker=MAKER, kind="list"):
    pusher = SeedPusher(client, KEY, kind)
    return Sower(maker.make, pusher.push, lambda seed: len(seed.data))


async def test_seeds_are_taken_in_the_order_in_which_they_come(client):
    total = 2 * BATCH + 7
    urls = [f"{URL}{i}" for i in range(total)]
    assert await sower(client).push_all(urls) == total
    worker = await Worker(client).join()
    taken = []
    while leases := await worker.seeds():
        taken += [lease.payload.decode() for lease in leases]
    assert taken == urls


async def test_batch_is_one_command(client):
    await sower(client).push_all(["https://first/"])
    pushing = sower(client)
    for i in range(BATCH):
        assert not pushing.is_full
        pushing.take(f"{URL}{i}")
    assert pushing.is_full
    assert await client.llen(KEY) == 1
    await pushing.push()
    assert (await client.llen(KEY), pushing.waiting, pushing.pushed) == (
        BATCH + 1,
        0,
        BATCH,
    )


async def test_large_seeds_are_pushed_in_small_batches(client):
    pushing = sower(client, SeedMaker(SeedRules()))
    while not pushing.is_full:
        pushing.take({"url": URL, "body": "x" * 250_000})
    assert pushing.waiting <= 5


async def test_set_counts_what_is_new(client):
    await client.sadd(KEY, f"{URL}1")
    pushing = sower(client)
    for i in range(3):
        pushing.take(f"{URL}{i}")
    await pushing.push()
    assert (pushing.pushed, pushing.new) == (3, 2)
    assert await client.scard(KEY) == 3


async def test_sorted_set_is_in_the_order_of_priorities(client):
    maker = SeedMaker(RULES, priority=5)
    seeds = [URL, {"url": URL, "priority": 9}, {"url": URL, "priority": -1}]
    await sower(client, maker, "zset").push_all(seeds)
    worker = await Worker(client).join()
    taken = [json.loads(lease.payload) for lease in await worker.seeds()]
    assert [seed["priority"] for seed in taken] == [9, 5, -1]


async def test_type_of_the_key_decides(client):
    await client.sadd(KEY, "x")
    await sower(client, kind="zset").push_all([URL])
    assert await client.scard(KEY) == 2


async def test_key_may_change_its_type_under_a_push(client):
    pushing = sower(client)
    pushing.take(URL)
    await pushing.push()
    await client.delete(KEY)
    await client.sadd(KEY, "x")
    pushing.take(URL)
    await pushing.push()
    assert await client.scard(KEY) == 2
    assert pushing.pushed == 2


async def test_key_of_another_type_is_named(client):
    await client.hset(KEY, "x", "y")
    with pytest.raises(ConfigurationError, match="s:start_urls' in Redis is a hash"):
        await sower(client).push_all([URL])


async def test_seeds_before_a_bad_one_are_pushed_and_none_behind_it(client):
    with pytest.raises(BadSeed):
        await sower(client).push_all([URL, "nonsense", f"{URL}2"])
    assert await client.lrange(KEY, 0, -1) == [URL.encode()]


@ON_REDIS_ONLY
async def test_seeds_that_redis_refuses_still_wait(client):
    pushing = sower(client)
    pushing.take(URL)
    await client.config_set("maxmemory", 1)
    try:
        with pytest.raises(RedisUnavailable):
            await pushing.push()
    finally:
        await client.config_set("maxmemory", 0)
    assert (pushing.waiting, pushing.pushed) == (1, 0)
    await pushing.push()
    assert await client.lrange(KEY, 0, -1) == [URL.encode()]


def test_type_of_a_new_key_is_that_of_the_settings():
    assert kind_of_new_key(Settings()) == "list"
    assert kind_of_new_key(Settings({"REDIS_START_URLS_AS_SET": True})) == "set"
    assert kind_of_new_key(Settings({"REDIS_START_URLS_AS_ZSET": "1"})) == "zset"


# Files


async def read(path, max_line=1000, tally=None):
    parts = [p async for p in read_file(path, "f", max_line, tally or Tally())]
    problem = parts[-1].problem if parts else ""
    numbers = [part.first + i for part in parts for i in range(len(part.lines))]
    lines = [line for part in parts for line in part.lines]
    assert numbers == list(range(1, len(lines) + 1))
    return lines, problem


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (b"", []),
        (b"a", [b"a"]),
        (b"a\n", [b"a"]),
        (b"\n\na", [b"", b"", b"a"]),
        (b"a\r\nb", [b"a\r", b"b"]),
        (b"\xef\xbb\xbfa\nb", [b"a", b"b"]),
        (b"\n", [b""]),
        (b"a\n\n", [b"a", b""]),
    ],
)
async def test_lines_of_a_file_are_numbered(tmp_path, content, lines):
    path = tmp_path / "f"
    path.write_bytes(content)
    assert await read(path) == (lines, "")
    path.write_bytes(gzip.compress(content))
    assert await read(path) == (lines, "")


async def test_gzip_of_several_members_and_padding_is_read_to_its_end(tmp_path):
    path = tmp_path / "f.gz"
    lines = [b"line %d" % i for i in range(100_000)]
    half = b"\n".join(lines[:50_000]) + b"\n"
    rest = b"\n".join(lines[50_000:])
    path.write_bytes(gzip.compress(half) + bytes(7) + gzip.compress(rest) + bytes(512))
    tally = Tally()
    assert await read(path, tally=tally) == (lines, "")
    assert tally.read == path.stat().st_size


async def test_gzip_that_is_cut_off_gives_whole_lines_and_the_problem(tmp_path):
    path = tmp_path / "f.gz"
    lines = [os.urandom(10).hex().encode() for _ in range(5000)]
    path.write_bytes(gzip.compress(b"\n".join(lines))[:-5000])
    found, problem = await read(path)
    assert found == lines[: len(found)]
    assert len(found) > 100
    assert "cut off" in problem


async def test_broken_gzip_is_a_problem(tmp_path):
    path = tmp_path / "f.gz"
    path.write_bytes(b"\x1f\x8b" + bytes(100))
    assert (await read(path))[0] == []
    assert "cannot be read" in (await read(path))[1]


async def test_small_file_that_unpacks_to_much_takes_little_memory(tmp_path):
    path = tmp_path / "f.gz"
    path.write_bytes(gzip.compress(bytes(100 << 20)))
    [line], problem = await read(path, max_line=1000)
    assert (len(line), problem) == (1001, "")


async def test_file_that_is_gone_is_a_problem(tmp_path):
    lines, problem = await read(tmp_path / "none")
    assert lines == []
    assert "No such file" in problem


async def test_pipe_is_read_as_it_comes():
    reader, writer = os.pipe()
    os.write(writer, b"a\nb")
    parts = read_file(reader, "f", 1000, Tally())
    assert (await anext(parts)).lines == [b"a"]
    os.write(writer, b"b\n")
    assert (await anext(parts)).lines == [b"bb"]
    os.close(writer)
    assert [part async for part in parts] == []
    os.close(reader)


@given(st.binary(max_size=60), st.integers(1, 7), st.integers(1, 10), st.booleans())
def test_lines_do_not_depend_on_the_chunks(content, step, most, packed):
    wanted = [line[: most + 1] for line in content.split(b"\n")]
    if not wanted[-1]:
        wanted.pop()
    if content[:2] == b"\x1f\x8b" or content[:3] == b"\xef\xbb\xbf":
        return
    unpacker, splitter = Unpacker(), _Splitter(most)
    data = gzip.compress(content) if packed else content
    lines = []
    for i in range(0, len(data), step):
        for chunk in unpacker.feed(data[i : i + step]):
            lines += splitter.feed(chunk)
    lines += splitter.feed(unpacker.end()) + splitter.end()
    assert lines == wanted
