"""What commands tell of hosts while real workers are polite to them."""

import json

import pytest
from scrapy.settings import default_settings

from scrapy_dist.base.words import span
from scrapy_dist.client import Client
from tests.support.commands import run_frontier
from tests.support.site_server import host
from tests.support.spiders import FOLLOW
from tests.support.wait import wait_until

#: So long that no test sees its end.
DELAY = 900
EXACT = (
    {"DOWNLOAD_DELAY_JITTER": 0}
    if hasattr(default_settings, "DOWNLOAD_DELAY_JITTER")
    else {"RANDOMIZE_DOWNLOAD_DELAY": False}
)
POLITE = {"FRONTIER_POLITENESS": True, "DOWNLOAD_DELAY": DELAY, **EXACT}
HOSTS, PAGES = 4, 5


@pytest.fixture
def told(project):
    """``told(command, *args)``: what ``scrapy frontier`` prints in the project."""

    def told(command, *args):
        ran = run_frontier(
            project.folder,
            *(command, "follow", "--redis", project.redis_url, *args),
            settings=POLITE,
        )
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    return told


def test_hosts_of_a_polite_crawl_are_seen(project, hosts, told):
    project.spider(FOLLOW)
    url = f"{hosts.url}/hosts/{HOSTS}/{PAGES}"
    workers = project.crawl_many(
        2, "follow", frontier="addon", args={"url": url}, settings=POLITE
    )
    names = {host(n) for n in range(HOSTS)}
    with Client(project.redis_url, "follow") as client:

        def begun():
            found = {each.name: each for each in client.hosts().hosts}
            fetched = {hit.host for hit in hosts.log()}
            return names <= found.keys() & fetched and all(
                found[name].owners or found[name].wait for name in names
            )

        wait_until(begun, "one page of each host was fetched")
    found = json.loads(told("hosts", "--json"))
    assert found["polite"]
    here = {each["host"]: each for each in found["hosts"] if each["host"] in names}
    assert here.keys() == names
    assert {each["delay"] for each in here.values()} == {DELAY}
    known = {w["worker"] for w in json.loads(told("workers", "--json"))["workers"]}
    assert len(known) == 2
    for each in here.values():
        # A page of each is done, or in the hands of a worker that has not said so.
        assert PAGES - 1 <= each["pending"] + each["leased"] <= PAGES
        assert set(each["owners"]) <= known
        if not each["owners"]:
            assert 0 < each["next_start"] <= DELAY
    with Client(project.redis_url, "follow") as client:
        waiting = [
            shown.fields["url"] for shown in client.peek(100) if shown.kind == "pending"
        ]
    pending = json.loads(told("explain", waiting[-1], "--json"))["waiting"]
    assert pending["alive"] == 2
    assert pending["host"]["host"] in names
    assert pending["seconds"] > 0
    assert f"one request each {span(DELAY)}" in told("explain", waiting[-1])
    assert f"delay {span(DELAY)}" in told("top", "-n", "1", "--hosts")
    assert told("pause")
    assert "the crawl is paused" in told("explain", waiting[-1])
    for worker in workers:
        worker.kill()
