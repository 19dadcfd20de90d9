"""``scrapy frontier failed``, ``retry`` and ``forget``, on a real Redis."""

from __future__ import annotations

import argparse
import asyncio
import json
import os

import pytest
from scrapy import Request, Spider
from scrapy.settings import Settings

from scrapy_dist.brokers.redis.layout import RANK, decode_score
from scrapy_dist.codec.request import PayloadCodec
from scrapy_dist.commands.failed import FAILED, FORGET, RETRY
from scrapy_dist.exceptions import ConfigurationError
from tests.support.commands import run_frontier
from tests.support.project import assert_finished
from tests.support.redis_server import free_port
from tests.support.redis_state import count_failed, count_pending, count_seen, failed
from tests.support.wait import wait_until

KEY = "books:failed"
URL = "http://site.example/"
CODEC = PayloadCodec(Spider("books"))

#: Crawls the argument ``paths``; whoever fails has no errback.
FRAGILE = """
class Fragile(Spider):
    name = "fragile"

    async def start(self):
        for path in self.paths.split(","):
            yield Request(self.url + path, priority=int(self.priority))

    def parse(self, response):
        record(self, url=response.url, priority=response.request.priority)
"""


@pytest.fixture
def command(redis_server, capsys, tmp_path, monkeypatch):
    """Run a subcommand in this process, outside a project: exit code, stdout."""
    monkeypatch.chdir(tmp_path)

    def run(subcommand, *args):
        parser = argparse.ArgumentParser()
        subcommand.add_options(parser)
        opts = parser.parse_args(["books", "--redis", redis_server.url, *args])
        code = asyncio.run(subcommand.run(Settings(), opts))
        return code, capsys.readouterr().out

    return run


def write(
    client, number=1, *, reason="HTTP 500 is not handled", kind="request", **more
):
    payload = CODEC.encode(Request(f"{URL}{number}", priority=number))
    fields = {"payload": payload, "reason": reason, "worker": "shop:12", "kind": kind}
    fields |= {"deliveries": 2, "time": 1_700_000_000_123, **more}
    return client.xadd(KEY, fields).decode()


# failed


def test_letters_are_listed_newest_first(command, client):
    ids = [write(client, i) for i in range(1, 4)]
    code, out = command(FAILED)
    assert code == 0
    header, *lines = out.splitlines()
    assert header.split() == ["ID", "TIME", "KIND", "SENT", "WORKER", "URL", "REASON"]
    assert [line.split()[0] for line in lines] == ids[::-1]
    assert lines[0].split(None, 7) == [
        *(ids[2], "2023-11-14", "22:13:20", "request", "2", "shop:12", f"{URL}3"),
        "HTTP 500 is not handled",
    ]


def test_some_are_shown_and_the_rest_is_counted(command, client):
    for i in range(1, 31):
        write(client, i)
    lines = command(FAILED)[1].splitlines()
    assert len(lines) == 1 + 20 + 1
    assert lines[-1] == "… and 10 more; -n 0 shows all"
    assert len(command(FAILED, "-n", "5")[1].splitlines()) == 1 + 5 + 1
    assert len(command(FAILED, "-n", "0")[1].splitlines()) == 1 + 30
    assert len(command(FAILED, "-n", "30")[1].splitlines()) == 1 + 30
    assert len(command(FAILED, "--json")[1].splitlines()) == 30
    assert len(command(FAILED, "--json", "-n", "7")[1].splitlines()) == 7


def test_many_are_shown_once_each_below_one_header(command, client, monkeypatch):
    monkeypatch.setattr("scrapy_dist.commands.failed._ROWS", 4)
    ids = [write(client, i) for i in range(11)]
    header, *lines = command(FAILED, "-n", "0")[1].splitlines()
    assert header.startswith("ID")
    assert [line.split()[0] for line in lines] == ids[::-1]


def test_reason_selects(command, client):
    write(client, 1, reason="the download failed: TimeoutError")
    write(client, 2)
    _, line = command(FAILED, "--reason", "timeout")[1].splitlines()
    assert f"{URL}1" in line
    assert command(FAILED, "--reason", "DNS") == (
        0,
        "There is no dead letter of books with 'DNS' in its reason.\n",
    )


def test_scripts_get_one_object_a_line(command, client):
    id_ = write(client, 7)
    client.xadd(KEY, {"payload": b"\x80pickle", "kind": "request"})
    unknown, known = map(json.loads, command(FAILED, "--json")[1].splitlines())
    assert known == {
        "id": id_,
        "time": "2023-11-14T22:13:20.123Z",
        "kind": "request",
        "deliveries": 2,
        "worker": "shop:12",
        "url": f"{URL}7",
        "reason": "HTTP 500 is not handled",
    }
    assert unknown["url"] is None


def test_what_strangers_wrote_does_not_reach_the_terminal_as_it_is(command, client):
    write(
        client,
        payload="http://user:secret@h/\x1b[31m\u202ereversed",
        kind="seed",
        reason="\x1b[2Jgone\nnew line",
        worker="\x07bell",
    )
    out = command(FAILED)[1]
    assert len(out.splitlines()) == 2
    for bad in ("\x1b", "\x07", "\u202e", "secret"):
        assert bad not in out
    for bad in ("\x1b", "\x07", "\u202e"):
        assert bad not in command(FAILED, "--json")[1]


@pytest.mark.parametrize("time", [b"", b"0", b"-5", b"9" * 15, b"9" * 400, b"now"])
def test_time_that_is_none_is_not_shown(command, client, time):
    write(client, time=time)
    assert command(FAILED)[1].splitlines()[1].split()[1] == "-"
    assert json.loads(command(FAILED, "--json")[1])["time"] is None


def test_no_letter_is_fine(command, client):
    client.hset("books:state", "order", 1)
    assert command(FAILED) == (0, "There is no dead letter of books.\n")
    assert command(FAILED, "--json") == (0, "")


def test_nearest_name_is_suggested_outside_a_project(command, client):
    client.hset("book:state", "order", 1)
    with pytest.raises(ConfigurationError, match="Did you mean 'book'"):
        command(FAILED)


def test_key_of_another_program_is_named(command, client):
    client.set(KEY, "x")
    with pytest.raises(ConfigurationError, match="books:failed holds something else"):
        command(FAILED)


# retry and forget


def test_all_are_put_back_without_a_project(command, client):
    for i in range(1, 4):
        write(client, i)
    client.xadd(KEY, {"payload": b"garbage", "kind": "request"})
    client.xadd(KEY, {"payload": URL, "kind": "seed"})
    code, out = command(RETRY, "--all")
    assert code == 1
    first, second, example = out.splitlines()
    assert first == "3 put back, and 1 to the seeds (books:start_urls)"
    assert second == "1 cannot be put back, and stay:"
    assert "garbage" in example
    members = client.zrange("books:requests", 0, -1)
    assert [(CODEC.decode(m[RANK:]).url, decode_score(m[:8])) for m in members] == [
        (f"{URL}3", -3),
        (f"{URL}2", -2),
        (f"{URL}1", -1),
    ]
    assert client.lrange("books:start_urls", 0, -1) == [URL.encode()]
    assert client.xlen(KEY) == 1


def test_named_ones_are_put_back_also_behind_options(command, client):
    ids = [write(client, i) for i in range(1, 5)]
    code, out = command(RETRY, ids[0], "--reason", "500", ids[2])
    assert (code, out) == (0, "2 put back\n")
    assert count_pending(client, "books") == 2
    code, out = command(RETRY, "--json", ids[0], ids[1])
    assert code == 1
    report = json.loads(out)
    assert report.pop("redis").startswith("redis://127.0.0.1")
    assert report == {
        "spider": "books",
        "requests": 1,
        "seeds": 0,
        "unreadable": 0,
        "missing": 1,
    }


def test_nothing_to_put_back_is_said(command, client):
    write(client)
    assert command(RETRY, "--all", "--reason", "timeout") == (0, "0 put back\n")


def test_deleted_are_gone(command, client):
    ids = [write(client, i, reason=f"HTTP 40{i}") for i in range(1, 6)]
    assert command(FORGET, ids[0]) == (0, "1 deleted\n")
    assert command(FORGET, ids[0]) == (1, "0 deleted\n1 not there (any more)\n")
    assert command(FORGET, "--all", "--reason", "404") == (0, "1 deleted\n")
    code, out = command(FORGET, "--all", "--json")
    assert (code, json.loads(out)["deleted"]) == (0, 3)
    assert client.xlen(KEY) == 0
    assert client.exists("books:requests") == 0


@pytest.mark.parametrize("subcommand", [RETRY, FORGET], ids=["retry", "forget"])
@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((), "Give IDs, or --all"),
        (("--reason", "x"), "Give IDs, or --all"),
        (("--all", "1-1"), "not both"),
        (("nonsense",), "'nonsense' is no ID"),
    ],
)
def test_it_must_be_clear_which_letters_are_meant(
    command, client, subcommand, args, message
):
    write(client)
    with pytest.raises(ConfigurationError, match=message):
        command(subcommand, *args)
    assert client.xlen(KEY) == 1


# With real crawls and processes


def test_seen_request_is_crawled_again_after_its_crawl(project, site, redis_server):
    project.spider(FRAGILE)
    settings = {"SCHEDULER_PERSIST": True}
    args = {"url": site.url, "paths": "/once/500/a,/page/b", "priority": 3}
    crawl = {"settings": settings, "args": args, "frontier": "addon"}
    assert_finished([project.crawl("fragile", **crawl)])
    with redis_server.client() as client:
        [letter] = failed(client, "fragile")
        assert b"500" in letter["reason"]
        assert count_seen(client, "fragile") == 2

    where = {"settings": {**settings, "REDIS_URL": redis_server.url}}
    result = run_frontier(project.folder, "retry", "fragile", "--all", **where)
    assert (result.returncode, result.stdout) == (0, "1 put back\n"), result
    assert_finished([project.crawl("fragile", **crawl)])

    assert project.recorded("url") == [f"{site.url}/page/b", f"{site.url}/once/500/a"]
    assert set(project.recorded("priority")) == {3}
    assert site.hits() == {"/once/500/a": 2, "/page/b": 1}
    with redis_server.client() as client:
        assert failed(client, "fragile") == []


def test_redirect_that_failed_is_followed_again(project, site, redis_server):
    """Its target was seen on behalf of the request that is put back."""
    project.spider(FRAGILE)
    path = "/redirect/302/once/500/a"
    settings = {"SCHEDULER_PERSIST": True}
    args = {"url": site.url, "paths": path, "priority": 0}
    crawl = {"settings": settings, "args": args, "frontier": "addon"}
    assert_finished([project.crawl("fragile", **crawl)])
    where = {"settings": {**settings, "REDIS_URL": redis_server.url}}
    result = run_frontier(project.folder, "retry", "fragile", "--all", **where)
    assert result.stdout == "1 put back\n", result
    assert_finished([project.crawl("fragile", **crawl)])
    assert project.recorded("url") == [f"{site.url}/once/500/a"]
    assert site.hits() == {path: 2, "/once/500/a": 2}


def test_worker_at_work_takes_what_is_put_back(project, site, redis_server):
    project.spider(FRAGILE)
    args = {"url": site.url, "paths": "/once/500/a,/gate/end/", "priority": 0}
    worker = project.crawl("fragile", args=args, frontier="addon")
    with redis_server.client() as client:
        wait_until(lambda: count_failed(client, "fragile"), "a dead letter")
        outside = ("--redis", redis_server.url)
        result = run_frontier(
            project.folder.parent, "retry", "fragile", "--all", *outside
        )
        assert result.stdout == "1 put back\n", result
        wait_until(lambda: site.hits()["/once/500/a"] == 2, "the page again")
    site.open_gate("end")
    assert_finished([worker])
    assert f"{site.url}/once/500/a" in project.recorded("url")


def test_closed_pipe_is_no_error(tmp_path, client, redis_server):
    for i in range(3000):
        write(client, i)
    reader, writer = os.pipe()
    os.close(reader)
    try:
        args = ("failed", "books", "-n", "0", "--redis", redis_server.url)
        result = run_frontier(tmp_path, *args, stdout=writer)
    finally:
        os.close(writer)
    assert (result.returncode, result.stderr) == (0, "")


def test_redis_that_is_away_is_one_line(tmp_path):
    url = f"redis://:secret@127.0.0.1:{free_port()}/0"
    result = run_frontier(tmp_path, "forget", "books", "--all", "--redis", url)
    assert result.returncode == 2
    [line] = result.stderr.splitlines()
    assert line.startswith("scrapy frontier forget: ")
    assert "secret" not in line
