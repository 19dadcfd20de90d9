"""The place of what the add-on brings."""

from __future__ import annotations

import pytest
from scrapy.settings import Settings

from scrapy_dist.addon import Addon
from scrapy_dist.middleware import FrontierGateMiddleware

GATE = "scrapy_dist.middleware.FrontierGateMiddleware"

STATS = "scrapy.downloadermiddlewares.stats.DownloaderStats"
COOKIES = "scrapy.downloadermiddlewares.cookies.CookiesMiddleware"


@pytest.mark.parametrize(
    ("own", "place"),
    [
        ({}, 1_000_000),
        ({STATS: 543, COOKIES: None}, 1_000_000),
        ({STATS: 3_000_000, COOKIES: 2.5}, 3_000_001),
    ],
)
def test_gate_is_the_last_one_before_the_downloader(own, place):
    settings = Settings({"DOWNLOADER_MIDDLEWARES": own})
    Addon().update_settings(settings)
    assert settings["DOWNLOADER_MIDDLEWARES"][FrontierGateMiddleware] == place


def test_place_of_the_project_stays():
    settings = Settings({"DOWNLOADER_MIDDLEWARES": {GATE: 900}})
    Addon().update_settings(settings)
    found = settings["DOWNLOADER_MIDDLEWARES"]
    assert (found[GATE], FrontierGateMiddleware in found) == (900, False)
