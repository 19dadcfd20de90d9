"""What requests are stored as: MessagePack, JSON, …"""

from __future__ import annotations

from typing import TYPE_CHECKING

from scrapy_dist.brokers.redis.errors import asking
from scrapy_dist.brokers.redis.layout import LEASED, REQUESTS, parse
from scrapy_dist.codec.envelope import SEED, SIGNED

if TYPE_CHECKING:
    from scrapy_dist.brokers.redis.frontier import Frontier

#: Requests of each place that are looked at.
_KINDS = 10


async def kinds(frontier: Frontier) -> list[bytes]:
    """See `ports.Crawl.kinds`."""
    client, k = frontier.client, frontier.keys
    with asking():
        pending = await client.zrange(k.requests, 0, _KINDS - 1, withscores=True)
        _, leased = await client.hscan(k.leased, 0, count=_KINDS)
    entries = [parse(REQUESTS, member) for member, _ in pending]
    entries += [parse(LEASED, id_, value) for id_, value in leased.items()]
    found = [frontier.seal.shown(entry.payload)[:1] for entry in entries]
    return [kind for kind in found if kind not in (SEED, SIGNED, b"")]
