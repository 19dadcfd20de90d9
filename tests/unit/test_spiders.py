"""What a RedisSpider reads of its settings when it is made."""

from __future__ import annotations

from typing import Any

import pytest

from scrapy_dist.core.frontier import BATCH
from scrapy_dist.exceptions import ConfigurationError
from scrapy_dist.spiders import RedisSpider
from tests.support.engine import make_crawler


class Books(RedisSpider):
    name = "books"


def made(**settings: Any) -> Any:
    spider = Books()
    spider.setup_redis(make_crawler(spider, **settings))
    return spider


def test_the_batch_size_limits_what_is_leased_only_if_somebody_set_it():
    assert made(REDIS_START_URLS_BATCH_SIZE=7).most_seeds == 7
    spider = made(CONCURRENT_REQUESTS=5)
    assert (spider.most_seeds, spider.redis_batch_size) == (BATCH, 5)


def test_an_idle_time_of_zero_is_no_limit():
    assert made(MAX_IDLE_TIME_BEFORE_CLOSE=0).seed_idle_limit is None
    assert made(MAX_IDLE_TIME_BEFORE_CLOSE=5).seed_idle_limit == 5


@pytest.mark.parametrize(
    "name", ["REDIS_START_URLS_AS_SET", "REDIS_START_URLS_AS_ZSET"]
)
def test_a_type_that_is_no_boolean_is_refused(name):
    with pytest.raises(ConfigurationError, match=f"{name} = 'perhaps'"):
        made(**{name: "perhaps"})
