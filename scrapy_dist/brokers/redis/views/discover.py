"""Which crawls there are in a Redis that may hold many other keys."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from scrapy_dist.brokers.redis.errors import asking
from scrapy_dist.brokers.redis.keys import Keys, seed_keys

if TYPE_CHECKING:
    from scrapy.settings import BaseSettings

    from scrapy_dist.redis_client.typed import Redis

#: Keys that ``spiders_in_redis`` looks at in one step.
_SCAN_STEP = 1000
#: Stands for the spider's name while its place in a key is looked for.
_NAME = "-the-name-"


async def crawl_names(
    client: Redis,
    settings: BaseSettings,
    *,
    finished: bool = False,
    begun: bool = False,
) -> list[str]:
    """See `ports.Broker.names`: of a frontier, seeds, dead letters or items.

    *begun*: without those of which others have a key called ``...:state``, and which have
    none of ours.
    """
    keys = Keys.from_settings(settings, _NAME)
    places = [(keys.state, "HASH"), (keys.failed, "STREAM"), (keys.items, "LIST")]
    for key in seed_keys(settings, _NAME):
        places += [(key, "LIST"), (key, "SET"), (key, "ZSET")]
    if finished:
        places = [(keys.history, "STREAM")]
    names: set[str] = set()
    with asking():
        for key, kind in places:
            names |= await _names_in_keys(client, key, kind)
        found = sorted(names)
        return await _begun(client, settings, found) if begun else found


async def _begun(client: Redis, settings: BaseSettings, names: list[str]) -> list[str]:
    async with client.pipeline(transaction=False) as pipeline:
        for name in names:
            state = Keys.from_settings(settings, name).state
            pipeline.hexists(state, "active")
            pipeline.exists(state)
        replies = await pipeline.execute(raise_on_error=False)
    return [
        name
        for name, active, exists in zip(names, replies[::2], replies[1::2], strict=True)
        # One that has only seeds or dead letters has no such key.
        if active == 1 or exists == 0
    ]


async def _names_in_keys(client: Redis, key: str, kind: str) -> set[str]:
    """What stands for _NAME in the keys of the type *kind* that are like *key*."""
    head, *tails = key.split(_NAME)
    if not tails:
        return set()  # one key for all spiders
    pattern = "*".join(
        re.sub(r"([*?\[\]\\^])", r"\\\1", part) for part in (head, *tails)
    )
    names = set()
    async for found in client.scan_iter(match=pattern, count=_SCAN_STEP, _type=kind):
        name = _name_in(found.decode("utf-8", "replace"), head, tails)
        if name:
            names.add(name)
    return names


def _name_in(key: str, head: str, tails: list[str]) -> str:
    """What stands between *head* and each of *tails* in *key*; '' if it does not fit."""
    length, rest = divmod(len(key) - len(head) - sum(map(len, tails)), len(tails))
    name = key[len(head) : len(head) + length]
    fits = length > 0 and not rest and key == head + "".join(name + t for t in tails)
    return name if fits else ""
