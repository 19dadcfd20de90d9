"""A frontier of another version: one sentence, and not one key is touched."""

from __future__ import annotations

import argparse
import asyncio

import pytest
from scrapy.settings import Settings

from scrapy_dist.brokers.redis.version import FORMAT
from scrapy_dist.client import Client
from scrapy_dist.commands.frontier import SUBCOMMANDS
from scrapy_dist.exceptions import ConfigurationError
from tests.support.project import assert_finished
from tests.support.redis_state import as_older, count_pending
from tests.support.site import tree_pages
from tests.support.spiders import FOLLOW


def everything(client):
    return {key: client.dump(key) for key in client.keys("*")}


def run(server, name, *args):
    """A subcommand in this process, outside a project: its exit code."""
    [subcommand] = [each for each in SUBCOMMANDS if each.name == name]
    parser = argparse.ArgumentParser()
    subcommand.add_options(parser)
    opts = parser.parse_args(["follow", *args, "--redis", server.url])
    return asyncio.run(subcommand.run(Settings(), opts))


@pytest.fixture
def newer(redis_server):
    with redis_server.client() as client:
        make_newer(client)
        yield client


def make_newer(client):
    client.hset("follow:state", mapping={"format": FORMAT + 1, "active": 1})
    client.zadd("follow:requests", {"of another form": 0})
    client.xadd("follow:failed", {"payload": "of another form"})


@pytest.mark.parametrize("kind", ["classic", "addon"])
def test_newer_format_is_refused_in_one_sentence(project, site, redis_server, kind):
    project.spider(FOLLOW)
    args = {"url": f"{site.url}/tree/30/3/0"}
    with redis_server.client() as client:
        make_newer(client)
        before = everything(client)
        worker = project.crawl("follow", args=args, frontier=kind)
        assert worker.wait() == 1
        errors = [line for line in worker.log().splitlines() if "] ERROR" in line]
        assert len(errors) == 1
        assert f"has format {FORMAT + 1} (follow:state)" in errors[0]
        assert "Traceback" not in worker.log()
        assert everything(client) == before
        assert site.hits() == {}


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("retry", ["--all"]),
        ("forget", ["--all"]),
        ("seed", ["http://site.example/"]),
        ("recrawl", ["http://site.example/"]),
        ("clear", ["--yes"]),
        ("check", ["--repair"]),
        ("pause", []),
        ("resume", []),
        ("workers", ["--stop", "all"]),
    ],
)
def test_commands_that_would_change_it_refuse(redis_server, newer, capsys, name, args):
    before = everything(newer)
    with pytest.raises(ConfigurationError, match="too old for it"):
        run(redis_server, name, *args)
    assert everything(newer) == before


@pytest.mark.parametrize("name", ["status", "peek", "failed", "workers"])
def test_commands_that_read_show_what_they_can(redis_server, newer, capsys, name):
    assert run(redis_server, name) == 0
    assert "what is shown may be wrong" in capsys.readouterr().err


def test_an_older_crawl_may_be_deleted(redis_server):
    with redis_server.client() as client:
        make_newer(client)
        client.hset("follow:state", "format", 3)
        assert run(redis_server, "clear", "--yes") == 0
        assert client.keys("*") == [b"follow:failed"]


def test_client_reads_and_does_not_change(redis_server, newer):
    before = everything(newer)
    with Client(redis_server.url, "follow") as there:
        assert there.status().pending == 1
        for change in (
            lambda: there.seed("http://site.example/"),
            lambda: there.forget(there.failed()),
            lambda: there.retry(there.failed()),
        ):
            with pytest.raises(ConfigurationError, match="too old for it"):
                change()
    assert everything(newer) == before


def test_stopped_crawl_of_an_older_format_is_converted_and_goes_on(
    project, site, redis_server
):
    project.spider(FOLLOW)
    args = {"url": f"{site.url}/tree/60/3/0"}
    first = project.crawl("follow", {"CLOSESPIDER_PAGECOUNT": 20}, args)
    assert first.wait() == 0
    with redis_server.client() as client:
        left = as_older(client, "follow")
        assert left == count_pending(client, "follow") > 0
        before = everything(client)
        with pytest.raises(ConfigurationError, match="Start a worker of this version"):
            run(redis_server, "check", "--repair")
        assert everything(client) == before
    # Two at once, each of which may convert a part.
    workers = [project.crawl("follow", args=args) for _ in range(2)]
    assert_finished(workers)
    assert site.hits() == tree_pages(60, 3)
    lines = [w for w in workers if "requests are converted to format" in w.log()]
    assert lines
