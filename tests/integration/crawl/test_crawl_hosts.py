"""Crawls of several hosts: none waits for another, and slots hold what they allow."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.support.project import assert_finished
from tests.support.site import host_pages
from tests.support.site_server import host
from tests.support.together import start_together
from tests.support.wait import wait_until

FOLLOW = """
class Hosts(Spider):
    name = "hosts"

    async def start(self):
        yield Request(self.url)

    def parse(self, response):
        yield from response.follow_all(css="a")
"""
HOSTS, PAGES = 6, 10


def pages_of(site):
    """How often each page of each host was asked for, the first page left out."""
    hits = [(hit.host, hit.path) for hit in site.log() if hit.host != "127.0.0.1"]
    return Counter(hits)


@pytest.mark.parametrize("frontier", ["classic", "addon"])
def test_a_host_that_does_not_answer_keeps_no_other_waiting(project, hosts, frontier):
    project.spider(FOLLOW)
    slow = host(0)  # its pages are queued before those of the others
    hosts.hold(slow)
    settings = {"CONCURRENT_REQUESTS": 8, "CONCURRENT_REQUESTS_PER_DOMAIN": 4}
    url = f"{hosts.url}/hosts/{HOSTS}/{PAGES}"
    worker = project.crawl("hosts", settings, {"url": url}, frontier)

    others = host_pages(HOSTS, PAGES)
    for path in range(PAGES):
        del others[slow, f"/page/{path}"]
    wait_until(lambda: others <= pages_of(hosts), "all pages of the others", 120)
    assert hosts.waiting(slow).total() == 4

    hosts.let_go(slow)
    assert_finished([worker])
    assert pages_of(hosts) == host_pages(HOSTS, PAGES)
    assert max(hosts.most_open().values()) == 4


SLOTS = """
class Slots(Spider):
    name = "slots"

    async def start(self):
        yield Request(self.url)

    def parse(self, response):
        # Of one slot at two hosts, of two slots at one host, and of a host's own slot.
        for slot, hosts in SLOTS.items():
            for n in range(12):
                url = f"{hosts[n % len(hosts)]}/page/{slot}-{n}?group={slot}"
                meta = {} if slot == "own" else {"download_slot": slot}
                yield Request(url, self.parse_page, meta=meta)

    def parse_page(self, response):
        record(self, url=response.url)
"""


def test_slots_of_ones_own_hold_what_they_allow_and_all_of_it_at_once(project, hosts):
    names = [host(n) for n in range(4)]
    urls = [f"http://{name}:{hosts.port}" for name in names]
    slots = {"a": urls[:2], "b": urls[2:3], "c": urls[2:3], "own": urls[3:]}
    project.spider(f"SLOTS = {slots!r}\n{SLOTS}")
    for name in names:
        hosts.hold(name)
    settings = {
        "CONCURRENT_REQUESTS": 32,
        "CONCURRENT_REQUESTS_PER_DOMAIN": 4,
        "DOWNLOAD_SLOTS": {
            "a": {"concurrency": 3},
            "b": {"concurrency": 1},
            names[3]: {"concurrency": 2},
        },
    }
    allowed = {"a": 3, "b": 1, "c": 4, "own": 2}
    url = f"{hosts.url}/page/start"
    worker = project.crawl("slots", settings, {"url": url}, "addon")

    wait_until(
        lambda: {slot: hosts.most_open().get(slot, 0) for slot in allowed} == allowed,
        "each slot as full as it may be",
    )
    for name in names:
        hosts.let_go(name)
    assert_finished([worker])
    assert {slot: hosts.most_open()[slot] for slot in allowed} == allowed
    found = Counter(hit.path for hit in hosts.log() if hit.path != "/page/start")
    assert found == Counter(f"/page/{slot}-{n}" for slot in slots for n in range(12))
    assert len(project.recorded()) == 48


def test_two_workers_share_hosts_which_take_turns(project, hosts):
    project.spider(FOLLOW)
    url = f"{hosts.url}/hosts/{HOSTS}/{PAGES}"
    settings = {"CONCURRENT_REQUESTS": 2}
    workers = start_together(
        project, hosts, 2, "hosts", 1, args={"url": url}, settings=settings
    )
    for _ in range(3):
        wait_until(lambda: len(hosts.waiting()) == 2, "both at work")
        hosts.answer(4)
    hosts.resume()
    assert_finished(workers)

    log = [hit for hit in hosts.log() if hit.host != "127.0.0.1"]
    assert pages_of(hosts) == host_pages(HOSTS, PAGES)
    assert {hit.agent for hit in log} == {worker.agent for worker in workers}
    # They were queued host after host; half of them are of three hosts only.
    assert len({hit.host for hit in log[: len(log) // 2]}) == HOSTS
