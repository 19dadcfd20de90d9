"""The add-on's components in a unit test of a project: there is a crawler, no engine."""

from __future__ import annotations

from types import SimpleNamespace
from unittest.mock import Mock

import pytest
from scrapy import Request, Spider, signals
from scrapy.crawler import Crawler
from scrapy.http import HtmlResponse
from scrapy.signalmanager import SignalManager
from scrapy.spidermiddlewares.httperror import HttpError

from scrapy_dist.middleware import (
    FrontierDownloaderMiddleware,
    FrontierPipeline,
    FrontierSpiderMiddleware,
)

ITEM = {"name": "a"}


@pytest.fixture(params=["Crawler", "engine is None", "no engine", "Mock"])
def crawler(request):
    if request.param == "Crawler":
        return Crawler(Spider)
    if request.param == "Mock":
        return Mock(signals=SignalManager())
    crawler = SimpleNamespace(signals=SignalManager())
    if request.param == "engine is None":
        crawler.engine = None
    return crawler


@pytest.fixture
def response():
    request = Request("http://a.example/")
    return HtmlResponse(request.url, request=request)


async def test_spider_middleware_passes_everything_on(crawler, response):
    middleware = FrontierSpiderMiddleware.from_crawler(crawler)
    crawler.signals.send_catch_log(signals.spider_opened, spider=Spider("a"))
    spider = Spider("a")
    output = [ITEM, Request("http://b.example/")]
    assert list(middleware.process_spider_output(response, output, spider)) == output

    async def produce():
        for each in output:
            yield each

    found = middleware.process_spider_output_async(response, produce(), spider)
    assert [each async for each in found] == output
    for error in (HttpError(response, "404"), ValueError("no")):
        assert middleware.process_spider_exception(response, error, spider) is None
    sent = crawler.signals.send_catch_log(
        signals.spider_error,
        failure=SimpleNamespace(value=ValueError("no")),
        response=response,
        spider=spider,
    )
    assert [result for _, result in sent] == [None]


def test_downloader_middleware_watches_nothing(crawler):
    middleware = FrontierDownloaderMiddleware.from_crawler(crawler)
    sent = crawler.signals.send_catch_log(signals.spider_opened, spider=Spider("a"))
    assert [(bound.__self__, result) for bound, result in sent] == [(middleware, None)]


def test_pipeline_passes_the_item_on(crawler):
    pipeline = FrontierPipeline.from_crawler(crawler)
    assert pipeline.process_item(ITEM, Spider("a")) is ITEM
