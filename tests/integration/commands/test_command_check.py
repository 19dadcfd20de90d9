"""``scrapy frontier check`` as a process, on real frontiers and beside real workers."""

from __future__ import annotations

import asyncio
import json
import os

import pytest
from scrapy.settings import Settings

from scrapy_dist.brokers.redis.frontier import Frontier
from scrapy_dist.brokers.redis.keys import Keys
from scrapy_dist.brokers.redis.tools.check import check as check_frontier
from scrapy_dist.redis_client.client import close_client, open_client
from tests.support.commands import run_frontier
from tests.support.frontiers import leased_as, member
from tests.support.project import assert_finished
from tests.support.redis_server import free_port
from tests.support.redis_state import count_leased, failed, put_pending
from tests.support.site import tree_pages
from tests.support.spiders import FOLLOW, SEEDED
from tests.support.together import start_together
from tests.support.wait import wait_until


def check(project, spider, *args, **settings):
    merged = {"REDIS_URL": project.redis_url, **settings}
    if project.redis_url is None:
        del merged["REDIS_URL"]
    return run_frontier(project.folder, "check", spider, *args, settings=merged)


def test_a_broken_frontier_is_mended_and_its_crawl_loses_no_page(
    project, site, redis_server
):
    project.spider(FOLLOW)
    site.delay(60)
    args = {"url": f"{site.url}/tree/120/3/0"}
    site.answer(40)
    worker = project.crawl("follow", args=args)
    wait_until(lambda: site.waiting().total() > 1, "pages in work")
    worker.kill()
    site.delay(0)
    site.resume()
    with redis_server.client() as client:
        [number] = client.zrange("follow:workers", 0, -1)
        client.zrem("follow:workers", number)
        lost, copied, *_ = client.zrange("follow:leases", 0, -1)
        held = count_leased(client, "follow")
        client.zrem("follow:leases", lost)
        member = leased_as(client.hget("follow:leased", copied))[3]
        client.zadd("follow:requests", {member: 0, "garbage": 0})
        client.hdel("follow:state", "order")

    found = check(project, "follow")
    assert found.returncode == 1
    assert found.stderr == ""
    lines = found.stdout.splitlines()
    for line in (
        "1 entry that cannot be read [unreadable_member]",
        "1 lost request, which no worker holds or will be given [payload_without_lease]",
        f"{held - 1} requests held by unknown workers [lease_of_unknown_worker]",
        "1 request in two places [in_two_places]",
        "1 order counter behind the ids in use [order_behind]",
        "1 worker of which only traces are left [unknown_worker]",
        "Not OK. To mend it: scrapy frontier check follow --repair",
    ):
        assert [text for text in lines if text.startswith(line)], (line, lines)

    mended = check(project, "follow", "--repair", "--json")
    assert mended.returncode == 0
    report = json.loads(mended.stdout)
    assert report["ok"] is True
    assert report["spider"] == "follow"
    assert report["leased"] == 0
    assert report["workers_alive"] == 0
    assert {finding["kind"]: finding["mended"] for finding in report["findings"]} == {
        "unreadable_member": 1,
        "payload_without_lease": 1,
        "lease_of_unknown_worker": held - 1,
        "in_two_places": 1,
        "order_behind": 1,
        "unknown_worker": 1,
    }
    assert all(f["examples"] and f["left"] == 0 for f in report["findings"])
    assert "start one" in report["notes"][0]

    assert_finished([project.crawl("follow", args=args)])
    assert set(project.recorded("path")) == set(tree_pages(120, 3))
    with redis_server.client() as client:
        [letter] = failed(client, "follow")
    assert letter["payload"] == b"garbage"


def test_workers_at_work_cause_no_findings(project, site):
    project.spider(FOLLOW)
    args = {"url": f"{site.url}/tree/500/4/0"}
    workers = start_together(project, site, 2, "follow", 100, args=args)
    command = check(project, "follow", "--json", "--repair")
    assert command.returncode == 0
    report = json.loads(command.stdout)
    assert report["findings"] == []
    assert report["leased"] > 0
    assert report["workers_alive"] == 2
    # The same without the start of a process, so that it meets many moments.
    reports = asyncio.run(check_until_the_end(project.redis_url, site, workers))
    assert len(reports) > 10
    for report in reports:
        assert report.findings == {}, report
    assert_finished(workers)
    assert max(site.hits().values()) == 1


async def check_until_the_end(url, site, workers):
    settings = Settings({"REDIS_URL": url})
    client = await open_client(settings)
    keys = Keys.from_settings(settings, "follow")
    frontier = Frontier(client, keys, ttl=60, max_deliveries=3, failed_limit=100)
    reports = []
    while any(worker.running() for worker in workers):
        repair = len(reports) % 2 == 1
        reports.append(await check_frontier(frontier, repair=repair))
        site.go_on(20)
        await asyncio.sleep(0.01)  # the workers need the processor too
    await close_client(client)
    return reports


def test_requests_that_the_spider_cannot_run_are_found(project, redis_server):
    project.spider("""
    class Changed(Spider):
        name = "changed"
        custom_settings = {"SCHEDULER_SERIALIZER": "json"}

        def __init__(self, needed, **kwargs):
            raise AssertionError("a check runs no spider")

        def parse_new(self, response):
            pass
    """)
    with redis_server.client() as client:
        for i, name in enumerate(("parse_old", "parse_new"), 1):
            payload = json.dumps({"url": site_url(i), "callback": name})
            put_pending(client, "changed", member(payload.encode(), i))
        client.hset("changed:state", "order", 2)
        client.set("changed:items", "x")
    result = check(project, "changed")
    assert result.returncode == 1
    [first, second] = [line for line in result.stdout.splitlines() if line[0] == "1"]
    assert "changed:items is a string and must be a list" in first
    assert "0000000000000001 in requests: its callback is not allowed" in second


def site_url(number):
    return f"http://site.example/{number}"


@pytest.mark.keeps("k", reason="a key of seeds that is none")
def test_the_seeds_of_a_spider_are_checked_too(project, redis_server):
    project.spider(
        SEEDED.replace('name = "seeded"', 'name = "seeded"; redis_key = "k"')
    )
    with redis_server.client() as client:
        client.set("k", "x")
    result = check(project, "seeded")
    assert result.returncode == 1
    assert "k is a string; seeds are read from a list" in result.stdout


def test_an_embedded_redis_is_used_where_none_is_configured(make_project):
    project = make_project(None)
    project.spider(FOLLOW)
    result = check(project, "follow", FRONTIER_EMBEDDED_LINGER=0.0)
    assert result.returncode == 0, result
    assert "There is no frontier of follow at unix://" in result.stdout
    assert result.stdout.splitlines()[-1] == "OK"
    socket = project.folder / ".scrapy" / "frontier" / "redis.sock"
    wait_until(lambda: not socket.exists(), "the embedded Redis has ended")


# Wrong use: exit code 2, one line on stderr


def assert_one_line(result, *parts):
    assert result.returncode == 2, result
    assert result.stdout == ""
    [line] = result.stderr.splitlines()
    for part in ("scrapy frontier check: ", *parts):
        assert part in line


def test_the_nearest_name_of_the_project_is_suggested(project):
    project.spider(FOLLOW)
    assert_one_line(
        check(project, "folow"), "There is no spider 'folow'", "Did you mean 'follow'?"
    )


def test_outside_a_project_the_nearest_name_in_redis_is_suggested(
    tmp_path, redis_server
):
    with redis_server.client() as client:
        client.hset("follow:state", "order", 0)
    arguments = ["--redis", redis_server.url]
    assert_one_line(
        run_frontier(tmp_path, "check", "folow", *arguments), "Did you mean 'follow'?"
    )
    found = run_frontier(tmp_path, "check", "follow", *arguments)
    assert found.returncode == 0, found
    assert found.stdout.splitlines()[-1] == "OK"


def test_a_redis_that_is_away_is_named_without_its_password(tmp_path):
    url = f"redis://:secret@127.0.0.1:{free_port()}/0"
    result = run_frontier(tmp_path, "check", "follow", "--redis", url)
    assert_one_line(result, "127.0.0.1")
    assert "secret" not in result.stderr


def test_outside_a_project_redis_must_be_named(tmp_path):
    assert_one_line(run_frontier(tmp_path, "check", "follow"), "--redis URL")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["check"], "SPIDER"),
        (["chekc", "follow"], "check"),
        (["check", "follow", "--mend"], "--mend"),
    ],
)
def test_wrong_arguments_are_explained(tmp_path, arguments, part):
    result = run_frontier(tmp_path, *arguments)
    assert result.returncode == 2
    assert part in result.stderr
    assert "Traceback" not in result.stderr


# The command line


def test_help_shows_the_subcommands_and_an_example(tmp_path):
    overview = run_frontier(tmp_path, "--help")
    assert overview.returncode == 0
    assert "check" in overview.stdout
    assert "scrapy frontier status myspider" in " ".join(overview.stdout.split())
    details = run_frontier(tmp_path, "check", "--help")
    assert details.returncode == 0
    assert "Example: scrapy frontier check myspider --repair" in details.stdout
    assert "Exit code: 0 all is well" in details.stdout


def test_a_closed_pipe_is_no_error(tmp_path, redis_server):
    with redis_server.client() as client:
        client.hset("follow:state", mapping={"order": 0, "worker:7": "host:1"})
    reader, writer = os.pipe()
    os.close(reader)
    try:
        result = run_frontier(
            tmp_path, "check", "follow", "--redis", redis_server.url, stdout=writer
        )
    finally:
        os.close(writer)
    assert result.stderr == ""
    assert result.returncode == 1


@pytest.mark.keeps("x:s", reason="FRONTIER_STATE_KEY names it")
def test_settings_may_come_before_and_after_the_subcommand(tmp_path, redis_server):
    with redis_server.client() as client:
        client.hset("x:s", "worker:7", "host:1")
    result = run_frontier(
        tmp_path,
        *("-s", f"REDIS_URL={redis_server.url}", "check", "follow"),
        *("-s", "FRONTIER_STATE_KEY=x:s"),
    )
    assert result.returncode == 1, result
    assert "1 worker of which only traces are left [unknown_worker]" in result.stdout
