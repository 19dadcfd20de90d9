"""A polite crawl: delays and places hold for all workers together, counted at the site."""

import pytest
from scrapy.settings import default_settings

from tests.support.project import assert_finished
from tests.support.site_server import host
from tests.support.spiders import FOLLOW

#: Seconds of delay, and how much less a gap may be: both clocks are of one machine.
DELAY, TOLERANCE = 0.4, 0.002
EXACT = (
    {"DOWNLOAD_DELAY_JITTER": 0}
    if hasattr(default_settings, "DOWNLOAD_DELAY_JITTER")
    else {"RANDOMIZE_DOWNLOAD_DELAY": False}
)
POLITE = {
    "FRONTIER_POLITENESS": True,
    "DOWNLOAD_DELAY": DELAY,
    **EXACT,
    "FRONTIER_TURN": 1.0,
}


def short_gaps(hosts, names, delay=DELAY):
    return [
        (name, round(gap, 4))
        for name in names
        for gap in hosts.gaps(name)
        if gap < delay - TOLERANCE
    ]


@pytest.mark.parametrize("frontier", ["addon", "classic"])
def test_delay_holds_for_three_workers(project, hosts, frontier):
    project.spider(FOLLOW)
    workers = project.crawl_many(
        3,
        "follow",
        frontier=frontier,
        args={"url": f"{hosts.url}/hosts/6/8"},
        settings=POLITE,
    )
    assert_finished(workers)
    for w in workers:
        print(w.log())
    names = [host(n) for n in range(6)]
    assert short_gaps(hosts, names) == []
    found = {(h.host, h.path) for h in hosts.log() if h.host in names}
    assert len([h for h in hosts.log() if h.host in names]) == len(found) == 48
    assert {h.agent for h in hosts.log()} == {w.agent for w in workers}
