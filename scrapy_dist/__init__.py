"""Scrapy workers that share one frontier in Redis."""

from scrapy_dist.addon import Addon
from scrapy_dist.connection import get_redis, get_redis_from_settings

__all__ = ["Addon", "__version__", "get_redis", "get_redis_from_settings"]

__version__ = "0.1.0"
