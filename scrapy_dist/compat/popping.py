"""What scrapy-redis has for a ``next_requests()`` of one's own: it pops seeds by itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from scrapy_dist.exceptions import ConfigurationError

#: The method that takes seeds from a key, and the command that counts them, by its type.
_POPS = {"list": "pop_list_queue", "set": "pop_set_queue", "zset": "pop_priority_queue"}
_SIZES = {"list": "llen", "set": "scard", "zset": "zcard"}


class PopsSeeds:
    """Pops seeds with the blocking client ``server``; they are the caller's then."""

    server: Any

    def fetch_data(
        self, redis_key: str | Iterable[str], batch_size: int
    ) -> list[bytes]:
        """Remove up to *batch_size* seeds from a key, whatever its type, and return them.

        With the blocking client ``server``. They are yours then: what you make no
        request of is lost.
        """
        found: list[bytes] = []
        for key in [redis_key] if isinstance(redis_key, str) else redis_key:
            if len(found) < batch_size:
                pop = self._by_type(key, _POPS)
                if pop:
                    found += getattr(self, pop)(key, batch_size - len(found))
        return found

    def count_size(self, redis_key: str | Iterable[str]) -> int:
        """How many seeds a key holds, or several; with the blocking client."""
        keys = [redis_key] if isinstance(redis_key, str) else redis_key
        counts = ((self._by_type(key, _SIZES), key) for key in keys)
        return sum(int(getattr(self.server, name)(k)) for name, k in counts if name)

    def pop_list_queue(self, redis_key: str, batch_size: int) -> list[bytes]:
        """Remove seeds from the left of a list; as ``fetch_data``."""
        return self.server.lpop(redis_key, batch_size) or []

    def pop_set_queue(self, redis_key: str, batch_size: int) -> list[bytes]:
        """Remove any seeds from a set; as ``fetch_data``."""
        return list(self.server.spop(redis_key, batch_size) or ())

    def pop_priority_queue(self, redis_key: str, batch_size: int) -> list[bytes]:
        """Remove the seeds with the highest scores from a sorted set."""
        return [seed for seed, _ in self.server.zpopmax(redis_key, batch_size)]

    def _by_type(self, key: str, table: Mapping[str, str]) -> str | None:
        kind = self.server.type(key)
        kind = kind.decode() if isinstance(kind, bytes) else kind
        if kind == "none":
            return None
        if kind not in table:
            raise ConfigurationError(
                f"The key {key!r} is a {kind}; seeds are read from a list, a set or a"
                " sorted set. Delete or rename it, or name another key."
            )
        return table[kind]
