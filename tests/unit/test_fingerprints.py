"""How a crawl names its requests, as those who look from outside have to know."""

from __future__ import annotations

import pytest
from scrapy import Request
from scrapy.dupefilters import RFPDupeFilter as ScrapyDupeFilter
from scrapy.utils.request import RequestFingerprinter

from scrapy_dist.brokers.redis.buckets import compact
from scrapy_dist.dupefilter import CompactDupeFilter, RFPDupeFilter
from scrapy_dist.fingerprints import default, of_crawler
from tests.support.engine import make_crawler

REQUEST = Request("http://site.example/")


class Decides(RFPDupeFilter):
    """As projects of scrapy-redis write them."""

    def request_seen(self, request):
        return False


class DecidesHere(ScrapyDupeFilter):
    def request_seen(self, request):
        return False


class Names(RFPDupeFilter):
    def request_fingerprint(self, request):
        return f"own {request.url}"


def crawler_with(dupefilter):
    crawler = make_crawler(DUPEFILTER_CLASS=dupefilter)
    crawler.request_fingerprinter = RequestFingerprinter(crawler)
    return crawler


@pytest.mark.parametrize(
    ("dupefilter", "name"),
    [
        (RFPDupeFilter, default(REQUEST)),
        (CompactDupeFilter, compact(default(REQUEST))),
        (ScrapyDupeFilter, default(REQUEST)),
        (Names, f"own {REQUEST.url}"),
    ],
)
def test_request_is_named_as_the_filter_does(dupefilter, name):
    of, filters = of_crawler(crawler_with(dupefilter))
    assert (of(REQUEST), filters) == (name, True)


@pytest.mark.parametrize("dupefilter", [Decides, DecidesHere])
def test_filter_that_decides_itself_keeps_no_names_in_the_frontier(dupefilter):
    of, filters = of_crawler(crawler_with(dupefilter))
    assert (of(REQUEST), filters) == (default(REQUEST), False)
