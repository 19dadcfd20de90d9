"""Every dotted path that README and the topics of ``scrapy frontier help`` promise.

The list is literal: it is the contract. Whoever adds or removes a path in the documents
changes it here, too.
"""

from __future__ import annotations

import importlib
import inspect
import re

import pytest

from tests.support.documents import blocks, documents, imported

#: Paths below ``scrapy_dist``.
PATHS = (
    "Addon",
    "AsyncClient",
    "Client",
    "dupefilter.CompactDupeFilter",
    "dupefilter.RFPDupeFilter",
    "exceptions",
    "fingerprints.ScrapyRedisFingerprinter",
    "middleware.FrontierDownloaderMiddleware",
    "middleware.FrontierGateMiddleware",
    "middleware.FrontierPipeline",
    "middleware.FrontierSpiderMiddleware",
    "pipelines.RedisPipeline",
    "queue.FifoQueue",
    "queue.LifoQueue",
    "queue.PriorityQueue",
    "queue.SlotQueue",
    "scheduler.Scheduler",
    "spiders.RedisSpider",
)


def documented():
    for text in documents().values():
        yield from re.findall(r"\bscrapy_dist((?:\.\w+)+)", text)
    for block in blocks("python"):
        for path in imported(block.text):
            yield path.removeprefix("scrapy_dist")


def test_the_list_is_what_the_documents_name():
    # "scrapy_dist.spiders" is part of an import whose names are listed.
    found = {path.removeprefix(".") for path in documented()}
    modules = {path.rpartition(".")[0] for path in found}
    assert found - modules == set(PATHS)


@pytest.mark.parametrize("path", PATHS)
def test_it_resolves(path):
    found = importlib.import_module("scrapy_dist")
    for name in path.split("."):
        if inspect.ismodule(found) and not hasattr(found, name):
            found = importlib.import_module(f"{found.__name__}.{name}")
        else:
            found = getattr(found, name)
    assert found is not None
