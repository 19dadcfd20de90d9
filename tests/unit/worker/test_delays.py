"""What a worker says of delays that count in each of several workers."""

from __future__ import annotations

import pytest
from scrapy import Spider
from scrapy.settings import Settings

from scrapy_dist.worker.delays import Delays, delays_of


def spider(settings: dict[str, object], **attributes: object) -> Spider:
    made = Spider("s", **attributes)
    made.settings = Settings(settings)
    return made


@pytest.mark.parametrize(
    ("settings", "attributes", "found"),
    [
        ({}, {}, []),
        ({"DOWNLOAD_DELAY": "0.25"}, {}, ["DOWNLOAD_DELAY = 0.25"]),
        ({}, {"download_delay": 2}, ["download_delay = 2 of the spider"]),
        ({"DOWNLOAD_DELAY": 1}, {"download_delay": 0}, []),
        ({"AUTOTHROTTLE_ENABLED": True}, {}, ["AUTOTHROTTLE_ENABLED = True"]),
        ({"DOWNLOAD_SLOTS": {"a": {"concurrency": 1}}}, {}, []),
        (
            {"DOWNLOAD_SLOTS": {"a": {"delay": 1}, "b": {"delay": 0}}},
            {},
            ["DOWNLOAD_SLOTS, with a delay for 1"],
        ),
    ],
)
def test_what_spaces_requests(settings, attributes, found):
    assert delays_of(spider(settings, **attributes)) == found


def test_it_is_said_once_and_only_of_several_workers(caplog):
    delays = Delays(spider({"DOWNLOAD_DELAY": 1}))
    delays.look(1)
    assert caplog.messages == []
    delays.look(3)
    delays.look(4)
    [message] = caplog.messages
    assert message.startswith("3 workers")
    assert "DOWNLOAD_DELAY = 1" in message


def test_nothing_is_said_without_a_delay(caplog):
    Delays(spider({})).look(3)
    Delays(Spider("s")).look(3)
    assert caplog.messages == []
