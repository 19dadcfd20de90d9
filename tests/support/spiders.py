"""Spiders that several test modules use, as source text for `Project.spider`."""

#: Follows all links from the argument ``url`` and records each page's path.
FOLLOW = """
from urllib.parse import urlsplit

class Follow(Spider):
    name = "follow"
    url = None

    async def start(self):
        yield Request(self.url)

    def parse(self, response):
        record(self, path=urlsplit(response.url).path)
        yield from response.follow_all(css="a::attr(href)")
        yield {"path": urlsplit(response.url).path}
"""

#: Waits for seeds; records path, method and the meta key ``note`` of each page.
SEEDED = """
from urllib.parse import urlsplit
from scrapy_dist.spiders import RedisSpider

class Seeded(RedisSpider):
    name = "seeded"

    def parse(self, response):
        record(self, path=urlsplit(response.url).path)
        yield {"path": urlsplit(response.url).path}
"""
