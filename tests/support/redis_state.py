"""Look into a frontier from outside, by the key names that DESIGN promises."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING

from tests.support.wait import wait_until

if TYPE_CHECKING:
    import redis


def wait_for_workers(
    client: redis.Redis, spider: str, count: int, timeout: float = 30.0
) -> None:
    """Wait until *count* workers of *spider* have registered."""
    wait_until(
        lambda: client.zcard(f"{spider}:workers") == count,
        f"{count} workers of {spider}",
        timeout,
    )


def failed(client: redis.Redis, spider: str) -> list[dict[str, bytes]]:
    """The dead letters of *spider*, the oldest first."""
    return [
        {name.decode(): value for name, value in fields.items()}
        for _, fields in client.xrange(f"{spider}:failed")
    ]


def items(client: redis.Redis, spider: str, field: str = "path") -> Counter[str]:
    """How often each *field* is among the items of *spider*."""
    found = client.lrange(f"{spider}:items", 0, -1)
    return Counter(json.loads(item)[field] for item in found)


def keys(client: redis.Redis) -> list[str]:
    """All keys, sorted."""
    return sorted(key.decode() for key in client.scan_iter())
