"""Settings of the bookshop project: an ordinary Scrapy project that many crawl at once.

Start ``scrapy crawl books`` in as many terminals as you like: they share the work.
"""

BOT_NAME = "bookshop"
SPIDER_MODULES = ["bookshop.spiders"]
NEWSPIDER_MODULE = "bookshop.spiders"

USER_AGENT = "bookshop (+https://example.org/bookshop)"
ROBOTSTXT_OBEY = True

# The one line that makes all workers share one crawl.
ADDONS = {"scrapy_dist.Addon": 500}

# Without an address the workers on this machine share an embedded Redis under .scrapy/.
# Workers on many machines need one Redis that all of them can reach:
# REDIS_URL = "redis://:password@redis.example.org:6379/0"  # noqa: ERA001

# Items of all workers go to one Redis list, "books:items" for the spider "books".
# Scrapy's feed exports (FEEDS) work too: one file for each worker.
ITEM_PIPELINES = {
    "scrapy_dist.pipelines.RedisPipeline": 400,
}

# These count for each worker by itself: three workers ask three times as often.
CONCURRENT_REQUESTS = 16
CONCURRENT_REQUESTS_PER_DOMAIN = 8
DOWNLOAD_DELAY = 0
