"""Every name of scrapy-redis 0.9.1 that a user's project can use resolves here too.

The lists are literal: they are the contract, whatever is installed.
"""

from __future__ import annotations

import importlib
import inspect
import pickle

import pytest
import redis
from scrapy import FormRequest, Request
from scrapy.crawler import Crawler
from scrapy.settings import Settings
from scrapy.spiders import CrawlSpider, Spider
from scrapy.utils.misc import load_object

import scrapy_dist
from scrapy_dist import defaults

#: Everything that a project can import or write into a setting.
PATHS = (
    "get_redis",
    "get_redis_from_settings",
    "connection.from_settings",
    "connection.get_redis",
    "connection.get_redis_from_settings",
    "dupefilter.RFPDupeFilter",
    "picklecompat.dumps",
    "picklecompat.loads",
    "pipelines.RedisPipeline",
    "queue.FifoQueue",
    "queue.LifoQueue",
    "queue.PriorityQueue",
    "queue.SpiderPriorityQueue",
    "queue.SpiderQueue",
    "queue.SpiderStack",
    "scheduler.Scheduler",
    "spiders.RedisCrawlSpider",
    "spiders.RedisMixin",
    "spiders.RedisSpider",
    "stats.RedisStatsCollector",
)

#: The settings that scrapy-redis reads, with its defaults.
SETTINGS = {
    "REDIS_URL": None,
    "REDIS_HOST": None,
    "REDIS_PORT": 6379,
    "REDIS_DB": 0,
    "REDIS_ENCODING": "utf-8",
    "REDIS_DECODE_RESPONSES": False,
    "SCHEDULER_PERSIST": False,
    "SCHEDULER_FLUSH_ON_START": False,
    "SCHEDULER_IDLE_BEFORE_CLOSE": 0,
    "SCHEDULER_QUEUE_KEY": "%(spider)s:requests",
    # PriorityQueue there: hosts take turns, as with Scrapy's own scheduler.
    "SCHEDULER_QUEUE_CLASS": "scrapy_dist.queue.SlotQueue",
    "SCHEDULER_DUPEFILTER_KEY": "%(spider)s:dupefilter",
    "SCHEDULER_SERIALIZER": None,
    "DUPEFILTER_DEBUG": False,
    "REDIS_START_URLS_KEY": "%(name)s:start_urls",
    "REDIS_START_URLS_AS_SET": False,
    "REDIS_START_URLS_AS_ZSET": False,
    "REDIS_START_URLS_BATCH_SIZE": None,
    "MAX_IDLE_TIME_BEFORE_CLOSE": 0,
    "REDIS_ITEMS_KEY": "%(spider)s:items",
    "STATS_KEY": "%(spider)s:stats",
}

#: Attributes and methods that a user's spider sets, calls or overrides.
SPIDER_NAMES = (
    "redis_key",
    "redis_batch_size",
    "redis_encoding",
    "max_idle_time",
    "server",
    "setup_redis",
    "next_requests",
    "make_request_from_data",
    "schedule_next_requests",
)


@pytest.mark.parametrize("path", PATHS)
def test_dotted_path_resolves(path):
    found = load_object(f"scrapy_dist.{path}")
    assert callable(found)


@pytest.mark.parametrize("name", SETTINGS)
def test_setting_has_the_same_default(name):
    assert getattr(defaults, name) == SETTINGS[name]


def test_redis_params_have_the_same_timeouts():
    assert defaults.REDIS_PARAMS["socket_timeout"] == 30
    assert defaults.REDIS_PARAMS["socket_connect_timeout"] == 30


@pytest.mark.parametrize("name", SPIDER_NAMES)
@pytest.mark.parametrize("kind", ["RedisMixin", "RedisSpider", "RedisCrawlSpider"])
def test_spider_has(kind, name):
    assert hasattr(load_object(f"scrapy_dist.spiders.{kind}"), name)


def test_spider_attributes_are_unset_by_default():
    spider = load_object("scrapy_dist.spiders.RedisSpider")
    for name in ("redis_key", "redis_batch_size", "redis_encoding", "max_idle_time"):
        assert getattr(spider, name) is None


def test_spider_classes_are_scrapys():
    spiders = importlib.import_module("scrapy_dist.spiders")
    assert issubclass(spiders.RedisSpider, (spiders.RedisMixin, Spider))
    assert issubclass(spiders.RedisSpider, Spider)
    assert issubclass(spiders.RedisCrawlSpider, CrawlSpider)
    assert issubclass(spiders.RedisCrawlSpider, spiders.RedisMixin)
    assert not issubclass(spiders.RedisMixin, Spider)


def test_old_names_of_queues_are_aliases():
    queue = importlib.import_module("scrapy_dist.queue")
    assert queue.SpiderQueue is queue.FifoQueue
    assert queue.SpiderStack is queue.LifoQueue
    assert queue.SpiderPriorityQueue is queue.PriorityQueue


def test_from_settings_is_an_alias():
    connection = importlib.import_module("scrapy_dist.connection")
    assert connection.from_settings is connection.get_redis_from_settings
    assert scrapy_dist.get_redis is connection.get_redis
    assert scrapy_dist.get_redis_from_settings is connection.get_redis_from_settings


def test_picklecompat_round_trip():
    from scrapy_dist import picklecompat

    value = {"url": "http://a.example/", "t": (1, 2)}
    assert picklecompat.loads(picklecompat.dumps(value)) == value
    assert pickle.loads(picklecompat.dumps(value)) == value


@pytest.mark.keeps("a", reason="written by the caller")
def test_get_redis_takes_a_url_or_arguments(redis_server):
    for client in (
        scrapy_dist.get_redis(url=redis_server.url),
        scrapy_dist.get_redis(host="127.0.0.1", port=redis_server.port, db=0),
    ):
        with client:
            assert client.ping()
            client.set("a", "1")
            assert client.get("a") == b"1"


def test_get_redis_takes_a_class(redis_server):
    class Mine(redis.Redis):
        pass

    with scrapy_dist.get_redis(redis_cls=Mine, url=redis_server.url) as client:
        assert isinstance(client, Mine)


@pytest.mark.parametrize("decode", [False, True])
@pytest.mark.keeps("a", reason="written by the caller")
def test_get_redis_from_settings(redis_server, decode):
    settings = Settings(
        {"REDIS_URL": redis_server.url, "REDIS_DECODE_RESPONSES": decode}
    )
    with scrapy_dist.get_redis_from_settings(settings) as client:
        client.set("a", "1")
        assert client.get("a") == ("1" if decode else b"1")


def test_get_redis_from_settings_by_host_and_params(redis_server):
    settings = Settings(
        {
            "REDIS_HOST": "127.0.0.1",
            "REDIS_PORT": redis_server.port,
            "REDIS_DB": 3,
            "REDIS_PARAMS": {"socket_timeout": 5, "redis_cls": "redis.Redis"},
        }
    )
    with scrapy_dist.get_redis_from_settings(settings) as client:
        kwargs = client.connection_pool.connection_kwargs
        assert kwargs["db"] == 3
        assert kwargs["socket_timeout"] == 5
        assert client.ping()


def make_crawler(redis_server, spider_class):
    """A crawler as far as a spider's ``from_crawler`` needs it."""
    return Crawler(spider_class, Settings({"REDIS_URL": redis_server.url}))


def test_make_request_from_data_makes_form_requests(redis_server):
    spiders = importlib.import_module("scrapy_dist.spiders")

    class Mine(spiders.RedisSpider):
        name = "mine"

    spider = Mine.from_crawler(make_crawler(redis_server, Mine))
    request = _one(spider.make_request_from_data(b"http://a.example/?x=1"))
    assert isinstance(request, Request)
    assert request.url == "http://a.example/?x=1"
    assert request.dont_filter is True
    data = b'{"url": "http://a.example/", "method": "post", "meta": {"job": "1"}}'
    request = _one(spider.make_request_from_data(data))
    assert request.method == "POST"
    assert request.meta["job"] == "1"
    data = b'{"url": "http://a.example/", "method": "POST", "formdata": {"a": "b"}}'
    request = _one(spider.make_request_from_data(data))
    assert isinstance(request, (Request, FormRequest))
    assert request.body == b"a=b"


def _one(made):
    if isinstance(made, Request):
        return made
    [request] = made
    return request


@pytest.mark.keeps("a", reason="written by the caller")
def test_spider_has_a_blocking_client(redis_server):
    spiders = importlib.import_module("scrapy_dist.spiders")

    class Mine(spiders.RedisSpider):
        name = "mine"

    spider = Mine.from_crawler(make_crawler(redis_server, Mine))
    assert spider.server.ping()
    spider.server.set("a", "1")
    assert spider.server.get("a") == b"1"


def test_redis_key_is_filled_with_the_name(redis_server):
    spiders = importlib.import_module("scrapy_dist.spiders")

    class Default(spiders.RedisSpider):
        name = "default"

    class Template(spiders.RedisSpider):
        name = "template"
        redis_key = "seeds:%(name)s"

    spider = Default.from_crawler(make_crawler(redis_server, Default))
    assert spider.redis_key == "default:start_urls"
    assert spider.redis_encoding == "utf-8"
    spider = Template.from_crawler(make_crawler(redis_server, Template))
    assert spider.redis_key == "seeds:template"


def test_pipeline_hooks():
    pipelines = importlib.import_module("scrapy_dist.pipelines")
    for name in ("from_crawler", "process_item", "item_key"):
        assert callable(getattr(pipelines.RedisPipeline, name))
    parameters = inspect.signature(pipelines.RedisPipeline.item_key).parameters
    assert list(parameters) == ["self", "item", "spider"]


def test_stats_collector_methods():
    stats = importlib.import_module("scrapy_dist.stats")
    for name in (
        "get_value",
        "get_stats",
        "set_value",
        "set_stats",
        "inc_value",
        "max_value",
        "min_value",
        "clear_stats",
        "open_spider",
        "close_spider",
    ):
        assert callable(getattr(stats.RedisStatsCollector, name))


def test_dupefilter_works_with_scrapys_own_scheduler(project, site):
    """As scrapy-redis documents it: ``DUPEFILTER_CLASS`` alone."""
    project.spider("""
    class Own(Spider):
        name = "own"

        async def start(self):
            yield Request(self.url)

        def parse(self, response):
            yield from response.follow_all(css="a::attr(href)")
    """)
    worker = project.crawl(
        "own",
        args={"url": f"{site.url}/graph/30/3/0"},
        settings={"DUPEFILTER_CLASS": "scrapy_dist.dupefilter.RFPDupeFilter"},
        frontier="memory",
    )
    assert worker.wait() == 0
    assert worker.reason() == "finished"
    assert site.hits() == {f"/graph/30/3/{n}": 1 for n in range(30)}
