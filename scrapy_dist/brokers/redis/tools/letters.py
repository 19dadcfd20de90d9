"""Dead letters for somebody who wants each of them once: a consumer group of ``S:failed``.

Redis keeps how far a group is, and what was given out and is not acknowledged; that is given
out again when it has been silent for a while. The letters stay where they are.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from redis.exceptions import ResponseError

from scrapy_dist.brokers.redis.errors import asking
from scrapy_dist.brokers.redis.tasks import parse_task
from scrapy_dist.brokers.redis.views.dead_letters import parse_letter

if TYPE_CHECKING:
    from scrapy_dist.brokers.redis.frontier import Frontier
    from scrapy_dist.core.dead_letters import DeadLetter

#: Letters that are given out at once: each has a payload of up to a megabyte.
_STEP = 10
#: After so many ms a letter that was not acknowledged is given out again; how often, in
#: seconds, it is looked for such ones.
_SILENT_MS, _LOOK = 10_000, 5.0
#: How Redis says that there is no letter yet.
_NO_KEY = "requires the key to exist"
#: Readers of a group are one consumer: which of them had a letter does not matter.
_CONSUMER = "reader"


class LetterReader:
    """`core.ports.LetterReader`, for the group *name*."""

    def __init__(self, frontier: Frontier, name: str) -> None:
        self._frontier = frontier
        self._client = frontier.client
        self._key = frontier.keys.failed
        self._name = name
        self._looked_at = 0.0

    async def take(self) -> list[DeadLetter]:
        """Raises RedisUnavailable, ConfigurationError for a key of another type."""
        with asking(key=self._key):
            try:
                return await self._take()
            except ResponseError as e:
                if "NOGROUP" not in str(e) and _NO_KEY not in str(e):
                    raise
            return await self._take() if await self._make_group() else []

    async def _take(self) -> list[DeadLetter]:
        if time.monotonic() > self._looked_at + _LOOK:
            reply = await self._client.xautoclaim(
                self._key, self._name, _CONSUMER, _SILENT_MS, "0-0", count=_STEP
            )
            # Letters that are not there any more come as None in Redis 6.2.
            found = [entry for entry in reply[1] if entry and entry[1]]
            if found:
                return await self._parsed(found)
            self._looked_at = time.monotonic()
        streams = await self._client.xreadgroup(
            self._name, _CONSUMER, {self._key: ">"}, count=_STEP
        )
        if not streams:
            return []
        [entries] = streams.values() if isinstance(streams, dict) else [streams[0][1]]
        return await self._parsed(entries)

    async def _parsed(
        self, entries: Sequence[tuple[bytes, dict[bytes, bytes]]]
    ) -> list[DeadLetter]:
        letters = [
            parse_letter(i, fields, self._frontier.seal) for i, fields in entries
        ]
        tokens = [fields.get(b"task", b"") for _, fields in entries]
        if not any(tokens):
            return letters
        key = self._frontier.keys.tasks
        with asking(key=key):
            records = await self._client.hmget(key, [b"t:%b" % each for each in tokens])
        return [
            replace(letter, task=task.id)
            if (task := parse_task("", record))
            else letter
            for letter, record in zip(letters, records, strict=True)
        ]

    async def _make_group(self) -> bool:
        """False: there is no letter yet."""
        try:
            await self._client.xgroup_create(self._key, self._name, "0")
        except ResponseError as e:
            if "BUSYGROUP" in str(e):
                return True
            if _NO_KEY in str(e):
                return False
            raise
        return True

    async def acknowledge(self, ids: Sequence[str]) -> None:
        with asking(key=self._key):
            await self._client.xack(self._key, self._name, *ids)
