"""``scrapy frontier peek``, ``explain`` and ``recrawl``."""

from __future__ import annotations

import argparse
import asyncio
import json
import pickle

import pytest
import redis.asyncio
from scrapy import Request, Spider
from scrapy.settings import Settings
from scrapy.utils.request import fingerprint

from scrapy_dist.brokers.redis.layout import REQUESTS, encode_score, parse
from scrapy_dist.brokers.redis.version import FORMAT
from scrapy_dist.codec import compact
from scrapy_dist.codec.request import PayloadCodec
from scrapy_dist.commands import base, explain, peek
from scrapy_dist.core.frontier import NewRequest, Reject
from scrapy_dist.exceptions import ConfigurationError
from scrapy_dist.redis_client.client import close_client
from tests.support.commands import run_frontier
from tests.support.frontiers import KEYS, Worker, member
from tests.support.project import assert_finished
from tests.support.redis_server import free_port
from tests.support.redis_state import count_pending
from tests.support.site import tree_pages
from tests.support.spiders import FOLLOW


class WithItems(Spider):
    def parse_item(self, response):
        pass


def url(n):
    return f"http://site/page/{n}"


def name_of(address):
    return fingerprint(Request(address)).hex()


def page(n, score=0.0, **fields):
    payload = b"\x01" + compact.dumps({"url": url(n), **fields})
    return NewRequest(payload, score, name_of(url(n)))


@pytest.fixture
def run(redis_server, capsys):
    """``run(subcommand, *args)`` in this process, outside a project: code, output."""

    def run(subcommand, *args, settings=None):
        parser = argparse.ArgumentParser()
        subcommand.add_options(parser)
        opts = parser.parse_args([*args, "--redis", redis_server.url])
        capsys.readouterr()
        code = asyncio.run(subcommand.run(settings or Settings(), opts))
        return code, capsys.readouterr().out

    return run


def prepare(redis_server, steps):
    """Run the coroutine function *steps* with a worker on the frontier ``s``."""

    async def main():
        client = redis.asyncio.Redis.from_url(redis_server.url, protocol=2)
        try:
            await steps(client, await Worker(client).join("host:7"))
        finally:
            await close_client(client)

    asyncio.run(main())


@pytest.fixture
def busy(redis_server):
    """Page 0 leased, 1 suspect, 2 failed, 3 done, 4 to 6 pending."""

    async def steps(client, worker):
        await worker.commit([page(n) for n in range(4)])
        _, second, third, fourth = await worker.lease(4)
        call = worker.frontier.reject(
            [Reject(third.id, "request", "ex\x1b[2Jploded")], max_size=999
        )
        await worker.call(call)
        await worker.ack(fourth)
        other = await Worker(client).join("host:8")
        await worker.release(second)
        await other.lease(1)
        await other.dies(worker)
        await worker.commit(
            [
                page(4, -5.0, priority=5, method="POST", callback="parse_item"),
                page(5, -5.0, priority=5, meta={"depth": 3, "x\x1b": "\x07"}),
                page(6),
            ]
        )

    prepare(redis_server, steps)


def test_peek_ends_when_nobody_reads_on(run, busy, monkeypatch):
    written = []

    def write(line):
        written.append(line)
        return len(written) < 2

    monkeypatch.setattr(base, "write", write)
    assert run(peek.SUBCOMMAND, "s", "--json") == (0, "")
    assert len(written) == 2


def test_peek_shows_the_next_in_the_order_of_their_leases(run, busy):
    code, out = run(peek.SUBCOMMAND, "s")
    assert code == 0
    head, *lines = [line.split() for line in out.splitlines()]
    assert head == ["PRIORITY", "METHOD", "DEPTH", "CALLBACK", "URL"]
    assert lines == [
        ["0", "GET", "-", "-", url(1), "(suspect)"],
        ["5", "POST", "-", "parse_item", url(4)],
        ["5", "GET", "3", "-", url(5)],
        ["0", "GET", "-", "-", url(6)],
    ]
    code, out = run(peek.SUBCOMMAND, "s", "-n", "2", "--json")
    first, second = map(json.loads, out.splitlines())
    assert (first["place"], first["url"], first["deaths"]) == ("suspect", url(1), 1)
    assert (second["place"], second["priority"]) == ("pending", 5)


def test_peek_prints_nothing_that_moves_the_cursor(run, busy):
    _, out = run(peek.SUBCOMMAND, "s", "--verbose")
    assert "meta: " in out
    assert all(line.isprintable() for line in out.splitlines())


def test_peek_of_a_large_frontier_reads_no_more_than_it_shows(run, redis_server):
    async def steps(client, worker):
        for at in range(0, 500, 50):
            await worker.commit([page(n) for n in range(at, at + 50)])

    prepare(redis_server, steps)
    _, out = run(peek.SUBCOMMAND, "s", "-n", "250", "--json")
    assert [json.loads(line)["url"] for line in out.splitlines()] == [
        url(n) for n in range(250)
    ]
    assert run(peek.SUBCOMMAND, "s", "-n", "0") == (
        0,
        "500 pending; -n 0 shows none.\n",
    )
    assert run(peek.SUBCOMMAND, "s", "-n", "0", "--json") == (0, "")


@pytest.mark.parametrize(
    ("n", "place", "seen"),
    [
        (0, "leased", True),
        (1, "suspect", True),
        (2, "failed", True),
        (3, "done", True),
        (5, "pending", True),
        (99, "unknown", False),
    ],
)
def test_explain_knows_where_a_request_is(run, busy, n, place, seen):
    code, out = run(explain.EXPLAIN, "s", url(n), "--json")
    told = json.loads(out)
    assert code == (0 if seen else 1)
    assert (told["place"], told["seen"]) == (place, seen)
    assert told["fingerprint"] == name_of(url(n))
    assert told["start"] is False
    code, out = run(explain.EXPLAIN, "s", url(n))
    assert f"place          {place}" in out


def test_explain_tells_what_there_is_to_tell(run, busy):
    # Page 5 by another spelling, which has the same fingerprint.
    _, out = run(explain.EXPLAIN, "s", f"{url(5)}#part", "--json")
    told = json.loads(out)
    assert (told["before"], told["request"]["url"]) == (1, url(5))
    _, out = run(explain.EXPLAIN, "s", url(5))
    assert "pending, 1 request is before it" in out
    _, out = run(explain.EXPLAIN, "s", url(0))
    assert "leased by host:7, which was last heard of 0" in out
    _, out = run(explain.EXPLAIN, "s", url(1))
    assert "1 worker died with it" in out
    _, out = run(explain.EXPLAIN, "s", url(2))
    assert "ex\\x1b[2Jploded" in out


def test_explain_finds_seeds_and_start_requests(run, redis_server):
    async def steps(client, worker):
        await worker.commit([NewRequest(page(1).payload, 0, name_of(url(1)), 1)])
        seed = {"url": url(3), "method": "POST", "priority": 4, "callback": "found"}
        await client.rpush("s:start_urls", url(2), json.dumps(seed))
        await worker.seeds()

    prepare(redis_server, steps)
    assert json.loads(run(explain.EXPLAIN, "s", url(1), "--json")[1])["start"] is True
    for n in (2, 3):
        told = json.loads(run(explain.EXPLAIN, "s", url(n), "--json")[1])
        assert (told["place"], told["worker"]["worker"]) == ("leased", "host:7")
    request = told["request"]
    told = [request[name] for name in ("method", "priority", "callback")]
    assert told == ["POST", 4, "found"]
    _, out = run(explain.EXPLAIN, "s", url(3))
    assert f"request        POST {url(3)}" in out


def test_explain_reads_200_000_requests_in_steps(run, redis_server):
    fill = """
    for i = tonumber(ARGV[1]), ARGV[1] + 999 do
      local url = 'http://site/page/' .. string.format('%06d', i)
      redis.call('ZADD', KEYS[1], 7, ARGV[2 + i % 5] .. string.format('%016x', i + 1)
        .. string.char(1, 0x81, 0xa3) .. 'url' .. string.char(0xd9, #url) .. url)
    end"""
    with redis_server.client() as client:
        for at in range(0, 200_000, 1000):
            client.eval(fill, 1, "s:requests", at, *map(encode_score, range(5)))
        client.zadd(KEYS.requests, {member(b"of another slot", 1): 1})
        client.hset("s:state", mapping={"order": 200_001, "format": FORMAT})
        client.config_resetstat()
        code, out = run(explain.EXPLAIN, "s", f"{url('199999')}?b", "--json")
        assert code == 1
        code, out = run(explain.EXPLAIN, "s", url("199999"), "--json")
        told = json.loads(out)
        assert (told["before"], told["among"]) == (199_999, 200_000)
        assert told["request"]["score"] == 4
        _, out = run(explain.EXPLAIN, "s", url("199999"))
        assert (
            "pending, 199,999 of the 200,000 requests of its slot are before it" in out
        )
        # Neither one that blocks Redis, nor one for each.
        assert 200 < client.info("stats")["total_commands_processed"] < 10_000


@pytest.mark.parametrize("n", [2, 3, 99])
def test_recrawl_queues_what_is_nowhere_now(run, busy, redis_server, n):
    code, out = run(
        explain.RECRAWL, "s", url(n), "--priority", "9", "--callback", "parse_item"
    )
    assert (code, out) == (0, f"{url(n)}: queued\n")
    told = json.loads(run(explain.EXPLAIN, "s", url(n), "--json")[1])
    assert (told["place"], told["seen"], told["before"]) == ("pending", True, 0)
    assert told["request"]["callback"] == "parse_item"
    assert told["request"]["priority"] == 9


def serialized(n, serializer):
    fields = {"url": url(n), "dont_filter": True}
    data = serializer.dumps(fields)
    return NewRequest(data if type(data) is bytes else data.encode(), 0.0, "")


@pytest.mark.parametrize("is_leased", [False, True])
def test_recrawl_outside_a_project_writes_what_the_workers_read(
    run, redis_server, is_leased
):
    async def steps(client, worker):
        await worker.commit([serialized(n, json) for n in range(3)])
        if is_leased:
            await worker.lease(3)

    prepare(redis_server, steps)
    assert run(explain.RECRAWL, "s", url(7), "--callback", "parse_item")[0] == 0
    codec = PayloadCodec(WithItems("s"), serializer=json)
    with redis_server.client() as client:
        members = client.zrange(KEYS.requests, 0, -1)
    requests = [codec.decode(parse(REQUESTS, each).payload) for each in members]
    assert url(7) in {request.url for request in requests}


def test_recrawl_refuses_by_name_what_it_cannot_write(run, redis_server):
    async def steps(client, worker):
        await worker.commit([serialized(n, pickle) for n in range(3)])

    prepare(redis_server, steps)
    with pytest.raises(ConfigurationError, match="SCHEDULER_SERIALIZER"):
        run(explain.RECRAWL, "s", url(7))
    with redis_server.client() as client:
        assert count_pending(client, "s") == 3
    settings = Settings({"SCHEDULER_SERIALIZER": "pickle"})
    assert run(explain.RECRAWL, "s", url(7), settings=settings)[0] == 0
    with redis_server.client() as client:
        members = client.zrange(KEYS.requests, 0, -1)
    told = [pickle.loads(parse(REQUESTS, each).payload) for each in members]
    assert url(7) in {fields["url"] for fields in told}


def test_recrawl_leaves_alone_what_will_be_crawled_anyway(run, busy, redis_server):
    with redis_server.client() as client:
        before = count_pending(client, "s")
        code, out = run(explain.RECRAWL, "s", url(5), url(1))
        assert code == 0
        assert out.splitlines() == [
            f"{url(5)}: is pending already, and was left alone (see --force)",
            f"{url(1)}: is suspect already, and was left alone (see --force)",
        ]
        code, out = run(explain.RECRAWL, "s", url(0), url(3), "--json")
        assert code == 1
        assert [json.loads(line)["queued"] for line in out.splitlines()] == [
            False,
            True,
        ]
        assert count_pending(client, "s") == before + 1
        code, _ = run(explain.RECRAWL, "s", "--force", url(5), url(0))
        assert code == 0
        assert count_pending(client, "s") == before + 3


@pytest.mark.parametrize(
    ("args", "problem"),
    [
        (["s", "site/page"], "'site/page' is no URL"),
        (["t", url(1)], "no frontier of a spider 't'.* There are: s"),
    ],
)
def test_wrong_use_is_told(run, busy, args, problem):
    for subcommand in (explain.EXPLAIN, explain.RECRAWL):
        with pytest.raises(ConfigurationError, match=problem):
            run(subcommand, *args)


def test_recrawl_without_a_url_says_what_to_write(run, busy):
    with pytest.raises(ConfigurationError, match="Which URL"):
        run(explain.RECRAWL, "s")


def test_redirect_is_crawled_once_more_to_its_end(project, site, redis_server):
    project.spider(FOLLOW)
    args = {"url": f"{site.url}/redirect/302/page/x"}
    kept = {"SCHEDULER_PERSIST": True}
    assert_finished([project.crawl("follow", kept, args=args)])
    settings = {"REDIS_URL": redis_server.url}
    run_frontier(project.folder, "recrawl", "follow", args["url"], settings=settings)
    assert_finished([project.crawl("follow", args=args)])
    assert site.hits()["/page/x"] == 2


def test_a_page_is_crawled_once_more_and_its_links_are_duplicates(
    project, site, redis_server
):
    project.spider(FOLLOW)
    args = {"url": f"{site.url}/tree/30/3/0"}
    kept = {"SCHEDULER_PERSIST": True}
    assert_finished([project.crawl("follow", kept, args=args)])
    again = f"{site.url}/tree/30/3/2"
    settings = {"REDIS_URL": redis_server.url}
    ran = run_frontier(project.folder, "recrawl", "follow", again, settings=settings)
    assert (ran.returncode, ran.stderr) == (0, "")
    bad = run_frontier(
        project.folder,
        *("recrawl", "follow", again, "--callback", "parse_iten", "--force"),
        settings=settings,
    )
    assert bad.returncode == 2
    assert "no method 'parse_iten'" in bad.stderr
    told = run_frontier(
        project.folder, "explain", "follow", again, "--json", settings=settings
    )
    assert json.loads(told.stdout)["place"] == "pending"
    assert_finished([project.crawl("follow", args=args)])
    hits = site.hits()
    assert {page: hits[page] for page in tree_pages(30, 3)} == {
        page: 2 if page == "/tree/30/3/2" else 1 for page in tree_pages(30, 3)
    }


def test_redis_away_is_one_sentence(tmp_path):
    away = f"redis://127.0.0.1:{free_port()}"
    ran = run_frontier(tmp_path, "peek", "s", "--redis", away)
    assert ran.returncode == 2
    assert ran.stderr.startswith("scrapy frontier peek: ")
    assert "Traceback" not in ran.stderr
