"""FRONTIER_GC_FREEZE, in a real crawl."""

from __future__ import annotations

import pytest

from tests.support.project import assert_finished

SPIDER = """
import gc

class Frozen(Spider):
    name = "frozen"

    async def start(self):
        yield Request(self.url + "/page/1")

    def parse(self, response):
        record(self, at="page", frozen=gc.get_freeze_count())

    def closed(self, reason):
        record(self, at="end", frozen=gc.get_freeze_count())
"""


@pytest.mark.parametrize(
    ("settings", "is_frozen"), [({}, True), ({"FRONTIER_GC_FREEZE": False}, False)]
)
def test_what_is_there_at_the_start_is_frozen_until_the_end(
    project, site, redis_server, settings, is_frozen
):
    project.spider(SPIDER)
    worker = project.crawl(
        "frozen", args={"url": site.url}, settings=settings, frontier="addon"
    )
    assert_finished([worker])
    frozen = {entry["at"]: entry["frozen"] for entry in project.records()}
    # Python 3.12 begins with a few hundred.
    assert (frozen["page"] > 10_000) == is_frozen
    assert frozen["end"] < 1_000
