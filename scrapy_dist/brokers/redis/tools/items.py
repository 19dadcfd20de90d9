"""Items out of ``S:items``, so that none is lost when its reader dies.

A reader moves items, some at a time, to a list of its own, ``S:items:taken:NAME``, and
removes them from there when it is done with them. What a reader that died had taken is
what the next reader of that name gets first. When two have one name, the later one has
the list, and the earlier one is told so.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from typing import TYPE_CHECKING, Any

from redis.exceptions import ResponseError

from scrapy_dist.base.escaping import quote
from scrapy_dist.brokers.redis.errors import is_wrong_type
from scrapy_dist.core.frontier import BATCH
from scrapy_dist.exceptions import ConfigurationError, RedisUnavailable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scrapy_dist.brokers.redis.frontier import Frontier
    from scrapy_dist.brokers.redis.scripts import Call

#: Bytes of items after which one call takes no more.
_STEP_BYTES = 1 << 20
#: Seconds between two looks for new items, at first and at the most.
_SHORTEST, _LONGEST = 0.01, 0.5
#: How long it should take to work on what one call takes, in seconds: less, and the next
#: call takes more; longer, and it takes less, so that other readers get their share.
_QUICK, _SLOW = 0.1, 1.0

_NAME = re.compile(r"[\w.-]{1,200}")


def taken_key(items: str, consumer: str) -> str:
    """The list of what the reader *consumer* has taken from the list *items*.

    Raises ConfigurationError for a *consumer* that is no name.
    """
    if not isinstance(consumer, str) or not _NAME.fullmatch(consumer):
        raise ConfigurationError(
            f"consumer = {quote(consumer)} is not a name of a reader. Use letters, digits,"
            " '.', '_' and '-', for example 'importer'."
        )
    return f"{items}:taken:{consumer}"


class ItemReader:
    """`core.ports.ItemReader`. Its calls must not overlap.

    The next call tells Redis of what is *done*. All methods raise RedisUnavailable, after
    which what was not acknowledged may come again, and ConfigurationError when another reader of this name
    has taken over or a key is of a wrong type.
    """

    def __init__(self, frontier: Frontier, consumer: str) -> None:
        self.done = 0
        self._frontier = frontier
        self._consumer = consumer
        self._taken = taken_key(frontier.keys.items, consumer)
        self._mark = f"reader:{secrets.token_hex(8)}"
        self._joined = False
        #: Items not acknowledged: those that are in its list, for all that is known, and
        #: older ones of which that is not known.
        self._known = self._doubtful = 0
        self._want = 1
        self._taken_at = 0.0

    async def take(
        self, *, follow: bool = False, timeout: float | None = None
    ) -> list[bytes]:
        self._adapt()
        deadline = None if timeout is None else time.monotonic() + timeout
        pause = _SHORTEST
        while True:
            drained = self._frontier.drained()
            items = await self._exchange([drained], self._want)
            # No item comes after the end: it is stored no later than its page's ack.
            if items or not follow or _reply(drained).is_drained:
                break
            if deadline is not None:
                pause = min(pause, deadline - time.monotonic())
                if pause <= 0:
                    break
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST)
        self._taken_at = time.monotonic()
        return items

    def _adapt(self) -> None:
        took = time.monotonic() - self._taken_at
        if took < _QUICK:
            self._want = min(BATCH, self._want * 4)
        elif took > _SLOW:
            self._want = max(1, self._want // 4)

    async def acknowledge(self) -> None:
        while self.done:
            await self._exchange([], 0)

    async def leave(self) -> None:
        await self.acknowledge()
        left = 1 if self._joined else 0
        while left > 0:
            call = self._frontier.call(
                "return_items", int, taken=self._taken, mark=self._mark, most=BATCH
            )
            await self._frontier.exchange([call])
            left = _reply(call)
        self._joined, self._known, self._doubtful = False, 0, 0

    async def _exchange(self, before: Sequence[Call[Any]], want: int) -> list[bytes]:
        known, done = self._known, min(self.done, BATCH)
        remove = max(0, done - self._doubtful)
        call = self._frontier.call(
            "take_items",
            list,
            taken=self._taken,
            mark=self._mark,
            joins=int(not self._joined),
            done=remove,
            known=known,
            want=want,
            limit=_STEP_BYTES,
        )
        # Without a reply nobody knows what the list holds: then it is read again.
        self._known, self._doubtful = 0, self._doubtful + known
        await self._frontier.exchange([*before, call])
        outcome, *items = _reply(call)
        if outcome == 0:
            raise ConfigurationError(
                f"Another reader named {self._consumer!r} has taken over the items of"
                f" {self._frontier.keys.items}. Give each reader that runs at the same time a name"
                " of its own: items(consumer=…)."
            )
        self._joined = True
        self.done -= done
        self._doubtful -= done
        if outcome < 0:
            # Redis came back from an older state: what this reader had may come again.
            return await self._exchange(before, want)
        self._known = known - remove + len(items)
        self._doubtful -= known - remove
        return list(items)


def _reply(call: Call[Any]) -> Any:
    try:
        return call.reply()
    except ResponseError as e:
        if is_wrong_type(e):
            raise ConfigurationError(
                f"Items are read from a list, and {' or '.join(call.keys[:2])} is"
                f" something else: {e}. Name the list in REDIS_ITEMS_KEY."
            ) from e
        raise RedisUnavailable(f"Redis refuses: {e}") from e
