"""All crawls of one place, by the names that it has for them."""

from __future__ import annotations

from types import SimpleNamespace

from scrapy.settings import Settings

from scrapy_dist.admin.crawls import Crawls


async def test_a_spider_of_the_project_may_have_a_colon_in_its_name():
    async def names(settings, **_):
        return ["a:b", "a:c"]

    async def opened(broker):
        pass

    def make(settings, spider):
        return SimpleNamespace(spider=spider, job=settings["FRONTIER_JOB"], open=opened)

    crawls = Crawls(Settings(), make, ["a:b"])
    crawls._broker = SimpleNamespace(names=names)
    found = [(each.spider, each.job) for each in await crawls.find()]
    assert found == [("a:b", ""), ("a", "c")]
