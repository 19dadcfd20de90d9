"""What the settings say of a worker."""

import pytest
from scrapy.settings import Settings

from scrapy_dist.core.settings import Options


def concurrency(value):
    return Options.from_settings(Settings({"CONCURRENT_REQUESTS": value})).concurrency


def test_places_of_the_downloader_are_those_of_scrapy():
    assert concurrency("3") == 3


@pytest.mark.parametrize("value", [0, "0", -1])
def test_no_limit_of_scrapy_is_not_taken_for_one_place(value):
    assert concurrency(value) > 100
