"""A look at what Redis holds of one crawl."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from scrapy_dist.connection import get_redis_from_settings

if TYPE_CHECKING:
    from pathlib import Path

    from scrapy.settings import Settings


class Frontier:
    """The keys of *spider* under their default names."""

    def __init__(self, settings: Settings, spider: str) -> None:
        self.redis = get_redis_from_settings(settings)
        self.spider = spider

    def key(self, name: str) -> str:
        return f"{self.spider}:{name}"

    def forget(self) -> None:
        """Delete what an interrupted show left: its site had another address."""
        keys = list(self.redis.scan_iter(self.key("*")))
        if keys:
            self.redis.delete(*keys)

    def push_seeds(self, urls: list[str]) -> None:
        self.redis.lpush(self.key("start_urls"), *urls)

    def counts(self) -> dict[str, int]:
        with self.redis.pipeline(transaction=False) as pipe:
            pipe.zcard(self.key("requests")).zcard(self.key("suspects"))
            pipe.zcard(self.key("leases")).llen(self.key("start_urls"))
            pipe.llen(self.key("items")).xlen(self.key("failed"))
            pending, suspects, leased, seeds, items, failed = pipe.execute()
        return {
            "pending": pending + suspects,
            "leased": leased,
            "seeds": seeds,
            "items": items,
            "failed": failed,
        }

    def take_items(self, path: Path) -> list[dict[str, Any]]:
        """Move the items from their Redis list to a file with one JSON line each."""
        lines = self.redis.lrange(self.key("items"), 0, -1)
        path.write_bytes(b"".join(line + b"\n" for line in lines))
        self.redis.delete(self.key("items"))
        return [json.loads(line) for line in lines]

    def redis_cli(self, start: Path) -> str:
        """The command line that opens this Redis for a user in the folder *start*."""
        where = self.redis.connection_pool.connection_kwargs
        if "path" in where:
            return f"redis-cli -s {os.path.relpath(where['path'], start)}"
        return f"redis-cli -h {where.get('host')} -p {where.get('port')}"

    def close(self) -> None:
        self.redis.close()
